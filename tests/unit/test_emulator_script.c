/* Unit tests of the emulator's script format: what it takes, and how it names what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "emulator/script.h"

static void test_good_scripts_are_taken(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"steps\":[]}",
        "{\"scripts\":{\"default\":{\"steps\":[{\"message\":\"hi\"}]},\"b\":{\"steps\":[]}}}",
        "{\"steps\":[{\"calls\":[{\"name\":\"x\",\"expect\":null,\"answered\":\"never\"},"
        "{\"name\":\"y\",\"permission\":\"ask\"}],\"confirm\":[{\"call\":1,\"result\":\"deny\"}],"
        "\"hide_from_streams\":true,\"duplicate\":true,\"drop_streams\":true}]}",
        "{\"steps\":[{\"fail_requests\":{\"path\":\"poll\",\"status\":529,\"count\":2,"
        "\"retry_after\":1}},{\"end_turn\":true,\"stop_reason\":\"budget_reached\"},"
        "{\"wait_ms\":5},{\"terminate\":true},{\"interrupt\":true},{\"lapse_lease\":true},"
        "{\"stopping\":true},{\"drop_streams\":true},{\"raw_sse\":\"x\"},{\"thinking\":true},"
        "{\"emit\":{\"type\":\"x.y\"}}]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct error *error = NULL;
        struct script_set *set = script_set_parse(texts[i], strlen(texts[i]), &error);
        assert_null(error);
        assert_non_null(set);
        assert_non_null(script_set_find(set, "default"));
        assert_null(script_set_find(set, "missing"));
        script_set_free(set);
    }
}

static void test_bad_scripts_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"{", ""},
        {"[]", "needs"},
        {"{}", "needs"},
        {"{\"steps\":{}}", "\"steps\" must be an array"},
        {"{\"steps\":[],\"more\":1}", "\"more\""},
        {"{\"scripts\":{\"a\":{\"steps\":[{}]}}}", "script \"a\", step 0: is empty"},
        {"{\"steps\":[{\"message\":\"a\"},7]}", "step 1: must be an object"},
        {"{\"steps\":[{\"dance\":true}]}", "step 0: unknown kind \"dance\""},
        {"{\"steps\":[{\"message\":1}]}", "step 0: \"message\" must be of type string"},
        {"{\"steps\":[{\"message\":\"a\",\"wait_ms\":1}]}", "unknown member \"wait_ms\""},
        {"{\"steps\":[{\"wait_ms\":-1}]}", "wait_ms"},
        {"{\"steps\":[{\"calls\":[]}]}", "1 to"},
        {"{\"steps\":[{\"calls\":[{}]}]}", "call 0: \"name\" is missing"},
        {"{\"steps\":[{\"calls\":[{\"name\":\"a\",\"permission\":\"maybe\"}]}]}", "permission"},
        {"{\"steps\":[{\"calls\":[{\"name\":\"a\",\"answered\":3}]}]}", "answered"},
        {"{\"steps\":[{\"calls\":[{\"name\":\"a\",\"expect\":{\"text\":\"(\"}}]}]}",
         "regular expression"},
        {"{\"steps\":[{\"calls\":[{\"name\":\"a\"}],\"confirm\":[{\"call\":1,\"result\":\"deny\"}"
         "]}]}",
         "confirm 0"},
        {"{\"steps\":[{\"emit\":{}}]}", "\"type\""},
        {"{\"steps\":[{\"emit\":null}]}", "\"type\""},
        {"{\"steps\":[{\"fail_requests\":{\"path\":\"x\",\"status\":500}}]}", "path"},
        {"{\"steps\":[{\"fail_requests\":{\"path\":\"poll\",\"status\":200}}]}", "status"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error *error = NULL;
        assert_null(script_set_parse(cases[i].text, strlen(cases[i].text), &error));
        assert_non_null(error);
        assert_int_equal(error->code, ERROR_INPUT);
        CLEANUP_FREE char *text = error_text(error);
        error_free(error);
        assert_null(strchr(text, '\n'));
        if (strstr(text, cases[i].says) == NULL) {
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, text, cases[i].says);
        }
    }
}

static void test_expectations_compare_flag_and_text(void **state) {
    (void)state;
    static const struct {
        const char *expect;
        bool is_error;
        const char *text;
        bool matches;
    } cases[] = {
        {"null", true, "anything", true},
        {"{}", false, "anything", true},
        {"{\"is_error\":false}", true, "x", false},
        {"{\"is_error\":true}", true, "x", true},
        {"{\"text\":\"^a\\\\d+$\"}", false, "a42", true},
        {"{\"text\":\"^a\\\\d+$\"}", false, "ab", false},
        {"{\"text\":\"\xc3\xa9\"}", false, "caf\xc3\xa9", true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_JSON struct json_object *expect = NULL;
        assert_true(json_parse(cases[i].expect, strlen(cases[i].expect), &expect, NULL));
        CLEANUP_FREE char *failure =
            script_expectation_failure(expect, cases[i].is_error, cases[i].text);
        assert_int_equal(failure == NULL, cases[i].matches);
    }
}

static void test_the_builtin_script_calls_all_six_tools(void **state) {
    (void)state;
    static const char *const tools[] = {"write", "bash", "edit", "glob", "grep", "read"};
    struct script_set *set = script_set_builtin();
    assert_non_null(set);
    const struct script *script = script_set_find(set, "default");
    bool is_called[sizeof(tools) / sizeof(tools[0])] = {false};
    for (size_t i = 0; i < script_step_count(script); i++) {
        if (script_step_kind(script, i) != STEP_CALLS) {
            continue;
        }
        struct json_object *calls = json_get_array(script_step(script, i), "calls");
        for (size_t n = 0; n < json_object_array_length(calls); n++) {
            struct json_object *call = json_object_array_get_idx(calls, n);
            assert_non_null(json_get_object(call, "expect"));
            for (size_t t = 0; t < sizeof(tools) / sizeof(tools[0]); t++) {
                is_called[t] = is_called[t] || strcmp(tools[t], json_get_string(call, "name")) == 0;
            }
        }
    }
    for (size_t t = 0; t < sizeof(tools) / sizeof(tools[0]); t++) {
        assert_true(is_called[t]);
    }
    script_set_free(set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_scripts_are_taken),
        cmocka_unit_test(test_bad_scripts_are_refused_by_name),
        cmocka_unit_test(test_expectations_compare_flag_and_text),
        cmocka_unit_test(test_the_builtin_script_calls_all_six_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
