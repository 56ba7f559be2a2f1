/* Unit tests of slots: a bound that is broken claims work that nobody serves, an unfair line lets
 * one busy environment starve the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/slots.h"

static void count_grant(void *context) {
    (*(int *)context)++;
}

static void test_bounds(void **state) {
    (void)state;
    int a_granted = 0;
    int b_granted = 0;
    struct slots *slots = slots_new(&(struct slots_limits){.sessions = 2, .starting = 2});
    struct slots_member *a = slots_join(slots, 10, count_grant, &a_granted);
    struct slots_member *b = slots_join(slots, 10, count_grant, &b_granted);
    assert_true(slots_reserve(a));
    assert_true(slots_reserve(a)); /* the same one */
    slots_claim(a);
    assert_true(slots_reserve(a));
    assert_false(slots_reserve(b)); /* a poll is under way: it may claim the last */
    assert_true(slots_is_contended(slots));
    slots_claim(a);
    slots_start(a);
    slots_start(a);
    assert_false(slots_reserve(a));
    assert_int_equal(slots_session_count(slots), 2);
    assert_int_equal(b_granted, 0);
    slots_end(a, false);
    assert_int_equal(b_granted, 1); /* first in line, though a asked too */
    assert_int_equal(a_granted, 0);
    assert_true(slots_reserve(b));
    slots_cancel(b);
    assert_int_equal(a_granted, 1);
    slots_leave(a);
    slots_leave(b);
    assert_int_equal(slots_session_count(slots), 0);
    slots_free(slots);
}

static void test_starting(void **state) {
    (void)state;
    int granted = 0;
    struct slots *slots = slots_new(&(struct slots_limits){.sessions = 100, .starting = 1});
    struct slots_member *a = slots_join(slots, 100, count_grant, &granted);
    assert_true(slots_reserve(a));
    slots_claim(a);
    assert_false(slots_reserve(a));
    slots_start(a);
    assert_int_equal(granted, 1);
    slots_claim(a);
    assert_false(slots_reserve(a));
    slots_end(a, true); /* it never became ready */
    assert_int_equal(granted, 2);
    slots_leave(a);
    slots_free(slots);
}

static void test_member_bound(void **state) {
    (void)state;
    int a_granted = 0;
    int b_granted = 0;
    struct slots *slots = slots_new(&(struct slots_limits){.sessions = 3, .starting = 3});
    struct slots_member *a = slots_join(slots, 1, count_grant, &a_granted);
    struct slots_member *b = slots_join(slots, 10, count_grant, &b_granted);
    assert_true(slots_reserve(a));
    slots_claim(a);
    assert_false(slots_reserve(a));          /* at its own bound: */
    assert_false(slots_is_contended(slots)); /* nobody could help it */
    assert_true(slots_reserve(b));           /* and it blocks nobody */
    slots_claim(b);
    slots_set_member_limit(a, 2);
    assert_int_equal(a_granted, 1);
    slots_leave(a);
    slots_leave(b);
    slots_free(slots);
}

static void test_limits_change(void **state) {
    (void)state;
    int granted = 0;
    struct slots *slots = slots_new(&(struct slots_limits){.sessions = 1, .starting = 8});
    struct slots_member *a = slots_join(slots, 10, count_grant, &granted);
    slots_adopt(a);
    slots_adopt(a); /* more than the bound: they were there before */
    assert_false(slots_reserve(a));
    slots_set_limits(slots, &(struct slots_limits){.sessions = 3, .starting = 8});
    assert_int_equal(granted, 1);
    slots_set_limits(slots, &(struct slots_limits){.sessions = 1, .starting = 8});
    slots_cancel(a);
    assert_false(slots_reserve(a));
    slots_end(a, true);
    assert_int_equal(granted, 1); /* still one too many */
    slots_end(a, true);
    assert_int_equal(granted, 2);
    slots_leave(a);
    slots_free(slots);
}

enum { MEMBERS = 5, ROUNDS = 200 };

/* Everybody always wants a slot and there is one: each gets it as often as the others. */
static void test_fairness(void **state) {
    (void)state;
    struct slots *slots = slots_new(&(struct slots_limits){.sessions = 1, .starting = 1});
    struct slots_member *members[MEMBERS];
    int granted[MEMBERS] = {0};
    for (size_t i = 0; i < MEMBERS; i++) {
        members[i] = slots_join(slots, 10, count_grant, &granted[i]);
        assert_int_equal(slots_reserve(members[i]), i == 0);
    }
    for (size_t turn = 0; turn < (size_t)MEMBERS * ROUNDS; turn++) {
        struct slots_member *holder = members[turn % MEMBERS];
        assert_true(slots_reserve(holder));
        slots_claim(holder);
        assert_false(slots_reserve(holder));
        slots_end(holder, true);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        assert_in_range(granted[i], ROUNDS - 1, ROUNDS);
    }
    slots_cancel(members[2]); /* from the middle of the line, or its reservation */
    for (size_t i = 0; i < MEMBERS; i++) {
        slots_leave(members[i]);
    }
    slots_free(slots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_starting),
        cmocka_unit_test(test_member_bound), cmocka_unit_test(test_limits_change),
        cmocka_unit_test(test_fairness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
