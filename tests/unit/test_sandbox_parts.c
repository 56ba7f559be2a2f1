/* Unit tests of the parts of src/sandbox that need no sandbox: frames, layouts, ids, removal. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "sandbox/cgroup.h"
#include "sandbox/ids.h"
#include "sandbox/keeper_protocol.h"
#include "sandbox/remove_tree.h"

static void test_request_survives_the_wire(void **state) {
    (void)state;
    struct keeper_request sent;
    struct keeper_request got;
    keeper_request_fill(&sent, KEEPER_MEASURE, 9, "session-42");
    assert_true(keeper_request_parse(&sent, sizeof(sent), &got, NULL));
    assert_string_equal(got.id, "session-42");
    assert_int_equal(got.serial, 9);
}

static void test_malformed_requests_are_refused(void **state) {
    (void)state;
    struct keeper_request good;
    struct keeper_request got;
    keeper_request_fill(&good, KEEPER_CREATE, 1, "a");
    assert_false(keeper_request_parse(&good, sizeof(good) - 1, &got, NULL));
    struct keeper_request bad = good;
    bad.magic++;
    assert_false(keeper_request_parse(&bad, sizeof(bad), &got, NULL));
    bad = good;
    bad.type = KEEPER_TYPE_END;
    assert_false(keeper_request_parse(&bad, sizeof(bad), &got, NULL));
    bad = good;
    bad.serial = 0;
    assert_false(keeper_request_parse(&bad, sizeof(bad), &got, NULL));
    static const char *const ids[] = {"", "..", "a/b", "A", "a b", "a\n"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        bad = good;
        memset(bad.id, 0, sizeof(bad.id));
        memcpy(bad.id, ids[i], strlen(ids[i]));
        assert_false(keeper_request_parse(&bad, sizeof(bad), &got, NULL));
    }
    memset(bad.id, 'a', sizeof(bad.id));
    assert_false(keeper_request_parse(&bad, sizeof(bad), &got, NULL));
}

static void test_reply_carries_an_error_chain(void **state) {
    (void)state;
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set_errno(&error, 28, "cannot write");
    (void)error_wrap(&error, "cannot create");
    struct keeper_reply sent;
    struct keeper_reply got;
    keeper_reply_fill_error(&sent, 3, error);
    assert_true(keeper_reply_parse(&sent, sizeof(sent), &got, NULL));
    CLEANUP_ERROR struct error *back = NULL;
    keeper_reply_error(&got, &back);
    CLEANUP_FREE char *text = error_text(back);
    assert_string_equal(text, "cannot create: cannot write: No space left on device");
    CLEANUP_FREE char *endless = memory_zeroed(4096, 1);
    memset(endless, 'x', 4095);
    CLEANUP_ERROR struct error *big = NULL;
    (void)error_set(&big, ERROR_LIMIT, "%s", endless);
    keeper_reply_fill_error(&sent, 3, big);
    assert_true(keeper_reply_parse(&sent, sizeof(sent), &got, NULL));
}

static const char pure_v2[] =
    "24 30 0:22 / /proc rw,nosuid shared:12 - proc proc rw\n"
    "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
static const char hybrid[] =
    "40 30 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro\n"
    "41 40 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n"
    "42 40 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    "43 40 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "44 40 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
    "45 40 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "46 40 0:33 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
static const char hybrid_groups[] =
    "9:pids:/docker/abc/own\n4:memory:/some/group\n3:cpu,cpuacct:/\n0::/x\n";

static void test_pure_v2_is_found(void **state) {
    (void)state;
    struct cgroup_layout layout;
    cgroup_layout_detect(&layout, pure_v2, "0::/user.slice\n");
    assert_string_equal(layout.v2_directory, "/sys/fs/cgroup");
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        assert_null(layout.v1_directories[i]);
    }
    cgroup_layout_free(&layout);
}

static void test_hybrid_is_found(void **state) {
    (void)state;
    struct cgroup_layout layout;
    cgroup_layout_detect(&layout, hybrid, hybrid_groups);
    assert_string_equal(layout.v2_directory, "/sys/fs/cgroup/unified");
    assert_string_equal(layout.v1_directories[CGROUP_MEMORY], "/sys/fs/cgroup/memory/some/group");
    assert_string_equal(layout.v1_directories[CGROUP_CPU], "/sys/fs/cgroup/cpu,cpuacct");
    assert_string_equal(layout.v1_directories[CGROUP_PIDS], "/sys/fs/cgroup/pids/own");
    cgroup_layout_free(&layout);
}

static void test_no_cgroups_are_found(void **state) {
    (void)state;
    struct cgroup_layout layout;
    cgroup_layout_detect(&layout, "24 30 0:22 / /proc rw - proc proc rw\nnonsense\n - \n", "");
    assert_null(layout.v2_directory);
    struct cgroups groups;
    const struct cgroup_limits none = {0};
    assert_true(cgroups_open(&groups, &layout, "holt-test", &none, NULL));
    cgroups_close(&groups);
    const struct cgroup_limits some = {.values = {[CGROUP_PIDS] = 10}};
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(cgroups_open(&groups, &layout, "holt-test", &some, &error));
    assert_int_equal(error->code, ERROR_UNSUPPORTED);
    cgroups_close(&groups);
}

static char *temporary_directory(void) {
    char path[] = "/tmp/holt-test-XXXXXX";
    assert_non_null(mkdtemp(path));
    return memory_string(path);
}

static void test_ids_are_taken_once(void **state) {
    (void)state;
    CLEANUP_FREE char *directory = temporary_directory();
    struct ids one;
    struct ids other;
    uint32_t bases[3];
    assert_true(ids_open(&one, directory, NULL));
    assert_true(ids_open(&other, directory, NULL));
    assert_true(ids_take(&one, directory, &bases[0], NULL));
    assert_true(ids_take(&other, "/nonexistent/holder", &bases[1], NULL));
    assert_true(bases[1] - bases[0] == IDS_PER_SANDBOX);
    ids_sweep(&one); /* drops the second, whose holder is gone, and not the first */
    one.next = 0;
    assert_true(ids_take(&one, directory, &bases[2], NULL));
    assert_int_equal(bases[2], bases[1]);
    ids_give_back(&one, bases[0]);
    ids_give_back(&one, bases[2]);
    ids_close(&one);
    ids_close(&other);
    bool is_complete = false;
    assert_true(remove_tree(AT_FDCWD, directory, -1, &is_complete, NULL));
}

/* Deeper than PATH_MAX and than any stack of descriptors would go. */
static void make_deep(int top_fd, int depth) {
    int fd = dup(top_fd);
    for (int i = 0; i < depth; i++) {
        assert_int_equal(mkdirat(fd, "a-directory-with-a-long-name", 0700), 0);
        int next = openat(fd, "a-directory-with-a-long-name", O_RDONLY | O_DIRECTORY);
        assert_true(next >= 0);
        int file = openat(fd, "file", O_CREAT | O_WRONLY, 0600);
        (void)close(file);
        (void)close(fd);
        fd = next;
    }
    (void)close(fd);
}

static void test_a_deep_tree_is_removed_without_following_links(void **state) {
    (void)state;
    CLEANUP_FREE char *directory = temporary_directory();
    CLEANUP_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fd, "kept", 0700), 0);
    assert_int_equal(mkdirat(fd, "kept/inside", 0700), 0);
    assert_int_equal(mkdirat(fd, "tree", 0700), 0);
    assert_int_equal(mkdirat(fd, "tree/.removing-0", 0700), 0);
    assert_int_equal(symlinkat("../kept", fd, "tree/link"), 0);
    CLEANUP_CLOSE int tree_fd = openat(fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    make_deep(tree_fd, 600);
    bool is_complete = true;
    assert_true(remove_tree(fd, "tree", 10, &is_complete, NULL));
    assert_false(is_complete);
    assert_true(remove_tree(fd, "tree", -1, &is_complete, NULL));
    assert_true(is_complete);
    assert_int_equal(faccessat(fd, "tree", F_OK, 0), -1);
    assert_int_equal(faccessat(fd, "kept/inside", F_OK, 0), 0);
    assert_true(remove_tree(fd, "tree", -1, &is_complete, NULL));
    assert_true(remove_tree(AT_FDCWD, directory, -1, &is_complete, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_survives_the_wire),
        cmocka_unit_test(test_malformed_requests_are_refused),
        cmocka_unit_test(test_reply_carries_an_error_chain),
        cmocka_unit_test(test_pure_v2_is_found),
        cmocka_unit_test(test_hybrid_is_found),
        cmocka_unit_test(test_no_cgroups_are_found),
        cmocka_unit_test(test_ids_are_taken_once),
        cmocka_unit_test(test_a_deep_tree_is_removed_without_following_links),
    };
    return cmocka_run_group_tests_name("sandbox parts", tests, NULL, NULL);
}
