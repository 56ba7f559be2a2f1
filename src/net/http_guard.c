/* A table of open connections, swept whenever it matters; cutting one is a shutdown(2), after which
 * evhttp reads its end and frees it. */
#include "net/http_guard.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/memory.h"

enum { PEER_SIZE = 8 };

struct peer {
    sa_family_t family;
    unsigned char bytes[PEER_SIZE];
};

struct guarded {
    TAILQ_ENTRY(guarded) link;      /* in the order of their bounds, which are all of one length */
    struct bufferevent *connection; /* only between accept and settle */
    int fd;
    uint64_t cookie;
    struct peer peer;
    int64_t deadline_ms; /* monotonic */
    bool has_request;    /* whole, and not yet answered */
};

TAILQ_HEAD(guarded_list, guarded);

struct http_guard {
    struct http_guard_limits limits;
    struct guarded_list arriving;
    struct guarded_list open;
    size_t open_count;
    struct event *settle; /* runs in the round of the accept, before anything of the connection */
    struct loop_timer *timer;
};

static uint64_t cookie_of(int fd) {
    uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

static struct peer peer_of(int fd) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t length = sizeof(address);
    struct peer peer = {.family = AF_UNSPEC};
    if (getpeername(fd, &address.any, &length) != 0) {
        return peer;
    }
    peer.family = address.any.sa_family;
    if (peer.family == AF_INET) {
        memcpy(peer.bytes, &address.v4.sin_addr, sizeof(address.v4.sin_addr));
    } else if (peer.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address.v6.sin6_addr)) {
        peer.family = AF_INET;
        memcpy(peer.bytes, &address.v6.sin6_addr.s6_addr[12], 4);
    } else if (peer.family == AF_INET6) {
        memcpy(peer.bytes, &address.v6.sin6_addr, PEER_SIZE);
    }
    return peer;
}

static bool is_same_peer(const struct peer *one, const struct peer *other) {
    return one->family == other->family && memcmp(one->bytes, other->bytes, PEER_SIZE) == 0;
}

static void forget(struct http_guard *guard, struct guarded *take_guarded) {
    TAILQ_REMOVE(&guard->open, take_guarded, link);
    guard->open_count--;
    free(take_guarded);
}

static void cut(struct http_guard *guard, struct guarded *take_guarded) {
    (void)shutdown(take_guarded->fd, SHUT_RDWR);
    forget(guard, take_guarded);
}

/* Forgets what is gone and cuts what has had its time. */
static void sweep(struct http_guard *guard) {
    int64_t now_ms = clock_monotonic_ms();
    struct guarded *next = NULL;
    for (struct guarded *guarded = TAILQ_FIRST(&guard->open); guarded != NULL; guarded = next) {
        next = TAILQ_NEXT(guarded, link);
        if (cookie_of(guarded->fd) != guarded->cookie) {
            forget(guard, guarded);
        } else if (!guarded->has_request && guarded->deadline_ms <= now_ms) {
            cut(guard, guarded);
        }
    }
}

static void arm(struct http_guard *guard) {
    struct guarded *guarded = TAILQ_FIRST(&guard->open);
    while (guarded != NULL && guarded->has_request) {
        guarded = TAILQ_NEXT(guarded, link);
    }
    if (guarded == NULL) {
        loop_timer_disarm(guard->timer);
        return;
    }
    int64_t wait_ms = guarded->deadline_ms - clock_monotonic_ms();
    loop_timer_arm(guard->timer, wait_ms < 0 ? 0 : wait_ms);
}

static void on_timer(void *context) {
    struct http_guard *guard = context;
    sweep(guard);
    arm(guard);
}

/* Starts the bound of a connection anew: it becomes the last of the list. */
static void restart(struct http_guard *guard, struct guarded *guarded) {
    guarded->has_request = false;
    guarded->deadline_ms = clock_monotonic_ms() + guard->limits.request_timeout_ms;
    TAILQ_INSERT_TAIL(&guard->open, guarded, link);
}

/* The open connection without a request that has waited longest, of one peer or (NULL) of any. */
static struct guarded *slowest(struct http_guard *guard, const struct peer *peer) {
    struct guarded *guarded = NULL;
    TAILQ_FOREACH(guarded, &guard->open, link) {
        if (!guarded->has_request && (peer == NULL || is_same_peer(peer, &guarded->peer))) {
            return guarded;
        }
    }
    return NULL;
}

static size_t count_of(struct http_guard *guard, const struct peer *peer) {
    size_t count = 0;
    struct guarded *guarded = NULL;
    TAILQ_FOREACH(guarded, &guard->open, link) {
        count += is_same_peer(peer, &guarded->peer) ? 1 : 0;
    }
    return count;
}

/* The newcomer is in the list already, as its last: it goes itself when nothing older may. */
static void enforce(struct http_guard *guard, struct guarded *newcomer) {
    const struct peer peer = newcomer->peer;
    if (guard->open_count <= guard->limits.connections_per_peer) {
        return; /* no cap can be reached; per peer is never above the total */
    }
    sweep(guard);
    if (count_of(guard, &peer) > guard->limits.connections_per_peer) {
        cut(guard, slowest(guard, &peer));
    } else if (guard->open_count > guard->limits.connections) {
        cut(guard, slowest(guard, NULL));
    }
}

static void on_settle(evutil_socket_t fd, short what, void *context) {
    (void)fd;
    (void)what;
    struct http_guard *guard = context;
    struct guarded *guarded = NULL;
    while ((guarded = TAILQ_FIRST(&guard->arriving)) != NULL) {
        TAILQ_REMOVE(&guard->arriving, guarded, link);
        guarded->fd = bufferevent_getfd(guarded->connection);
        guarded->connection = NULL;
        guarded->cookie = cookie_of(guarded->fd);
        if (guarded->cookie == 0) {
            free(guarded);
            continue;
        }
        guarded->peer = peer_of(guarded->fd);
        guard->open_count++;
        restart(guard, guarded);
        enforce(guard, guarded);
    }
    arm(guard);
}

struct http_guard *http_guard_new(struct loop *loop, const struct http_guard_limits *limits) {
    struct http_guard *guard = memory_new(struct http_guard);
    guard->limits = *limits;
    if (limits->connections == 0) {
        guard->limits.connections = SIZE_MAX;
    }
    if (limits->connections_per_peer == 0 ||
        limits->connections_per_peer > guard->limits.connections) {
        guard->limits.connections_per_peer = guard->limits.connections;
    }
    TAILQ_INIT(&guard->arriving);
    TAILQ_INIT(&guard->open);
    guard->timer = loop_timer_new(loop, on_timer, guard);
    guard->settle = event_new(loop_event_base(loop), -1, 0, on_settle, guard);
    if (guard->settle == NULL) {
        abort();
    }
    return guard;
}

void http_guard_admit(struct http_guard *guard, struct bufferevent *connection) {
    struct guarded *guarded = memory_new(struct guarded);
    guarded->connection = connection;
    TAILQ_INSERT_TAIL(&guard->arriving, guarded, link);
    event_active(guard->settle, EV_TIMEOUT, 1);
}

static struct guarded *find(struct http_guard *guard, int fd) {
    uint64_t cookie = cookie_of(fd);
    struct guarded *guarded = NULL;
    TAILQ_FOREACH(guarded, &guard->open, link) {
        if (guarded->fd == fd && guarded->cookie == cookie) {
            return guarded;
        }
    }
    return NULL;
}

void http_guard_request_came(struct http_guard *guard, int fd) {
    struct guarded *guarded = find(guard, fd);
    if (guarded != NULL) {
        guarded->has_request = true;
    }
}

void http_guard_replied(struct http_guard *guard, int fd) {
    struct guarded *guarded = find(guard, fd);
    if (guarded != NULL) {
        TAILQ_REMOVE(&guard->open, guarded, link);
        restart(guard, guarded);
        arm(guard);
    }
}

size_t http_guard_count(struct http_guard *guard) {
    sweep(guard);
    return guard->open_count;
}

void http_guard_free(struct http_guard *take_guard) {
    if (take_guard == NULL) {
        return;
    }
    struct guarded_list *lists[] = {&take_guard->arriving, &take_guard->open};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct guarded *guarded = NULL;
        while ((guarded = TAILQ_FIRST(lists[i])) != NULL) {
            TAILQ_REMOVE(lists[i], guarded, link);
            free(guarded);
        }
    }
    event_free(take_guard->settle);
    loop_timer_free(take_guard->timer);
    free(take_guard);
}
