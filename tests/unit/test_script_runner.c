/* Unit tests of what is decided about an item that a script serves: a mistake here stops a session
 * whose container is on its way, or leaves one to nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "orchestrator/script_runner.h"

static enum script_item item_of(const char *text, const char *acknowledged_at) {
    CLEANUP_JSON struct json_object *work = NULL;
    assert_true(json_parse(text, strlen(text), &work, NULL));
    return script_item_of(work, acknowledged_at);
}

static void test_the_item_is_read(void **state) {
    (void)state;
    assert_int_equal(item_of("{\"state\":\"queued\"}", NULL), SCRIPT_ITEM_LAPSED);
    assert_int_equal(item_of("{\"state\":\"starting\"}", NULL), SCRIPT_ITEM_CLAIMED);
    assert_int_equal(item_of("{\"state\":\"active\"}", NULL), SCRIPT_ITEM_TAKEN);
    assert_int_equal(item_of("{\"state\":\"stopping\"}", NULL), SCRIPT_ITEM_OVER);
    assert_int_equal(item_of("{\"state\":\"stopped\"}", NULL), SCRIPT_ITEM_OVER);
    assert_int_equal(item_of("{\"state\":\"dreaming\"}", NULL), SCRIPT_ITEM_UNKNOWN);
    assert_int_equal(item_of("{\"state\":7}", NULL), SCRIPT_ITEM_UNKNOWN);
    assert_int_equal(item_of("[]", NULL), SCRIPT_ITEM_UNKNOWN);
}

static void test_anothers_claim_is_not_taken_for_ours(void **state) {
    (void)state;
    static const char claimed[] = "{\"state\":\"starting\",\"acknowledged_at\":\"t2\"}";
    static const char taken[] = "{\"state\":\"active\",\"acknowledged_at\":\"t2\"}";
    assert_int_equal(item_of(claimed, "t2"), SCRIPT_ITEM_CLAIMED);
    assert_int_equal(item_of(claimed, "t1"), SCRIPT_ITEM_ANOTHERS);
    assert_int_equal(item_of(taken, "t1"), SCRIPT_ITEM_ANOTHERS);
    assert_int_equal(item_of(taken, NULL), SCRIPT_ITEM_TAKEN);
    assert_int_equal(item_of("{\"state\":\"active\",\"acknowledged_at\":null}", "t1"),
                     SCRIPT_ITEM_TAKEN);
    assert_int_equal(item_of("{\"state\":\"stopped\",\"acknowledged_at\":\"t2\"}", "t1"),
                     SCRIPT_ITEM_OVER);
}

static void test_nothing_ends_while_the_script_runs(void **state) {
    (void)state;
    for (int item = SCRIPT_ITEM_UNKNOWN; item <= SCRIPT_ITEM_ANOTHERS; item++) {
        assert_int_equal(script_judge(SCRIPT_RUNS, (enum script_item)item, false), SCRIPT_WAIT);
        assert_int_equal(script_judge(SCRIPT_RUNS, (enum script_item)item, true), SCRIPT_WAIT);
    }
}

static void test_a_script_that_returned_ends_nothing_by_itself(void **state) {
    (void)state;
    static const struct {
        enum script_item item;
        enum script_verdict early;
        enum script_verdict late;
        enum script_verdict failed;
    } cases[] = {
        {SCRIPT_ITEM_UNKNOWN, SCRIPT_WAIT, SCRIPT_GIVE_UP, SCRIPT_WAIT},
        {SCRIPT_ITEM_CLAIMED, SCRIPT_WAIT, SCRIPT_GIVE_UP, SCRIPT_GIVE_UP},
        {SCRIPT_ITEM_LAPSED, SCRIPT_WAIT, SCRIPT_LEAVE, SCRIPT_LEAVE},
        {SCRIPT_ITEM_TAKEN, SCRIPT_HANDED_OVER, SCRIPT_HANDED_OVER, SCRIPT_HANDED_OVER},
        {SCRIPT_ITEM_OVER, SCRIPT_SERVED, SCRIPT_SERVED, SCRIPT_SERVED},
        {SCRIPT_ITEM_ANOTHERS, SCRIPT_FORGET, SCRIPT_FORGET, SCRIPT_FORGET},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(script_judge(SCRIPT_SUCCEEDED, cases[i].item, false), cases[i].early);
        assert_int_equal(script_judge(SCRIPT_SUCCEEDED, cases[i].item, true), cases[i].late);
        assert_int_equal(script_judge(SCRIPT_FAILED, cases[i].item, false), cases[i].failed);
    }
}

static const char *value_of(char **environment, const char *name) {
    const char *value = NULL;
    size_t length = strlen(name);
    for (size_t i = 0; environment[i] != NULL; i++) {
        if (strncmp(environment[i], name, length) == 0 && environment[i][length] == '=') {
            assert_null(value); /* named twice: which one counts? */
            value = environment[i] + length + 1;
        }
    }
    return value;
}

static void test_the_script_gets_its_own_variables_once(void **state) {
    (void)state;
    static const char *const base[] = {"PATH=/bin",
                                       "ANTHROPIC_WORK_ID=stale",
                                       "ANTHROPIC_WORK_SECRET=stale",
                                       "ANTHROPIC_X=kept",
                                       "ANTHROPIC_",
                                       "ANTHROPIC_SESSION_IDS=1",
                                       NULL};
    struct work_item item = {.id = (char[]){"work_1"},
                             .environment_id = (char[]){"env_1"},
                             .session_id = (char[]){"sesn_1"}};
    const struct script_options script = {
        .path = "/x", .environment_key = "key", .base_url = "http://x"};
    char **environment = script_environment(base, &script, &item);
    assert_string_equal(value_of(environment, "PATH"), "/bin");
    assert_string_equal(value_of(environment, "ANTHROPIC_WORK_ID"), "work_1");
    assert_string_equal(value_of(environment, "ANTHROPIC_ENVIRONMENT_ID"), "env_1");
    assert_string_equal(value_of(environment, "ANTHROPIC_SESSION_ID"), "sesn_1");
    assert_string_equal(value_of(environment, "ANTHROPIC_SESSION_IDS"), "1");
    assert_string_equal(value_of(environment, "ANTHROPIC_BASE_URL"), "http://x");
    assert_string_equal(value_of(environment, "ANTHROPIC_ENVIRONMENT_KEY"), "key");
    assert_string_equal(value_of(environment, "ANTHROPIC_X"), "kept");
    assert_null(value_of(environment, "ANTHROPIC_WORK_SECRET"));
    script_environment_free(environment);
    item.secret = (char[]){"fresh"};
    environment = script_environment(base, &script, &item);
    assert_string_equal(value_of(environment, "ANTHROPIC_WORK_SECRET"), "fresh");
    script_environment_free(environment);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_item_is_read),
        cmocka_unit_test(test_anothers_claim_is_not_taken_for_ours),
        cmocka_unit_test(test_nothing_ends_while_the_script_runs),
        cmocka_unit_test(test_a_script_that_returned_ends_nothing_by_itself),
        cmocka_unit_test(test_the_script_gets_its_own_variables_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
