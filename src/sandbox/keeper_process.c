/*
 * Serves a table of permitted requests, one at a time, each a fixed struct with an id in it.
 *
 * The one thing it does not forgive is a malformed frame: front does not send any, so whoever did
 * is no friend. Then it cleans up and ends.
 */
#include "sandbox/keeper_process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "sandbox/keeper_protocol.h"
#include "sandbox/local.h"

#define LOG_ROOM "keeper"
#include "base/log.h"

/* Fills the reply; *reply_fd may be set to a descriptor to send along, which is then closed. */
typedef bool request_handler(struct local_host *host, const char *id, struct keeper_reply *reply,
                             int *reply_fd, struct error **error);

static bool on_create(struct local_host *host, const char *id, struct keeper_reply *reply,
                      int *reply_fd, struct error **error) {
    (void)FAULT_FAILS("keeper.create.before");
    const struct local_sandbox *sandbox = local_create(host, id, reply_fd, error);
    if (sandbox == NULL) {
        return false;
    }
    reply->created_us = sandbox->created_us;
    reply->hand_pid = sandbox->hand_pid;
    (void)FAULT_FAILS("keeper.create.after");
    return true;
}

static bool on_destroy(struct local_host *host, const char *id, struct keeper_reply *reply,
                       int *reply_fd, struct error **error) {
    (void)reply;
    (void)reply_fd;
    struct local_sandbox *sandbox = local_find(host, id);
    (void)FAULT_FAILS("keeper.destroy.before");
    return sandbox == NULL || local_destroy(host, sandbox, error);
}

static bool on_measure(struct local_host *host, const char *id, struct keeper_reply *reply,
                       int *reply_fd, struct error **error) {
    (void)reply_fd;
    if (local_find(host, id) == NULL) {
        return error_set(error, ERROR_NOT_FOUND, "there is no sandbox %s", id);
    }
    struct sandbox_usage usage;
    cgroups_measure(&host->cgroups, id, &usage);
    reply->memory_bytes = usage.memory_bytes;
    reply->process_count = usage.process_count;
    reply->cpu_us = usage.cpu_us;
    return true;
}

static bool on_attach(struct local_host *host, const char *id, struct keeper_reply *reply,
                      int *reply_fd, struct error **error) {
    const struct local_sandbox *sandbox = local_find(host, id);
    (void)FAULT_FAILS("keeper.attach.before");
    if (sandbox == NULL) {
        return error_set(error, ERROR_NOT_FOUND, "there is no sandbox %s", id);
    }
    *reply_fd = local_connect(host, sandbox, error);
    reply->hand_pid = sandbox->hand_pid;
    return *reply_fd >= 0;
}

static bool on_next(struct local_host *host, const char *id, struct keeper_reply *reply,
                    int *reply_fd, struct error **error) {
    (void)reply_fd;
    (void)error;
    const struct local_sandbox *sandbox = local_next(host, id);
    if (sandbox != NULL) {
        memcpy(reply->id, sandbox->id, sizeof(sandbox->id));
    }
    return true;
}

static request_handler *const handlers[KEEPER_TYPE_END] = {
    [KEEPER_CREATE] = on_create, [KEEPER_DESTROY] = on_destroy, [KEEPER_MEASURE] = on_measure,
    [KEEPER_ATTACH] = on_attach, [KEEPER_NEXT] = on_next,
};

static bool send_reply(int socket_fd, const struct keeper_reply *reply, int reply_fd,
                       struct error **error) {
    return io_send_with_fds(socket_fd, reply, sizeof(*reply), &reply_fd, reply_fd >= 0 ? 1 : 0,
                            error);
}

static bool serve_one(struct local_host *host, int socket_fd, const struct keeper_request *request,
                      struct error **error) {
    CLEANUP_ERROR struct error *failure = NULL;
    CLEANUP_CLOSE int reply_fd = -1;
    struct keeper_reply reply;
    keeper_reply_fill(&reply, request->serial);
    if (!handlers[request->type](host, request->id, &reply, &reply_fd, &failure)) {
        keeper_reply_fill_error(&reply, request->serial, failure);
    }
    return send_reply(socket_fd, &reply, reply_fd, error);
}

/* Until front is gone (true) or has broken the protocol (false). */
static bool serve(struct local_host *host, int socket_fd, struct error **error) {
    for (;;) {
        char frame[sizeof(struct keeper_request) + 1];
        int fds[IO_FDS_LIMIT];
        size_t fd_count = 0;
        ssize_t length =
            io_receive_with_fds(socket_fd, frame, sizeof(frame), fds, &fd_count, error);
        if (length == 0 || (length < 0 && error != NULL && (*error)->errno_value == ECONNRESET)) {
            return true;
        }
        struct keeper_request request;
        if (length < 0) {
            return false;
        }
        if (fd_count != 0) {
            return error_set(error, ERROR_PROTOCOL, "request with descriptors");
        }
        if (!keeper_request_parse(frame, (size_t)length, &request, error)) {
            return false;
        }
        if (!serve_one(host, socket_fd, &request, error)) {
            /* Front went away while we worked. */
            return (*error)->errno_value == EPIPE || (*error)->errno_value == ECONNRESET;
        }
    }
}

/* Front's end closing is the signal to stop; a terminal's ^C or a service manager's SIGTERM reach
 * front too, and destroying must not be cut short. */
static void ignore_signals(void) {
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)signal(numbers[i], SIG_IGN);
    }
    (void)signal(SIGCHLD, SIG_DFL);
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Until it serves, keeper dies with front: one that still waited for the lock of the state
 * directory would get it at some time, long after its front. False: front is dead already.
 */
static bool bind_to_front(int socket_fd) {
    struct pollfd front = {.fd = socket_fd};
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && poll(&front, 1, 0) >= 0 &&
           (front.revents & (POLLHUP | POLLERR)) == 0;
}

int keeper_process_run(int socket_fd, const struct keeper_options *options) {
    (void)prctl(PR_SET_NAME, "holt-keeper", 0, 0, 0);
    ignore_signals();
    if (!bind_to_front(socket_fd)) {
        return EXIT_FAILURE;
    }
    CLEANUP_ERROR struct error *error = NULL;
    struct keeper_reply hello;
    keeper_reply_fill(&hello, 0);
    struct local_host host;
    bool is_open = local_host_open(&host, options, &error);
    if (!is_open) {
        keeper_reply_fill_error(&hello, 0, error);
        error_free(STEAL_PTR(error));
    }
    (void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0); /* from here on its end is orderly */
    bool is_heard = send_reply(socket_fd, &hello, -1, NULL);
    bool is_good = is_heard && is_open && serve(&host, socket_fd, &error);
    bool is_broken = is_heard && is_open && !is_good;
    if (is_broken) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("ends and destroys every sandbox: %s", text);
    }
    /* A front that merely went away left its sandboxes to the next one; and a keeper that could not
     * start, for want of space perhaps, has no right to those that it found. */
    if (!is_broken && options->keeps_sandboxes) {
        local_host_leave(&host);
    } else {
        local_host_close(&host);
    }
    return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
