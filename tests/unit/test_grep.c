/* tool_grep with the built-in search: its format, its bounds, and files that could hang it. */
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

static char root[] = "/tmp/holt-grep-XXXXXX";

static void make_file(const char *name, const char *bytes, size_t length) {
    CLEANUP_FREE char *path = memory_format("%s/%s", root, name);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
}

static int set_up(void **state) {
    (void)state;
    assert_non_null(mkdtemp(root));
    CLEANUP_FREE char *fifo = memory_format("%s/fifo", root);
    CLEANUP_FREE char *link = memory_format("%s/link", root);
    CLEANUP_FREE char *long_line = memory_zeroed(4002, 1);
    memset(long_line, 'x', 4000);
    long_line[4000] = '\n';
    long_line[4001] = 'x';
    make_file("a", "x1\r\nno\rx2\n\nx3", 13);
    make_file("b", "x\0\nx5\nx6", 8);
    make_file("c", long_line, 4002);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    /* No directory there: the built-in search runs. */
    return setenv("PATH", "/nonexistent", 1);
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"a", "b", "c", "fifo", "link"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CLEANUP_FREE char *path = memory_format("%s/%s", root, names[i]);
        (void)unlink(path);
    }
    return rmdir(root);
}

static void expect(const char *pattern, const char *path, bool is_error, const char *names) {
    const struct tool_context context = {.workdir = root, .max_file_bytes = -1};
    CLEANUP_JSON struct json_object *input = json_object_new_object();
    struct tool_result result = {0};
    json_set_string(input, "pattern", pattern);
    if (path != NULL) {
        json_set_string(input, "path", path);
    }
    tool_grep(&context, input, &result);
    const char *text = json_get_string(json_object_array_get_idx(result.content, 0), "text");
    CLEANUP_FREE char *wanted = memory_string("");
    CLEANUP_FREE char *list = memory_string(names);
    char *rest = NULL;
    for (char *name = strtok_r(list, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest)) {
        char *longer = memory_format("%s%s%s/%s", wanted, *wanted != '\0' ? "\n" : "", root, name);
        free(wanted);
        wanted = longer;
    }
    assert_int_equal(result.is_error, is_error);
    assert_string_equal(text, is_error ? names : *names == '\0' ? "no matches" : wanted);
    tool_result_free(&result);
}

static void test_lines(void **state) {
    (void)state;
    expect("^x\\d$", NULL, false, "a:1:x1 a:3:x2 a:5:x3 b:2:x5");
    expect("^x+$", "c", false, "c:2:x");
    expect("nothing", NULL, false, "");
}

/* A FIFO blocks whoever opens it for reading; a link leads out. */
static void test_special_files(void **state) {
    (void)state;
    expect("x", "fifo", false, "");
    expect("root", NULL, false, "");
    expect("x", "missing", false, "");
}

static void test_errors(void **state) {
    (void)state;
    expect("(", NULL, true,
           "grep: invalid regex: Invalid regular expression: /(/: Unterminated group");
    expect("", NULL, true, "grep: pattern is required");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines),
                                       cmocka_unit_test(test_special_files),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
