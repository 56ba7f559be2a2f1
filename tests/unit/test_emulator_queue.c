/* Unit tests of the emulator's work queue, with the time in the test's hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/base64.h"
#include "base/clock.h"
#include "emulator/queue.h"

enum { START_MS = 1000000, TTL_MS = 1000 };

struct fixture {
    struct work_queue queue;
    struct work_item *item;
};

static int set_up(void **state) {
    static struct fixture fixture;
    queue_init(&fixture.queue, TTL_MS);
    fixture.item = queue_item_new(&fixture.queue, "sesn_1", START_MS);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    queue_item_free(&fixture->queue, fixture->item);
    return 0;
}

static void count_change(void *context, struct work_item *item) {
    (void)item;
    (*(int *)context)++;
}

static const char *beat_text(const struct work_item *item) {
    static char text[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(item->heartbeat_ms, text);
    return text;
}

static void test_states_follow_one_another(void **state) {
    struct fixture *fixture = *state;
    struct work_queue *queue = &fixture->queue;
    struct work_item *item = queue_poll(queue, WORK_RECLAIM_DEFAULT_MS, START_MS);
    assert_ptr_equal(item, fixture->item);
    assert_int_equal(item->state, WORK_STATE_QUEUED);
    assert_int_equal(work_ack(queue, item, START_MS + 1), WORK_OK);
    assert_int_equal(item->state, WORK_STATE_STARTING);
    assert_int_equal(work_heartbeat(queue, item, "NO_HEARTBEAT", 0, START_MS + 2), WORK_OK);
    assert_int_equal(item->state, WORK_STATE_ACTIVE);
    assert_int_equal(work_stop(queue, item, false, START_MS + 3), WORK_OK);
    assert_int_equal(item->state, WORK_STATE_STOPPING);
    assert_int_equal(work_heartbeat(queue, item, beat_text(item), 0, START_MS + 4), WORK_OK);
    assert_int_equal(item->state, WORK_STATE_STOPPING);
    assert_int_equal(work_stop(queue, item, true, START_MS + 5), WORK_OK);
    assert_int_equal(item->state, WORK_STATE_STOPPED);
    assert_int_equal(work_stop(queue, item, true, START_MS + 6), WORK_CONFLICT);
}

static void test_an_item_is_delivered_once_until_reclaimed(void **state) {
    struct fixture *fixture = *state;
    struct work_queue *queue = &fixture->queue;
    assert_non_null(queue_poll(queue, 5000, START_MS));
    assert_null(queue_poll(queue, 5000, START_MS + 4999));
    assert_int_equal(queue_next_reclaim(queue, 5000), START_MS + 5000);
    assert_non_null(queue_poll(queue, 5000, START_MS + 5000));
    assert_non_null(queue_poll(queue, 0, START_MS + 5000));
}

static void test_only_one_worker_can_ack(void **state) {
    struct fixture *fixture = *state;
    struct work_queue *queue = &fixture->queue;
    assert_int_equal(work_ack(queue, fixture->item, START_MS), WORK_OK);
    assert_int_equal(work_ack(queue, fixture->item, START_MS), WORK_CONFLICT);
    assert_null(queue_poll(queue, 0, START_MS + 1));
}

static void test_a_beat_needs_the_beat_before(void **state) {
    struct fixture *fixture = *state;
    struct work_queue *queue = &fixture->queue;
    struct work_item *item = fixture->item;
    assert_int_equal(work_heartbeat(queue, item, "NO_HEARTBEAT", 0, START_MS), WORK_PRECONDITION);
    assert_int_equal(work_ack(queue, item, START_MS), WORK_OK);
    assert_int_equal(work_heartbeat(queue, item, "2020-01-01T00:00:00.000Z", 0, START_MS),
                     WORK_PRECONDITION);
    assert_int_equal(work_heartbeat(queue, item, "NO_HEARTBEAT", 0, START_MS), WORK_OK);
    char first[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(item->heartbeat_ms, first);
    assert_int_equal(work_heartbeat(queue, item, "NO_HEARTBEAT", 0, START_MS), WORK_PRECONDITION);
    /* Within the same millisecond the version must move all the same. */
    assert_int_equal(work_heartbeat(queue, item, first, 0, START_MS), WORK_OK);
    assert_int_equal(work_heartbeat(queue, item, first, 0, START_MS), WORK_PRECONDITION);
    assert_int_equal(work_heartbeat(queue, item, NULL, 0, START_MS), WORK_OK);
}

static void test_a_lapsed_lease_goes_back_to_the_queue(void **state) {
    struct fixture *fixture = *state;
    struct work_queue *queue = &fixture->queue;
    struct work_item *item = fixture->item;
    int changes = 0;
    (void)queue_poll(queue, 5000, START_MS);
    (void)work_ack(queue, item, START_MS);
    (void)work_heartbeat(queue, item, "NO_HEARTBEAT", 0, START_MS);
    char beat[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(item->heartbeat_ms, beat);
    queue_expire(queue, START_MS + TTL_MS - 1, count_change, &changes);
    assert_int_equal(changes, 0);
    queue_expire(queue, START_MS + TTL_MS, count_change, &changes);
    assert_int_equal(changes, 1);
    assert_int_equal(item->state, WORK_STATE_QUEUED);
    assert_int_equal(work_heartbeat(queue, item, beat, 0, START_MS + TTL_MS), WORK_PRECONDITION);
    assert_ptr_equal(queue_poll(queue, 5000, START_MS + TTL_MS), item);
    assert_int_equal(work_ack(queue, item, START_MS + TTL_MS), WORK_OK);
    /* The first holder must not beat the second one's lease. */
    assert_int_equal(work_heartbeat(queue, item, beat, 0, START_MS + TTL_MS), WORK_PRECONDITION);
}

static void test_a_wanted_ttl_is_kept(void **state) {
    struct fixture *fixture = *state;
    int changes = 0;
    (void)work_ack(&fixture->queue, fixture->item, START_MS);
    (void)work_heartbeat(&fixture->queue, fixture->item, NULL, 9000, START_MS);
    queue_expire(&fixture->queue, START_MS + 8999, count_change, &changes);
    assert_int_equal(changes, 0);
    queue_expire(&fixture->queue, START_MS + 9000, count_change, &changes);
    assert_int_equal(changes, 1);
}

static void test_a_stopping_item_that_lapses_is_stopped(void **state) {
    struct fixture *fixture = *state;
    int changes = 0;
    (void)work_ack(&fixture->queue, fixture->item, START_MS);
    (void)work_stop(&fixture->queue, fixture->item, false, START_MS);
    queue_expire(&fixture->queue, START_MS + TTL_MS, count_change, &changes);
    assert_int_equal(fixture->item->state, WORK_STATE_STOPPED);
    assert_null(queue_poll(&fixture->queue, 0, START_MS + TTL_MS));
}

static void test_a_queued_item_stops_at_once(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(work_stop(&fixture->queue, fixture->item, false, START_MS), WORK_OK);
    assert_int_equal(fixture->item->state, WORK_STATE_STOPPED);
    assert_false(work_lapse(&fixture->queue, fixture->item, START_MS));
}

static void test_the_secret_is_url_safe_and_carries_the_token(void **state) {
    struct fixture *fixture = *state;
    CLEANUP_BUFFER struct buffer decoded = BUFFER_EMPTY;
    const char *secret = fixture->item->secret;
    assert_int_equal(strcspn(secret, "+/="), strlen(secret));
    assert_true(base64_decode(&decoded, secret, strlen(secret)));
    CLEANUP_JSON struct json_object *json = NULL;
    assert_true(json_parse(decoded.data, decoded.length, &json, NULL));
    assert_string_equal(json_get_string(json, "sessions_token"), fixture->item->sessions_token);
}

static void test_an_item_survives_a_round_trip(void **state) {
    struct fixture *fixture = *state;
    (void)work_ack(&fixture->queue, fixture->item, START_MS);
    (void)work_heartbeat(&fixture->queue, fixture->item, NULL, 0, START_MS);
    CLEANUP_JSON struct json_object *saved = queue_item_save(fixture->item);
    struct work_queue other;
    queue_init(&other, TTL_MS);
    struct work_item *copy = queue_item_load(&other, saved);
    assert_non_null(copy);
    assert_int_equal(copy->state, WORK_STATE_ACTIVE);
    assert_string_equal(copy->secret, fixture->item->secret);
    assert_int_equal(work_heartbeat(&other, copy, beat_text(copy), 0, START_MS + 1), WORK_OK);
    queue_item_free(&other, copy);
    assert_null(queue_item_load(&other, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_states_follow_one_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_item_is_delivered_once_until_reclaimed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_only_one_worker_can_ack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_beat_needs_the_beat_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_lapsed_lease_goes_back_to_the_queue, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_wanted_ttl_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_stopping_item_that_lapses_is_stopped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_queued_item_stops_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_secret_is_url_safe_and_carries_the_token, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_item_survives_a_round_trip, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
