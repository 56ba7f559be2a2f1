/* Unit tests of the frames between daemon and hand: either side may be hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hand/frames.h"

static struct buffer bytes_of(const char *bytes, size_t length) {
    struct buffer buffer = BUFFER_EMPTY;
    buffer_append(&buffer, bytes, length);
    return buffer;
}

static void assert_refused(const char *bytes, size_t length) {
    CLEANUP_BUFFER struct buffer in = bytes_of(bytes, length);
    CLEANUP_JSON struct json_object *message = NULL;
    CLEANUP_ERROR struct error *error = NULL;
    assert_int_equal(frame_take(&in, &message, &error), FRAME_INVALID);
    assert_null(message);
    assert_non_null(error);
}

#define ASSERT_REFUSED(literal) assert_refused(literal, sizeof(literal) - 1)

static void test_bad_lengths_are_refused_before_their_bytes(void **state) {
    (void)state;
    ASSERT_REFUSED("\0\0\0\0");
    ASSERT_REFUSED("\xff\xff\xff\xff");
    ASSERT_REFUSED("\x03\x00\x00\x01"); /* one over 48 MiB */
}

static void test_what_is_no_object_with_a_type_is_refused(void **state) {
    (void)state;
    ASSERT_REFUSED("\0\0\0\2[]");
    ASSERT_REFUSED("\0\0\0\2{}");
    ASSERT_REFUSED("\0\0\0\4null");
    ASSERT_REFUSED("\0\0\0\2{\"");
    ASSERT_REFUSED("\0\0\0\12{\"type\":1}");
    ASSERT_REFUSED("\0\0\0\15{\"type\":\"\xff\"} ");
}

static void test_a_frame_arrives_byte_by_byte(void **state) {
    (void)state;
    CLEANUP_JSON struct json_object *sent = json_object_new_object();
    json_set_string(sent, "type", "list");
    CLEANUP_BUFFER struct buffer whole = BUFFER_EMPTY;
    frame_append(&whole, sent);
    frame_append(&whole, sent);
    CLEANUP_BUFFER struct buffer in = BUFFER_EMPTY;
    int taken = 0;
    for (size_t i = 0; i < whole.length; i++) {
        buffer_append_char(&in, whole.data[i]);
        CLEANUP_JSON struct json_object *message = NULL;
        enum frame_status status = frame_take(&in, &message, NULL);
        if (status == FRAME_COMPLETE) {
            assert_string_equal(json_get_string(message, "type"), "list");
            taken++;
        } else {
            assert_int_equal(status, FRAME_INCOMPLETE);
        }
    }
    assert_int_equal(taken, 2);
    assert_int_equal(in.length, 0);
}

static void test_frames_that_came_together_are_taken_in_order(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer in = BUFFER_EMPTY;
    static const char *const types[] = {"first", "second"};
    for (int i = 0; i < 2; i++) {
        CLEANUP_JSON struct json_object *sent = json_object_new_object();
        json_set_string(sent, "type", types[i]);
        frame_append(&in, sent);
    }
    for (int i = 0; i < 2; i++) {
        CLEANUP_JSON struct json_object *message = NULL;
        assert_int_equal(frame_take(&in, &message, NULL), FRAME_COMPLETE);
        assert_string_equal(json_get_string(message, "type"), types[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_lengths_are_refused_before_their_bytes),
        cmocka_unit_test(test_what_is_no_object_with_a_type_is_refused),
        cmocka_unit_test(test_a_frame_arrives_byte_by_byte),
        cmocka_unit_test(test_frames_that_came_together_are_taken_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
