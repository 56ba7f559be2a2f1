/* Unit tests of the HTTP client against a raw socket server: what it sends, keeps, bounds, gives
 * up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "net/http_client.h"

enum { WAIT_MS = 30000, CONNECTIONS = 8 };

/* Answers each connection's first request with one canned text; an empty text never answers. */
struct server {
    struct loop *loop;
    int listener;
    struct loop_watch *accept_watch;
    struct loop_watch *watches[CONNECTIONS];
    int fds[CONNECTIONS];
    size_t count;
    const char *answer;
    bool is_answered[CONNECTIONS];
    struct buffer request;
    char url[64];
};

struct fixture {
    struct loop *loop;
    struct http_client *client;
    struct server server;
    /* what the callbacks saw */
    bool is_done;
    bool is_opened;
    long status;
    int error_code; /* -1: none */
    char *body;
    char *header;
    struct buffer streamed;
    struct http_request *to_cancel;
    bool stop_stream;
};

static void on_request(void *context, unsigned events) {
    struct server *server = context;
    (void)events;
    for (size_t i = 0; i < server->count; i++) {
        char bytes[4096];
        ssize_t got = recv(server->fds[i], bytes, sizeof(bytes), MSG_DONTWAIT);
        if (got == 0) {
            loop_watch_set_events(server->watches[i], 0);
        }
        if (got <= 0) {
            continue;
        }
        buffer_append(&server->request, bytes, (size_t)got);
        if (!server->is_answered[i] && *server->answer != '\0' &&
            strstr(buffer_string(&server->request), "\r\n\r\n") != NULL) {
            server->is_answered[i] = true;
            (void)send(server->fds[i], server->answer, strlen(server->answer), MSG_NOSIGNAL);
        }
    }
}

static void on_accept(void *context, unsigned events) {
    struct server *server = context;
    (void)events;
    int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0 && server->count < CONNECTIONS);
    server->fds[server->count] = fd;
    server->watches[server->count++] =
        loop_watch_new(server->loop, fd, LOOP_READ, on_request, server);
}

static int set_up(void **state) {
    struct fixture *fixture = memory_new(struct fixture);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    fixture->loop = loop_new(NULL);
    fixture->client = http_client_new(fixture->loop, NULL);
    fixture->error_code = -1;
    struct server *server = &fixture->server;
    server->loop = fixture->loop;
    server->answer = "";
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(server->listener, 8), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
    (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u/x",
                   ntohs(address.sin_port));
    server->accept_watch =
        loop_watch_new(fixture->loop, server->listener, LOOP_READ, on_accept, server);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    struct server *server = &fixture->server;
    http_client_free(fixture->client);
    for (size_t i = 0; i < server->count; i++) {
        loop_watch_free(server->watches[i]);
        (void)close(server->fds[i]);
    }
    loop_watch_free(server->accept_watch);
    (void)close(server->listener);
    buffer_free(&server->request);
    buffer_free(&fixture->streamed);
    loop_free(fixture->loop);
    free(fixture->body);
    free(fixture->header);
    free(fixture);
    return 0;
}

static void on_done(void *context, const struct http_response *response) {
    struct fixture *fixture = context;
    const char *header = http_response_header(response, "REQUEST-ID");
    assert_false(fixture->is_done);
    fixture->is_done = true;
    fixture->status = response->status;
    fixture->error_code = response->error == NULL ? -1 : (int)response->error->code;
    fixture->body = memory_string_n(response->body, response->body_length);
    fixture->header = header == NULL ? NULL : memory_string(header);
}

static void on_open(void *context) {
    ((struct fixture *)context)->is_opened = true;
}

static bool on_data(void *context, const char *bytes, size_t length) {
    struct fixture *fixture = context;
    buffer_append(&fixture->streamed, bytes, length);
    if (fixture->to_cancel != NULL) {
        http_request_cancel(STEAL_PTR(fixture->to_cancel));
    }
    return !fixture->stop_stream;
}

static void run_until(struct fixture *fixture, const bool *condition) {
    int64_t end = clock_monotonic_ms() + WAIT_MS;
    while (!*condition) {
        assert_true(clock_monotonic_ms() < end);
        loop_run_once(fixture->loop, true);
    }
}

static struct http_request_options get(struct fixture *fixture) {
    return (struct http_request_options){.method = "GET",
                                         .url = fixture->server.url,
                                         .timeout_ms = WAIT_MS,
                                         .response_limit = 100,
                                         .on_done = on_done,
                                         .context = fixture};
}

static void test_get(void **state) {
    struct fixture *fixture = *state;
    static const char *const headers[] = {"Authorization: Bearer k", NULL};
    fixture->server.answer =
        "HTTP/1.1 404 No\r\nRequest-Id: req_1 \r\nContent-Length: 4\r\n\r\nbody";
    struct http_request_options options = get(fixture);
    options.headers = headers;
    (void)http_request_start(fixture->client, &options);
    assert_false(fixture->is_done);
    run_until(fixture, &fixture->is_done);
    assert_int_equal(fixture->status, 404);
    assert_int_equal(fixture->error_code, -1);
    assert_string_equal(fixture->body, "body");
    assert_string_equal(fixture->header, "req_1");
    const char *sent = buffer_string(&fixture->server.request);
    assert_non_null(strstr(sent, "GET /x HTTP/1.1\r\n"));
    assert_non_null(strstr(sent, "Authorization: Bearer k\r\n"));
    assert_null(strstr(sent, "Expect"));
}

static void test_post(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct http_request_options options = get(fixture);
    options.method = "POST";
    options.body = "{\"a\":1}";
    options.body_length = 7;
    (void)http_request_start(fixture->client, &options);
    run_until(fixture, &fixture->is_done);
    assert_int_equal(fixture->status, 200);
    const char *sent = buffer_string(&fixture->server.request);
    assert_non_null(strstr(sent, "POST /x HTTP/1.1\r\n"));
    assert_non_null(strstr(sent, "Content-Length: 7\r\n"));
    assert_non_null(strstr(sent, "\r\n\r\n{\"a\":1}"));
}

static void test_bound(void **state) {
    struct fixture *fixture = *state;
    char answer[400];
    char body[201];
    memset(body, 'x', 200);
    body[200] = '\0';
    (void)snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n%s",
                   body);
    fixture->server.answer = answer;
    struct http_request_options options = get(fixture);
    (void)http_request_start(fixture->client, &options);
    run_until(fixture, &fixture->is_done);
    assert_int_equal(fixture->error_code, ERROR_LIMIT);
}

static void test_stream(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    struct http_request_options options = get(fixture);
    options.on_data = on_data;
    options.on_open = on_open;
    (void)http_request_start(fixture->client, &options);
    run_until(fixture, &fixture->is_done);
    assert_true(fixture->is_opened);
    assert_int_equal(fixture->error_code, -1);
    assert_string_equal(buffer_string(&fixture->streamed), "abcde");
    assert_string_equal(fixture->body, "");
}

static void test_stream_given_up(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    fixture->stop_stream = true;
    struct http_request_options options = get(fixture);
    options.on_data = on_data;
    (void)http_request_start(fixture->client, &options);
    run_until(fixture, &fixture->is_done);
    assert_int_equal(fixture->error_code, ERROR_CANCELLED);
}

static void test_cancel_from_callback(void **state) {
    struct fixture *fixture = *state;
    fixture->server.answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    struct http_request_options options = get(fixture);
    options.on_data = on_data;
    fixture->to_cancel = http_request_start(fixture->client, &options);
    int64_t end = clock_monotonic_ms() + WAIT_MS;
    while (fixture->to_cancel != NULL && clock_monotonic_ms() < end) {
        loop_run_once(fixture->loop, true);
    }
    assert_null(fixture->to_cancel);
    loop_run_once(fixture->loop, false);
    assert_false(fixture->is_done);
}

static void test_silence(void **state) {
    struct fixture *fixture = *state;
    struct http_request_options options = get(fixture);
    options.timeout_ms = 0;
    options.idle_timeout_ms = 20;
    (void)http_request_start(fixture->client, &options);
    run_until(fixture, &fixture->is_done);
    assert_int_equal(fixture->error_code, ERROR_TIMEOUT);
    assert_int_equal(fixture->status, 0);
}

static void test_failures_to_start(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        const char *url;
        int code;
    } bad[] = {{"ftp://127.0.0.1/", ERROR_INPUT}, {"http://127.0.0.1:1/", ERROR_UNAVAILABLE}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct http_request_options options = get(fixture);
        options.url = bad[i].url;
        fixture->is_done = false;
        free(fixture->body);
        (void)http_request_start(fixture->client, &options);
        assert_false(fixture->is_done);
        run_until(fixture, &fixture->is_done);
        assert_int_equal(fixture->error_code, bad[i].code);
    }
}

int main(void) {
#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_get),
        CASE(test_post),
        CASE(test_bound),
        CASE(test_stream),
        CASE(test_stream_given_up),
        CASE(test_cancel_from_callback),
        CASE(test_silence),
        CASE(test_failures_to_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
