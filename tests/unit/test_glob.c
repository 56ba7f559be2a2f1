/* tool_glob on a real tree: order, pruning, links, and what must stay outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "tools/tools.h"

static char root[] = "/tmp/holt-glob-XXXXXX";

static void make_file(const char *name, time_t mtime) {
    CLEANUP_FREE char *path = memory_format("%s/%s", root, name);
    const struct timespec times[2] = {{.tv_sec = mtime}, {.tv_sec = mtime}};
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(futimens(fd, times), 0);
}

static void make_directory(const char *name) {
    CLEANUP_FREE char *path = memory_format("%s/%s", root, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static int set_up(void **state) {
    (void)state;
    assert_non_null(mkdtemp(root));
    make_directory("w");
    make_directory("w/sub");
    make_directory("w/node_modules");
    make_directory("o");
    make_file("w/a.ts", 30);
    make_file("w/.h.ts", 50);
    make_file("w/sub/b.ts", 40);
    make_file("w/node_modules/n.ts", 60);
    make_file("o/secret.ts", 70);
    CLEANUP_FREE char *link_out = memory_format("%s/w/out", root);
    CLEANUP_FREE char *fifo = memory_format("%s/w/p.ts", root);
    assert_int_equal(symlink("../o", link_out), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {
        "w/a.ts",         "w/.h.ts", "w/sub/b.ts", "w/node_modules/n.ts",
        "o/secret.ts",    "w/out",   "w/p.ts",     "w/sub",
        "w/node_modules", "w",       "o",          "."};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CLEANUP_FREE char *path = memory_format("%s/%s", root, names[i]);
        (void)(unlink(path) != 0 && rmdir(path) != 0);
    }
    return rmdir(root);
}

static void expect(const char *pattern, bool is_error, const char *names) {
    CLEANUP_FREE char *workdir = memory_format("%s/w", root);
    const struct tool_context context = {.workdir = workdir, .max_file_bytes = -1};
    CLEANUP_JSON struct json_object *input = json_object_new_object();
    json_set_string(input, "pattern", pattern);
    struct tool_result result = {0};
    tool_glob(&context, input, &result);
    const char *text = json_get_string(json_object_array_get_idx(result.content, 0), "text");
    CLEANUP_FREE char *wanted = memory_string("");
    CLEANUP_FREE char *list = memory_string(names);
    char *rest = NULL;
    for (char *name = strtok_r(list, " ", &rest); name != NULL && !is_error;
         name = strtok_r(NULL, " ", &rest)) {
        char *longer =
            memory_format("%s%s%s/%s", wanted, *wanted != '\0' ? "\n" : "", workdir, name);
        free(wanted);
        wanted = longer;
    }
    assert_int_equal(result.is_error, is_error);
    assert_string_equal(text, is_error ? names : *names == '\0' ? "no matches" : wanted);
    tool_result_free(&result);
}

static void test_walk(void **state) {
    (void)state;
    expect("**/*.ts", false, "sub/b.ts a.ts");
    expect("*.ts", false, "a.ts");
    expect(".*", false, ".h.ts");
    expect("sub", false, "");
    expect("node_modules/*", false, "");
    expect("{a,sub/b}.ts", false, "sub/b.ts a.ts");
}

/* A link named in the pattern is entered, but nothing outside of the root comes back. */
static void test_confined(void **state) {
    (void)state;
    expect("out/*", false, "");
    expect("out/secret.ts", false, "");
    expect("../o/*", true, "glob: \"..\" is not permitted in the pattern");
    expect("{.,a}./o/*", false, "");
    expect("{/etc,x}/passwd", false, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk),
                                       cmocka_unit_test(test_confined)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
