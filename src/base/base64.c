/* Base64 (RFC 4648), small enough that `hand` need not link a crypto library for it. */
#include "base/base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buffer *out, const void *bytes, size_t length) {
    const unsigned char *in = bytes;
    for (size_t i = 0; i < length; i += 3) {
        size_t have = length - i < 3 ? length - i : 3;
        uint32_t group = (uint32_t)in[i] << 16;
        group |= have > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        group |= have > 2 ? (uint32_t)in[i + 2] : 0;
        char text[4] = {alphabet[group >> 18], alphabet[(group >> 12) & 63],
                        have > 1 ? alphabet[(group >> 6) & 63] : '=',
                        have > 2 ? alphabet[group & 63] : '='};
        buffer_append(out, text, sizeof(text));
    }
}

static int sextet(char c) {
    if (c == '-') {
        c = '+';
    } else if (c == '_') {
        c = '/';
    }
    const char *found = c == '\0' ? NULL : strchr(alphabet, c);
    return found == NULL ? -1 : (int)(found - alphabet);
}

bool base64_decode(struct buffer *out, const char *text, size_t length) {
    size_t before = out->length;
    while (length > 0 && text[length - 1] == '=') {
        length--;
    }
    uint32_t group = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < length; i++) {
        int value = sextet(text[i]);
        if (value < 0) {
            buffer_truncate(out, before);
            return false;
        }
        group = (group << 6) | (uint32_t)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            buffer_append_char(out, (char)(unsigned char)((group >> bits) & 0xff));
        }
    }
    /* Bits left over must be zero: else two texts would mean the same bytes. */
    if (length % 4 == 1 || (group & ((1U << bits) - 1U)) != 0) {
        buffer_truncate(out, before);
        return false;
    }
    return true;
}
