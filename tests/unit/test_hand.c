/*
 * The daemon's client against the real hand: order, side by side, cancel, and results that outlive
 * a connection. What breaks here loses a tool result, or runs a command twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"
#include "hand/client.h"

enum { BOUND_MS = 60000, DEADLINE_MS = 50000, FD_IN_HAND = 9, RESULTS = 16 };

struct result {
    char *id;
    bool is_error;
    char *text;
};

struct bench {
    struct loop *loop;
    struct loop_timer *bound;
    char *directory; /* holds work/ and bin/ */
    char *workdir;
    char *socket_path;
    pid_t hand;
    struct hand_client *client;
    bool is_ready, is_closed;
    struct json_object *running, *finished;
    struct result results[RESULTS];
    size_t count;
};

static void on_bound(void *context) {
    (void)context;
    (void)fprintf(stderr, "nothing happened for %d ms\n", BOUND_MS);
    abort();
}

static void on_ready(void *context, const char *incarnation, struct json_object *running,
                     struct json_object *finished) {
    struct bench *bench = context;
    assert_true(incarnation[0] != '\0');
    bench->is_ready = true;
    json_object_put(bench->running);
    json_object_put(bench->finished);
    bench->running = json_object_get(running);
    bench->finished = json_object_get(finished);
}

static void on_result(void *context, const char *id, bool is_error, struct json_object *content,
                      int64_t duration_us) {
    struct bench *bench = context;
    assert_true(duration_us >= 0);
    assert_true(bench->count < RESULTS);
    const char *text = json_get_string(json_object_array_get_idx(content, 0), "text");
    bench->results[bench->count++] =
        (struct result){memory_string(id), is_error, memory_string(text == NULL ? "" : text)};
}

static void on_closed(void *context, const struct error *error) {
    struct bench *bench = context;
    assert_non_null(error);
    bench->is_closed = true;
}

static char *below(const struct bench *bench, const char *name) {
    return memory_format("%s/%s", bench->directory, name);
}

static void write_file(const struct bench *bench, const char *name, const char *text,
                       unsigned mode) {
    CLEANUP_FREE char *path = below(bench, name);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_true(io_write_all(fd, text, strlen(text), NULL));
}

static int setup(void **state) {
    struct bench *bench = memory_new(struct bench);
    char template[] = "/tmp/holt-hand-XXXXXX";
    assert_non_null(mkdtemp(template));
    bench->directory = memory_string(template);
    bench->workdir = below(bench, "work");
    bench->socket_path = below(bench, "hand.sock");
    CLEANUP_FREE char *programs = below(bench, "bin");
    assert_int_equal(mkdir(bench->workdir, 0755), 0);
    assert_int_equal(mkdir(programs, 0755), 0);
    bench->loop = loop_new(NULL);
    bench->bound = loop_timer_new(bench->loop, on_bound, NULL);
    loop_timer_arm(bench->bound, BOUND_MS);
    *state = bench;
    return 0;
}

/* Starts hand with our end of a socket at FD_IN_HAND, and bin/ first on its PATH. */
static void start_hand(struct bench *bench, int socket_fd, const char *option,
                       const char *peer_uid) {
    const char *program = getenv("HAND");
    assert_non_null(program);
    char fd_text[] = {'0' + FD_IN_HAND, '\0'};
    const char *arguments[] = {"hand",   option, fd_text, peer_uid == NULL ? NULL : "--peer-uid",
                               peer_uid, NULL};
    CLEANUP_FREE char *path = memory_format("PATH=%s/bin:/usr/bin:/bin", bench->directory);
    CLEANUP_FREE char *meeting = memory_format("MEETING=%s", bench->directory);
    const char *environment[] = {path, meeting, NULL};
    bench->hand = fork();
    if (bench->hand == 0) {
        if (dup2(socket_fd, FD_IN_HAND) >= 0) {
            (void)execve(program, (char *const *)(uintptr_t)arguments,
                         (char *const *)(uintptr_t)environment);
        }
        _exit(127);
    }
    assert_true(bench->hand > 0);
}

static void attach(struct bench *bench, int take_fd) {
    static const struct hand_events events = {on_ready, on_result, on_closed};
    const struct hand_configuration configuration = {.workdir = bench->workdir,
                                                     .max_file_bytes = 262144};
    bench->is_ready = false;
    bench->is_closed = false;
    bench->client = hand_client_new(bench->loop, take_fd, &configuration, &events, bench);
}

static void await_ready(struct bench *bench) {
    while (!bench->is_ready) {
        loop_run_once(bench->loop, true);
    }
}

static void start_paired(struct bench *bench) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    start_hand(bench, pair[1], "--fd", NULL);
    (void)close(pair[1]);
    attach(bench, pair[0]);
    await_ready(bench);
}

static struct sockaddr_un address_of(const struct bench *bench) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", bench->socket_path);
    return address;
}

static void start_listening(struct bench *bench, const char *peer_uid) {
    struct sockaddr_un address = address_of(bench);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 4), 0);
    start_hand(bench, fd, "--listen-fd", peer_uid);
}

static void connect_again(struct bench *bench) {
    struct sockaddr_un address = address_of(bench);
    hand_client_free(bench->client);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    attach(bench, fd);
}

static void call(struct bench *bench, const char *id, const char *name, const char *input_text) {
    CLEANUP_JSON struct json_object *input = NULL;
    assert_true(json_parse(input_text, strlen(input_text), &input, NULL));
    hand_client_call(bench->client, id, name, input, DEADLINE_MS);
}

static void call_bash(struct bench *bench, const char *id, const char *command) {
    CLEANUP_JSON struct json_object *input = json_object_new_object();
    json_set_string(input, "command", command);
    hand_client_call(bench->client, id, "bash", input, DEADLINE_MS);
}

/* Waits for result number `index` and compares all of it. */
static void assert_result(struct bench *bench, size_t index, const char *id, bool is_error,
                          const char *text) {
    while (bench->count <= index) {
        assert_false(bench->is_closed);
        loop_run_once(bench->loop, true);
    }
    assert_string_equal(bench->results[index].id, id);
    assert_string_equal(bench->results[index].text, text);
    assert_int_equal(bench->results[index].is_error, is_error);
}

/* Waits, while the loop turns, for a file that a tool makes. */
static void await_file(struct bench *bench, const char *name) {
    CLEANUP_FREE char *path = below(bench, name);
    while (access(path, F_OK) != 0) {
        loop_run_once(bench->loop, false);
        (void)usleep(1000);
    }
}

static int teardown(void **state) {
    struct bench *bench = *state;
    if (bench->client != NULL) {
        hand_client_shutdown(bench->client);
    }
    hand_client_free(bench->client);
    if (bench->hand > 0) {
        int status = 0;
        assert_int_equal(waitpid(bench->hand, &status, 0), bench->hand);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    loop_timer_free(bench->bound);
    loop_free(bench->loop);
    CLEANUP_FREE char *remove = memory_format("rm -rf %s", bench->directory);
    assert_int_equal(system(remove), 0);
    for (size_t i = 0; i < bench->count; i++) {
        free(bench->results[i].id);
        free(bench->results[i].text);
    }
    json_object_put(bench->running);
    json_object_put(bench->finished);
    free(bench->directory);
    free(bench->workdir);
    free(bench->socket_path);
    free(bench);
    return 0;
}

static void test_calls_that_write_run_in_order_of_arrival(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    call_bash(bench, "1", "sleep 0.2; echo one > a.txt");
    call(bench, "2", "edit",
         "{\"file_path\":\"a.txt\",\"old_string\":\"one\",\"new_string\":\"two\"}");
    call(bench, "3", "read", "{\"file_path\":\"a.txt\"}");
    call(bench, "4", "write", "{\"file_path\":\"a.txt\",\"content\":\"three\"}");
    call_bash(bench, "5", "cat a.txt");
    assert_result(bench, 0, "1", false, "(no output)");
    assert_result(bench, 1, "2", false, "edited a.txt (1 replacement(s))");
    assert_result(bench, 2, "3", false, "two\n");
    assert_result(bench, 3, "4", false, "wrote 5 bytes to a.txt");
    assert_result(bench, 4, "5", false, "three");
}

/* Each of the two searches waits until the other one is there as well. */
static void test_readers_run_side_by_side_and_hold_up_a_writer(void **state) {
    struct bench *bench = *state;
    write_file(bench, "bin/rg",
               "#!/bin/sh\n: > \"$MEETING/here.$$\"\n"
               "until [ \"$(ls \"$MEETING\"/here.* | wc -l)\" -ge 2 ]; do sleep 0.02; done\n"
               "echo met\n",
               0755);
    start_paired(bench);
    call(bench, "1", "grep", "{\"pattern\":\"x\"}");
    call(bench, "2", "grep", "{\"pattern\":\"x\"}");
    call_bash(bench, "3", "ls .. | grep -c here");
    assert_result(bench, 2, "3", false, "2");
    assert_string_equal(bench->results[0].text, "met\n");
    assert_string_equal(bench->results[1].text, "met\n");
}

static void test_cancel_ends_a_command_and_returns_what_it_printed(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    call_bash(bench, "1", "echo partial; touch ../started; sleep 1000");
    call_bash(bench, "2", "echo never > ran");
    await_file(bench, "started");
    hand_client_cancel(bench->client, "2");
    assert_result(bench, 0, "2", true, "the call was cancelled before it ran");
    hand_client_cancel(bench->client, "1");
    assert_result(bench, 1, "1", true, "bash: This operation was aborted\npartial");
    call_bash(bench, "3", "ls; echo alive");
    assert_result(bench, 2, "3", false, "alive");
}

static void test_a_deadline_ends_a_command(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    CLEANUP_JSON struct json_object *input = json_object_new_object();
    json_set_string(input, "command", "sleep 1000");
    hand_client_call(bench->client, "1", "bash", input, 200);
    assert_result(bench, 0, "1", true, "bash: This operation was aborted");
}

static void test_results_are_kept_until_acknowledged(void **state) {
    struct bench *bench = *state;
    start_listening(bench, NULL);
    connect_again(bench);
    call_bash(bench, "1", "echo ran >> log; wc -l < log");
    assert_result(bench, 0, "1", false, "1");
    connect_again(bench);
    await_ready(bench);
    assert_string_equal(json_text(bench->finished, NULL), "[\"1\"]");
    /* The same id again: the kept result, not a second run. */
    call_bash(bench, "1", "echo ran >> log; wc -l < log");
    assert_result(bench, 1, "1", false, "1");
    hand_client_acknowledge(bench->client, "1");
    call_bash(bench, "2", "wc -l < log");
    assert_result(bench, 2, "2", false, "1");
    hand_client_acknowledge(bench->client, "2");
    call_bash(bench, "3", "true");
    assert_result(bench, 3, "3", false, "(no output)");
    connect_again(bench);
    await_ready(bench);
    assert_string_equal(json_text(bench->finished, NULL), "[\"3\"]");
}

static void test_a_call_goes_on_while_nobody_is_connected(void **state) {
    struct bench *bench = *state;
    start_listening(bench, NULL);
    connect_again(bench);
    call_bash(bench, "1", "touch ../started; until [ -e ../go ]; do sleep 0.02; done; echo went");
    await_file(bench, "started");
    connect_again(bench);
    await_ready(bench);
    assert_string_equal(json_text(bench->running, NULL), "[\"1\"]");
    call_bash(bench, "1", "echo twice");
    write_file(bench, "go", "", 0644);
    assert_result(bench, 0, "1", false, "went");
}

static void test_a_stranger_is_turned_away(void **state) {
    struct bench *bench = *state;
    start_listening(bench, "4242");
    connect_again(bench);
    while (!bench->is_closed) {
        loop_run_once(bench->loop, true);
    }
    assert_false(bench->is_ready);
    hand_client_free(bench->client);
    bench->client = NULL;
    assert_int_equal(kill(bench->hand, SIGTERM), 0);
}

static void test_the_end_of_a_pair_ends_every_process(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    call_bash(bench, "1", "setsid sleep 1000 & echo $!");
    while (bench->count == 0) {
        loop_run_once(bench->loop, true);
    }
    pid_t sleeper = (pid_t)strtol(bench->results[0].text, NULL, 10);
    assert_true(sleeper > 1);
    hand_client_free(bench->client);
    bench->client = NULL;
    assert_int_equal(waitpid(bench->hand, NULL, 0), bench->hand);
    bench->hand = 0;
    assert_int_equal(kill(sleeper, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void test_a_missing_workdir_is_an_answer(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    assert_int_equal(rmdir(bench->workdir), 0);
    call_bash(bench, "1", "true");
    CLEANUP_FREE char *text = memory_format("bash: %s: no such file or directory", bench->workdir);
    assert_result(bench, 0, "1", true, text);
    assert_int_equal(mkdir(bench->workdir, 0755), 0);
}

static void test_set_x_and_lost_output_do_not_hide_the_end(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    call_bash(bench, "1", "set -x");
    call_bash(bench, "2", "true");
    call_bash(bench, "3", "set +x; exec >/dev/null 2>&1; echo hidden");
    call_bash(bench, "4", "echo seen");
    call_bash(bench, "5", "ls /proc/self/fd | wc -l");
    assert_result(bench, 0, "1", false, "(no output)");
    assert_result(bench, 1, "2", false, "+ true");
    assert_result(bench, 2, "3", false, "+ set +x");
    assert_result(bench, 3, "4", false, "seen");
    assert_result(bench, 4, "5", false, "4");
    call_bash(bench, "6", "set -v");
    call_bash(bench, "7", "echo seen");
    assert_result(bench, 6, "7", false, "echo seen\nseen");
}

static void test_an_incomplete_command_leaves_the_shell_alone(void **state) {
    struct bench *bench = *state;
    start_paired(bench);
    call_bash(bench, "1", "X=kept");
    call_bash(bench, "2", "echo 'open");
    call_bash(bench, "3", "cat <<E\nopen");
    call_bash(bench, "4", "echo \\");
    call_bash(bench, "5", "echo $X");
    assert_result(bench, 4, "5", false, "kept");
    for (size_t i = 1; i < 4; i++) {
        assert_true(bench->results[i].is_error);
        assert_non_null(strstr(bench->results[i].text, "incomplete and was not run"));
    }
}

static void test_nonsense_ends_the_connection(void **state) {
    struct bench *bench = *state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    start_hand(bench, pair[1], "--fd", NULL);
    (void)close(pair[1]);
    CLEANUP_CLOSE int fd = pair[0];
    assert_true(io_write_all(fd, "\0\0\0\0", 4, NULL));
    CLEANUP_BUFFER struct buffer said = BUFFER_EMPTY;
    assert_true(io_read_to_end(fd, &said, 4096, NULL));
    assert_true(said.length > 4);
    assert_non_null(strstr(said.data + 4, "\"type\":\"error\""));
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_calls_that_write_run_in_order_of_arrival),
        TEST(test_readers_run_side_by_side_and_hold_up_a_writer),
        TEST(test_cancel_ends_a_command_and_returns_what_it_printed),
        TEST(test_a_deadline_ends_a_command),
        TEST(test_results_are_kept_until_acknowledged),
        TEST(test_a_call_goes_on_while_nobody_is_connected),
        TEST(test_a_stranger_is_turned_away),
        TEST(test_the_end_of_a_pair_ends_every_process),
        TEST(test_a_missing_workdir_is_an_answer),
        TEST(test_set_x_and_lost_output_do_not_hide_the_end),
        TEST(test_an_incomplete_command_leaves_the_shell_alone),
        TEST(test_nonsense_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
