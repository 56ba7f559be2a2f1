/*
 * The daemon's operations in a sandbox, through the client against the real hand. What breaks here
 * puts skills or memories in the wrong place, or lets a link in the sandbox lead the daemon astray.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"
#include "hand/operations.h"

enum { BOUND_MS = 280000, FD_IN_HAND = 9, TIMEOUT_MS = 50000, SEEN = 64 };

struct bench {
    struct loop *loop;
    struct loop_timer *bound;
    char *directory; /* holds root/ and outside/ */
    char *root;
    pid_t hand;
    struct hand_client *client;
    bool is_ready, is_closed;
    /* The last answers. */
    size_t answers;
    bool has_failed, changed;
    enum error_code code;
    struct hand_file_status status;
    struct buffer bytes;
    size_t count, dropped;
    char *paths[SEEN];
    struct hand_exec_result run;
    char *out, *err;
    /* Of a call of the agent. */
    char *call_id;
    bool call_is_error;
    char *call_text;
};

static void on_bound(void *context) {
    (void)context;
    (void)fprintf(stderr, "nothing happened for %d ms\n", BOUND_MS);
    abort();
}

static void on_ready(void *context, const char *incarnation, struct json_object *running,
                     struct json_object *finished) {
    struct bench *bench = context;
    (void)incarnation;
    (void)running;
    (void)finished;
    bench->is_ready = true;
}

static void on_result(void *context, const char *id, bool is_error, struct json_object *content,
                      int64_t duration_us) {
    struct bench *bench = context;
    (void)duration_us;
    free(bench->call_id);
    free(bench->call_text);
    const char *text = json_get_string(json_object_array_get_idx(content, 0), "text");
    bench->call_id = memory_string(id);
    bench->call_text = memory_string(text);
    bench->call_is_error = is_error;
}

static void on_closed(void *context, const struct error *error) {
    assert_non_null(error);
    ((struct bench *)context)->is_closed = true;
}

static int setup(void **state) {
    struct bench *bench = memory_new(struct bench);
    char template[] = "/tmp/holt-operations-XXXXXX";
    assert_non_null(mkdtemp(template));
    bench->directory = memory_string(template);
    bench->root = memory_format("%s/root", template);
    CLEANUP_FREE char *outside = memory_format("%s/outside", template);
    assert_int_equal(mkdir(bench->root, 0755), 0);
    assert_int_equal(mkdir(outside, 0755), 0);
    bench->loop = loop_new(NULL);
    bench->bound = loop_timer_new(bench->loop, on_bound, NULL);
    loop_timer_arm(bench->bound, BOUND_MS);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const char *program = getenv("HAND");
    assert_non_null(program);
    bench->hand = fork();
    if (bench->hand == 0) {
        static const char *const environment[] = {"PATH=/usr/bin:/bin", "ANTHROPIC_KEY=secret",
                                                  "KEPT=yes", NULL};
        static const char *const arguments[] = {"hand", "--fd", "9", NULL};
        if (dup2(pair[1], FD_IN_HAND) >= 0) {
            (void)execve(program, (char *const *)(uintptr_t)arguments,
                         (char *const *)(uintptr_t)environment);
        }
        _exit(127);
    }
    (void)close(pair[1]);
    static const struct hand_events events = {on_ready, on_result, on_closed};
    const struct hand_configuration configuration = {.workdir = bench->root,
                                                     .max_file_bytes = 262144};
    bench->client = hand_client_new(bench->loop, pair[0], &configuration, &events, bench);
    while (!bench->is_ready) {
        loop_run_once(bench->loop, true);
    }
    *state = bench;
    return 0;
}

static void forget_answer(struct bench *bench) {
    for (size_t i = 0; i < bench->count && i < SEEN; i++) {
        free(bench->paths[i]);
    }
    bench->count = 0;
    buffer_free(&bench->bytes);
    bench->bytes = BUFFER_EMPTY;
    free(bench->out);
    free(bench->err);
    bench->out = NULL;
    bench->err = NULL;
}

static int teardown(void **state) {
    struct bench *bench = *state;
    if (bench->client != NULL) {
        hand_client_shutdown(bench->client);
    }
    hand_client_free(bench->client);
    assert_int_equal(waitpid(bench->hand, NULL, 0), bench->hand);
    forget_answer(bench);
    loop_timer_free(bench->bound);
    loop_free(bench->loop);
    CLEANUP_FREE char *remove = memory_format("rm -rf %s", bench->directory);
    assert_int_equal(system(remove), 0);
    free(bench->directory);
    free(bench->root);
    free(bench->call_id);
    free(bench->call_text);
    free(bench);
    return 0;
}

/* Answers. */

static void take_error(struct bench *bench, const struct error *error) {
    forget_answer(bench);
    bench->answers++;
    bench->has_failed = error != NULL;
    bench->code = error == NULL ? ERROR_INTERNAL : error->code;
}

static void on_put(void *context, const struct hand_file_status *status,
                   const struct error *error) {
    struct bench *bench = context;
    take_error(bench, error);
    assert_int_equal(status == NULL, error != NULL);
    bench->status = status == NULL ? (struct hand_file_status){0} : *status;
}

static void on_get(void *context, const struct hand_file_status *status, const char *bytes,
                   size_t length, const struct error *error) {
    struct bench *bench = context;
    on_put(context, status, error);
    buffer_append(&bench->bytes, bytes, length);
}

/* Each file as a line of out: its text, or "!" and the code of its error. */
static void on_gather(void *context, const struct hand_gathered_file *files, size_t count,
                      const struct error *error) {
    struct bench *bench = context;
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    take_error(bench, error);
    for (size_t i = 0; i < count; i++) {
        if (files[i].error != NULL) {
            buffer_append_format(&out, "!%d\n", (int)files[i].error->code);
        } else if (files[i].length > 100) {
            assert_int_equal(files[i].length, files[i].status.size);
            buffer_append_format(&out, "%zu bytes\n", files[i].length);
        } else {
            assert_int_equal(files[i].length, files[i].status.size);
            buffer_append_format(&out, "%s\n", files[i].bytes);
        }
    }
    bench->out = buffer_take_string(&out);
}

static void on_change(void *context, bool changed, const struct error *error) {
    take_error(context, error);
    ((struct bench *)context)->changed = changed;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void on_list(void *context, const struct hand_listed_file *files, size_t count,
                    size_t dropped, const struct error *error) {
    struct bench *bench = context;
    take_error(bench, error);
    assert_true(count <= SEEN);
    for (size_t i = 0; i < count; i++) {
        bench->paths[i] = memory_string(files[i].path);
        bench->status = files[i].status;
    }
    qsort(bench->paths, count, sizeof(char *), compare_paths);
    bench->count = count;
    bench->dropped = dropped;
}

static void on_exec(void *context, const struct hand_exec_result *result,
                    const struct error *error) {
    struct bench *bench = context;
    take_error(bench, error);
    bench->run = result == NULL ? (struct hand_exec_result){0} : *result;
    bench->out = memory_string(result == NULL ? "" : result->stdout_text);
    bench->err = memory_string(result == NULL ? "" : result->stderr_text);
}

/* Waits for the answer to one request; true when it worked. */
static bool await_answer(struct bench *bench) {
    size_t before = bench->answers;
    while (bench->answers == before) {
        loop_run_once(bench->loop, true);
    }
    return !bench->has_failed;
}

static bool put(struct bench *bench, const char *path, unsigned mode, const char *text) {
    (void)hand_put(bench->client, bench->root, path, mode, text, strlen(text), on_put, bench);
    return await_answer(bench);
}

static bool get(struct bench *bench, const char *path, size_t limit) {
    (void)hand_get(bench->client, bench->root, path, limit, on_get, bench);
    return await_answer(bench);
}

static bool gather(struct bench *bench, const char *const *paths, size_t count, size_t limit) {
    (void)hand_gather(bench->client, bench->root, paths, count, limit, on_gather, bench);
    return await_answer(bench);
}

static bool remove_path(struct bench *bench, const char *path, bool recursive) {
    (void)hand_remove(bench->client, bench->root, path, recursive, on_change, bench);
    return await_answer(bench);
}

static bool list(struct bench *bench, size_t limit) {
    (void)hand_list(bench->client, bench->root, limit, on_list, bench);
    return await_answer(bench);
}

static bool make(struct bench *bench, const char *path, unsigned mode) {
    (void)hand_make(bench->client, bench->root, path, mode, on_change, bench);
    return await_answer(bench);
}

static bool exec_shell(struct bench *bench, const char *script, const char *input,
                       int64_t timeout_ms) {
    const char *const argv[] = {"sh", "-c", script, NULL};
    const struct hand_exec_options options = {
        .argv = argv, .stdin_text = input, .timeout_ms = timeout_ms};
    (void)hand_exec(bench->client, &options, on_exec, bench);
    return await_answer(bench);
}

static void host(const struct bench *bench, const char *script) {
    CLEANUP_FREE char *command = memory_format("cd %s && %s", bench->directory, script);
    assert_int_equal(system(command), 0);
}

/* Tests. */

static void test_what_is_put_is_there_and_comes_back(void **state) {
    struct bench *bench = *state;
    assert_true(put(bench, "a/b/run.sh", 0755, "#!/bin/sh\n"));
    assert_int_equal(bench->status.size, 10);
    assert_int_equal(bench->status.mode, 0755);
    struct hand_file_status first = bench->status;
    assert_true(get(bench, "a/b/run.sh", 100));
    assert_string_equal(bench->bytes.data, "#!/bin/sh\n");
    assert_memory_equal(&first, &bench->status, sizeof(first));
    host(bench, "test $(stat -c %a root/a) = 700 && test $(stat -c %a root/a/b) = 700");
    assert_true(put(bench, "a/b/run.sh", 0644, ""));
    assert_true(bench->status.inode != first.inode); /* a new file in its place */
    assert_true(get(bench, "a/b/run.sh", 0));
    assert_int_equal(bench->bytes.length, 0);
    host(bench, "test $(ls -A root/a/b | wc -l) = 1");
}

static void test_bytes_of_any_kind_survive(void **state) {
    struct bench *bench = *state;
    char bytes[1024];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (char)(unsigned char)(i & 0xff);
    }
    (void)hand_put(bench->client, bench->root, "bin", 0600, bytes, sizeof(bytes), on_put, bench);
    assert_true(await_answer(bench));
    assert_true(get(bench, "bin", 1024));
    assert_int_equal(bench->bytes.length, sizeof(bytes));
    assert_memory_equal(bench->bytes.data, bytes, sizeof(bytes));
    assert_false(get(bench, "bin", 1023));
    assert_int_equal(bench->code, ERROR_LIMIT);
}

static void test_a_file_at_the_limit_travels(void **state) {
    struct bench *bench = *state;
    CLEANUP_FREE char *bytes = memory_zeroed(OPERATION_FILE_LIMIT + 1, 1);
    memset(bytes, 'x', OPERATION_FILE_LIMIT + 1);
    for (size_t more = 0; more < 2; more++) {
        (void)hand_put(bench->client, bench->root, "large", 0600, bytes,
                       OPERATION_FILE_LIMIT + more, on_put, bench);
        assert_int_equal(await_answer(bench), more == 0);
    }
    assert_int_equal(bench->code, ERROR_LIMIT);
    assert_true(get(bench, "large", OPERATION_FILE_LIMIT));
    assert_int_equal(bench->bytes.length, OPERATION_FILE_LIMIT);
}

static void test_paths_that_lead_elsewhere_are_refused(void **state) {
    struct bench *bench = *state;
    static const char *const paths[] = {"../outside/x", "/etc/passwd", "a/../../x", ".", "..", "",
                                        "a//b",         "./a",         "a/"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_false(put(bench, paths[i], 0644, "x"));
        assert_int_equal(bench->code, ERROR_INPUT);
        assert_false(get(bench, paths[i], 10));
        assert_false(remove_path(bench, paths[i], true));
    }
    host(bench, "test -z \"$(ls -A root)$(ls -A outside)\"");
}

static void test_links_are_never_followed(void **state) {
    struct bench *bench = *state;
    host(bench, "echo kept > outside/file && ln -s ../outside root/link && "
                "ln -s ../outside/file root/leaf && ln -s inner root/near && mkdir root/inner");
    assert_false(put(bench, "link/new", 0644, "x"));
    assert_false(put(bench, "link/deeper/new", 0644, "x"));
    assert_false(put(bench, "near/new", 0644, "x"));
    assert_false(get(bench, "link/file", 100));
    assert_false(get(bench, "leaf", 100));
    assert_false(remove_path(bench, "link/file", false));
    assert_false(make(bench, "link/made", 0700));
    assert_false(make(bench, "leaf", 0700));
    assert_true(list(bench, 10));
    assert_int_equal(bench->count, 0);
    /* A link is replaced and removed as itself. */
    assert_true(put(bench, "leaf", 0600, "mine"));
    assert_true(remove_path(bench, "link", true) && bench->changed);
    host(bench, "test \"$(cat outside/file)\" = kept && test ! -L root/leaf && "
                "test $(ls outside | wc -l) = 1 && test ! -e root/link");
}

/* A component turns into a link and back all the time; nothing may ever land outside. */
static void test_a_component_that_is_swapped_leads_nowhere(void **state) {
    struct bench *bench = *state;
    host(bench, "mkdir root/d && ln -s ../outside root/l");
    pid_t swapper = fork();
    if (swapper == 0) {
        CLEANUP_FREE char *a = memory_format("%s/d", bench->root);
        CLEANUP_FREE char *b = memory_format("%s/l", bench->root);
        for (;;) {
            (void)renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
        }
    }
    size_t worked = 0;
    for (int i = 0; i < 60; i++) {
        worked += put(bench, "d/sub/file", 0644, "x") ? 1 : 0;
        (void)remove_path(bench, "d/sub", true);
    }
    (void)kill(swapper, SIGKILL);
    (void)waitpid(swapper, NULL, 0);
    host(bench, "test -z \"$(ls -A outside)\"");
    assert_true(worked <= 60);
}

static void test_files_are_gathered(void **state) {
    struct bench *bench = *state;
    static const char *const paths[] = {"a",     "none", "d/b", "d", "link",
                                        "../up", "pipe", "big", ""};
    CLEANUP_FREE char *expected = memory_format(
        "one\n!%d\ntwo\n!%d\n!%d\n!%d\n!%d\n!%d\n!%d\n", ERROR_NOT_FOUND, ERROR_SYSTEM,
        ERROR_SYSTEM, ERROR_SYSTEM, ERROR_SYSTEM, ERROR_LIMIT, ERROR_SYSTEM);
    host(bench, "cd root && mkdir d && printf one >a && printf two >d/b && ln -s a link && "
                "mkfifo pipe && head -c 1000 /dev/zero >big");
    assert_true(gather(bench, paths, sizeof(paths) / sizeof(paths[0]), 999));
    assert_string_equal(bench->out, expected);
    /* Large ones come in part; the caller asks for the rest. */
    static const char *const large[] = {"l1", "l2", "l3"};
    host(bench, "cd root && for i in 1 2 3; do head -c 3000000 /dev/zero >l$i; done");
    assert_true(gather(bench, large, 3, 5000000));
    assert_string_equal(bench->out, "3000000 bytes\n3000000 bytes\n");
    host(bench, "rm -r root");
    assert_false(gather(bench, paths, 1, 999));
    assert_int_equal(bench->code, ERROR_NOT_FOUND);
}

static void test_a_listing_names_regular_files_only(void **state) {
    struct bench *bench = *state;
    host(bench,
         "cd root && mkdir -p a/b/c && echo 1 > one && echo 22 > a/b/two && ln one a/hard && "
         "ln -s one soft && mkfifo pipe && printf x > \"$(printf 'bad\\377')\" && "
         "ln -s .. a/b/up");
    assert_true(list(bench, 10));
    assert_int_equal(bench->count, 3);
    assert_string_equal(bench->paths[0], "a/b/two");
    assert_string_equal(bench->paths[1], "a/hard");
    assert_string_equal(bench->paths[2], "one");
    assert_int_equal(bench->dropped, 1);
    assert_true(list(bench, 2));
    assert_int_equal(bench->count, 2);
    assert_int_equal(bench->dropped, 2);
    CLEANUP_FREE char *missing = memory_format("%s/none", bench->root);
    (void)hand_list(bench->client, missing, 10, on_list, bench);
    assert_false(await_answer(bench));
    assert_int_equal(bench->code, ERROR_NOT_FOUND);
}

static void test_a_listing_of_a_deep_tree_ends(void **state) {
    struct bench *bench = *state;
    host(bench, "cd root && for i in $(seq 150); do mkdir d && cd d && echo x > f; done");
    assert_true(list(bench, 200 > SEEN ? SEEN : 200));
    assert_true(bench->count > 0 && bench->dropped > 0);
    assert_false(remove_path(bench, "d", true));
}

static void test_trees_are_removed(void **state) {
    struct bench *bench = *state;
    host(bench, "mkdir -p root/t/u/v && echo x > root/t/u/f && ln -s ../../outside root/t/l && "
                "echo x > outside/kept && mkdir root/t/shut && echo x > root/t/shut/f && "
                "chmod 0 root/t/shut");
    assert_false(remove_path(bench, "t", false));
    assert_true(remove_path(bench, "t", true) && bench->changed);
    host(bench, "test ! -e root/t && test -e outside/kept");
    assert_true(remove_path(bench, "t", true) && !bench->changed);
    assert_true(remove_path(bench, "no/such/thing", true) && !bench->changed);
    assert_true(make(bench, "empty", 0755));
    assert_true(remove_path(bench, "empty", false) && bench->changed);
}

static void test_directories_are_made(void **state) {
    struct bench *bench = *state;
    assert_true(make(bench, "x/y", 0750) && bench->changed);
    assert_true(make(bench, "x/y", 0700) && !bench->changed);
    host(bench, "test $(stat -c %a root/x) = 700 && test $(stat -c %a root/x/y) = 750");
    assert_true(put(bench, "file", 0644, ""));
    assert_false(make(bench, "file", 0700));
    assert_false(make(bench, "file/below", 0700));
    CLEANUP_FREE char *other = memory_format("%s/outside/p/q", bench->directory);
    (void)hand_make(bench->client, other, NULL, 0700, on_change, bench);
    assert_true(await_answer(bench) && bench->changed);
    (void)hand_make(bench->client, other, NULL, 0700, on_change, bench);
    assert_true(await_answer(bench) && !bench->changed);
}

static void test_a_program_gets_its_input_and_gives_its_output(void **state) {
    struct bench *bench = *state;
    assert_true(exec_shell(bench, "cat; echo bad >&2; pwd; exit 3", "in\n", TIMEOUT_MS));
    CLEANUP_FREE char *expected = memory_format("in\n%s\n", bench->root);
    assert_string_equal(bench->out, expected);
    assert_string_equal(bench->err, "bad\n");
    assert_int_equal(bench->run.exit_code, 3);
    assert_true(exec_shell(bench, "env", NULL, TIMEOUT_MS));
    assert_non_null(strstr(bench->out, "KEPT=yes"));
    assert_null(strstr(bench->out, "ANTHROPIC"));
    assert_true(exec_shell(bench, "kill -9 $$", NULL, TIMEOUT_MS));
    assert_int_equal(bench->run.signal, SIGKILL);
    assert_int_equal(bench->run.exit_code, -1);
    CLEANUP_FREE char *input = memory_zeroed(1000001, 1);
    memset(input, 'i', 1000000);
    assert_true(exec_shell(bench, "wc -c", input, TIMEOUT_MS));
    assert_string_equal(bench->out, "1000000\n");
    assert_true(exec_shell(bench, "exit 0", input, TIMEOUT_MS)); /* that is not read */
}

static void test_a_program_has_an_environment_and_a_directory_of_its_own(void **state) {
    struct bench *bench = *state;
    CLEANUP_JSON struct json_object *environment = json_object_new_object();
    json_set_string(environment, "KEPT", "changed");
    json_set_string(environment, "NEW", "1");
    const char *const argv[] = {"sh", "-c", "echo $KEPT $NEW; pwd", NULL};
    const struct hand_exec_options options = {.argv = argv,
                                              .environment = environment,
                                              .workdir = bench->directory,
                                              .timeout_ms = TIMEOUT_MS};
    (void)hand_exec(bench->client, &options, on_exec, bench);
    assert_true(await_answer(bench));
    CLEANUP_FREE char *expected = memory_format("changed 1\n%s\n", bench->directory);
    assert_string_equal(bench->out, expected);
    const char *const none[] = {"no-such-program", NULL};
    (void)hand_exec(bench->client,
                    &(struct hand_exec_options){.argv = none, .timeout_ms = TIMEOUT_MS}, on_exec,
                    bench);
    assert_false(await_answer(bench));
    assert_int_equal(bench->code, ERROR_NOT_FOUND);
}

static void test_the_end_of_a_program_is_the_end_of_its_group(void **state) {
    struct bench *bench = *state;
    assert_true(exec_shell(bench, "sleep 1000 & echo $!", NULL, TIMEOUT_MS));
    pid_t sleeper = (pid_t)strtol(bench->out, NULL, 10);
    assert_true(sleeper > 1);
    /* The answer is out a moment before the group is dead. */
    while (kill(sleeper, 0) == 0) {
        loop_run_once(bench->loop, false);
        (void)usleep(1000);
    }
    assert_true(exec_shell(bench, "echo early; sleep 1000", NULL, 300));
    assert_true(bench->run.timed_out);
    assert_string_equal(bench->out, "early\n");
    assert_true(exec_shell(bench, "trap '' TERM; kill 0; echo lived", NULL, TIMEOUT_MS));
    assert_string_equal(bench->out, "lived\n");
}

static void test_output_is_bounded_to_its_end(void **state) {
    struct bench *bench = *state;
    assert_true(
        exec_shell(bench, "head -c 3000000 /dev/zero | tr '\\0' x; printf end", NULL, TIMEOUT_MS));
    assert_true(bench->run.is_stdout_cut && !bench->run.is_stderr_cut);
    assert_int_equal(bench->run.stdout_length, OPERATION_OUTPUT_LIMIT);
    assert_string_equal(bench->out + OPERATION_OUTPUT_LIMIT - 4, "xend");
    assert_true(exec_shell(bench, "yes 'é' | head -c 500001", NULL, TIMEOUT_MS));
    assert_null(strstr(bench->out, "\xef\xbf\xbd\n"));
    assert_true(exec_shell(bench, "printf '\\377ok'", NULL, TIMEOUT_MS));
    assert_string_equal(bench->out, "\xef\xbf\xbdok");
}

static void test_operations_do_not_wait_for_the_agents_calls(void **state) {
    struct bench *bench = *state;
    CLEANUP_JSON struct json_object *input = json_object_new_object();
    json_set_string(input, "command", "until [ -e go ]; do sleep 0.02; done; echo went");
    hand_client_call(bench->client, "1", "bash", input, TIMEOUT_MS);
    assert_true(list(bench, 10));
    assert_null(bench->call_id);
    assert_true(put(bench, "go", 0644, ""));
    while (bench->call_id == NULL) {
        loop_run_once(bench->loop, true);
    }
    assert_string_equal(bench->call_text, "went");
}

static void test_a_call_cannot_name_an_operation(void **state) {
    struct bench *bench = *state;
    CLEANUP_JSON struct json_object *input = json_object_new_object();
    json_set_string(input, "root", bench->root);
    hand_client_call(bench->client, "1", "holt.list", input, TIMEOUT_MS);
    while (bench->call_id == NULL) {
        loop_run_once(bench->loop, true);
    }
    assert_true(bench->call_is_error);
    assert_string_equal(bench->call_text, "no such tool");
}

static void test_a_program_can_be_a_call(void **state) {
    struct bench *bench = *state;
    const char *const argv[] = {"cat", NULL};
    CLEANUP_JSON struct json_object *input = hand_run_input(&(struct hand_exec_options){
        .argv = argv, .stdin_text = "{\"a\":1}", .timeout_ms = TIMEOUT_MS});
    hand_client_run(bench->client, "sevt_1", input, TIMEOUT_MS);
    while (bench->call_id == NULL) {
        loop_run_once(bench->loop, true);
    }
    assert_string_equal(bench->call_id, "sevt_1");
    CLEANUP_JSON struct json_object *content = json_object_new_array();
    struct json_object *block = json_object_new_object();
    json_set_string(block, "text", bench->call_text);
    (void)json_object_array_add(content, block);
    CLEANUP_JSON struct json_object *keep = NULL;
    struct hand_exec_result result;
    assert_true(hand_run_parse(bench->call_is_error, content, &result, &keep, NULL));
    assert_string_equal(result.stdout_text, "{\"a\":1}");
    assert_int_equal(result.exit_code, 0);
}

static void test_many_at_once_all_come_back(void **state) {
    struct bench *bench = *state;
    for (int i = 0; i < 100; i++) {
        CLEANUP_FREE char *path = memory_format("d%d/f", i);
        (void)hand_put(bench->client, bench->root, path, 0644, "x", 1, on_put, bench);
    }
    while (bench->answers < 100) {
        loop_run_once(bench->loop, true);
    }
    host(bench, "test $(find root -type f | wc -l) = 100");
}

static void test_a_cancelled_request_is_silent(void **state) {
    struct bench *bench = *state;
    const char *const argv[] = {"sleep", "1000", NULL};
    struct hand_request *request = hand_exec(
        bench->client, &(struct hand_exec_options){.argv = argv, .timeout_ms = TIMEOUT_MS}, on_exec,
        bench);
    assert_true(put(bench, "a", 0644, ""));
    assert_int_equal(bench->answers, 1);
    hand_request_cancel(request);
    assert_true(put(bench, "b", 0644, ""));
    assert_int_equal(bench->answers, 2);
}

static void test_the_end_of_the_connection_is_told(void **state) {
    struct bench *bench = *state;
    const char *const argv[] = {"sleep", "3", NULL};
    (void)hand_exec(bench->client,
                    &(struct hand_exec_options){.argv = argv, .timeout_ms = TIMEOUT_MS}, on_exec,
                    bench);
    assert_true(put(bench, "a", 0644, ""));
    assert_int_equal(kill(bench->hand, SIGKILL), 0);
    assert_false(await_answer(bench));
    while (!bench->is_closed) {
        loop_run_once(bench->loop, true);
    }
    assert_false(put(bench, "b", 0644, "")); /* and of one that comes too late */
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_put_is_there_and_comes_back),
        TEST(test_bytes_of_any_kind_survive),
        TEST(test_a_file_at_the_limit_travels),
        TEST(test_paths_that_lead_elsewhere_are_refused),
        TEST(test_links_are_never_followed),
        TEST(test_a_component_that_is_swapped_leads_nowhere),
        TEST(test_files_are_gathered),
        TEST(test_a_listing_names_regular_files_only),
        TEST(test_a_listing_of_a_deep_tree_ends),
        TEST(test_trees_are_removed),
        TEST(test_directories_are_made),
        TEST(test_a_program_gets_its_input_and_gives_its_output),
        TEST(test_a_program_has_an_environment_and_a_directory_of_its_own),
        TEST(test_the_end_of_a_program_is_the_end_of_its_group),
        TEST(test_output_is_bounded_to_its_end),
        TEST(test_operations_do_not_wait_for_the_agents_calls),
        TEST(test_a_call_cannot_name_an_operation),
        TEST(test_a_program_can_be_a_call),
        TEST(test_many_at_once_all_come_back),
        TEST(test_a_cancelled_request_is_silent),
        TEST(test_the_end_of_the_connection_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
