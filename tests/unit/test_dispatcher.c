/* Unit tests of the dispatcher's ways to learn of work, against a queue that counts its polls. A
 * wake that polls too little loses a session; one that polls too much is a load on everybody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "orchestrator/dispatcher.h"

enum { WAIT_MS = 30000, DEBOUNCE_MS = 20 };

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    struct api *api;
    struct dispatcher *dispatcher;
    struct http_exchange *held;
    size_t items; /* health checks in the queue: an item that needs no hands */
    size_t polls;
    size_t blocking_polls;
    size_t failures; /* the next polls are answered 503 */
    bool is_holding; /* the next poll is kept without an answer */
    bool is_ended;
};

static void answer_poll(struct fixture *fixture, struct http_exchange *exchange) {
    static const char item[] = "{\"type\":\"work\",\"id\":\"work_1\",\"environment_id\":\"env_1\","
                               "\"data\":{\"type\":\"healthcheck\"},\"state\":\"queued\"}";
    if (fixture->items > 0) {
        fixture->items--;
        http_reply_bytes(exchange, 200, "application/json", item, sizeof(item) - 1);
    } else {
        http_reply_bytes(exchange, 200, "application/json", "null", 4);
    }
}

static void handle(void *context, struct http_exchange *exchange) {
    struct fixture *fixture = context;
    if (strstr(http_exchange_path(exchange), "/poll") == NULL) {
        http_reply_bytes(exchange, 200, "application/json", "{}", 2);
        return;
    }
    fixture->polls++;
    fixture->blocking_polls += http_exchange_query(exchange, "block_ms") != NULL ? 1 : 0;
    if (fixture->failures > 0) {
        fixture->failures--;
        http_reply_bytes(exchange, 503, "application/json", "{}", 2);
    } else if (fixture->is_holding) {
        fixture->is_holding = false;
        fixture->held = exchange;
    } else {
        answer_poll(fixture, exchange);
    }
}

static void on_ended(void *context, const struct error *error) {
    struct fixture *fixture = context;
    assert_null(error);
    fixture->is_ended = true;
}

static int set_up(void **state) {
    struct fixture *fixture = memory_new(struct fixture);
    fixture->loop = loop_new(NULL);
    fixture->server = http_server_new(fixture->loop,
                                      &(struct http_server_options){.address = "127.0.0.1",
                                                                    .body_limit = 1000,
                                                                    .idle_timeout_ms = WAIT_MS,
                                                                    .handle = handle,
                                                                    .context = fixture},
                                      NULL);
    fixture->client = http_client_new(fixture->loop, NULL);
    CLEANUP_FREE char *url =
        memory_format("http://127.0.0.1:%u", (unsigned)http_server_port(fixture->server));
    fixture->api = api_new(fixture->loop, fixture->client, url, "key");
    *state = fixture;
    return 0;
}

static void start(struct fixture *fixture, bool is_waiting_for_wakes, int64_t recovery_ms) {
    fixture->dispatcher = dispatcher_start(&(struct dispatcher_options){
        .loop = fixture->loop,
        .api = fixture->api,
        .environment_id = "env_1",
        .worker_id = "worker",
        .max_sessions = 4,
        .poll_interval_ms = 10,
        .is_waiting_for_wakes = is_waiting_for_wakes,
        .recovery_interval_ms = recovery_ms,
        .debounce_ms = DEBOUNCE_MS,
        .ended = on_ended,
        .context = fixture,
    });
}

static bool is_idle(struct fixture *fixture) {
    return dispatcher_is_idle(fixture->dispatcher);
}

static bool has_held(struct fixture *fixture) {
    return fixture->held != NULL;
}

static bool has_ended(struct fixture *fixture) {
    return fixture->is_ended;
}

static bool has_polled_five(struct fixture *fixture) {
    return fixture->polls >= 5;
}

/* Ends a wait of the loop, so that a condition is looked at again. */
static void on_tick(void *context) {
    (void)context;
}

static void await(struct fixture *fixture, bool (*condition)(struct fixture *fixture)) {
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    struct loop_timer *tick = loop_timer_new(fixture->loop, on_tick, NULL);
    while (!condition(fixture)) {
        loop_timer_arm(tick, 5);
        loop_run_once(fixture->loop, true);
        assert_true(clock_monotonic_ms() < end_ms);
    }
    loop_timer_free(tick);
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    dispatcher_stop(fixture->dispatcher, 0);
    await(fixture, has_ended);
    dispatcher_free(fixture->dispatcher);
    api_free(fixture->api);
    http_client_free(fixture->client);
    http_server_free(fixture->server);
    loop_free(fixture->loop);
    free(fixture);
    return 0;
}

static void test_queue_is_drained_at_the_start(void **state) {
    struct fixture *fixture = *state;
    fixture->items = 3;
    start(fixture, true, 0);
    assert_false(is_idle(fixture));
    await(fixture, is_idle);
    assert_int_equal(fixture->polls, 4);
    assert_int_equal(fixture->blocking_polls, 0);
}

static void test_wake_drains_until_empty(void **state) {
    struct fixture *fixture = *state;
    start(fixture, true, 0);
    await(fixture, is_idle);
    fixture->items = 5;
    fixture->polls = 0;
    dispatcher_wake(fixture->dispatcher);
    assert_false(is_idle(fixture));
    await(fixture, is_idle);
    assert_int_equal(fixture->items, 0);
    assert_int_equal(fixture->polls, 6);
    assert_int_equal(fixture->blocking_polls, 0);
}

static void test_burst_is_one_wake(void **state) {
    struct fixture *fixture = *state;
    start(fixture, true, 0);
    await(fixture, is_idle);
    fixture->polls = 0;
    for (int i = 0; i < 1000; i++) {
        dispatcher_wake(fixture->dispatcher);
    }
    await(fixture, is_idle);
    assert_int_equal(fixture->polls, 2); /* and the second look of a wake that found nothing */
}

static void test_wake_during_a_poll_is_another_look(void **state) {
    struct fixture *fixture = *state;
    start(fixture, true, 0);
    await(fixture, is_idle);
    fixture->is_holding = true;
    dispatcher_wake(fixture->dispatcher);
    await(fixture, has_held);
    dispatcher_wake(fixture->dispatcher);
    fixture->polls = 0;
    answer_poll(fixture, STEAL_PTR(fixture->held)); /* empty: judged before the item came */
    fixture->items = 1;
    await(fixture, is_idle);
    assert_int_equal(fixture->items, 0);
    assert_int_equal(fixture->polls, 2);
}

static void test_recovery_polls_without_a_wake(void **state) {
    struct fixture *fixture = *state;
    start(fixture, true, 30);
    await(fixture, has_polled_five);
    assert_int_equal(fixture->blocking_polls, 0);
}

static void test_wake_survives_a_failing_control_plane(void **state) {
    struct fixture *fixture = *state;
    start(fixture, true, 0);
    await(fixture, is_idle);
    fixture->failures = 2;
    fixture->items = 1;
    dispatcher_wake(fixture->dispatcher);
    dispatcher_wake(fixture->dispatcher);
    await(fixture, is_idle);
    assert_int_equal(fixture->items, 0);
}

static void test_poller_blocks_and_a_wake_does_not(void **state) {
    struct fixture *fixture = *state;
    fixture->is_holding = true;
    start(fixture, false, 0);
    await(fixture, has_held);
    assert_int_equal(fixture->blocking_polls, 1);
    fixture->blocking_polls = 0;
    dispatcher_wake(fixture->dispatcher);
    fixture->is_holding = true;
    answer_poll(fixture, STEAL_PTR(fixture->held));
    await(fixture, has_held);
    assert_int_equal(fixture->blocking_polls, 0);
    fixture->is_holding = true;
    answer_poll(fixture, STEAL_PTR(fixture->held));
    await(fixture, has_held);
    assert_int_equal(fixture->blocking_polls, 1);
    answer_poll(fixture, STEAL_PTR(fixture->held));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_queue_is_drained_at_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wake_drains_until_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_burst_is_one_wake, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wake_during_a_poll_is_another_look, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recovery_polls_without_a_wake, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wake_survives_a_failing_control_plane, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_poller_blocks_and_a_wake_does_not, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
