/* Unit tests of staged inputs: what is allowed, what is asked for, where it goes. A mistake here
 * sends a credential to a stranger, or lets a session read what its operator did not list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "orchestrator/stage_place.h"
#include "orchestrator/stage_plan.h"

static bool is_below(const char *text, const char *prefix_text) {
    CLEANUP_URL struct url url = {0};
    CLEANUP_URL struct url prefix = {0};
    assert_true(url_parse(&url, NULL, text, NULL));
    assert_true(url_parse(&prefix, NULL, prefix_text, NULL));
    return url_is_below(&url, &prefix);
}

static void test_a_url_is_below_whole_components_only(void **state) {
    (void)state;
    assert_true(is_below("https://h/a/b", "https://h"));
    assert_true(is_below("https://h/a/b?x=1", "https://h/"));
    assert_true(is_below("https://H:443/a/b", "https://h/a"));
    assert_true(is_below("https://h/a", "https://h/a/"));
    assert_false(is_below("https://h/ab", "https://h/a"));
    assert_false(is_below("https://h.evil/a", "https://h"));
    assert_false(is_below("https://evil/https://h/", "https://h"));
    assert_false(is_below("http://h/a", "https://h"));
    assert_false(is_below("https://h:444/a", "https://h"));
    assert_false(is_below("https://h/a/../b", "https://h/a"));
    assert_false(is_below("https://h/a/%2e%2e/b", "https://h/a"));
    assert_false(is_below("https://h/a/..%2Fb", "https://h/a"));
    assert_false(is_below("https://h/a/%5c..", "https://h/a"));
    assert_true(is_below("https://h/group%2Fname", "https://h"));
    assert_true(is_below("file:///d/x", "file:///d"));
    assert_false(is_below("file:///d/../e", "file:///d"));
    assert_false(is_below("file:///de", "file:///d"));
}

static void test_odd_urls_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "x",
        "ssh://h/x",
        "git@h:x",
        "ftp://h/x",
        "https://",
        "https://u:p@h/",
        "https://u@h",
        "https://h/a b",
        "file://h/x",
        "file:x",
        "https://h/\r\nX: y",
        "ext::sh -c x",
        "https://h:99999/",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct url url;
        CLEANUP_ERROR struct error *error = NULL;
        bool is_good = url_parse(&url, NULL, bad[i], &error);
        if (is_good) {
            url_free(&url);
        }
        assert_string_equal(is_good ? bad[i] : "", "");
        assert_int_equal(error->code, ERROR_INPUT);
    }
}

static void test_a_redirect_is_joined(void **state) {
    (void)state;
    static const struct {
        const char *location;
        const char *joined;
    } cases[] = {
        {"/y", "https://h/y"},
        {"z", "https://h/a/z"},
        {"//other/x", "https://other/x"},
        {"http://other:8080/x#f", "http://other:8080/x"},
    };
    CLEANUP_URL struct url base = {0};
    assert_true(url_parse(&base, NULL, "https://h/a/b", NULL));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_URL struct url url = {0};
        assert_true(url_parse(&url, &base, cases[i].location, NULL));
        assert_string_equal(url.text, cases[i].joined);
    }
}

static void test_the_longest_prefix_has_the_credential(void **state) {
    (void)state;
    struct stage_credential credentials[2] = {{.header = "A: whole"}, {.header = "A: part"}};
    assert_true(url_parse(&credentials[0].prefix, NULL, "https://h", NULL));
    assert_true(url_parse(&credentials[1].prefix, NULL, "https://h/part", NULL));
    const struct stage_options options = {.credentials = credentials, .credential_count = 2};
    static const struct {
        const char *url;
        const char *header;
    } cases[] = {{"https://h/x", "A: whole"},
                 {"https://h/part/x", "A: part"},
                 {"https://h/partly", "A: whole"},
                 {"https://other/part", NULL},
                 {"http://h/part", NULL}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_URL struct url url = {0};
        assert_true(url_parse(&url, NULL, cases[i].url, NULL));
        const struct stage_credential *found = stage_credential_of(&options, &url);
        assert_int_equal(found == NULL, cases[i].header == NULL);
        if (found != NULL) {
            assert_string_equal(found->header, cases[i].header);
        }
    }
    url_free(&credentials[0].prefix);
    url_free(&credentials[1].prefix);
}

/* The plan of one list, with https://h allowed. */
static struct stage_plan plan_of(const char *list) {
    static struct url allowed;
    static const struct stage_options options = {.allowed = &allowed, .allowed_count = 1};
    CLEANUP_JSON struct json_object *metadata = json_object_new_object();
    struct stage_plan plan;
    assert_true(url_parse(&allowed, NULL, "https://h", NULL));
    json_set_string(metadata, STAGE_KEY, list);
    (void)stage_plan_read(&plan, metadata, &options);
    url_free(&allowed);
    return plan;
}

static void test_entries_are_read(void **state) {
    (void)state;
    struct stage_plan plan =
        plan_of("[{\"kind\":\"file\",\"url\":\"https://h/x\",\"path\":\"a/b\"},"
                "{\"kind\":\"archive\",\"url\":\"https://h/y\",\"strip\":2},"
                "{\"kind\":\"git\",\"url\":\"https://h/z\",\"path\":\".\",\"ref\":\"v1.0\"}]");
    assert_int_equal(plan.count, 3);
    for (size_t i = 0; i < plan.count; i++) {
        assert_null(plan.entries[i].problem);
    }
    assert_string_equal(plan.entries[0].path, "a/b");
    assert_int_equal(plan.entries[1].strip, 2);
    assert_string_equal(plan.entries[1].path, "");
    assert_string_equal(plan.entries[2].path, "");
    assert_string_equal(plan.entries[2].ref, "v1.0");
    assert_string_not_equal(plan.entries[0].digest, plan.entries[1].digest);
    stage_plan_free(&plan);
}

static void test_bad_entries_have_a_problem_each(void **state) {
    (void)state;
#define FILE_AT "{\"kind\":\"file\",\"url\":\"https://h/x\",\"path\":"
#define GIT_AT  "{\"kind\":\"git\",\"url\":\"https://h/x\",\"ref\":"
    static const char *const bad[] = {
        "{}",
        "7",
        "{\"kind\":\"folder\",\"url\":\"https://h/x\"}",
        "{\"kind\":\"file\",\"url\":\"https://h/x\"}",
        "{\"kind\":\"file\",\"path\":\"x\"}",
        FILE_AT "\"/x\"}",
        FILE_AT "\"../x\"}",
        FILE_AT "\"a/../x\"}",
        FILE_AT "\"a//x\"}",
        FILE_AT "\".holt/staged.json\"}",
        FILE_AT "\".holt\"}",
        FILE_AT "7}",
        FILE_AT "\"x\",\"sha256\":\"ABC\"}",
        FILE_AT "\"x\",\"ref\":\"main\"}",
        FILE_AT "\"x\",\"strip\":1}",
        "{\"kind\":\"archive\",\"url\":\"https://h/x\",\"strip\":-1}",
        "{\"kind\":\"archive\",\"url\":\"https://h/x\",\"strip\":1000}",
        "{\"kind\":\"archive\",\"url\":\"https://h/x\",\"strip\":\"1\"}",
        GIT_AT "\"--upload-pack=x\"}",
        GIT_AT "\"+a:b\"}",
        GIT_AT "\"a..b\"}",
        GIT_AT "\"a b\"}",
        GIT_AT "\"a*\"}",
        GIT_AT "\"\"}",
        GIT_AT "\"main\",\"sha256\":\"\"}",
        "{\"kind\":\"file\",\"url\":\"https://other/x\",\"path\":\"x\"}",
        "{\"kind\":\"file\",\"url\":\"file:///etc/passwd\",\"path\":\"x\"}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEANUP_FREE char *list = memory_format("[%s]", bad[i]);
        struct stage_plan plan = plan_of(list);
        assert_int_equal(plan.count, 1);
        assert_string_equal(plan.entries[0].problem == NULL ? bad[i] : "", "");
        assert_non_null(plan.entries[0].label);
        stage_plan_free(&plan);
    }
}

static void test_lists_are_bounded_and_go_on_in_other_keys(void **state) {
    (void)state;
    CLEANUP_JSON struct json_object *metadata = json_object_new_object();
    CLEANUP_BUFFER struct buffer list = BUFFER_EMPTY;
    struct stage_plan plan;
    assert_false(stage_plan_read(&plan, metadata, NULL));
    assert_false(stage_plan_read(&plan, NULL, NULL));
    json_set_string(metadata, "holt.stage.2", "[{},{}]");
    json_set_string(metadata, "holt.stages", "[{}]");
    assert_true(stage_plan_read(&plan, metadata, NULL));
    assert_int_equal(plan.count, 2);
    stage_plan_free(&plan);
    buffer_append_string(&list, "[{}");
    for (int i = 0; i < 1000; i++) {
        buffer_append_string(&list, ",{}");
    }
    buffer_append_string(&list, "]");
    plan = plan_of(buffer_string(&list));
    assert_int_equal(plan.count, STAGE_ENTRIES_LIMIT + 1);
    stage_plan_free(&plan);
    static const char *const none[] = {"", "{", "{}", "null", "7", "[}"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        plan = plan_of(none[i]);
        assert_int_equal(plan.count, 1);
        assert_non_null(plan.entries[0].problem);
        stage_plan_free(&plan);
    }
    plan = plan_of("[]");
    assert_int_equal(plan.count, 0);
}

static struct unpacked tree_of(const char *const *paths, size_t count) {
    struct unpacked tree = {memory_zeroed(count, sizeof(struct unpacked_member)), count};
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(paths[i]);
        bool is_directory = paths[i][length - 1] == '/';
        tree.members[i] = (struct unpacked_member){
            .path = memory_string_n(paths[i], length - is_directory),
            .is_directory = is_directory,
            .bytes = is_directory ? NULL : memory_string(""),
        };
    }
    return tree;
}

static void test_components_are_stripped(void **state) {
    (void)state;
    static const char *const paths[] = {"a/", "a/x", "b/", "b/c/", "b/c/y", "top"};
    CLEANUP_UNPACKED struct unpacked tree = tree_of(paths, 6);
    assert_true(stage_strip(&tree, 1, NULL));
    assert_int_equal(tree.count, 3);
    assert_string_equal(tree.members[0].path, "c");
    assert_string_equal(tree.members[1].path, "c/y");
    assert_string_equal(tree.members[2].path, "x");
    assert_false(stage_strip(&tree, 5, NULL));
    static const char *const clashing[] = {"a/", "a/x", "b/", "b/x"};
    CLEANUP_UNPACKED struct unpacked clash = tree_of(clashing, 4);
    assert_false(stage_strip(&clash, 1, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_url_is_below_whole_components_only),
        cmocka_unit_test(test_odd_urls_are_refused),
        cmocka_unit_test(test_a_redirect_is_joined),
        cmocka_unit_test(test_the_longest_prefix_has_the_credential),
        cmocka_unit_test(test_entries_are_read),
        cmocka_unit_test(test_bad_entries_have_a_problem_each),
        cmocka_unit_test(test_lists_are_bounded_and_go_on_in_other_keys),
        cmocka_unit_test(test_components_are_stripped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
