/* utf8_decode, a character at a time, astral ones as a pair. */
#include "tools/utf16.h"

#include "tools/utf8.h"

enum { REPLACEMENT = 0xfffd, ASTRAL = 0x10000 };

size_t utf16_decode(const char *bytes, size_t length, uint16_t *units) {
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        int32_t code = 0;
        at += utf8_decode(bytes + at, length - at, &code);
        if (code >= ASTRAL) {
            units[count++] = (uint16_t)(0xd800 + ((code - ASTRAL) >> 10));
            units[count++] = (uint16_t)(0xdc00 + ((code - ASTRAL) & 0x3ff));
        } else {
            units[count++] = (uint16_t)(code < 0 ? REPLACEMENT : code);
        }
    }
    return count;
}
