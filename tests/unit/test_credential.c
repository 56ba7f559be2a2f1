/* Unit tests of credentials: a key that stays readable somewhere is a key that leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/io.h"
#include "config/credential.h"

static void test_variable(void **state) {
    (void)state;
    char assignment[] = "HOLT_TEST_KEY=sk-test";
    assert_int_equal(putenv(assignment), 0);
    struct credential *credential = credential_take_variable("HOLT_TEST_KEY");
    assert_non_null(credential);
    assert_string_equal(credential_text(credential), "sk-test");
    assert_true(credential_is_sendable(credential));
    assert_null(getenv("HOLT_TEST_KEY"));
    assert_memory_equal(assignment, "HOLT_TEST_KEY=\0\0\0\0\0\0\0", sizeof(assignment) - 1);
    credential_free(credential);
    assert_null(credential_take_variable("HOLT_TEST_KEY"));
}

/* The page is not mapped in a forked child: reading it there makes write(2) fail with EFAULT. */
static void test_fork(void **state) {
    (void)state;
    char word[] = "sk-fork";
    struct credential *credential = credential_take_argument(word);
    assert_int_equal(word[0], 0);
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(write(pipe_fds[1], credential_text(credential), 1), 1);
    pid_t child = fork();
    if (child == 0) {
        _exit(write(pipe_fds[1], credential_text(credential), 1) == -1 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    credential_free(credential);
}

static void test_file(void **state) {
    (void)state;
    char path[] = "/tmp/holt-test-key-XXXXXX";
    CLEANUP_CLOSE int fd = mkstemp(path);
    CLEANUP_ERROR struct error *error = NULL;
    assert_true(io_write_all(fd, "  sk-file \r\n", 12, NULL));
    struct credential *credential = credential_read_file(path, NULL);
    assert_non_null(credential);
    assert_string_equal(credential_text(credential), "sk-file");
    credential_free(credential);
    assert_int_equal(ftruncate(fd, 2), 0);
    assert_null(credential_read_file(path, &error));
    assert_int_equal(error->code, ERROR_INPUT);
    (void)unlink(path);
    error_free(STEAL_PTR(error));
    assert_null(credential_read_file(path, &error));
    assert_int_equal(error->code, ERROR_SYSTEM);
}

static void test_sendable(void **state) {
    (void)state;
    char good[] = "sk-ant-oat01-Abc_9";
    char line[] = "sk\nx-evil: 1";
    char wide[] = "sk\xc3\xa4";
    const struct {
        char *text;
        bool is_sendable;
    } cases[] = {{good, true}, {line, false}, {wide, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct credential *credential = credential_take_argument(cases[i].text);
        assert_int_equal(credential_is_sendable(credential), cases[i].is_sendable);
        credential_free(credential);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variable),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_sendable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
