/* What a session says of its skills is foreign: a name becomes one harmless path component. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cma/skills.h"

static void test_names_become_one_component(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *directory; /* NULL: the skill's id is taken */
    } cases[] = {
        {"pdf", "pdf"},
        {"  pdf\n", "pdf"},
        {"a b", "a b"},
        {"../../etc", "etc"},
        {"/etc/passwd", "passwd"},
        {"x/", "x"},
        {"x//", "x"},
        {"", NULL},
        {" ", NULL},
        {".", NULL},
        {"..", NULL},
        {"a/..", NULL},
        {"/", NULL},
        {"日本", "日本"},
        {"-rf", "-rf"},
        {"...", "..."},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_FREE char *directory = skill_directory_name(cases[i].name);
        if (cases[i].directory == NULL) {
            assert_null(directory);
        } else {
            assert_non_null(directory);
            assert_string_equal(directory, cases[i].directory);
        }
    }
    CLEANUP_FREE char *large = memory_zeroed(301, 1);
    memset(large, 'n', 300);
    assert_null(skill_directory_name(large));
}

static size_t parse(const char *text, struct json_object **session,
                    struct skill_reference skills[SKILLS_LIMIT]) {
    assert_true(json_parse(text, strlen(text), session, NULL));
    return skills_of_session(*session, skills);
}

static void test_malformed_entries_are_left_out(void **state) {
    (void)state;
    struct skill_reference skills[SKILLS_LIMIT];
    CLEANUP_JSON struct json_object *session = NULL;
    assert_int_equal(parse("{\"agent\":{\"skills\":[null,1,{},{\"skill_id\":7},"
                           "{\"skill_id\":\"../x\"},{\"skill_id\":\"a\",\"version\":\"v1\"},"
                           "{\"skill_id\":\"b\"}]}}",
                           &session, skills),
                     2);
    assert_string_equal(skills[0].skill_id, "a");
    assert_string_equal(skills[0].version, "v1");
    assert_string_equal(skills[1].version, "latest");
    static const char *const none[] = {"{}", "{\"agent\":null}", "{\"agent\":{\"skills\":{}}}"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        CLEANUP_JSON struct json_object *other = NULL;
        assert_int_equal(parse(none[i], &other, skills), 0);
    }
}

static void test_there_is_a_bound(void **state) {
    (void)state;
    struct skill_reference skills[SKILLS_LIMIT];
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append_string(&text, "{\"agent\":{\"skills\":[{\"skill_id\":\"s\"}");
    for (int i = 0; i < SKILLS_LIMIT; i++) {
        buffer_append_string(&text, ",{\"skill_id\":\"s\"}");
    }
    buffer_append_string(&text, "]}}");
    CLEANUP_JSON struct json_object *session = NULL;
    assert_int_equal(parse(text.data, &session, skills), SKILLS_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_become_one_component),
        cmocka_unit_test(test_malformed_entries_are_left_out),
        cmocka_unit_test(test_there_is_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
