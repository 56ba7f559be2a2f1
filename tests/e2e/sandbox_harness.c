/* Drives keeper from a loop of its own, one step at a time. */
#include "sandbox_harness.h"

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

#include "base/io.h"
#include "base/memory.h"
#include "sandbox/remove_tree.h"

void harness_open(struct harness *out) {
    *out = (struct harness){0};
    char path[] = "/tmp/holt-test-XXXXXX";
    assert_non_null(mkdtemp(path));
    out->directory = memory_string(path);
    out->state = memory_format("%s/state", path);
    out->loop = loop_new(NULL);
    assert_non_null(out->loop);
}

void harness_close(struct harness *harness) {
    keeper_stop(STEAL_PTR(harness->keeper));
    loop_free(harness->loop);
    bool is_complete = false;
    assert_true(remove_tree(AT_FDCWD, harness->directory, -1, &is_complete, NULL));
    free(harness->directory);
    free(harness->state);
}

struct keeper *harness_try_start(struct harness *harness, const struct keeper_options *options,
                                 struct error **error) {
    struct keeper_options filled = options == NULL ? (struct keeper_options){0} : *options;
    if (filled.state_directory == NULL) {
        filled.state_directory = harness->state;
    }
    if (filled.hand_path == NULL) {
        filled.hand_path = getenv("STAND_IN_HAND");
    }
    assert_non_null(filled.hand_path);
    return keeper_start(harness->loop, &filled, error);
}

void harness_start(struct harness *harness, const struct keeper_options *options) {
    CLEANUP_ERROR struct error *error = NULL;
    harness->keeper = harness_try_start(harness, options, &error);
    if (harness->keeper == NULL) {
        CLEANUP_FREE char *text = error_text(error);
        fail_msg("keeper does not start: %s", text);
    }
}

static void keep_error(struct box *box, const struct error *error) {
    error_free(box->error);
    box->error = NULL;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        (void)error_set(&box->error, error->code, "%s", text);
    }
    box->is_done = true;
}

static void on_created(void *context, const struct sandbox_info *info, int take_fd,
                       const struct error *error) {
    struct box *box = context;
    box->fd = take_fd;
    if (info != NULL) {
        box->hand_pid = info->hand_pid;
        box->created_us = info->created_us;
    }
    keep_error(box, error);
}

static void on_destroyed(void *context, const struct error *error) {
    keep_error(context, error);
}

static void on_measured(void *context, const struct sandbox_usage *usage,
                        const struct error *error) {
    struct box *box = context;
    if (usage != NULL) {
        box->usage = *usage;
    }
    keep_error(box, error);
}

void box_begin(struct harness *harness, struct box *box, const char *id) {
    *box = (struct box){.fd = -1};
    memcpy(box->id, id, strlen(id));
    sandbox_create(harness->keeper, box->id, on_created, box);
}

void box_wait(struct harness *harness, struct box *box) {
    while (!box->is_done) {
        loop_run_once(harness->loop, true);
    }
    box->is_done = false;
}

static void check(const struct box *box) {
    if (box->error != NULL) {
        CLEANUP_FREE char *text = error_text(box->error);
        fail_msg("%s: %s", box->id, text);
    }
}

void box_create(struct harness *harness, struct box *box, const char *id) {
    box_begin(harness, box, id);
    box_wait(harness, box);
    check(box);
    assert_true(box->fd >= 0);
}

void box_attach(struct harness *harness, struct box *box, const char *id) {
    *box = (struct box){.fd = -1};
    memcpy(box->id, id, strlen(id));
    sandbox_attach(harness->keeper, box->id, on_created, box);
    box_wait(harness, box);
    check(box);
    assert_true(box->fd >= 0);
}

void box_destroy(struct harness *harness, struct box *box) {
    if (box->fd >= 0) {
        (void)close(STEAL_FD(box->fd));
    }
    sandbox_destroy(harness->keeper, box->id, on_destroyed, box);
    box_wait(harness, box);
    check(box);
}

void box_measure(struct harness *harness, struct box *box) {
    sandbox_measure(harness->keeper, box->id, on_measured, box);
    box_wait(harness, box);
    check(box);
}

int box_run(const struct box *box, const char *script, struct buffer *out) {
    uint32_t length = (uint32_t)strlen(script);
    assert_true(io_write_all(box->fd, &length, sizeof(length), NULL));
    assert_true(io_write_all(box->fd, script, length, NULL));
    int status = -1;
    assert_true(io_read_exact(box->fd, &status, sizeof(status), NULL));
    assert_true(io_read_exact(box->fd, &length, sizeof(length), NULL));
    char *at = buffer_reserve(out, length);
    assert_true(length == 0 || io_read_exact(box->fd, at, length, NULL));
    out->length += length;
    at[length] = '\0';
    return status;
}

void box_expect(const struct box *box, const char *script, const char *expected) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    (void)box_run(box, script, &out);
    while (out.length > 0 && strchr("\n ", out.data[out.length - 1]) != NULL) {
        out.data[--out.length] = '\0';
    }
    if (strcmp(buffer_string(&out), expected) != 0) {
        fail_msg("inside the sandbox, instead of \"%s\":\n  %s\nprints: %s", expected, script,
                 buffer_string(&out));
    }
}

void box_expect_failure(const struct box *box, const char *script) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    if (box_run(box, script, &out) == 0) {
        fail_msg("inside the sandbox this must fail and does not:\n  %s\nprints: %s", script,
                 buffer_string(&out));
    }
}
