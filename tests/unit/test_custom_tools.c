/*
 * Custom tools on the host: what a program gets, what its end means, and that nothing of it stays.
 * What breaks here leaks the daemon's environment to a tool, or leaves a session waiting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "hand/operations.h"
#include "orchestrator/custom_tools.h"

enum { BOUND_MS = 100000 };

struct bench {
    struct loop *loop;
    struct loop_timer *bound;
    struct custom_calls *calls;
    size_t ended;
    char *id;
    bool is_error;
    char *text;
};

#define SHELL(script) ((const char *const[]){"sh", "-c", script, NULL})

static void on_bound(void *context) {
    (void)context;
    (void)fprintf(stderr, "nothing happened for %d ms\n", BOUND_MS);
    abort();
}

static void on_ended(void *context, const char *id, bool is_error, struct json_object *content) {
    struct bench *bench = context;
    free(bench->id);
    free(bench->text);
    assert_int_equal(json_object_array_length(content), 1);
    struct json_object *block = json_object_array_get_idx(content, 0);
    assert_string_equal(json_get_string(block, "type"), "text");
    bench->id = memory_string(id);
    bench->is_error = is_error;
    bench->text = memory_string(json_get_string(block, "text"));
    bench->ended++;
}

static int setup(void **state) {
    struct bench *bench = memory_new(struct bench);
    bench->loop = loop_new(NULL);
    bench->bound = loop_timer_new(bench->loop, on_bound, NULL);
    loop_timer_arm(bench->bound, BOUND_MS);
    *state = bench;
    return 0;
}

static int teardown(void **state) {
    struct bench *bench = *state;
    custom_calls_free(bench->calls);
    loop_timer_free(bench->bound);
    loop_free(bench->loop);
    free(bench->id);
    free(bench->text);
    free(bench);
    return 0;
}

/* A table that outlives the call, as the daemon's does. */
static struct custom_tool tool;
static const struct custom_tools table = {&tool, 1};

static void await_end(struct bench *bench) {
    size_t before = bench->ended;
    while (bench->ended == before) {
        loop_run_once(bench->loop, true);
    }
    assert_string_equal(bench->id, "sevt_1");
}

static void begin(struct bench *bench, const char *const *command, int64_t timeout_ms,
                  const char *input_text) {
    CLEANUP_JSON struct json_object *input = NULL;
    assert_true(json_parse(input_text, strlen(input_text), &input, NULL));
    tool = (struct custom_tool){
        .name = "t", .command = command, .is_on_host = true, .timeout_ms = timeout_ms};
    if (bench->calls == NULL) {
        bench->calls = custom_calls_new(bench->loop, &table, "sesn_1", on_ended, bench);
    }
    custom_calls_acknowledge(bench->calls, "sevt_1"); /* the one before, if any */
    custom_calls_start(bench->calls, NULL, "sevt_1", "t", input);
}

static void expect(struct bench *bench, const char *script, const char *input, bool is_error,
                   const char *text) {
    begin(bench, SHELL(script), BOUND_MS, input);
    await_end(bench);
    assert_string_equal(bench->text, text);
    assert_int_equal(bench->is_error, is_error);
}

static void test_input_in_and_output_out(void **state) {
    struct bench *bench = *state;
    expect(bench, "cat; echo; echo", "{\"a\":[1,\"ü\"]}", false, "{\"a\":[1,\"ü\"]}");
    expect(bench, "pwd", "{}", false, "/");
    expect(bench, "true", "{}", false, "(no output)");
    expect(bench, "echo noise >&2; echo good", "{}", false, "good");
    expect(bench, "printf '\\377x'", "{}", false, "\xef\xbf\xbdx");
}

static void test_failures_are_told(void **state) {
    struct bench *bench = *state;
    expect(bench, "echo out; echo why >&2; exit 3", "{}", true, "why");
    expect(bench, "echo out; exit 3", "{}", true, "out");
    expect(bench, "exit 3", "{}", true, "t: exit 3");
    expect(bench, "kill -9 $$", "{}", true, "t: ended by signal 9");
    begin(bench, (const char *const[]){"/no/such/program", NULL}, BOUND_MS, "{}");
    await_end(bench);
    assert_true(bench->is_error);
    assert_string_equal(bench->text, "t: cannot run /no/such/program: No such file or directory");
}

static void test_nothing_of_ours_is_handed_on(void **state) {
    struct bench *bench = *state;
    assert_int_equal(setenv("ANTHROPIC_ENVIRONMENT_KEY", "secret", 1), 0);
    assert_int_equal(setenv("HOLT_OTHER", "secret", 1), 0);
    expect(bench, "env | sort | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^PATH", "{}", false,
           "HOLT_SESSION_ID=sesn_1\nHOLT_TOOL_NAME=t\nHOLT_TOOL_USE_ID=sevt_1\nHOME=/\n"
           "LANG=C.UTF-8");
}

static void test_time_is_bounded(void **state) {
    struct bench *bench = *state;
    begin(bench, SHELL("echo early; echo why >&2; exec sleep 1000"), 300, "{}");
    await_end(bench);
    assert_true(bench->is_error);
    assert_string_equal(bench->text, "t: timed out after 300 ms\nwhy");
}

static void test_output_is_bounded(void **state) {
    struct bench *bench = *state;
    begin(bench, SHELL("head -c 3000000 /dev/zero | tr '\\0' x; printf end"), BOUND_MS, "{}");
    await_end(bench);
    static const char marker[] = "[output truncated]\n";
    assert_memory_equal(bench->text, marker, sizeof(marker) - 1);
    assert_int_equal(strlen(bench->text), sizeof(marker) - 1 + OPERATION_OUTPUT_LIMIT);
}

static void await_death(struct bench *bench, pid_t pid) {
    assert_true(pid > 1);
    while (kill(pid, 0) == 0) {
        loop_run_once(bench->loop, false);
        (void)usleep(1000);
    }
}

static void test_what_it_leaves_behind_ends_with_it(void **state) {
    struct bench *bench = *state;
    begin(bench, SHELL("sleep 1000 & echo $!"), BOUND_MS, "{}");
    await_end(bench);
    await_death(bench, (pid_t)strtol(bench->text, NULL, 10));
}

static void test_a_call_can_be_interrupted(void **state) {
    struct bench *bench = *state;
    begin(bench, SHELL("exec sleep 1000"), BOUND_MS, "{}");
    custom_calls_cancel(bench->calls, NULL, "sevt_1");
    await_end(bench);
    assert_true(bench->is_error);
    assert_string_equal(bench->text, "t: interrupted");
    custom_calls_acknowledge(bench->calls, "sevt_1");
    begin(bench, SHELL("exec sleep 1000"), BOUND_MS, "{}");
    custom_calls_free(bench->calls); /* and dropped */
    bench->calls = NULL;
}

static void test_a_call_runs_once_and_its_answer_is_kept(void **state) {
    struct bench *bench = *state;
    char path[] = "/tmp/holt-custom-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    CLEANUP_FREE char *script = memory_format("echo ran >> %s; wc -l < %s", path, path);
    expect(bench, script, "{}", false, "1");
    custom_calls_start(bench->calls, NULL, "sevt_1", "t", NULL);
    await_end(bench);
    assert_string_equal(bench->text, "1");
    expect(bench, script, "{}", false, "2"); /* after an acknowledgement it is a new call */
    assert_int_equal(unlink(path), 0);
}

static void test_input_is_checked(void **state) {
    static const char schema[] =
        "{\"type\":\"object\",\"required\":[\"city\"],\"properties\":{\"city\":{\"type\":\"string\"},"
        "\"days\":{\"type\":\"integer\"},\"share\":{\"type\":\"number\"},\"any\":{}}}";
    static const struct {
        const char *input;
        const char *refusal; /* NULL: fits */
    } cases[] = {
        {"{\"city\":\"Brno\"}", NULL},
        {"{\"city\":\"Brno\",\"days\":3,\"share\":1,\"any\":[],\"other\":1}", NULL},
        {"{\"city\":\"Brno\",\"share\":0.5}", NULL},
        {"{}", "t: city is required"},
        {"{\"city\":7}", "t: city must be of type string"},
        {"{\"city\":\"Brno\",\"days\":\"3\"}", "t: days must be of type integer"},
        {"{\"city\":\"Brno\",\"days\":0.5}", "t: days must be of type integer"},
        {"[]", "t: city is required"},
    };
    (void)state;
    CLEANUP_JSON struct json_object *parsed = NULL;
    assert_true(json_parse(schema, strlen(schema), &parsed, NULL));
    const struct custom_tool checked = {.name = "t", .schema = parsed};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_JSON struct json_object *input = NULL;
        CLEANUP_ERROR struct error *error = NULL;
        assert_true(json_parse(cases[i].input, strlen(cases[i].input), &input, NULL));
        assert_int_equal(custom_tool_check_input(&checked, input, &error),
                         cases[i].refusal == NULL);
        if (cases[i].refusal != NULL) {
            assert_string_equal(error->message, cases[i].refusal);
        }
    }
}

int main(void) {
    (void)signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_input_in_and_output_out),
        TEST(test_failures_are_told),
        TEST(test_nothing_of_ours_is_handed_on),
        TEST(test_time_is_bounded),
        TEST(test_output_is_bounded),
        TEST(test_what_it_leaves_behind_ends_with_it),
        TEST(test_a_call_can_be_interrupted),
        TEST(test_a_call_runs_once_and_its_answer_is_kept),
        TEST(test_input_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
