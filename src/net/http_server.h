/*
 * HTTP/1.1 server on the loop (libevent's evhttp underneath).
 *
 * Knows nothing of CMA. May speak TLS. For strangers there are bounds on the time of a request and
 * on connections (http_guard.h). Header and body sizes are bounded; a request reaches its handler
 * whole. A handler answers now (http_reply_*) or later; a stream stays open until ended by either
 * side.
 */
#ifndef HOLT_NET_HTTP_SERVER_H
#define HOLT_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/loop.h"
#include "net/http_tls.h"

struct http_server;
struct http_exchange;

struct http_server_options {
    const char *address;     /* "127.0.0.1" */
    uint16_t port;           /* 0: any free one; http_server_port tells */
    size_t body_limit;       /* a larger body is answered 413 */
    int64_t idle_timeout_ms; /* a connection without traffic is closed */
    bool is_handed_over;     /* accept on `listen_fd` instead of `address` and `port` */
    int listen_fd;        /* a listening TCP socket, taken in any case; anything else is refused */
    struct http_tls *tls; /* NULL: plain; borrowed */
    /* Each 0: no such bound. A whole request, from accept or from the reply before, must come
     * within request_timeout_ms; at a cap the slowest connection makes room for a new one. */
    size_t headers_limit; /* 0: 64 KiB */
    int64_t request_timeout_ms;
    size_t connections_limit;
    size_t connections_per_peer_limit;
    void (*handle)(void *context, struct http_exchange *exchange);
    void *context;
};

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options,
                                    struct error **error);
uint16_t http_server_port(const struct http_server *server);
/* "127.0.0.1:8080" or "[::1]:8080"; the caller frees it. */
char *http_server_address(const struct http_server *server);
/* Stops or goes on accepting; meanwhile new connections stay in the socket's backlog. */
void http_server_set_accepting(struct http_server *server, bool is_accepting);
/* Connections that are open now; only with request_timeout_ms. */
size_t http_server_connection_count(struct http_server *server);
void http_server_free(struct http_server *take_server);

const char *http_exchange_method(const struct http_exchange *exchange);
/* Percent-decoded path without the query. */
const char *http_exchange_path(const struct http_exchange *exchange);
/* Decoded query parameter (first of that name), or NULL. */
const char *http_exchange_query(const struct http_exchange *exchange, const char *name);
/* The nth (from 0) parameter of that name, or NULL: for lists such as types[]=a&types[]=b. */
const char *http_exchange_query_nth(const struct http_exchange *exchange, const char *name,
                                    size_t nth);
const char *http_exchange_header(const struct http_exchange *exchange, const char *name);
/* How many headers have this name: more than one of a header that decides is an attack. */
size_t http_exchange_header_count(const struct http_exchange *exchange, const char *name);
/* The address of the client, "192.0.2.1". */
const char *http_exchange_peer(const struct http_exchange *exchange);
const char *http_exchange_body(const struct http_exchange *exchange, size_t *length);
/* Called if the client goes away before the reply or stream is complete; set at most once. */
void http_exchange_on_close(struct http_exchange *exchange, void (*closed)(void *context),
                            void *context);

/* Each of these ends the exchange; do not use it afterwards. */
void http_reply_json(struct http_exchange *take_exchange, int status, struct json_object *body);
void http_reply_bytes(struct http_exchange *take_exchange, int status, const char *content_type,
                      const void *bytes, size_t length);
/* Adds a header to the reply to come. */
void http_exchange_add_header(struct http_exchange *exchange, const char *name, const char *value);

/* Begins a chunked reply with the given type and status 200. */
void http_stream_begin(struct http_exchange *exchange, const char *content_type);
void http_stream_write(struct http_exchange *exchange, const void *bytes, size_t length);
/* Bytes accepted by http_stream_write that the client has not taken yet: the bound is the caller's.
 */
size_t http_stream_backlog(const struct http_exchange *exchange);
void http_stream_end(struct http_exchange *take_exchange);
/*
 * Closes the connection at once, without a reply or with the stream unfinished; on_close is not
 * called. Not from inside `handle` of this same exchange.
 */
void http_exchange_abort(struct http_exchange *take_exchange);

#endif
