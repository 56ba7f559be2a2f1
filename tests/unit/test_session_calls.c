/* Unit tests of the call book-keeping: a mistake here runs a command twice, or one that was denied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "orchestrator/session_calls.h"

static bool owns(void *context, const char *name, bool is_custom) {
    (void)context;
    return !is_custom && strcmp(name, "bash") == 0;
}

static int setup(void **state) {
    *state = session_calls_new(owns, NULL);
    return 0;
}

static int teardown(void **state) {
    session_calls_free(*state);
    return 0;
}

static enum calls_outcome feed(void *calls, const char *text) {
    CLEANUP_JSON struct json_object *event = NULL;
    assert_true(json_parse(text, strlen(text), &event, NULL));
    return session_calls_event(calls, event);
}

static enum call_state state_of(void *calls, const char *id) {
    const struct session_call *call = session_calls_find(calls, id);
    assert_non_null(call);
    return call->state;
}

#define USE(id)                                                                                    \
    "{\"type\":\"agent.tool_use\",\"id\":\"" id "\",\"name\":\"bash\",\"input\":{\"command\":\"x\"}"
#define IDLE(reason) "{\"type\":\"session.status_idle\",\"stop_reason\":{\"type\":\"" reason "\"}}"

static void test_an_allowed_call_is_ready_once(void **state) {
    assert_int_equal(feed(*state, USE("a") "}"), CALLS_CHANGED);
    assert_int_equal(state_of(*state, "a"), CALL_READY);
    session_call_set_state(session_calls_find(*state, "a"), CALL_RUNNING);
    assert_int_equal(feed(*state, USE("a") "}"), CALLS_UNTOUCHED);
    assert_int_equal(state_of(*state, "a"), CALL_RUNNING);
}

static void test_an_answered_call_never_runs(void **state) {
    (void)feed(*state, USE("a") "}");
    (void)feed(*state, "{\"type\":\"user.tool_result\",\"tool_use_id\":\"a\"}");
    assert_int_equal(state_of(*state, "a"), CALL_CLOSED);
    (void)feed(*state, "{\"type\":\"user.tool_result\",\"tool_use_id\":\"early\"}");
    (void)feed(*state, USE("early") "}");
    assert_int_not_equal(state_of(*state, "early"), CALL_READY);
}

static void test_permissions_fail_closed(void **state) {
    (void)feed(*state, USE("ask") ",\"evaluated_permission\":\"ask\"}");
    (void)feed(*state, USE("new") ",\"evaluated_permission\":\"perhaps\"}");
    (void)feed(*state, USE("odd") ",\"evaluated_permission\":7}");
    (void)feed(*state, USE("deny") ",\"evaluated_permission\":\"deny\"}");
    (void)feed(*state, USE("allow") ",\"evaluated_permission\":\"allow\"}");
    assert_int_equal(state_of(*state, "ask"), CALL_HELD);
    assert_int_equal(state_of(*state, "new"), CALL_HELD);
    assert_int_equal(state_of(*state, "odd"), CALL_HELD);
    assert_int_equal(state_of(*state, "deny"), CALL_CLOSED);
    assert_int_equal(state_of(*state, "allow"), CALL_READY);
    (void)feed(
        *state,
        "{\"type\":\"user.tool_confirmation\",\"tool_use_id\":\"ask\",\"result\":\"allow\"}");
    (void)feed(*state,
               "{\"type\":\"user.tool_confirmation\",\"tool_use_id\":\"new\",\"result\":\"yes\"}");
    (void)feed(
        *state,
        "{\"type\":\"user.tool_confirmation\",\"tool_use_id\":\"deny\",\"result\":\"allow\"}");
    assert_int_equal(state_of(*state, "ask"), CALL_READY);
    assert_int_equal(state_of(*state, "new"), CALL_CLOSED);
    assert_int_equal(state_of(*state, "deny"), CALL_CLOSED);
}

static void test_unowned_tools_are_left_alone(void **state) {
    (void)feed(*state, "{\"type\":\"agent.tool_use\",\"id\":\"t\",\"name\":\"teleport\"}");
    (void)feed(*state, "{\"type\":\"agent.custom_tool_use\",\"id\":\"c\",\"name\":\"bash\"}");
    assert_int_equal(state_of(*state, "t"), CALL_CLOSED);
    assert_int_equal(state_of(*state, "c"), CALL_CLOSED);
    assert_int_equal(session_calls_open(*state), 0);
}

static void test_the_turn_ends_and_begins_again(void **state) {
    assert_false(session_calls_is_idle(*state));
    (void)feed(*state, USE("a") "}");
    (void)feed(*state, IDLE("requires_action"));
    assert_false(session_calls_is_idle(*state));
    (void)feed(*state, "{\"type\":\"user.tool_result\",\"tool_use_id\":\"a\"}");
    (void)feed(*state, IDLE("end_turn"));
    assert_true(session_calls_is_idle(*state));
    (void)feed(*state,
               "{\"type\":\"session.thread_status_terminated\",\"session_thread_id\":\"x\"}");
    assert_true(session_calls_is_idle(*state));
    (void)feed(*state, "{\"type\":\"user.message\"}");
    assert_false(session_calls_is_idle(*state));
    (void)feed(*state, IDLE("some_new_reason"));
    assert_true(session_calls_is_idle(*state));
}

static void test_held_calls_defer_the_countdown(void **state) {
    (void)feed(*state, USE("a") ",\"evaluated_permission\":\"ask\"}");
    (void)feed(*state, IDLE("end_turn"));
    assert_false(session_calls_is_idle(*state));
}

static void test_a_dead_thread_takes_its_calls_along(void **state) {
    (void)feed(*state, USE("a") ",\"session_thread_id\":\"t1\"}");
    (void)feed(*state, USE("b") ",\"session_thread_id\":\"t1\"}");
    (void)feed(*state, USE("c") ",\"session_thread_id\":\"t2\"}");
    session_call_set_state(session_calls_find(*state, "b"), CALL_RUNNING);
    (void)feed(*state,
               "{\"type\":\"session.thread_status_terminated\",\"session_thread_id\":\"t1\"}");
    assert_int_equal(state_of(*state, "a"), CALL_CLOSED);
    assert_true(session_calls_find(*state, "b")->is_orphaned);
    assert_int_equal(state_of(*state, "c"), CALL_READY);
}

static void test_an_interrupt_reaches_what_is_open(void **state) {
    (void)feed(*state, USE("ready") "}");
    (void)feed(*state, USE("running") "}");
    (void)feed(*state, USE("held") ",\"evaluated_permission\":\"ask\"}");
    session_call_set_state(session_calls_find(*state, "running"), CALL_RUNNING);
    (void)feed(*state, "{\"type\":\"user.interrupt\"}");
    assert_true(session_calls_find(*state, "ready")->is_interrupted);
    assert_true(session_calls_find(*state, "running")->is_interrupted);
    assert_int_equal(state_of(*state, "held"), CALL_CLOSED);
    (void)feed(*state, USE("later") "}");
    assert_false(session_calls_find(*state, "later")->is_interrupted);
}

static void test_the_end_of_the_session(void **state) {
    assert_int_equal(feed(*state, "{\"type\":\"session.status_terminated\"}"), CALLS_ENDED);
    assert_int_equal(feed(*state, "{\"type\":\"session.deleted\"}"), CALLS_ENDED);
}

static void test_malformed_events_touch_nothing(void **state) {
    assert_int_equal(feed(*state, "{\"type\":\"agent.tool_use\",\"id\":5,\"name\":\"bash\"}"),
                     CALLS_UNTOUCHED);
    assert_int_equal(feed(*state, "{\"type\":\"agent.tool_use\",\"id\":\"x\"}"), CALLS_UNTOUCHED);
    assert_int_equal(feed(*state, "{\"type\":\"user.tool_result\"}"), CALLS_UNTOUCHED);
    assert_null(session_calls_first(*state));
}

static void test_answers_echo_what_the_control_plane_needs(void **state) {
    (void)feed(*state, USE("a") ",\"session_thread_id\":\"t1\"}");
    CLEANUP_JSON struct json_object *content = json_object_new_array();
    CLEANUP_JSON struct json_object *answer =
        session_call_answer(session_calls_find(*state, "a"), true, content);
    assert_string_equal(
        json_text(answer, NULL),
        "{\"type\":\"user.tool_result\",\"tool_use_id\":\"a\",\"session_thread_id\":"
        "\"t1\",\"is_error\":true,\"content\":[]}");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_an_allowed_call_is_ready_once),
        CASE(test_an_answered_call_never_runs),
        CASE(test_permissions_fail_closed),
        CASE(test_unowned_tools_are_left_alone),
        CASE(test_the_turn_ends_and_begins_again),
        CASE(test_held_calls_defer_the_countdown),
        CASE(test_a_dead_thread_takes_its_calls_along),
        CASE(test_an_interrupt_reaches_what_is_open),
        CASE(test_the_end_of_the_session),
        CASE(test_malformed_events_touch_nothing),
        CASE(test_answers_echo_what_the_control_plane_needs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
