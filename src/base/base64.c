/* Base64 (RFC 4648), small enough that `hand` need not link a crypto library for it. */
#include "base/base64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buffer *out, const void *bytes, size_t length) {
    const unsigned char *in = bytes;
    char *text = buffer_reserve(out, (length + 2) / 3 * 4);
    size_t at = 0;
    for (size_t i = 0; i < length; i += 3) {
        size_t have = length - i < 3 ? length - i : 3;
        uint32_t group = (uint32_t)in[i] << 16;
        group |= have > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        group |= have > 2 ? (uint32_t)in[i + 2] : 0;
        text[at++] = alphabet[group >> 18];
        text[at++] = alphabet[(group >> 12) & 63];
        text[at++] = have > 1 ? alphabet[(group >> 6) & 63] : '=';
        text[at++] = have > 2 ? alphabet[group & 63] : '=';
    }
    out->length += at;
    out->data[out->length] = '\0';
}

/* By arithmetic: a megabyte of it must not take long. */
static int sextet(char c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '+' || c == '-') {
        return 62;
    }
    return c == '/' || c == '_' ? 63 : -1;
}

bool base64_decode(struct buffer *out, const char *text, size_t length) {
    while (length > 0 && text[length - 1] == '=') {
        length--;
    }
    char *bytes = buffer_reserve(out, length / 4 * 3 + 3);
    size_t count = 0;
    uint32_t group = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < length; i++) {
        int value = sextet(text[i]);
        if (value < 0) {
            bytes[0] = '\0';
            return false;
        }
        group = (group << 6) | (uint32_t)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[count++] = (char)(unsigned char)((group >> bits) & 0xff);
        }
    }
    /* Bits left over must be zero: else two texts would mean the same bytes. */
    if (length % 4 == 1 || (group & ((1U << bits) - 1U)) != 0) {
        bytes[0] = '\0';
        return false;
    }
    out->length += count;
    bytes[count] = '\0';
    return true;
}
