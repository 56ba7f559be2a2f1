/*
 * hand: pid 1 of a sandbox, or the tool process of a worker without one.
 *
 *   hand --fd N | --listen-fd N [--peer-uid N] [--uid N --gid N]
 *
 * One poll loop, no libevent, nothing blocking. Signals arrive over a signalfd; blocked signals
 * never reach pid 1 otherwise, so that nothing inside the sandbox can end it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "hand/calls.h"
#include "hand/link.h"
#include "hand/orphans.h"

enum {
    EXIT_USAGE = 2,
    POLL_OWN = 3,
    /* One turn's share, so that a storm of signals or dying processes holds up no call. */
    SIGNALS_PER_TURN = 64,
    DEATHS_PER_TURN = 256,
};

struct options {
    int fd;
    int listen_fd;
    bool checks_peer;
    uid_t peer_uid;
    struct agent_identity identity;
};

struct hand {
    const struct options *options;
    struct calls *calls;
    struct link link;
    int signal_fd;
    bool is_init;
    bool has_more_dead; /* more ended than one turn reaps */
    bool is_ending;
};

static bool take_number(const char *text, unsigned long limit, unsigned long *number) {
    char *end = NULL;
    errno = 0;
    *number = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *number <= limit;
}

static int usage(void) {
    (void)fprintf(stderr, "usage: hand --fd N | --listen-fd N [--peer-uid N] [--uid N --gid N]\n");
    return EXIT_USAGE;
}

static bool take_option(int option, unsigned long number, struct options *options) {
    switch (option) {
    case 'f':
        options->fd = (int)number;
        return number <= INT_MAX;
    case 'l':
        options->listen_fd = (int)number;
        return number <= INT_MAX;
    case 'p':
        options->checks_peer = true;
        options->peer_uid = (uid_t)number;
        return true;
    case 'u':
        options->identity.is_set = true;
        options->identity.uid = (uid_t)number;
        return true;
    case 'g':
        options->identity.gid = (gid_t)number;
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct options *options) {
    static const struct option names[] = {
        {"fd", required_argument, NULL, 'f'},       {"listen-fd", required_argument, NULL, 'l'},
        {"peer-uid", required_argument, NULL, 'p'}, {"uid", required_argument, NULL, 'u'},
        {"gid", required_argument, NULL, 'g'},      {NULL, 0, NULL, 0},
    };
    const unsigned long limit = (uid_t)-1 - 1;
    *options = (struct options){.fd = -1, .listen_fd = -1, .identity = {.gid = (gid_t)-1}};
    int option = 0;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        unsigned long number = 0;
        if (option == '?' || !take_number(optarg, limit, &number) ||
            !take_option(option, number, options)) {
            return false;
        }
    }
    /* A user without its group would keep hand's. */
    bool has_gid = options->identity.gid != (gid_t)-1;
    return optind == argc && (options->fd >= 0) != (options->listen_fd >= 0) &&
           has_gid == options->identity.is_set;
}

/* 0-2 always exist, or a pipe could land there and be taken for them. */
static void hold_standard_fds(void) {
    int fd = 0;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        (void)close(fd);
    }
}

static bool prepare_process(struct hand *hand) {
    hand->is_init = getpid() == 1;
    hold_standard_fds();
    /* Whatever else hand was started with is not for the agent's processes. */
    (void)close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    /* Not even a process of the same user can trace hand or read its memory. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    if (!hand->is_init && prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        return false;
    }
    sigset_t all;
    (void)sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, NULL) != 0) {
        return false;
    }
    hand->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    return hand->signal_fd >= 0;
}

static void take_signals(struct hand *hand) {
    struct signalfd_siginfo signal_info;
    for (int i = 0;
         i < SIGNALS_PER_TURN &&
         read(hand->signal_fd, &signal_info, sizeof(signal_info)) == (ssize_t)sizeof(signal_info);
         i++) {
        int number = (int)signal_info.ssi_signo;
        /* Inside a sandbox anybody may have sent it; a worker's hand ends with its terminal. */
        if (!hand->is_init && (number == SIGTERM || number == SIGINT || number == SIGHUP)) {
            hand->is_ending = true;
        }
    }
}

static void reap(struct hand *hand) {
    hand->has_more_dead = true;
    for (int i = 0; i < DEATHS_PER_TURN; i++) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid <= 0) {
            hand->has_more_dead = false;
            return;
        }
        calls_reaped(hand->calls, pid);
    }
}

static bool is_welcome(const struct options *options, int fd) {
    struct ucred peer;
    socklen_t size = sizeof(peer);
    return !options->checks_peer || (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
                                     peer.uid == options->peer_uid);
}

/* A new connection replaces the old: a daemon that was restarted is the one that counts. */
static void accept_connection(struct hand *hand) {
    int fd = accept4(hand->options->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (!is_welcome(hand->options, fd)) {
        (void)close(fd);
        return;
    }
    link_attach(&hand->link, fd, hand->calls);
}

static int wait_ms(const struct hand *hand) {
    if (hand->has_more_dead) {
        return 0;
    }
    int64_t wake_at_ms = calls_wake_at_ms(hand->calls);
    if (wake_at_ms < 0) {
        return -1;
    }
    int64_t left_ms = wake_at_ms - clock_monotonic_ms();
    if (left_ms <= 0) {
        return 0;
    }
    return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

static void turn(struct hand *hand) {
    struct pollfd fds[POLL_OWN + CALLS_POLL_LIMIT];
    /* Negative descriptors are ignored by poll(2). */
    fds[0] = (struct pollfd){.fd = hand->signal_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = hand->options->listen_fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = hand->link.fd, .events = link_poll_events(&hand->link)};
    size_t count = POLL_OWN + calls_poll(hand->calls, fds + POLL_OWN);
    if (poll(fds, (nfds_t)count, wait_ms(hand)) < 0 && errno != EINTR) {
        hand->is_ending = true;
        return;
    }
    take_signals(hand);
    /* Pipes before deaths: what a process said last must not be lost over its end. */
    calls_step(hand->calls);
    reap(hand);
    calls_step(hand->calls);
    if ((fds[1].revents & POLLIN) != 0) {
        accept_connection(hand);
    }
    bool shutdown = false;
    link_step(&hand->link, hand->calls, &shutdown);
    bool is_over = hand->link.fd < 0 && hand->options->listen_fd < 0;
    hand->is_ending = hand->is_ending || shutdown || is_over;
}

int main(int argc, char **argv) {
    struct options options;
    if (!parse(argc, argv, &options)) {
        return usage();
    }
    struct hand hand = {.options = &options, .signal_fd = -1};
    int socket_fd = options.fd >= 0 ? options.fd : options.listen_fd;
    if (!prepare_process(&hand) || fcntl(socket_fd, F_GETFD) < 0 ||
        !io_set_nonblocking(socket_fd, true, NULL)) {
        (void)fprintf(stderr, "hand: cannot start: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    hand.calls = calls_new(&options.identity);
    link_init(&hand.link);
    if (options.fd >= 0) {
        link_attach(&hand.link, options.fd, hand.calls);
    }
    while (!hand.is_ending) {
        turn(&hand);
    }
    link_close(&hand.link);
    calls_free(hand.calls);
    free(hand.link.incarnation);
    /* As pid 1 the kernel does this when hand exits. */
    if (!hand.is_init) {
        orphans_end_all();
    }
    return EXIT_SUCCESS;
}
