/* Unit tests of command-line values: a wrong one must be refused, not read as something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "config/options.h"

static void test_durations(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t milliseconds;
    } good[] = {{"500ms", 500}, {"60s", 60000}, {"2m", 120000},   {"1h", 3600000},      {"5", 5000},
                {"0", 0},       {"1.5s", 1500}, {"1m30s", 90000}, {"1h0m0.5s", 3600500}};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        int64_t value = -1;
        assert_true(option_duration(good[i].text, &value, NULL));
        assert_int_equal(value, good[i].milliseconds);
    }
    static const char *const bad[] = {"",     "s",     "-1s",   "inf",   "nan", "0x10",
                                      "1e3s", "1 s",   "1sx",   "1d",    "+1s", "99999999h",
                                      "1m30", "1m-1s", "1.2.3", "1m 1s", "."};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEANUP_ERROR struct error *error = NULL;
        int64_t value = 0;
        assert_false(option_duration(bad[i], &value, &error));
        assert_int_equal(error->code, ERROR_INPUT);
    }
}

static void test_sizes(void **state) {
    (void)state;
    int64_t value = 0;
    assert_true(option_size("64K", &value, NULL));
    assert_int_equal(value, 65536);
    assert_true(option_size("2G", &value, NULL));
    assert_int_equal(value, (int64_t)2 << 30);
    assert_false(option_size("9999999999999T", &value, NULL));
    assert_false(option_size("-1", &value, NULL));
    assert_false(option_size("1KB", &value, NULL));
}

static void test_integers(void **state) {
    (void)state;
    int64_t value = 0;
    assert_true(option_integer("7", 1, 10, &value, NULL));
    assert_int_equal(value, 7);
    assert_false(option_integer("11", 1, 10, &value, NULL));
    assert_false(option_integer("7x", 1, 10, &value, NULL));
    assert_false(option_integer("", 0, 10, &value, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
