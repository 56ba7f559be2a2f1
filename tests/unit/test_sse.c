/* Unit tests of the event-stream parser: a byte misread here is a tool call that never runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "net/sse.h"

static bool record(void *context, const char *event, const char *data, size_t length) {
    buffer_append_format(context, "<%s|", event);
    buffer_append(context, data, length);
    buffer_append_char(context, '>');
    return true;
}

/* Parses `text` in pieces of `piece` bytes and compares what came out. */
static void check(const char *text, size_t length, const char *expected) {
    for (size_t piece = 1; piece <= length; piece++) {
        CLEANUP_BUFFER struct buffer seen = BUFFER_EMPTY;
        struct sse_parser parser;
        sse_parser_init(&parser, 1000);
        for (size_t at = 0; at < length; at += piece) {
            size_t now = length - at < piece ? length - at : piece;
            assert_true(sse_parser_feed(&parser, text + at, now, record, &seen, NULL));
        }
        assert_string_equal(buffer_string(&seen), expected);
        sse_parser_free(&parser);
    }
}

static void check_text(const char *text, const char *expected) {
    check(text, strlen(text), expected);
}

static void test_fields_in_every_cut(void **state) {
    (void)state;
    check_text("event: a\ndata: 1\n\ndata: 2\ndata: 3\n\n", "<a|1><message|2\n3>");
    check_text("data:x\r\ndata\r\n\r\n:comment\r\rdata:  y\r\r", "<message|x\n><message| y>");
    check_text("id: 7\nretry: 5\nfoo: bar\n\nevent: only\n\ndata: z\n\n", "<message|z>");
    check_text("\xef\xbb\xbf"
               "data: bom\n\ndata: unfinished\n",
               "<message|bom>");
    check_text("data: {\"a\":\"b: c\"}\n\n", "<message|{\"a\":\"b: c\"}>");
    check("data: a\0b\n\n", 11, "<message|a");
}

static void test_bounds(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer seen = BUFFER_EMPTY;
    CLEANUP_FREE char *line = memory_zeroed(5001, 1);
    memset(line, 'x', 5000);
    struct sse_parser parser;
    sse_parser_init(&parser, 1000);
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(sse_parser_feed(&parser, line, 5000, record, &seen, &error));
    assert_int_equal(error->code, ERROR_LIMIT);
    sse_parser_free(&parser);

    sse_parser_init(&parser, 1000);
    bool goes_on = true;
    for (int i = 0; i < 300 && goes_on; i++) {
        goes_on = sse_parser_feed(&parser, "data: abcdef\n", 13, record, &seen, NULL);
    }
    assert_false(goes_on);
    sse_parser_free(&parser);
}

static bool stop(void *context, const char *event, const char *data, size_t length) {
    (void)event;
    (void)data;
    (void)length;
    (*(int *)context)++;
    return false;
}

static void test_handler_can_stop(void **state) {
    (void)state;
    int count = 0;
    struct sse_parser parser;
    sse_parser_init(&parser, 1000);
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(sse_parser_feed(&parser, "data: 1\n\ndata: 2\n\n", 18, stop, &count, &error));
    assert_int_equal(count, 1);
    assert_null(error);
    sse_parser_free(&parser);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_in_every_cut),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_handler_can_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
