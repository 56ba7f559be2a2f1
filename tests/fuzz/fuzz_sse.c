/* Fuzzes the event-stream parser: any cut of any bytes gives the same events, within the bounds. */
#include <stdint.h>
#include <stdlib.h>

#include "net/sse.h"

enum { EVENT_LIMIT = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct digest {
    uint64_t hash;
    size_t events;
};

static void mix(struct digest *digest, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        digest->hash = (digest->hash ^ (unsigned char)bytes[i]) * 1099511628211ULL;
    }
}

static bool on_event(void *context, const char *event, const char *data, size_t length) {
    struct digest *digest = context;
    if (length > EVENT_LIMIT) {
        abort();
    }
    mix(digest, event, 1);
    mix(digest, data, length);
    digest->events++;
    return true;
}

static struct digest parse(const uint8_t *data, size_t size, size_t piece, bool *is_good) {
    struct digest digest = {0};
    struct sse_parser parser;
    sse_parser_init(&parser, EVENT_LIMIT);
    *is_good = true;
    for (size_t at = 0; at < size && *is_good; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        *is_good =
            sse_parser_feed(&parser, (const char *)data + at, length, on_event, &digest, NULL);
    }
    sse_parser_free(&parser);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool whole_is_good = false;
    bool cut_is_good = false;
    if (size == 0) {
        return 0;
    }
    struct digest whole = parse(data, size, size, &whole_is_good);
    struct digest cut = parse(data, size, 1, &cut_is_good);
    if (whole_is_good && cut_is_good && (whole.hash != cut.hash || whole.events != cut.events)) {
        abort();
    }
    return 0;
}
