/* Unit tests of the server's bounds against slow and many peers, and of a socket handed over: if
 * they fail, one stranger with a hundred idle connections keeps every webhook out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "net/http_server.h"

enum { WAIT_MS = 30000, PEERS = 40, CONNECTIONS_LIMIT = 12, PER_PEER_LIMIT = 8 };

static const char request[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_exchange *held;
    bool is_holding;
};

static void handle(void *context, struct http_exchange *exchange) {
    struct fixture *fixture = context;
    if (fixture->is_holding) {
        fixture->held = exchange;
        return;
    }
    http_reply_bytes(exchange, 200, NULL, "good", 4);
}

static struct http_server_options options_for(struct fixture *fixture, int64_t timeout_ms) {
    return (struct http_server_options){.address = "127.0.0.1",
                                        .body_limit = 1000,
                                        .idle_timeout_ms = WAIT_MS,
                                        .request_timeout_ms = timeout_ms,
                                        .connections_limit = CONNECTIONS_LIMIT,
                                        .connections_per_peer_limit = PER_PEER_LIMIT,
                                        .handle = handle,
                                        .context = fixture};
}

static void start(struct fixture *fixture, int64_t timeout_ms) {
    struct http_server_options options = options_for(fixture, timeout_ms);
    fixture->server = http_server_new(fixture->loop, &options, NULL);
    assert_non_null(fixture->server);
}

static int set_up(void **state) {
    struct fixture *fixture = memory_new(struct fixture);
    fixture->loop = loop_new(NULL);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    http_server_free(fixture->server);
    loop_free(fixture->loop);
    free(fixture);
    return 0;
}

/* A connection from 127.0.0.`host`. */
static int connect_from(struct fixture *fixture, unsigned host) {
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host)};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(fixture->server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    loop_run_once(fixture->loop, false);
    return fd;
}

/* Whether the answer, not the end, is what comes next. */
static bool is_answered(struct fixture *fixture, int fd) {
    CLEANUP_BUFFER struct buffer answer = BUFFER_EMPTY;
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    while (strstr(buffer_string(&answer), "good") == NULL) {
        char bytes[4096];
        loop_run_once(fixture->loop, false);
        ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (got > 0) {
            buffer_append(&answer, bytes, (size_t)got);
        } else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
            return false;
        }
        assert_true(clock_monotonic_ms() < end_ms);
    }
    return true;
}

static bool is_open(int fd) {
    char byte = 0;
    return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

static size_t count_open(struct fixture *fixture, const int *fds, size_t count) {
    size_t open_count = 0;
    for (int round = 0; round < 20; round++) {
        loop_run_once(fixture->loop, false);
    }
    for (size_t i = 0; i < count; i++) {
        open_count += is_open(fds[i]) ? 1 : 0;
    }
    return open_count;
}

static void close_all(const int *fds, size_t count) {
    for (size_t i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
}

static void test_an_unfinished_request_is_cut(void **state) {
    static const char *const pieces[] = {"", "GET / HT", "POST / HTTP/1.1\r\nContent-Length: 9\r\n",
                                         "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"};
    struct fixture *fixture = *state;
    start(fixture, 100);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        CLEANUP_CLOSE int fd = connect_from(fixture, 1);
        assert_true(io_write_all(fd, pieces[i], strlen(pieces[i]), NULL));
        assert_false(is_answered(fixture, fd));
    }
    assert_int_equal(http_server_connection_count(fixture->server), 0);
}

/* One byte now and then is traffic, but no request. */
static void test_dripping_does_not_help(void **state) {
    struct fixture *fixture = *state;
    start(fixture, 200);
    CLEANUP_CLOSE int fd = connect_from(fixture, 1);
    int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
    int64_t next_ms = 0;
    while (is_open(fd)) {
        if (clock_monotonic_ms() >= next_ms) {
            next_ms = clock_monotonic_ms() + 20;
            (void)send(fd, "G", 1, MSG_NOSIGNAL);
        }
        loop_run_once(fixture->loop, false);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

static void test_an_answered_connection_goes_on(void **state) {
    struct fixture *fixture = *state;
    start(fixture, 1000);
    CLEANUP_CLOSE int fd = connect_from(fixture, 1);
    for (int i = 0; i < 3; i++) {
        assert_true(io_write_all(fd, request, sizeof(request) - 1, NULL));
        assert_true(is_answered(fixture, fd));
    }
    assert_int_equal(http_server_connection_count(fixture->server), 1);
    assert_false(is_answered(fixture, fd)); /* and ends when it stays silent */
}

static void test_a_pending_reply_is_not_bounded(void **state) {
    struct fixture *fixture = *state;
    start(fixture, 500);
    fixture->is_holding = true;
    CLEANUP_CLOSE int fd = connect_from(fixture, 1);
    assert_true(io_write_all(fd, request, sizeof(request) - 1, NULL));
    CLEANUP_CLOSE int other = connect_from(fixture, 1);
    assert_false(is_answered(fixture, other)); /* cut: the bound has passed for both */
    assert_non_null(fixture->held);
    assert_true(is_open(fd));
    http_reply_bytes(fixture->held, 200, NULL, "good", 4);
    assert_true(is_answered(fixture, fd));
}

static void test_one_peer_pushes_out_itself(void **state) {
    int fds[PEERS];
    struct fixture *fixture = *state;
    start(fixture, WAIT_MS);
    CLEANUP_CLOSE int other = connect_from(fixture, 2);
    for (size_t i = 0; i < PEERS; i++) {
        fds[i] = connect_from(fixture, 1);
    }
    assert_int_equal(count_open(fixture, fds, PEERS), PER_PEER_LIMIT);
    assert_true(is_open(fds[PEERS - 1]));
    assert_true(is_open(other));
    assert_true(io_write_all(fds[PEERS - 1], request, sizeof(request) - 1, NULL));
    assert_true(is_answered(fixture, fds[PEERS - 1]));
    close_all(fds, PEERS);
}

static void test_many_peers_push_out_the_slowest(void **state) {
    int fds[PEERS];
    struct fixture *fixture = *state;
    start(fixture, WAIT_MS);
    for (size_t i = 0; i < PEERS; i++) {
        fds[i] = connect_from(fixture, (unsigned)i + 1);
    }
    assert_int_equal(count_open(fixture, fds, PEERS), CONNECTIONS_LIMIT);
    assert_int_equal(http_server_connection_count(fixture->server), CONNECTIONS_LIMIT);
    CLEANUP_CLOSE int good = connect_from(fixture, 100);
    assert_true(io_write_all(good, request, sizeof(request) - 1, NULL));
    assert_true(is_answered(fixture, good));
    close_all(fds, PEERS);
}

static void test_a_server_full_of_requests_refuses_the_newcomer(void **state) {
    int fds[CONNECTIONS_LIMIT];
    struct fixture *fixture = *state;
    start(fixture, WAIT_MS);
    fixture->is_holding = true;
    for (unsigned i = 0; i < CONNECTIONS_LIMIT; i++) {
        fixture->held = NULL;
        fds[i] = connect_from(fixture, i + 1);
        assert_true(io_write_all(fds[i], request, sizeof(request) - 1, NULL));
        int64_t end_ms = clock_monotonic_ms() + WAIT_MS;
        while (fixture->held == NULL) {
            loop_run_once(fixture->loop, false);
            assert_true(clock_monotonic_ms() < end_ms);
        }
    }
    CLEANUP_CLOSE int late = connect_from(fixture, 100);
    assert_false(is_answered(fixture, late));
    assert_int_equal(count_open(fixture, fds, CONNECTIONS_LIMIT), CONNECTIONS_LIMIT);
    close_all(fds, CONNECTIONS_LIMIT);
}

/* The socket as systemd hands it over; what waits in its backlog is served. */
static void test_a_listening_socket_is_taken(void **state) {
    struct fixture *fixture = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    CLEANUP_CLOSE int early = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(early, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(io_write_all(early, request, sizeof(request) - 1, NULL));
    struct http_server_options options = options_for(fixture, WAIT_MS);
    options.is_handed_over = true;
    options.listen_fd = listener;
    fixture->server = http_server_new(fixture->loop, &options, NULL);
    assert_non_null(fixture->server);
    assert_int_equal(http_server_port(fixture->server), ntohs(address.sin_port));
    assert_true(is_answered(fixture, early));
    http_server_set_accepting(fixture->server, false);
    CLEANUP_CLOSE int later = connect_from(fixture, 1);
    assert_true(io_write_all(later, request, sizeof(request) - 1, NULL));
    assert_int_equal(count_open(fixture, &later, 1), 1);
    http_server_set_accepting(fixture->server, true);
    assert_true(is_answered(fixture, later));
}

static void test_no_listening_socket_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct http_server_options options = options_for(fixture, WAIT_MS);
    options.is_handed_over = true;
    const int fds[] = {socket(AF_INET, SOCK_STREAM, 0), socket(AF_UNIX, SOCK_STREAM, 0),
                       open("/dev/null", O_RDONLY | O_CLOEXEC)};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        CLEANUP_ERROR struct error *error = NULL;
        options.listen_fd = fds[i];
        assert_null(http_server_new(fixture->loop, &options, &error));
        assert_non_null(error);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_an_unfinished_request_is_cut),
        TEST(test_dripping_does_not_help),
        TEST(test_an_answered_connection_goes_on),
        TEST(test_a_pending_reply_is_not_bounded),
        TEST(test_one_peer_pushes_out_itself),
        TEST(test_many_peers_push_out_the_slowest),
        TEST(test_a_server_full_of_requests_refuses_the_newcomer),
        TEST(test_a_listening_socket_is_taken),
        TEST(test_no_listening_socket_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
