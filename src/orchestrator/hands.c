/* A session's hand from a sandbox of the keeper, or as a child process of ours. */
#include "orchestrator/hands.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "orchestrator/setup_memory.h"

enum { HAND_FD = 3, HAND_EXIT_TIMEOUT_MS = 5000 };

extern char **environ;

void hands_free(struct hands *take_hands) {
    if (take_hands != NULL) {
        take_hands->operations->destroy(take_hands);
    }
}

/* From the keeper. */

struct keeper_hands {
    struct hands hands;
    struct keeper *keeper;
};

struct acquisition {
    hands_acquired acquired;
    void *context;
};

static void on_created(void *context, const struct sandbox_info *info, int take_fd,
                       const struct error *error) {
    CLEANUP_FREE struct acquisition *acquisition = context;
    struct hands_place place = {.provider = "local"};
    if (info != NULL) {
        place.sandbox_id = info->id;
        place.created_us = info->created_us;
    }
    acquisition->acquired(acquisition->context, &place, take_fd, error);
}

static void keeper_acquire(struct hands *hands, const char *name, hands_acquired acquired,
                           void *context) {
    struct keeper_hands *keeper_hands = (struct keeper_hands *)hands;
    struct acquisition *acquisition = memory_new(struct acquisition);
    acquisition->acquired = acquired;
    acquisition->context = context;
    sandbox_create(keeper_hands->keeper, name, on_created, acquisition);
}

static void keeper_attach(struct hands *hands, const char *name, hands_acquired acquired,
                          void *context) {
    struct keeper_hands *keeper_hands = (struct keeper_hands *)hands;
    struct acquisition *acquisition = memory_new(struct acquisition);
    acquisition->acquired = acquired;
    acquisition->context = context;
    sandbox_attach(keeper_hands->keeper, name, on_created, acquisition);
}

static void keeper_measure(struct hands *hands, const char *name, hands_measured measured,
                           void *context) {
    sandbox_measure(((struct keeper_hands *)hands)->keeper, name, measured, context);
}

static void keeper_release(struct hands *hands, const char *name, hands_released released,
                           void *context) {
    sandbox_destroy(((struct keeper_hands *)hands)->keeper, name, released, context);
}

static void keeper_destroy(struct hands *take_hands) {
    free(take_hands);
}

struct hands *hands_from_keeper(struct keeper *keeper,
                                const struct hand_configuration *configuration) {
    static const struct hands_operations operations = {.acquire = keeper_acquire,
                                                       .attach = keeper_attach,
                                                       .measure = keeper_measure,
                                                       .release = keeper_release,
                                                       .destroy = keeper_destroy};
    struct keeper_hands *hands = memory_new(struct keeper_hands);
    hands->hands.operations = &operations;
    hands->hands.configuration = *configuration;
    hands->hands.memory_sync_ms = MEMORY_SYNC_DEFAULT_MS;
    hands->keeper = keeper;
    return &hands->hands;
}

/* In place. */

struct place_hands {
    struct hands hands;
    char *hand_path;
    pid_t pid; /* of the one hand; -1 when there is none */
};

static void cleanup_actions(posix_spawn_file_actions_t *actions) {
    (void)posix_spawn_file_actions_destroy(actions);
}

static bool spawn_hand(struct place_hands *hands, int child_fd, struct error **error) {
    char fd_text[] = {'0' + HAND_FD, '\0'};
    char *argv[] = {(char *)(uintptr_t) "hand", (char *)(uintptr_t) "--fd", fd_text, NULL};
    CLEANUP(cleanup_actions)
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, child_fd, HAND_FD);
    int failure = posix_spawn(&hands->pid, hands->hand_path, &actions, NULL, argv, environ);
    if (failure != 0) {
        hands->pid = -1;
        return error_set_errno(error, failure, "cannot start %s", hands->hand_path);
    }
    return true;
}

static void place_acquire(struct hands *hands, const char *name, hands_acquired acquired,
                          void *context) {
    (void)name;
    struct place_hands *place_hands = (struct place_hands *)hands;
    CLEANUP_ERROR struct error *error = NULL;
    struct hands_place place = {.provider = "none", .sandbox_id = ""};
    int pair[2] = {-1, -1};
    int64_t start_us = clock_monotonic_us();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        (void)error_set_errno(&error, errno, "socketpair");
        acquired(context, &place, -1, error);
        return;
    }
    CLEANUP_CLOSE int ours = pair[0];
    CLEANUP_CLOSE int theirs = pair[1];
    if (!spawn_hand(place_hands, theirs, &error)) {
        acquired(context, &place, -1, error);
        return;
    }
    place.created_us = clock_monotonic_us() - start_us;
    acquired(context, &place, STEAL_FD(ours), NULL);
}

static void place_measure(struct hands *hands, const char *name, hands_measured measured,
                          void *context) {
    (void)hands;
    (void)name;
    struct sandbox_usage usage = {.memory_bytes = -1, .process_count = -1, .cpu_us = -1};
    measured(context, &usage, NULL);
}

/* hand ends when its connection closes; one that does not is killed. */
static void reap_hand(struct place_hands *hands) {
    CLEANUP_CLOSE int pid_fd = (int)syscall(SYS_pidfd_open, hands->pid, 0);
    struct pollfd ended = {.fd = pid_fd, .events = POLLIN};
    if (pid_fd < 0 || poll(&ended, 1, HAND_EXIT_TIMEOUT_MS) <= 0) {
        (void)kill(hands->pid, SIGKILL);
    }
    while (waitpid(hands->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    hands->pid = -1;
}

static void place_release(struct hands *hands, const char *name, hands_released released,
                          void *context) {
    (void)name;
    struct place_hands *place_hands = (struct place_hands *)hands;
    if (place_hands->pid > 0) {
        reap_hand(place_hands);
    }
    released(context, NULL);
}

static void place_destroy(struct hands *take_hands) {
    struct place_hands *hands = (struct place_hands *)take_hands;
    if (hands->pid > 0) {
        reap_hand(hands);
    }
    free(hands->hand_path);
    free(hands);
}

struct hands *hands_in_place(const char *hand_path,
                             const struct hand_configuration *configuration) {
    static const struct hands_operations operations = {.acquire = place_acquire,
                                                       .measure = place_measure,
                                                       .release = place_release,
                                                       .destroy = place_destroy};
    struct place_hands *hands = memory_new(struct place_hands);
    hands->hands.operations = &operations;
    hands->hands.configuration = *configuration;
    hands->hands.memory_sync_ms = MEMORY_SYNC_DEFAULT_MS;
    hands->hands.is_shared = true;
    hands->hand_path = memory_string(hand_path);
    hands->pid = -1;
    return &hands->hands;
}
