/*
 * The sandbox room: makes, watches and destroys sandboxes, in a privileged process of its own.
 *
 * `keeper` is that process: forked at start, it keeps the privileges that `front` gives up, and
 * accepts only the requests of keeper_protocol.h from it. `front` uses the functions below, which
 * never block: an answer comes as a callback in the loop. A sandbox is known by an id of
 * [0-9a-z][0-9a-z-]{0,47}; keeper maps ids to paths itself and takes no path from front.
 */
#ifndef HOLT_SANDBOX_SANDBOX_H
#define HOLT_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

enum { SANDBOX_ID_LIMIT = 48 };

/* Where and how keeper makes sandboxes; fixed when it starts, from the operator, not from front. */
struct keeper_options {
    const char *state_directory; /* absolute; keeper owns <state>/sandboxes */
    const char *root_directory;  /* NULL: the host's own /usr and a generated /etc */
    const char *hand_path;       /* the static executable */
    bool agent_is_unprivileged;  /* true: uid 1000 "agent" inside; false: root of the namespace */
    int64_t memory_limit_bytes;  /* 0: none */
    int64_t pids_limit;          /* 0: none */
    int64_t cpu_limit_percent;   /* of one CPU; 0: none */
    bool keeps_sandboxes;        /* they outlive keeper, and the next one of this state directory
                                  * adopts them; else they end with it */
};

struct keeper;

/*
 * Checks that this host can make sandboxes, adopts or sweeps what an earlier keeper left behind,
 * and forks the keeper process. Call it before the loop runs and before privileges are dropped.
 * Errors say what is missing and how to mend it.
 */
struct keeper *keeper_start(struct loop *loop, const struct keeper_options *options,
                            struct error **error);
/* Called when keeper dies unexpectedly. */
void keeper_on_exit(struct keeper *keeper, void (*exited)(void *context, const struct error *error),
                    void *context);
/* Ends the process and waits for it; sandboxes end unless they are kept. NULL is fine. */
void keeper_stop(struct keeper *take_keeper);
/* Process id of keeper, for status lines and tests. */
int keeper_pid(const struct keeper *keeper);

struct sandbox_info {
    const char *id;
    int64_t created_us; /* how long creation took, in keeper */
    int hand_pid;       /* on the host */
};

/*
 * Makes a sandbox; the callback gets a connected stream socket to its hand (owned by the callee),
 * or -1 and an error. The workspace inside is /workspace.
 */
void sandbox_create(struct keeper *keeper, const char *id,
                    void (*created)(void *context, const struct sandbox_info *info, int take_fd,
                                    const struct error *error),
                    void *context);
/* A new connection to the hand of a sandbox that exists; hand lets go of an older one.
 * ERROR_NOT_FOUND: there is none, or its processes have ended. */
void sandbox_attach(struct keeper *keeper, const char *id,
                    void (*attached)(void *context, const struct sandbox_info *info, int take_fd,
                                     const struct error *error),
                    void *context);
/* The sandbox that follows `after` in the order of ids (NULL: the first); NULL after the last. */
void sandbox_next(struct keeper *keeper, const char *after,
                  void (*found)(void *context, const char *id, const struct error *error),
                  void *context);
/* Kills everything in it and removes every trace of it. Destroying an unknown id succeeds. */
void sandbox_destroy(struct keeper *keeper, const char *id,
                     void (*destroyed)(void *context, const struct error *error), void *context);

struct sandbox_usage {
    int64_t memory_bytes; /* -1: this host cannot say */
    int64_t process_count;
    int64_t cpu_us;
};
void sandbox_measure(struct keeper *keeper, const char *id,
                     void (*measured)(void *context, const struct sandbox_usage *usage,
                                      const struct error *error),
                     void *context);

#endif
