/* Unit tests of webhook verification: whatever is accepted wrongly here lets a stranger wake the
 * daemon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cma/webhook.h"

/* The vector of protocol.md section 6. */
#define SECRET    "whsec_aG9sdC10ZXN0LXNpZ25pbmcta2V5LTAxMjM0NTY3ODk="
#define OTHER     "whsec_YW5vdGhlci1zZWNyZXQtb2YtZW5vdWdoLWJ5dGVz"
#define SIGNATURE "v1,p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Xo="
#define BODY                                                                                       \
    "{\"type\":\"event\",\"id\":\"event_01TEST\",\"created_at\":\"2026-01-01T00:00:00Z\","         \
    "\"data\":{\"type\":\"session.status_run_started\",\"id\":\"sesn_01TEST\","                    \
    "\"organization_id\":\"org_01TEST\",\"workspace_id\":\"wrkspc_01TEST\"}}"

static const int64_t sent_s = 1767225600;

static struct webhook_delivery genuine(void) {
    return (struct webhook_delivery){.id = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
                                     .timestamp = "1767225600",
                                     .signature = SIGNATURE,
                                     .body = BODY,
                                     .body_length = strlen(BODY)};
}

static enum webhook_verdict judge(const char *const *texts, struct webhook_delivery delivery,
                                  int64_t now_s) {
    struct webhook_secrets *secrets = webhook_secrets_new();
    for (; *texts != NULL; texts++) {
        assert_true(webhook_secrets_add(secrets, *texts, NULL));
    }
    enum webhook_verdict verdict = webhook_verify(secrets, &delivery, now_s);
    webhook_secrets_free(secrets);
    return verdict;
}

static const char *const one_secret[] = {SECRET, NULL};

static void test_vector_is_genuine(void **state) {
    (void)state;
    assert_int_equal(judge(one_secret, genuine(), sent_s), WEBHOOK_GENUINE);
    assert_int_equal(judge(one_secret, genuine(), sent_s + 300), WEBHOOK_GENUINE);
    assert_int_equal(judge(one_secret, genuine(), sent_s - 300), WEBHOOK_GENUINE);
}

static void test_rotation_accepts_either_secret(void **state) {
    (void)state;
    const char *const both[] = {OTHER, SECRET, NULL};
    const char *const only_other[] = {OTHER, NULL};
    const char *const none[] = {NULL};
    assert_int_equal(judge(both, genuine(), sent_s), WEBHOOK_GENUINE);
    assert_int_equal(judge(only_other, genuine(), sent_s), WEBHOOK_FORGED);
    assert_int_equal(judge(none, genuine(), sent_s), WEBHOOK_FORGED);
}

static void test_replays_outside_the_window_are_stale(void **state) {
    (void)state;
    assert_int_equal(judge(one_secret, genuine(), sent_s + 301), WEBHOOK_STALE);
    assert_int_equal(judge(one_secret, genuine(), sent_s - 301), WEBHOOK_STALE);
}

static void test_signature_lists(void **state) {
    (void)state;
    static const struct {
        const char *signature;
        enum webhook_verdict verdict;
    } lists[] = {
        {"v1,AAAA " SIGNATURE, WEBHOOK_GENUINE},
        {"v2,xyz v1a,q " SIGNATURE " v1,", WEBHOOK_GENUINE},
        {"   " SIGNATURE "   ", WEBHOOK_GENUINE},
        {"", WEBHOOK_FORGED},
        {"v1", WEBHOOK_FORGED},
        {"v1,", WEBHOOK_FORGED},
        {"v2,p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Xo=", WEBHOOK_FORGED},
        {"p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Xo=", WEBHOOK_FORGED},
        {"V1,p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Xo=", WEBHOOK_FORGED},
        {"v1,p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Xp=", WEBHOOK_FORGED},
        {"v1,p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Q==", WEBHOOK_FORGED},
        {"v1,p9t9ROyKIYyA3gVFKhUENILks3Vo0DWF1dnGgzKC9Xo=v1,x", WEBHOOK_FORGED},
        {"v1,\xf0\x9f\xa6\xa6", WEBHOOK_FORGED},
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct webhook_delivery delivery = genuine();
        delivery.signature = lists[i].signature;
        assert_int_equal(judge(one_secret, delivery, sent_s), lists[i].verdict);
    }
}

static void test_malformed_headers(void **state) {
    (void)state;
    static const char *const timestamps[] = {
        NULL,          "",           "-1767225600",          "1767225600.0", "+1767225600",
        " 1767225600", "0x6955b900", "99999999999999999999", "1767225600\n", "now"};
    for (size_t i = 0; i < sizeof(timestamps) / sizeof(timestamps[0]); i++) {
        struct webhook_delivery delivery = genuine();
        delivery.timestamp = timestamps[i];
        assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_MALFORMED);
    }
    CLEANUP_FREE char *long_text = memory_zeroed(WEBHOOK_HEADER_LIMIT + 8, 1);
    memset(long_text, 'a', WEBHOOK_HEADER_LIMIT + 1);
    const char *const ids[] = {NULL, "", "a b", "a\r\nb", "\xc3\xa9", long_text};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct webhook_delivery delivery = genuine();
        delivery.id = ids[i];
        assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_MALFORMED);
    }
    struct webhook_delivery delivery = genuine();
    delivery.signature = long_text;
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_MALFORMED);
    delivery.signature = NULL;
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_MALFORMED);
}

static void test_any_changed_byte_is_forged(void **state) {
    (void)state;
    CLEANUP_FREE char *body = memory_string(BODY);
    for (size_t i = 0; i < strlen(BODY); i++) {
        struct webhook_delivery delivery = genuine();
        body[i] ^= 1;
        delivery.body = body;
        assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_FORGED);
        body[i] ^= 1;
    }
    struct webhook_delivery delivery = genuine();
    delivery.body_length--;
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_FORGED);
    delivery = genuine();
    delivery.id = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4X";
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_FORGED);
    delivery = genuine();
    delivery.timestamp = "1767225601";
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_FORGED);
}

static void test_body_bounds(void **state) {
    (void)state;
    struct webhook_delivery delivery = genuine();
    delivery.body_length = WEBHOOK_BODY_LIMIT + 1;
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_MALFORMED);
    delivery.body_length = 0;
    assert_int_equal(judge(one_secret, delivery, sent_s), WEBHOOK_MALFORMED);
}

static void test_bad_secrets_are_refused_without_repeating_them(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",           "whsec_",         "aG9sdC10ZXN0LXNpZ25pbmcta2V5",
        "whsec_!!!!", "whsec_c2hvcnQ=", "WHSEC_aG9sdC10ZXN0LXNpZ25pbmcta2V5"};
    struct webhook_secrets *secrets = webhook_secrets_new();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEANUP_ERROR struct error *error = NULL;
        assert_false(webhook_secrets_add(secrets, bad[i], &error));
        assert_true(strlen(bad[i]) < 8 || strstr(error->message, bad[i]) == NULL);
    }
    webhook_secrets_free(secrets);
}

static void test_event_is_read(void **state) {
    (void)state;
    struct webhook_event event = {NULL, NULL};
    assert_true(webhook_event_parse(BODY, strlen(BODY), &event, NULL));
    assert_string_equal(event.type, "session.status_run_started");
    assert_string_equal(event.object_id, "sesn_01TEST");
    webhook_event_free(&event);
    static const char *const bad[] = {"{}", "[]", "null", "{\"data\":{\"type\":5,\"id\":\"x\"}}",
                                      "{"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(webhook_event_parse(bad[i], strlen(bad[i]), &event, NULL));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector_is_genuine),
        cmocka_unit_test(test_rotation_accepts_either_secret),
        cmocka_unit_test(test_replays_outside_the_window_are_stale),
        cmocka_unit_test(test_signature_lists),
        cmocka_unit_test(test_malformed_headers),
        cmocka_unit_test(test_any_changed_byte_is_forged),
        cmocka_unit_test(test_body_bounds),
        cmocka_unit_test(test_bad_secrets_are_refused_without_repeating_them),
        cmocka_unit_test(test_event_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
