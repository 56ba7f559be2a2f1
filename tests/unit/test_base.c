/* Unit tests of src/base: what every other room stands on. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/memory.h"
#include "base/random.h"

static void test_error_chain_reads_outside_in(void **state) {
    (void)state;
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(error_set_errno(&error, ENOENT, "cannot open %s", "x"));
    assert_false(error_wrap(&error, "cannot start"));
    CLEANUP_FREE char *text = error_text(error);
    assert_string_equal(text, "cannot start: cannot open x: No such file or directory");
    assert_int_equal(error->code, ERROR_SYSTEM);
}

static void test_buffer_grows_consumes_and_keeps_its_nul(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer buffer = BUFFER_EMPTY;
    assert_string_equal(buffer_string(&buffer), "");
    for (int i = 0; i < 1000; i++) {
        buffer_append_format(&buffer, "%03d,", i);
    }
    assert_int_equal(buffer.length, 4000);
    buffer_consume(&buffer, 3996);
    assert_string_equal(buffer_string(&buffer), "999,");
    buffer_truncate(&buffer, 3);
    assert_string_equal(buffer_string(&buffer), "999");
    buffer_consume(&buffer, 100);
    assert_int_equal(buffer.length, 0);
}

static void check_base64(const char *plain, size_t length, const char *encoded) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    base64_encode(&out, plain, length);
    assert_string_equal(buffer_string(&out), encoded);
    CLEANUP_BUFFER struct buffer back = BUFFER_EMPTY;
    assert_true(base64_decode(&back, encoded, strlen(encoded)));
    assert_int_equal(back.length, length);
    assert_memory_equal(buffer_string(&back), plain, length);
}

static void test_base64_vectors_of_rfc_4648(void **state) {
    (void)state;
    check_base64("", 0, "");
    check_base64("f", 1, "Zg==");
    check_base64("fo", 2, "Zm8=");
    check_base64("foo", 3, "Zm9v");
    check_base64("foob", 4, "Zm9vYg==");
    check_base64("fooba", 5, "Zm9vYmE=");
    check_base64("foobar", 6, "Zm9vYmFy");
    check_base64("\xfb\xff\x00", 3, "+/8A");
    CLEANUP_BUFFER struct buffer url = BUFFER_EMPTY;
    assert_true(base64_decode(&url, "-_8A", 4));
    assert_memory_equal(url.data, "\xfb\xff\x00", 3);
    assert_false(base64_decode(&url, "Zm 9", 4));
    assert_false(base64_decode(&url, "Zm9vY", 5));
    assert_int_equal(url.length, 3);
}

static void test_json_accepts_one_value_and_nothing_after(void **state) {
    (void)state;
    CLEANUP_JSON struct json_object *object = NULL;
    const char *text = "{\"a\":\"x\\u0000y\",\"n\":5,\"b\":true,\"l\":[1]} \n";
    assert_true(json_parse(text, strlen(text), &object, NULL));
    assert_int_equal(json_get_int(object, "n", 0), 5);
    assert_true(json_get_bool(object, "b", false));
    assert_non_null(json_get_array(object, "l"));
    assert_null(json_get_string(object, "n"));
    assert_int_equal(json_object_get_string_len(json_get(object, "a")), 3);
    static const char *const bad[] = {"",         "{",   "{} x",    "{\"a\":}",  "[1,]", "nul",
                                      "\"\xff\"", "1 2", "\"\\x\"", "{\"a\" 1}", "[[[[", "\x01"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEANUP_ERROR struct error *error = NULL;
        struct json_object *none = NULL;
        assert_false(json_parse(bad[i], strlen(bad[i]), &none, &error));
        assert_int_equal(error->code, ERROR_PROTOCOL);
    }
}

static void test_json_accepts_bare_values(void **state) {
    (void)state;
    CLEANUP_JSON struct json_object *number = NULL;
    struct json_object *null_value = NULL;
    assert_true(json_parse("12", 2, &number, NULL));
    assert_int_equal(json_object_get_int(number), 12);
    assert_true(json_parse("null", 4, &null_value, NULL));
    assert_null(null_value);
}

static void test_json_lone_surrogate_becomes_replacement(void **state) {
    (void)state;
    CLEANUP_JSON struct json_object *object = NULL;
    const char *text = "{\"a\":\"x\\ud800y\"}";
    assert_true(json_parse(text, strlen(text), &object, NULL));
    assert_string_equal(json_get_string(object, "a"), "x\xef\xbf\xbdy");
}

static void test_json_refuses_what_is_not_utf8(void **state) {
    (void)state;
    static const char *const bad[] = {"\"\xff\"",         "\"\xc1\xa9\"", "\"\xe0\x80\x80\"",
                                      "\"\xed\xa0\x80\"", "\"\xc3\"",     "\"\xf4\x90\x80\x80\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct json_object *object = NULL;
        CLEANUP_ERROR struct error *error = NULL;
        assert_false(json_parse(bad[i], strlen(bad[i]), &object, &error));
        assert_int_equal(error->code, ERROR_PROTOCOL);
        assert_null(object);
    }
}

static void test_json_depth_is_bounded(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer deep = BUFFER_EMPTY;
    for (int i = 0; i < 100000; i++) {
        buffer_append_char(&deep, '[');
    }
    struct json_object *object = NULL;
    assert_false(json_parse(deep.data, deep.length, &object, NULL));
    assert_null(object);
}

static void test_random_ids_differ_and_carry_their_prefix(void **state) {
    (void)state;
    CLEANUP_FREE char *one = random_id("work_");
    CLEANUP_FREE char *two = random_id("work_");
    assert_int_equal(strncmp(one, "work_", 5), 0);
    assert_int_equal(strlen(one), 5 + 24);
    assert_string_not_equal(one, two);
    assert_true(random_below(7) < 7);
}

static void test_descriptors_travel_with_a_message(void **state) {
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(io_send_with_fds(pair[0], "hello", 5, pair, 2, NULL));
    char text[8] = {0};
    int fds[IO_FDS_LIMIT];
    size_t count = 0;
    assert_int_equal(io_receive_with_fds(pair[1], text, sizeof(text), fds, &count, NULL), 5);
    assert_int_equal(count, 2);
    struct stat sent;
    struct stat got;
    assert_int_equal(fstat(pair[1], &sent), 0);
    assert_int_equal(fstat(fds[1], &got), 0);
    assert_int_equal(sent.st_ino, got.st_ino);
    for (size_t i = 0; i < 2; i++) {
        (void)close(pair[i]);
        (void)close(fds[i]);
    }
}

static void test_timestamps_are_rfc3339(void **state) {
    (void)state;
    char text[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(1767225600123, text);
    assert_string_equal(text, "2026-01-01T00:00:00.123Z");
}

static void stop_loop(void *context) {
    loop_stop(context);
}

static void test_timer_fires_once(void **state) {
    (void)state;
    struct loop *loop = loop_new(NULL);
    struct loop_timer *timer = loop_timer_new(loop, stop_loop, loop);
    loop_timer_arm(timer, 1);
    assert_true(loop_timer_is_armed(timer));
    loop_run(loop);
    assert_false(loop_timer_is_armed(timer));
    loop_timer_free(timer);
    loop_free(loop);
}

static void test_log_levels_per_room(void **state) {
    (void)state;
    assert_true(log_configure_levels("warn,keeper=debug", NULL));
    assert_true(log_is_enabled(LOG_LEVEL_DEBUG, "keeper"));
    assert_false(log_is_enabled(LOG_LEVEL_INFO, "orchestrator"));
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(log_configure_levels("loud", &error));
    assert_int_equal(error->code, ERROR_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_chain_reads_outside_in),
        cmocka_unit_test(test_buffer_grows_consumes_and_keeps_its_nul),
        cmocka_unit_test(test_base64_vectors_of_rfc_4648),
        cmocka_unit_test(test_json_accepts_one_value_and_nothing_after),
        cmocka_unit_test(test_json_accepts_bare_values),
        cmocka_unit_test(test_json_lone_surrogate_becomes_replacement),
        cmocka_unit_test(test_json_refuses_what_is_not_utf8),
        cmocka_unit_test(test_json_depth_is_bounded),
        cmocka_unit_test(test_random_ids_differ_and_carry_their_prefix),
        cmocka_unit_test(test_descriptors_travel_with_a_message),
        cmocka_unit_test(test_timestamps_are_rfc3339),
        cmocka_unit_test(test_timer_fires_once),
        cmocka_unit_test(test_log_levels_per_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
