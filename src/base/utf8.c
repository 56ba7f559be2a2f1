/* One decoder, by the WHATWG table of first and second bytes. */
#include "base/utf8.h"

/* What a lead byte promises: bytes that follow, and the range of the first of them. */
struct lead {
    unsigned char first, last;
    unsigned char following;
    unsigned char low, high;
};

static const struct lead leads[] = {
    {0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf}, {0xe1, 0xec, 2, 0x80, 0xbf},
    {0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf}, {0xf0, 0xf0, 3, 0x90, 0xbf},
    {0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

static const struct lead *find_lead(unsigned char byte) {
    for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++) {
        if (byte >= leads[i].first && byte <= leads[i].last) {
            return &leads[i];
        }
    }
    return NULL;
}

size_t utf8_decode(const char *bytes, size_t length, int32_t *code) {
    unsigned char first = (unsigned char)bytes[0];
    if (first < 0x80) {
        *code = first;
        return 1;
    }
    *code = -1;
    const struct lead *lead = find_lead(first);
    if (lead == NULL) {
        return 1;
    }
    int32_t value = first & (0x3f >> lead->following);
    for (size_t i = 1; i <= lead->following; i++) {
        unsigned char byte = i < length ? (unsigned char)bytes[i] : 0;
        unsigned char low = i == 1 ? lead->low : 0x80;
        unsigned char high = i == 1 ? lead->high : 0xbf;
        if (byte < low || byte > high) {
            return i;
        }
        value = (value << 6) | (byte & 0x3f);
    }
    *code = value;
    return lead->following + 1U;
}

size_t utf8_valid_prefix(const char *bytes, size_t length) {
    size_t at = 0;
    while (at < length) {
        int32_t code = 0;
        size_t size = utf8_decode(bytes + at, length - at, &code);
        if (code < 0) {
            return at;
        }
        at += size;
    }
    return at;
}

bool utf8_is_valid(const char *bytes, size_t length) {
    return utf8_valid_prefix(bytes, length) == length;
}
