/* What the tests of the sandbox share: a keeper with a state directory, sandboxes, scripts. */
#ifndef HOLT_TESTS_SANDBOX_HARNESS_H
#define HOLT_TESTS_SANDBOX_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "sandbox/sandbox.h"

struct harness {
    struct loop *loop;
    struct keeper *keeper;
    char *directory; /* temporary; the state directory is <directory>/state */
    char *state;
};

struct box {
    char id[64];
    bool is_done;
    int fd; /* connection to the stand-in hand; -1 */
    int hand_pid;
    int64_t created_us;
    struct error *error; /* why it could not be made or destroyed */
    struct sandbox_usage usage;
};

/* The stand-in's path comes from STAND_IN_HAND. */
void harness_open(struct harness *out);
void harness_close(struct harness *harness);
/* Starts keeper with these options, state and hand filled in; NULL: defaults. Fails the test. */
void harness_start(struct harness *harness, const struct keeper_options *options);
struct keeper *harness_try_start(struct harness *harness, const struct keeper_options *options,
                                 struct error **error);

void box_begin(struct harness *harness, struct box *box, const char *id);
void box_wait(struct harness *harness, struct box *box);
/* Connects to the hand of a sandbox that exists; fails the test when it cannot. */
void box_attach(struct harness *harness, struct box *box, const char *id);
/* Both, and fails the test when the sandbox cannot be made. */
void box_create(struct harness *harness, struct box *box, const char *id);
void box_destroy(struct harness *harness, struct box *box);
void box_measure(struct harness *harness, struct box *box);
/* Runs a bash script inside; returns its wait status, `out` gets stdout and stderr. */
int box_run(const struct box *box, const char *script, struct buffer *out);
/* Fails the test unless the script prints exactly `expected`; white space at its end
 * does not count. */
void box_expect(const struct box *box, const char *script, const char *expected);
/* Fails the test unless the script ends with another status than 0. */
void box_expect_failure(const struct box *box, const char *script);

#endif
