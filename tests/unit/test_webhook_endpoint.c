/* Unit tests of POST /webhook: what it answers, what it does, and in which order things may fail. A
 * mistake lets a stranger wake the daemon, or loses the wake-up of a session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "api/webhook_endpoint.h"
#include "base/base64.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "net/http_client.h"

#define SECRET "whsec_aG9sdC10ZXN0LXNpZ25pbmcta2V5LTAxMjM0NTY3ODk="
#define KEY    "holt-test-signing-key-0123456789"

struct fixture {
    struct loop *loop;
    struct http_client *client;
    struct webhook_secrets *secrets;
    struct webhook_endpoint *endpoint;
    char *url;
    char noted[8][WEBHOOK_ID_LIMIT + 1];
    size_t noted_count;
    bool is_note_failing;
    size_t wakes;
    size_t ends;
    char ended[WEBHOOK_ID_LIMIT + 1];
    long status;
    size_t body_length;
};

static bool note(void *context, const char *webhook_id, int64_t now_ms, bool *is_new,
                 struct error **error) {
    struct fixture *fixture = context;
    assert_true(now_ms > 0);
    *is_new = false;
    if (fixture->is_note_failing) {
        return error_set(error, ERROR_SYSTEM, "the disk is full");
    }
    for (size_t i = 0; i < fixture->noted_count; i++) {
        if (strcmp(fixture->noted[i], webhook_id) == 0) {
            return true;
        }
    }
    *is_new = true;
    assert_true(fixture->noted_count < 8);
    (void)memccpy(fixture->noted[fixture->noted_count++], webhook_id, '\0', WEBHOOK_ID_LIMIT);
    return true;
}

static void wake(void *context) {
    struct fixture *fixture = context;
    fixture->wakes++;
}

static void session_ended(void *context, const char *session_id) {
    struct fixture *fixture = context;
    fixture->ends++;
    (void)memccpy(fixture->ended, session_id, '\0', WEBHOOK_ID_LIMIT);
}

static int set_up(void **state) {
    struct fixture *fixture = memory_new(struct fixture);
    fixture->loop = loop_new(NULL);
    fixture->client = http_client_new(fixture->loop, NULL);
    fixture->secrets = webhook_secrets_new();
    assert_true(webhook_secrets_add(fixture->secrets, SECRET, NULL));
    fixture->endpoint = webhook_endpoint_new(fixture->loop,
                                             &(struct webhook_endpoint_options){
                                                 .address = "127.0.0.1",
                                                 .secrets = fixture->secrets,
                                                 .note = note,
                                                 .wake = wake,
                                                 .session_ended = session_ended,
                                                 .context = fixture,
                                             },
                                             NULL);
    assert_non_null(fixture->endpoint);
    CLEANUP_FREE char *address = webhook_endpoint_address(fixture->endpoint);
    fixture->url = memory_format("http://%s/webhook", address);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    webhook_endpoint_free(fixture->endpoint);
    webhook_secrets_free(fixture->secrets);
    http_client_free(fixture->client);
    loop_free(fixture->loop);
    free(fixture->url);
    free(fixture);
    return 0;
}

static void on_done(void *context, const struct http_response *response) {
    struct fixture *fixture = context;
    fixture->status = response->status;
    fixture->body_length = response->body_length;
    loop_stop(fixture->loop);
}

static char *signature_of(const char *id, const char *timestamp, const char *body) {
    CLEANUP_FREE char *text = memory_format("%s.%s.%s", id, timestamp, body);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    struct buffer header = BUFFER_EMPTY;
    assert_non_null(HMAC(EVP_sha256(), KEY, (int)strlen(KEY), (const unsigned char *)text,
                         strlen(text), digest, &length));
    buffer_append_string(&header, "webhook-signature: v1,");
    base64_encode(&header, digest, length);
    return buffer_take_string(&header);
}

static long request(struct fixture *fixture, const char *method, const char *url,
                    const char *const *headers, const char *body) {
    assert_non_null(http_request_start(fixture->client, &(struct http_request_options){
                                                            .method = method,
                                                            .url = url,
                                                            .headers = headers,
                                                            .body = body,
                                                            .body_length = strlen(body),
                                                            .timeout_ms = 30000,
                                                            .response_limit = 1 << 16,
                                                            .on_done = on_done,
                                                            .context = fixture,
                                                        }));
    fixture->status = -1;
    loop_run(fixture->loop);
    return fixture->status;
}

/* Delivers `body` signed as it should be, with one more header or NULL. */
static long deliver_with(struct fixture *fixture, const char *id, const char *body,
                         const char *more) {
    CLEANUP_FREE char *timestamp = memory_format("%lld", (long long)(clock_wall_ms() / 1000));
    CLEANUP_FREE char *id_header = memory_format("webhook-id: %s", id);
    CLEANUP_FREE char *time_header = memory_format("webhook-timestamp: %s", timestamp);
    CLEANUP_FREE char *signature = signature_of(id, timestamp, body);
    const char *const headers[] = {id_header, time_header, signature, more, NULL};
    return request(fixture, "POST", fixture->url, headers, body);
}

static char *event(const char *type, const char *id) {
    return memory_format("{\"type\":\"event\",\"data\":{\"type\":\"%s\",\"id\":\"%s\"}}", type, id);
}

static long deliver(struct fixture *fixture, const char *webhook_id, const char *type,
                    const char *session_id) {
    CLEANUP_FREE char *body = event(type, session_id);
    return deliver_with(fixture, webhook_id, body, NULL);
}

static void test_a_delivery_wakes_once(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(deliver(fixture, "msg_1", "session.status_run_started", "sesn_1"), 200);
    assert_int_equal(fixture->wakes, 1);
    assert_int_equal(fixture->body_length, 0);
    assert_int_equal(deliver(fixture, "msg_1", "session.status_run_started", "sesn_1"), 200);
    assert_int_equal(fixture->wakes, 1);
    assert_int_equal(deliver(fixture, "msg_2", "session.status_rescheduled", "sesn_1"), 200);
    assert_int_equal(fixture->wakes, 2);
    assert_int_equal(fixture->ends, 0);
}

static void test_ends_of_sessions_are_told(void **state) {
    static const char *const types[] = {"session.status_terminated", "session.archived",
                                        "session.deleted"};
    struct fixture *fixture = *state;
    for (size_t i = 0; i < 3; i++) {
        const char id[] = {'m', (char)('0' + i), '\0'};
        assert_int_equal(deliver(fixture, id, types[i], "sesn_1"), 200);
        assert_int_equal(fixture->ends, i + 1);
        assert_string_equal(fixture->ended, "sesn_1");
    }
    assert_int_equal(fixture->wakes, 0);
}

static void test_other_events_are_taken_and_ignored(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(deliver(fixture, "m1", "vault.created", "vlt_1"), 200);
    assert_int_equal(deliver(fixture, "m2", "session.not_yet_invented", "sesn_1"), 200);
    assert_int_equal(deliver(fixture, "m3", "session.deleted", "../../etc"), 200);
    assert_int_equal(deliver_with(fixture, "m5", "not json", NULL), 200);
    assert_int_equal(deliver_with(fixture, "m4", "{\"data\":[]}", NULL), 200);
    assert_int_equal(fixture->wakes + fixture->ends + fixture->noted_count, 0);
}

static void test_a_delivery_that_cannot_be_noted_is_acted_upon_and_asked_for(void **state) {
    struct fixture *fixture = *state;
    fixture->is_note_failing = true;
    assert_int_equal(deliver(fixture, "m1", "session.status_run_started", "sesn_1"), 503);
    assert_int_equal(fixture->wakes, 1);
    assert_int_equal(deliver(fixture, "m1", "session.status_run_started", "sesn_1"), 503);
    assert_int_equal(fixture->wakes, 2);
    fixture->is_note_failing = false;
    assert_int_equal(deliver(fixture, "m1", "session.status_run_started", "sesn_1"), 200);
    assert_int_equal(fixture->wakes, 3);
    assert_int_equal(deliver(fixture, "m1", "session.status_run_started", "sesn_1"), 200);
    assert_int_equal(fixture->wakes, 3);
}

static void test_forgeries_are_refused_with_nothing(void **state) {
    struct fixture *fixture = *state;
    CLEANUP_FREE char *body = event("session.status_run_started", "sesn_1");
    const char *const none[] = {NULL};
    const char *const bad[] = {"webhook-id: m1", "webhook-timestamp: 1",
                               "webhook-signature: v1,AAAA", NULL};
    assert_int_equal(request(fixture, "POST", fixture->url, none, body), 401);
    assert_int_equal(fixture->body_length, 0);
    assert_int_equal(request(fixture, "POST", fixture->url, bad, body), 401);
    assert_int_equal(deliver_with(fixture, "m1", body, "webhook-id: m1"), 401);
    assert_int_equal(deliver_with(fixture, "m1", body, "Webhook-Signature: v1,AAAA"), 401);
    for (int i = 0; i < 50; i++) { /* the log of these is two lines */
        assert_int_equal(request(fixture, "POST", fixture->url, bad, body), 401);
    }
    assert_int_equal(fixture->wakes, 0);
    assert_int_equal(fixture->noted_count, 0);
}

static void test_other_methods_and_paths(void **state) {
    static const char *const methods[] = {"GET", "PUT", "DELETE", "PATCH", "OPTIONS"};
    static const char *const paths[] = {"/", "/webhook/", "/webhooks", "/Webhook", "//webhook"};
    struct fixture *fixture = *state;
    const char *const none[] = {NULL};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        assert_int_equal(request(fixture, methods[i], fixture->url, none, ""), 405);
    }
    CLEANUP_FREE char *base = memory_string_n(fixture->url, strlen(fixture->url) - 8);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        CLEANUP_FREE char *url = memory_format("%s%s", base, paths[i]);
        assert_int_equal(request(fixture, "POST", url, none, "x"), 404);
        assert_int_equal(fixture->body_length, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_a_delivery_wakes_once),
        TEST(test_ends_of_sessions_are_told),
        TEST(test_other_events_are_taken_and_ignored),
        TEST(test_a_delivery_that_cannot_be_noted_is_acted_upon_and_asked_for),
        TEST(test_forgeries_are_refused_with_nothing),
        TEST(test_other_methods_and_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
