/* Walks with base's decoder and counts as JavaScript does. */
#include "tools/utf8.h"

#include <string.h>

void utf8_append_lossy(struct buffer *out, const char *bytes, size_t length) {
    size_t good = 0;
    for (size_t at = 0; at < length;) {
        int32_t code = 0;
        size_t size = utf8_decode(bytes + at, length - at, &code);
        if (code < 0) {
            buffer_append(out, bytes + good, at - good);
            buffer_append_string(out, UTF8_REPLACEMENT);
            good = at + size;
        }
        at += size;
    }
    if (length > good) {
        buffer_append(out, bytes + good, length - good);
    }
}

static size_t units_of(int32_t code) {
    return code > 0xffff ? 2 : 1;
}

size_t utf8_units(const char *text, size_t length) {
    size_t units = 0;
    for (size_t at = 0; at < length;) {
        int32_t code = 0;
        at += utf8_decode(text + at, length - at, &code);
        units += units_of(code);
    }
    return units;
}

size_t utf8_prefix(const char *text, size_t length, size_t units, bool *splits) {
    if (splits != NULL) {
        *splits = false;
    }
    size_t used = 0;
    size_t at = 0;
    while (at < length) {
        int32_t code = 0;
        size_t size = utf8_decode(text + at, length - at, &code);
        used += units_of(code);
        if (used > units) {
            if (splits != NULL) {
                *splits = used - units < units_of(code);
            }
            return at;
        }
        at += size;
    }
    return at;
}

size_t utf8_suffix(const char *text, size_t length, size_t units, bool *splits) {
    if (splits != NULL) {
        *splits = false;
    }
    size_t total = utf8_units(text, length);
    if (total <= units) {
        return 0;
    }
    size_t skip = total - units;
    size_t skipped = 0;
    size_t at = 0;
    while (at < length && skipped < skip) {
        int32_t code = 0;
        at += utf8_decode(text + at, length - at, &code);
        skipped += units_of(code);
    }
    if (splits != NULL) {
        *splits = skipped > skip;
    }
    return at;
}
