/* Unit tests of the HTTP server with a raw socket as its client: bounds, streams, hang-ups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "net/http_server.h"

enum { WAIT_MS = 30000, BODY_LIMIT = 1000 };

struct fixture {
    struct loop *loop;
    struct http_server *server;
    int fd;
    struct buffer answer;
    struct http_exchange *held; /* a stream or a reply to come */
    size_t requests;
    size_t closes;
};

static void on_close(void *context) {
    struct fixture *fixture = context;
    fixture->closes++;
    fixture->held = NULL;
}

static void reply_echo(struct http_exchange *exchange) {
    size_t length = 0;
    const char *body = http_exchange_body(exchange, &length);
    struct json_object *json = json_object_new_object();
    json_set_string(json, "method", http_exchange_method(exchange));
    json_set_string(json, "path", http_exchange_path(exchange));
    json_set_string_n(json, "body", body, length);
    const char *first = http_exchange_query(exchange, "a[]");
    const char *second = http_exchange_query_nth(exchange, "a[]", 1);
    const char *header = http_exchange_header(exchange, "X-One");
    json_set_string(json, "first", first == NULL ? "-" : first);
    json_set_string(json, "second", second == NULL ? "-" : second);
    json_set_string(json, "header", header == NULL ? "-" : header);
    http_exchange_add_header(exchange, "request-id", "req_1");
    http_reply_json(exchange, 201, json);
    json_object_put(json);
}

static void handle(void *context, struct http_exchange *exchange) {
    struct fixture *fixture = context;
    fixture->requests++;
    const char *path = http_exchange_path(exchange);
    if (strcmp(path, "/hold") == 0 || strcmp(path, "/stream") == 0) {
        fixture->held = exchange;
        http_exchange_on_close(exchange, on_close, fixture);
        if (strcmp(path, "/stream") == 0) {
            http_stream_begin(exchange, "text/event-stream");
            http_stream_write(exchange, "one", 3);
        }
        return;
    }
    reply_echo(exchange);
}

static void connect_client(struct fixture *fixture) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(http_server_port(fixture->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    fixture->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fixture->fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static int set_up(void **state) {
    struct fixture *fixture = memory_new(struct fixture);
    fixture->loop = loop_new(NULL);
    struct http_server_options options = {.address = "127.0.0.1",
                                          .body_limit = BODY_LIMIT,
                                          .idle_timeout_ms = WAIT_MS,
                                          .handle = handle,
                                          .context = fixture};
    fixture->server = http_server_new(fixture->loop, &options, NULL);
    assert_non_null(fixture->server);
    connect_client(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    http_server_free(fixture->server);
    loop_free(fixture->loop);
    (void)close(fixture->fd);
    buffer_free(&fixture->answer);
    free(fixture);
    return 0;
}

static void send_text(struct fixture *fixture, const char *text) {
    assert_true(io_write_all(fixture->fd, text, strlen(text), NULL));
}

/* Takes what has come; false at the end of the connection. */
static bool receive(struct fixture *fixture) {
    char bytes[65536];
    ssize_t got = recv(fixture->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got > 0) {
        buffer_append(&fixture->answer, bytes, (size_t)got);
    }
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

static void await_text(struct fixture *fixture, const char *text) {
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    while (strstr(buffer_string(&fixture->answer), text) == NULL) {
        loop_run_once(fixture->loop, false);
        (void)receive(fixture);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

static void await_end(struct fixture *fixture) {
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    while (receive(fixture)) {
        loop_run_once(fixture->loop, false);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

static void await_held(struct fixture *fixture) {
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    while (fixture->held == NULL) {
        loop_run_once(fixture->loop, false);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

static void await_close(struct fixture *fixture) {
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    while (fixture->closes == 0) {
        loop_run_once(fixture->loop, false);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

static void test_a_request_reaches_its_handler_whole(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture, "PATCH /a%20b?a%5B%5D=x+y&a[]=%C3%A9&c HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n"
                       "Content-Length: 4\r\n\r\nbody");
    await_text(fixture, "\"header\":\"1\"");
    const char *answer = buffer_string(&fixture->answer);
    assert_non_null(strstr(answer, "HTTP/1.1 201"));
    assert_non_null(strstr(answer, "request-id: req_1"));
    assert_non_null(strstr(answer, "\"method\":\"PATCH\",\"path\":\"/a b\",\"body\":\"body\","
                                   "\"first\":\"x y\",\"second\":\"\xc3\xa9\""));
}

static void test_a_connection_is_used_again(void **state) {
    struct fixture *fixture = *state;
    for (int i = 0; i < 3; i++) {
        buffer_truncate(&fixture->answer, 0);
        send_text(fixture, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        await_text(fixture, "\"header\":\"-\"}");
    }
    assert_int_equal(fixture->requests, 3);
}

static void test_a_large_body_is_refused(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    await_text(fixture, "HTTP/1.1 413");
    assert_int_equal(fixture->requests, 0);
}

static void test_a_malformed_target_is_refused(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture, "GET /a%00b HTTP/1.1\r\nHost: h\r\n\r\n");
    await_text(fixture, "HTTP/1.1 400");
    assert_int_equal(fixture->requests, 0);
}

static void test_a_stream_flows_and_ends(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    await_text(fixture, "one");
    assert_int_equal(http_stream_backlog(fixture->held), 0);
    http_stream_write(fixture->held, "", 0); /* must not end the body */
    http_stream_write(fixture->held, "two", 3);
    await_text(fixture, "two");
    http_stream_end(fixture->held);
    fixture->held = NULL;
    await_text(fixture, "\r\n0\r\n\r\n");
    assert_int_equal(fixture->closes, 0);
}

static void test_a_hang_up_is_noticed(void **state) {
    static const char *const requests[] = {"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
                                           "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        fixture->closes = 0;
        send_text(fixture, requests[i]);
        await_held(fixture);
        (void)close(fixture->fd);
        await_close(fixture);
        connect_client(fixture);
    }
}

static void test_a_slow_reader_can_be_cut_off(void **state) {
    enum { PIECE = 1 << 20, PIECES = 64 };
    struct fixture *fixture = *state;
    send_text(fixture, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    await_held(fixture);
    char *piece = memory_zeroed(1, PIECE);
    for (int i = 0; i < PIECES; i++) {
        http_stream_write(fixture->held, piece, PIECE);
        loop_run_once(fixture->loop, false);
    }
    free(piece);
    assert_true(http_stream_backlog(fixture->held) > PIECE);
    http_exchange_abort(fixture->held);
    fixture->held = NULL;
    await_end(fixture);
    assert_int_equal(fixture->closes, 0);
}

static void test_a_late_reply_arrives(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    await_held(fixture);
    http_reply_bytes(fixture->held, 200, "text/plain", "late", 4);
    fixture->held = NULL;
    await_text(fixture, "late");
}

static void test_pipelined_bytes_do_no_harm(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture,
              "GET /hold HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    await_held(fixture);
    for (int i = 0; i < 10; i++) {
        loop_run_once(fixture->loop, false);
    }
    http_reply_bytes(fixture->held, 200, "text/plain", "late", 4);
    fixture->held = NULL;
    await_text(fixture, "/next");
}

static void test_the_server_ends_with_requests_open(void **state) {
    struct fixture *fixture = *state;
    send_text(fixture, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n");
    await_held(fixture);
    http_server_free(fixture->server);
    fixture->server = NULL;
    assert_int_equal(fixture->closes, 1);
}

static void test_a_taken_port_is_an_error(void **state) {
    struct fixture *fixture = *state;
    struct error *error = NULL;
    struct http_server_options options = {.address = "127.0.0.1",
                                          .port = http_server_port(fixture->server),
                                          .body_limit = BODY_LIMIT,
                                          .handle = handle};
    assert_null(http_server_new(fixture->loop, &options, &error));
    assert_int_equal(error->errno_value, EADDRINUSE);
    error_free(error);
    error = NULL;
    options.address = "nonsense";
    assert_null(http_server_new(fixture->loop, &options, &error));
    assert_int_equal(error->code, ERROR_INPUT);
    error_free(error);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_request_reaches_its_handler_whole),
        TEST(test_a_connection_is_used_again),
        TEST(test_a_large_body_is_refused),
        TEST(test_a_malformed_target_is_refused),
        TEST(test_a_stream_flows_and_ends),
        TEST(test_a_hang_up_is_noticed),
        TEST(test_a_slow_reader_can_be_cut_off),
        TEST(test_a_late_reply_arrives),
        TEST(test_pipelined_bytes_do_no_harm),
        TEST(test_the_server_ends_with_requests_open),
        TEST(test_a_taken_port_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
