/* What is true inside a sandbox, and what is left after one. Runs as root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "sandbox_harness.h"

/* One keeper for the tests that only look inside. */
static int open_group(void **state) {
    struct harness *harness = memory_new(struct harness);
    harness_open(harness);
    harness_start(harness, NULL);
    *state = harness;
    return 0;
}

static int close_group(void **state) {
    harness_close(*state);
    free(*state);
    return 0;
}

static void test_agent_is_root_of_its_own_ids(void **state) {
    struct box box;
    box_create(*state, &box, "ids");
    box_expect(&box, "id -u; stat -c %u /usr/bin/env; wc -l < /proc/self/uid_map", "0\n0\n1");
    box_expect(&box, "awk '{print $1, $3, ($2 >= 268435456)}' /proc/self/uid_map", "0 65536 1");
    box_expect(&box, "touch f; chown 1000:1000 f; stat -c %u:%g f", "1000:1000");
    box_expect(&box, "touch /usr/bin/new && rm /usr/bin/env && ls /usr/bin/new", "/usr/bin/new");
    box_destroy(*state, &box);
    assert_int_equal(access("/usr/bin/new", F_OK), -1);
    assert_int_equal(access("/usr/bin/env", F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agent_is_root_of_its_own_ids),
    };
    return cmocka_run_group_tests_name("sandbox", tests, open_group, close_group);
}
