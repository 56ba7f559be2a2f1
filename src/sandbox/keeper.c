/*
 * The front side of keeper: requests go out in order, replies come back in order, callbacks run in
 * the loop.
 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "sandbox/keeper_process.h"
#include "sandbox/keeper_protocol.h"

enum { KEEPER_SOCKET_FD = 3 };

struct pending {
    struct keeper_request frame;
    bool is_sent;
    void (*created)(void *context, const struct sandbox_info *info, int take_fd,
                    const struct error *error);
    void (*destroyed)(void *context, const struct error *error);
    void (*measured)(void *context, const struct sandbox_usage *usage, const struct error *error);
    void (*found)(void *context, const char *id, const struct error *error);
    void *context;
    TAILQ_ENTRY(pending) link;
};

struct keeper {
    int socket_fd;
    pid_t pid;
    struct loop_watch *watch;
    uint64_t last_serial;
    bool is_dead;
    bool has_unsent;
    unsigned depth;  /* callbacks running */
    bool is_stopped; /* by a callback: freed when the last of them returns */
    struct error *death;
    void (*exited)(void *context, const struct error *error);
    void *exited_context;
    TAILQ_HEAD(, pending) requests;
};

/* Tells the one callback that a request has. */
static void conclude(struct pending *take_pending, const struct keeper_reply *reply, int take_fd,
                     const struct error *error) {
    CLEANUP_CLOSE int fd = take_fd;
    void *context = take_pending->context;
    if (take_pending->created != NULL) {
        const struct sandbox_info info = {.id = take_pending->frame.id,
                                          .created_us = reply == NULL ? 0 : reply->created_us,
                                          .hand_pid = reply == NULL ? 0 : (int)reply->hand_pid};
        take_pending->created(context, error == NULL ? &info : NULL,
                              error == NULL ? STEAL_FD(fd) : -1, error);
    } else if (take_pending->destroyed != NULL) {
        take_pending->destroyed(context, error);
    } else if (take_pending->measured != NULL) {
        const struct sandbox_usage usage = {
            .memory_bytes = reply == NULL ? -1 : reply->memory_bytes,
            .process_count = reply == NULL ? -1 : reply->process_count,
            .cpu_us = reply == NULL ? -1 : reply->cpu_us};
        take_pending->measured(context, error == NULL ? &usage : NULL, error);
    } else if (take_pending->found != NULL) {
        bool has_id = reply != NULL && error == NULL && reply->id[0] != '\0';
        take_pending->found(context, has_id ? reply->id : NULL, error);
    }
    free(take_pending);
}

static void fail_all(struct keeper *keeper, const struct error *error) {
    while (!TAILQ_EMPTY(&keeper->requests)) {
        struct pending *pending = TAILQ_FIRST(&keeper->requests);
        TAILQ_REMOVE(&keeper->requests, pending, link);
        conclude(pending, NULL, -1, error);
    }
}

static void keeper_free(struct keeper *take_keeper) {
    loop_watch_free(take_keeper->watch);
    error_free(take_keeper->death);
    free(take_keeper);
}

static void leave_callback(struct keeper *keeper) {
    if (--keeper->depth == 0 && keeper->is_stopped) {
        keeper_free(keeper);
    }
}

static void on_death(struct keeper *keeper, struct error *take_error) {
    keeper->is_dead = true;
    keeper->death = take_error;
    (void)error_wrap(&keeper->death, "keeper has died");
    loop_watch_set_events(keeper->watch, 0);
    fail_all(keeper, keeper->death);
    if (keeper->exited != NULL && !keeper->is_stopped) {
        keeper->exited(keeper->exited_context, keeper->death);
    }
}

static void flush_requests(struct keeper *keeper) {
    struct pending *pending = NULL;
    keeper->has_unsent = false;
    TAILQ_FOREACH(pending, &keeper->requests, link) {
        if (pending->is_sent) {
            continue;
        }
        if (send(keeper->socket_fd, &pending->frame, sizeof(pending->frame),
                 MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(pending->frame)) {
            /* Full: go on when it can be written. Broken: reading will say so. */
            keeper->has_unsent = true;
            break;
        }
        pending->is_sent = true;
    }
    loop_watch_set_events(keeper->watch, LOOP_READ | (keeper->has_unsent ? LOOP_WRITE : 0U));
}

/* One reply; false when there is none to read now or ever. */
static bool take_reply(struct keeper *keeper) {
    struct error *error = NULL;
    char frame[sizeof(struct keeper_reply) + 1];
    int fds[IO_FDS_LIMIT];
    size_t fd_count = 0;
    ssize_t length =
        io_receive_with_fds(keeper->socket_fd, frame, sizeof(frame), fds, &fd_count, &error);
    if (length < 0 && error->errno_value == EAGAIN) {
        error_free(error);
        return false;
    }
    CLEANUP_CLOSE int fd = length > 0 && fd_count > 0 ? fds[0] : -1;
    struct keeper_reply reply;
    struct pending *pending = TAILQ_FIRST(&keeper->requests);
    bool is_good = length > 0 && keeper_reply_parse(frame, (size_t)length, &reply, &error);
    if (length == 0) {
        (void)error_set(&error, ERROR_UNAVAILABLE, "its socket is closed");
    } else if (is_good && /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): TAILQ_REMOVE confuses it */
               (pending == NULL || !pending->is_sent || pending->frame.serial != reply.serial)) {
        is_good = error_set(&error, ERROR_PROTOCOL, "it answered what nobody asked");
    }
    if (!is_good || pending == NULL) {
        on_death(keeper, error);
        return false;
    }
    TAILQ_REMOVE(&keeper->requests, pending, link);
    CLEANUP_ERROR struct error *failure = NULL;
    keeper_reply_error(&reply, &failure);
    conclude(pending, &reply, STEAL_FD(fd), failure);
    return true;
}

static void on_ready(void *context, unsigned events) {
    struct keeper *keeper = context;
    keeper->depth++;
    if ((events & LOOP_WRITE) != 0) {
        flush_requests(keeper);
    }
    while (!keeper->is_stopped && !keeper->is_dead && take_reply(keeper)) {
    }
    leave_callback(keeper);
}

/* In the new process: nothing of front's descriptors stays but stderr and the socket. */
static void run_keeper(int socket_fd, const struct keeper_options *options) {
    (void)setsid();
    if (dup2(socket_fd, KEEPER_SOCKET_FD) < 0 || close_range(KEEPER_SOCKET_FD + 1, ~0U, 0) != 0) {
        _exit(EXIT_FAILURE);
    }
    (void)close(STDIN_FILENO);
    (void)close(STDOUT_FILENO);
    int null_in = open("/dev/null", O_RDWR | O_CLOEXEC);
    int null_out = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_in < 0 || null_out < 0 || fcntl(KEEPER_SOCKET_FD, F_SETFD, FD_CLOEXEC) != 0) {
        _exit(EXIT_FAILURE);
    }
    _exit(keeper_process_run(KEEPER_SOCKET_FD, options));
}

/* Waits for the first reply: whether keeper could start. */
static bool hear_hello(int socket_fd, struct error **error) {
    char frame[sizeof(struct keeper_reply) + 1];
    struct keeper_reply reply;
    ssize_t length = -1;
    do {
        length = recv(socket_fd, frame, sizeof(frame), 0);
    } while (length < 0 && errno == EINTR);
    if (length <= 0) {
        return error_set(error, ERROR_UNAVAILABLE, "keeper died while it started");
    }
    if (!keeper_reply_parse(frame, (size_t)length, &reply, error)) {
        return false;
    }
    keeper_reply_error(&reply, error);
    return reply.is_error == 0;
}

static void reap(pid_t pid) {
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

struct keeper *keeper_start(struct loop *loop, const struct keeper_options *options,
                            struct error **error) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        (void)error_set_errno(error, errno, "cannot make keeper's socket");
        return NULL;
    }
    CLEANUP_CLOSE int own_fd = ends[0];
    CLEANUP_CLOSE int keeper_fd = ends[1];
    pid_t pid = fork();
    if (pid < 0) {
        (void)error_set_errno(error, errno, "cannot fork keeper");
        return NULL;
    }
    if (pid == 0) {
        run_keeper(keeper_fd, options);
    }
    (void)close(STEAL_FD(keeper_fd));
    if (!hear_hello(own_fd, error) || !io_set_nonblocking(own_fd, true, error)) {
        (void)close(STEAL_FD(own_fd));
        reap(pid);
        return NULL;
    }
    struct keeper *keeper = memory_new(struct keeper);
    keeper->socket_fd = STEAL_FD(own_fd);
    keeper->pid = pid;
    keeper->watch = loop_watch_new(loop, keeper->socket_fd, LOOP_READ, on_ready, keeper);
    TAILQ_INIT(&keeper->requests);
    return keeper;
}

void keeper_on_exit(struct keeper *keeper, void (*exited)(void *context, const struct error *error),
                    void *context) {
    keeper->exited = exited;
    keeper->exited_context = context;
}

void keeper_stop(struct keeper *take_keeper) {
    if (take_keeper == NULL) {
        return;
    }
    take_keeper->is_stopped = true;
    take_keeper->is_dead = true;
    take_keeper->depth++;
    loop_watch_free(STEAL_PTR(take_keeper->watch));
    (void)close(take_keeper->socket_fd);
    reap(take_keeper->pid);
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, ERROR_CANCELLED, "keeper was stopped");
    fail_all(take_keeper, error);
    leave_callback(take_keeper);
}

int keeper_pid(const struct keeper *keeper) {
    return (int)keeper->pid;
}

static struct pending *request_new(struct keeper *keeper, enum keeper_request_type type,
                                   const char *id, void *context) {
    struct pending *pending = memory_new(struct pending);
    keeper_request_fill(&pending->frame, type, ++keeper->last_serial, id);
    pending->context = context;
    return pending;
}

/* Queues a request, or fails it when keeper is gone. */
static void request_send(struct keeper *keeper, struct pending *take_pending) {
    if (keeper->is_dead) {
        CLEANUP_ERROR struct error *error = NULL;
        (void)error_set(&error, ERROR_UNAVAILABLE, "keeper is not running");
        conclude(take_pending, NULL, -1, error);
        return;
    }
    TAILQ_INSERT_TAIL(&keeper->requests, take_pending, link);
    flush_requests(keeper);
}

/* A malformed id never reaches keeper, which would end over it. */
static bool id_is_refused(const char *id, struct error **error) {
    return !keeper_id_is_valid(id) &&
           !error_set(error, ERROR_INPUT,
                      "a sandbox id is 1 to %d of 0-9, a-z and, but at its begin, -",
                      (int)SANDBOX_ID_LIMIT);
}

void sandbox_create(struct keeper *keeper, const char *id,
                    void (*created)(void *context, const struct sandbox_info *info, int take_fd,
                                    const struct error *error),
                    void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    if (id_is_refused(id, &error)) {
        created(context, NULL, -1, error);
        return;
    }
    struct pending *pending = request_new(keeper, KEEPER_CREATE, id, context);
    pending->created = created;
    request_send(keeper, pending);
}

void sandbox_attach(struct keeper *keeper, const char *id,
                    void (*attached)(void *context, const struct sandbox_info *info, int take_fd,
                                     const struct error *error),
                    void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    if (id_is_refused(id, &error)) {
        attached(context, NULL, -1, error);
        return;
    }
    struct pending *pending = request_new(keeper, KEEPER_ATTACH, id, context);
    pending->created = attached;
    request_send(keeper, pending);
}

void sandbox_next(struct keeper *keeper, const char *after,
                  void (*found)(void *context, const char *id, const struct error *error),
                  void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    if (after != NULL && id_is_refused(after, &error)) {
        found(context, NULL, error);
        return;
    }
    struct pending *pending =
        request_new(keeper, KEEPER_NEXT, after == NULL ? KEEPER_FIRST : after, context);
    pending->found = found;
    request_send(keeper, pending);
}

void sandbox_destroy(struct keeper *keeper, const char *id,
                     void (*destroyed)(void *context, const struct error *error), void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    if (id_is_refused(id, &error)) {
        destroyed(context, error);
        return;
    }
    struct pending *pending = request_new(keeper, KEEPER_DESTROY, id, context);
    pending->destroyed = destroyed;
    request_send(keeper, pending);
}

void sandbox_measure(struct keeper *keeper, const char *id,
                     void (*measured)(void *context, const struct sandbox_usage *usage,
                                      const struct error *error),
                     void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    if (id_is_refused(id, &error)) {
        measured(context, NULL, error);
        return;
    }
    struct pending *pending = request_new(keeper, KEEPER_MEASURE, id, context);
    pending->measured = measured;
    request_send(keeper, pending);
}
