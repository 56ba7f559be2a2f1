/* evhttp parses and frames; this file adds bounds, a close notice that works while a reply is
 * pending, and one owner for each request. */
#include "net/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "base/io.h"
#include "base/memory.h"
#include "net/http_guard.h"

enum {
    HEADERS_LIMIT_BYTES = 64 * 1024,
    LISTEN_BACKLOG = 4096, /* the kernel cuts it to net.core.somaxconn */
    QUERY_PARAMETERS_LIMIT = 64,
    ACCEPT_PAUSE_MS = 100, /* after a failed accept: out of descriptors, most likely */
};

struct parameter {
    char *name;
    char *value;
};

struct http_server {
    struct loop *loop;
    struct evhttp *http;
    struct evconnlistener *listener; /* evhttp's */
    struct loop_timer *accept_again;
    struct http_guard *guard; /* NULL: none */
    struct http_tls *tls;     /* NULL: plain */
    bool is_accepting;
    char *address;
    uint16_t port;
    void (*handle)(void *context, struct http_exchange *exchange);
    void *context;
    LIST_HEAD(, http_exchange) exchanges;
};

struct http_exchange {
    LIST_ENTRY(http_exchange) link;
    struct http_server *server;
    struct evhttp_request *request;
    struct evhttp_connection *connection;
    struct event *closed_event;
    char *path;
    struct parameter *parameters;
    size_t parameter_count;
    bool is_in_handler;
    bool is_closed; /* the client went away; the request is gone */
    bool is_ended_in_handler;
    bool is_freeing_connection; /* evhttp frees the request together with the connection */
    void (*closed)(void *context);
    void *closed_context;
};

static void on_request(struct evhttp_request *request, void *context);

static int listen_on(const char *address, uint16_t port, struct error **error) {
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *info = NULL;
    int result = getaddrinfo(address, service, &hints, &info);
    if (result != 0) {
        (void)error_set(error, ERROR_INPUT, "\"%s\" is no IP address to listen on", address);
        return -1;
    }
    CLEANUP_CLOSE int fd =
        socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, info->ai_protocol);
    int one = 1;
    /* Accepted sockets inherit TCP_NODELAY (tcp(7)): a small event must not wait for an ACK. */
    bool is_listening =
        fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
        bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0;
    int errno_value = errno;
    freeaddrinfo(info);
    if (!is_listening) {
        (void)error_set_errno(error, errno_value, "cannot listen on %s:%u", address,
                              (unsigned)port);
        return -1;
    }
    return STEAL_FD(fd);
}

/* A socket from elsewhere: refuses what would not behave as one of ours. */
static bool check_handed_over(int fd, struct error **error) {
    int is_listening = 0;
    int family = 0;
    int one = 1;
    socklen_t length = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &length) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0) {
        return error_set_errno(error, errno, "descriptor %d was handed over as a socket", fd);
    }
    if (is_listening == 0 || (family != AF_INET && family != AF_INET6)) {
        return error_set(error, ERROR_INPUT,
                         "the socket that was handed over does not listen on TCP");
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && io_set_nonblocking(fd, true, error);
}

static char *bound_address(int fd, uint16_t *port) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t length = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, &address.any, &length) != 0) {
        *port = 0;
        return memory_string("");
    }
    bool is_v6 = address.any.sa_family == AF_INET6;
    *port = ntohs(is_v6 ? address.v6.sin6_port : address.v4.sin_port);
    (void)inet_ntop(address.any.sa_family,
                    is_v6 ? (void *)&address.v6.sin6_addr : (void *)&address.v4.sin_addr, host,
                    sizeof(host));
    return memory_format(is_v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)*port);
}

static void set_limits(struct evhttp *http, const struct http_server_options *options) {
    evhttp_set_max_headers_size(http, options->headers_limit > 0
                                          ? (ev_ssize_t)options->headers_limit
                                          : HEADERS_LIMIT_BYTES);
    evhttp_set_max_body_size(http, (ev_ssize_t)options->body_limit);
    evhttp_set_default_content_type(http, NULL);
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                         EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                         EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    if (options->idle_timeout_ms > 0) {
        struct timeval timeout = {.tv_sec = (time_t)(options->idle_timeout_ms / 1000),
                                  .tv_usec =
                                      (suseconds_t)((options->idle_timeout_ms % 1000) * 1000)};
        evhttp_set_timeout_tv(http, &timeout);
    }
}

/* evhttp asks for the buffers of a connection that it is accepting. */
static struct bufferevent *on_accept(struct event_base *base, void *context) {
    struct http_server *server = context;
    struct bufferevent *connection = server->tls != NULL ? http_tls_accept(server->tls, base)
                                                         : bufferevent_socket_new(base, -1, 0);
    if (connection == NULL) {
        abort();
    }
    if (server->guard != NULL) {
        http_guard_admit(server->guard, connection);
    }
    return connection;
}

/* Without a pause the loop would spin on a connection that cannot be accepted. */
static void on_accept_failed(struct evconnlistener *listener, void *context) {
    struct http_server *server = context;
    (void)evconnlistener_disable(listener);
    loop_timer_arm(server->accept_again, ACCEPT_PAUSE_MS);
}

static void on_accept_again(void *context) {
    struct http_server *server = context;
    http_server_set_accepting(server, server->is_accepting);
}

struct http_server *http_server_new(struct loop *loop, const struct http_server_options *options,
                                    struct error **error) {
    CLEANUP_CLOSE int fd = options->is_handed_over
                               ? options->listen_fd
                               : listen_on(options->address, options->port, error);
    if (fd < 0 || (options->is_handed_over && !check_handed_over(fd, error))) {
        return NULL;
    }
    struct evhttp *http = evhttp_new(loop_event_base(loop));
    if (http == NULL) {
        (void)error_set(error, ERROR_INTERNAL, "cannot create an HTTP server");
        return NULL;
    }
    set_limits(http, options);
    struct evhttp_bound_socket *bound = evhttp_accept_socket_with_handle(http, fd);
    if (bound == NULL) {
        evhttp_free(http);
        (void)error_set(error, ERROR_INTERNAL, "cannot accept connections");
        return NULL;
    }
    struct http_server *server = memory_new(struct http_server);
    server->address = bound_address(STEAL_FD(fd), &server->port);
    server->loop = loop;
    server->http = http;
    server->listener = evhttp_bound_socket_get_listener(bound);
    server->accept_again = loop_timer_new(loop, on_accept_again, server);
    server->is_accepting = true;
    server->tls = options->tls;
    server->handle = options->handle;
    server->context = options->context;
    LIST_INIT(&server->exchanges);
    if (options->request_timeout_ms > 0) {
        server->guard =
            http_guard_new(loop, &(struct http_guard_limits){
                                     .connections = options->connections_limit,
                                     .connections_per_peer = options->connections_per_peer_limit,
                                     .request_timeout_ms = options->request_timeout_ms,
                                 });
    }
    evconnlistener_set_error_cb(server->listener, on_accept_failed);
    evhttp_set_gencb(http, on_request, server);
    evhttp_set_bevcb(http, on_accept, server);
    return server;
}

char *http_server_address(const struct http_server *server) {
    return memory_string(server->address);
}

void http_server_set_accepting(struct http_server *server, bool is_accepting) {
    server->is_accepting = is_accepting;
    (void)(is_accepting ? evconnlistener_enable(server->listener)
                        : evconnlistener_disable(server->listener));
}

size_t http_server_connection_count(struct http_server *server) {
    return server->guard == NULL ? 0 : http_guard_count(server->guard);
}

uint16_t http_server_port(const struct http_server *server) {
    return server->port;
}

void http_server_free(struct http_server *take_server) {
    if (take_server == NULL) {
        return;
    }
    struct http_exchange *exchange = NULL;
    LIST_FOREACH(exchange, &take_server->exchanges, link) {
        exchange->is_freeing_connection = true;
    }
    evhttp_free(take_server->http);
    http_guard_free(take_server->guard);
    loop_timer_free(take_server->accept_again);
    free(take_server->address);
    free(take_server);
}

static void exchange_free(struct http_exchange *exchange) {
    LIST_REMOVE(exchange, link);
    if (exchange->closed_event != NULL) {
        event_free(exchange->closed_event);
    }
    for (size_t i = 0; i < exchange->parameter_count; i++) {
        free(exchange->parameters[i].name);
        free(exchange->parameters[i].value);
    }
    free(exchange->parameters);
    free(exchange->path);
    free(exchange);
}

/* evhttp says that the connection is going away, for whatever reason. */
static void on_connection_closed(struct evhttp_connection *connection, void *context) {
    (void)connection;
    struct http_exchange *exchange = context;
    /* After a network error evhttp leaves an unanswered request to us, without a connection. */
    if (!exchange->is_freeing_connection) {
        evhttp_request_free(exchange->request);
    }
    exchange->request = NULL;
    exchange->connection = NULL;
    exchange->is_closed = true;
    void (*closed)(void *) = exchange->closed;
    void *closed_context = exchange->closed_context;
    if (exchange->is_in_handler) {
        return;
    }
    exchange_free(exchange);
    if (closed != NULL) {
        closed(closed_context);
    }
}

/* While a reply is pending evhttp does not read, so that only the poller can tell of a hang-up. */
static void on_hang_up(evutil_socket_t fd, short what, void *context) {
    (void)fd;
    (void)what;
    struct http_exchange *exchange = context;
    exchange->is_freeing_connection = true;
    evhttp_connection_free(exchange->connection);
}

static char *decode(const char *text, size_t length, bool plus_is_space) {
    CLEANUP_FREE char *copy = memory_string_n(text, length);
    size_t decoded_length = 0;
    char *decoded = evhttp_uridecode(copy, plus_is_space ? 1 : 0, &decoded_length);
    if (decoded == NULL || strlen(decoded) != decoded_length) {
        free(decoded); /* an encoded NUL could make a checked name another than the used one */
        return NULL;
    }
    return decoded;
}

static bool parse_query(struct http_exchange *exchange, const char *query) {
    while (query != NULL && *query != '\0') {
        size_t length = strcspn(query, "&");
        if (exchange->parameter_count == QUERY_PARAMETERS_LIMIT) {
            return false;
        }
        if (length > 0) {
            const char *equals = memchr(query, '=', length);
            size_t name_length = equals == NULL ? length : (size_t)(equals - query);
            size_t value_start = equals == NULL ? length : name_length + 1;
            struct parameter parameter = {
                .name = decode(query, name_length, true),
                .value = decode(query + value_start, length - value_start, true)};
            if (parameter.name == NULL || parameter.value == NULL) {
                free(parameter.name);
                free(parameter.value);
                return false;
            }
            exchange->parameters[exchange->parameter_count++] = parameter;
        }
        query += query[length] == '&' ? length + 1 : length;
    }
    return true;
}

static bool parse_target(struct http_exchange *exchange) {
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(exchange->request);
    const char *path = uri == NULL ? NULL : evhttp_uri_get_path(uri);
    exchange->path =
        path == NULL || *path == '\0' ? memory_string("/") : decode(path, strlen(path), false);
    exchange->parameters = memory_zeroed(QUERY_PARAMETERS_LIMIT, sizeof(struct parameter));
    return exchange->path != NULL &&
           parse_query(exchange, uri == NULL ? NULL : evhttp_uri_get_query(uri));
}

static evutil_socket_t descriptor_of(const struct http_exchange *exchange) {
    return bufferevent_getfd(evhttp_connection_get_bufferevent(exchange->connection));
}

static void on_request(struct evhttp_request *request, void *context) {
    struct http_server *server = context;
    struct http_exchange *exchange = memory_new(struct http_exchange);
    exchange->server = server;
    exchange->request = request;
    exchange->connection = evhttp_request_get_connection(request);
    LIST_INSERT_HEAD(&server->exchanges, exchange, link);
    if (!parse_target(exchange)) {
        exchange_free(exchange);
        evhttp_send_error(request, HTTP_BADREQUEST, "malformed target");
        return;
    }
    evhttp_connection_set_closecb(exchange->connection, on_connection_closed, exchange);
    if (server->guard != NULL) {
        http_guard_request_came(server->guard, descriptor_of(exchange));
    }
    exchange->is_in_handler = true;
    server->handle(server->context, exchange);
    exchange->is_in_handler = false;
    if (exchange->is_ended_in_handler || exchange->is_closed) {
        exchange_free(exchange);
        return;
    }
    /* epoll(7): EPOLLRDHUP, so that no byte of a pipelined request is read. */
    exchange->closed_event = event_new(loop_event_base(server->loop), descriptor_of(exchange),
                                       EV_CLOSED, on_hang_up, exchange);
    if (exchange->closed_event != NULL) {
        (void)event_add(exchange->closed_event, NULL);
    }
}

const char *http_exchange_method(const struct http_exchange *exchange) {
    static const struct {
        enum evhttp_cmd_type type;
        const char *name;
    } names[] = {{EVHTTP_REQ_GET, "GET"},       {EVHTTP_REQ_POST, "POST"},
                 {EVHTTP_REQ_HEAD, "HEAD"},     {EVHTTP_REQ_PUT, "PUT"},
                 {EVHTTP_REQ_DELETE, "DELETE"}, {EVHTTP_REQ_OPTIONS, "OPTIONS"},
                 {EVHTTP_REQ_TRACE, "TRACE"},   {EVHTTP_REQ_CONNECT, "CONNECT"},
                 {EVHTTP_REQ_PATCH, "PATCH"}};
    enum evhttp_cmd_type type = evhttp_request_get_command(exchange->request);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].type == type) {
            return names[i].name;
        }
    }
    return "?";
}

const char *http_exchange_path(const struct http_exchange *exchange) {
    return exchange->path;
}

const char *http_exchange_query(const struct http_exchange *exchange, const char *name) {
    return http_exchange_query_nth(exchange, name, 0);
}

const char *http_exchange_query_nth(const struct http_exchange *exchange, const char *name,
                                    size_t nth) {
    for (size_t i = 0; i < exchange->parameter_count; i++) {
        if (strcmp(exchange->parameters[i].name, name) == 0 && nth-- == 0) {
            return exchange->parameters[i].value;
        }
    }
    return NULL;
}

const char *http_exchange_header(const struct http_exchange *exchange, const char *name) {
    return evhttp_find_header(evhttp_request_get_input_headers(exchange->request), name);
}

size_t http_exchange_header_count(const struct http_exchange *exchange, const char *name) {
    size_t count = 0;
    struct evkeyval *header = NULL;
    TAILQ_FOREACH(header, evhttp_request_get_input_headers(exchange->request), next) {
        count += strcasecmp(header->key, name) == 0 ? 1 : 0;
    }
    return count;
}

const char *http_exchange_peer(const struct http_exchange *exchange) {
    char *address = NULL;
    uint16_t port = 0;
    evhttp_connection_get_peer(exchange->connection, &address, &port);
    return address == NULL ? "?" : address;
}

const char *http_exchange_body(const struct http_exchange *exchange, size_t *length) {
    struct evbuffer *input = evhttp_request_get_input_buffer(exchange->request);
    *length = evbuffer_get_length(input);
    const unsigned char *bytes = evbuffer_pullup(input, -1);
    return bytes == NULL ? "" : (const char *)bytes;
}

void http_exchange_on_close(struct http_exchange *exchange, void (*closed)(void *context),
                            void *context) {
    exchange->closed = closed;
    exchange->closed_context = context;
}

void http_exchange_add_header(struct http_exchange *exchange, const char *name, const char *value) {
    (void)evhttp_add_header(evhttp_request_get_output_headers(exchange->request), name, value);
}

/* Takes the request out of the exchange, which ends. */
static struct evhttp_request *detach(struct http_exchange *exchange) {
    struct evhttp_request *request = exchange->request;
    evhttp_connection_set_closecb(exchange->connection, NULL, NULL);
    if (exchange->server->guard != NULL) {
        http_guard_replied(exchange->server->guard, descriptor_of(exchange));
    }
    if (exchange->is_in_handler) {
        exchange->is_ended_in_handler = true;
    } else {
        exchange_free(exchange);
    }
    return request;
}

void http_reply_bytes(struct http_exchange *take_exchange, int status, const char *content_type,
                      const void *bytes, size_t length) {
    struct evhttp_request *request = detach(take_exchange);
    if (content_type != NULL) {
        (void)evhttp_add_header(evhttp_request_get_output_headers(request), "content-type",
                                content_type);
    }
    struct evbuffer *body = evhttp_request_get_output_buffer(request);
    if (length > 0) {
        (void)evbuffer_add(body, bytes, length);
    }
    evhttp_send_reply(request, status, NULL, NULL);
}

void http_reply_json(struct http_exchange *take_exchange, int status, struct json_object *body) {
    size_t length = 0;
    const char *text = json_text(body, &length);
    http_reply_bytes(take_exchange, status, "application/json", text, length);
}

void http_stream_begin(struct http_exchange *exchange, const char *content_type) {
    http_exchange_add_header(exchange, "content-type", content_type);
    http_exchange_add_header(exchange, "cache-control", "no-cache");
    evhttp_send_reply_start(exchange->request, HTTP_OK, NULL);
}

void http_stream_write(struct http_exchange *exchange, const void *bytes, size_t length) {
    if (length == 0) {
        return; /* an empty chunk would end the body */
    }
    struct evbuffer *chunk = evbuffer_new();
    if (chunk == NULL) {
        abort();
    }
    (void)evbuffer_add(chunk, bytes, length);
    evhttp_send_reply_chunk(exchange->request, chunk);
    evbuffer_free(chunk);
}

size_t http_stream_backlog(const struct http_exchange *exchange) {
    struct bufferevent *connection = evhttp_connection_get_bufferevent(exchange->connection);
    return evbuffer_get_length(bufferevent_get_output(connection));
}

void http_stream_end(struct http_exchange *take_exchange) {
    evhttp_send_reply_end(detach(take_exchange));
}

void http_exchange_abort(struct http_exchange *take_exchange) {
    struct evhttp_connection *connection = take_exchange->connection;
    (void)detach(take_exchange);
    evhttp_connection_free(connection);
}
