/*
 * What keeps bad peers of the HTTP server from holding up good ones; private to net.
 *
 * A connection has a bound for each request, from its first byte (or the handshake, or the end of
 * the reply before) to its last; then it is cut (slowloris). There is a cap on connections in
 * total and for each peer address. At a cap a newcomer takes the place of the connection that has
 * been without a complete request for the longest: a good peer sends its request at once, so the
 * slow ones push out each other. Connections are known by their socket cookie (SO_COOKIE,
 * socket(7), Linux 4.12), which is never used again, so that one that evhttp has freed is noticed.
 */
#ifndef HOLT_NET_HTTP_GUARD_H
#define HOLT_NET_HTTP_GUARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct bufferevent;
struct http_guard;

struct http_guard_limits {
    size_t connections;          /* 0: no cap; so below */
    size_t connections_per_peer; /* an IPv4 address, or the /64 of an IPv6 one */
    int64_t request_timeout_ms;
};

struct http_guard *http_guard_new(struct loop *loop, const struct http_guard_limits *limits);
/* A connection that is being accepted; its descriptor is set in this round of the loop. */
void http_guard_admit(struct http_guard *guard, struct bufferevent *connection);
/* The whole request is here: no bound runs until the reply. */
void http_guard_request_came(struct http_guard *guard, int fd);
/* The reply was given: the next request, and the taking of this reply, are bounded again. */
void http_guard_replied(struct http_guard *guard, int fd);
/* Connections that are open now. */
size_t http_guard_count(struct http_guard *guard);
void http_guard_free(struct http_guard *take_guard); /* NULL is fine */

#endif
