/* Randomness from getrandom(2). */
#include "base/random.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/buffer.h"

enum { RANDOM_ID_LENGTH = 24 };

void random_bytes(void *out, size_t length) {
    unsigned char *at = out;
    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);
        if (got < 0 && errno != EINTR) {
            abort();
        }
        if (got > 0) {
            at += got;
            length -= (size_t)got;
        }
    }
}

uint32_t random_below(uint32_t bound) {
    /* 64 random bits make the modulo bias less than 2^-32. */
    uint64_t value = 0;
    random_bytes(&value, sizeof(value));
    return (uint32_t)(value % bound);
}

char *random_id(const char *prefix) {
    /* 32 symbols, so that each byte gives five bits without bias. */
    static const char symbols[] = "0123456789abcdefghjkmnpqrstvwxyz";
    unsigned char raw[RANDOM_ID_LENGTH];
    struct buffer id = BUFFER_EMPTY;
    random_bytes(raw, sizeof(raw));
    buffer_append_string(&id, prefix);
    for (size_t i = 0; i < sizeof(raw); i++) {
        buffer_append_char(&id, symbols[raw[i] & 31]);
    }
    return buffer_take_string(&id);
}
