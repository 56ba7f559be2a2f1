/*
 * Fuzzes webhook verification: "id\ntimestamp\nsignature\nbody". What the input says of its own
 * signature never matters: it does not know the key. The same delivery signed here with the key is
 * genuine exactly when its form is good, and forged again with any byte of the signature changed.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/memory.h"
#include "cma/webhook.h"

/* 32 bytes that no input can sign with. */
#define SECRET "whsec_aG9sdC10ZXN0LXNpZ25pbmcta2V5LTAxMjM0NTY3ODk="
#define KEY    "holt-test-signing-key-0123456789"

enum { NOW_S = 1767225600, DIGEST_SIZE = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes one line off the front of the input; NULL, an absent header, when there is none. */
static char *take_line(const char **at, size_t *left) {
    const char *end = *left == 0 ? NULL : memchr(*at, '\n', *left);
    if (end == NULL) {
        return NULL;
    }
    size_t length = (size_t)(end - *at);
    char *line = memory_string_n(*at, length);
    *at += length + 1;
    *left -= length + 1;
    return line;
}

static char *signature_of(const struct webhook_delivery *delivery) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    struct buffer signature = BUFFER_EMPTY;
    unsigned char digest[DIGEST_SIZE];
    unsigned length = 0;
    buffer_append_format(&text, "%s.%s.", delivery->id, delivery->timestamp);
    buffer_append(&text, delivery->body, delivery->body_length);
    if (HMAC(EVP_sha256(), KEY, (int)strlen(KEY), (const unsigned char *)text.data, text.length,
             digest, &length) == NULL) {
        abort();
    }
    buffer_append_string(&signature, "v0,zzz v1,");
    base64_encode(&signature, digest, length);
    return buffer_take_string(&signature);
}

static void check_signed(const struct webhook_secrets *secrets, struct webhook_delivery delivery,
                         enum webhook_verdict unsigned_verdict) {
    CLEANUP_FREE char *signature = signature_of(&delivery);
    delivery.signature = signature;
    enum webhook_verdict verdict = webhook_verify(secrets, &delivery, NOW_S);
    bool is_expected = unsigned_verdict == WEBHOOK_FORGED ? verdict == WEBHOOK_GENUINE
                                                          : verdict == unsigned_verdict;
    if (!is_expected) {
        abort();
    }
    char *changed = &signature[strlen("v0,zzz v1,") + delivery.body_length % 42];
    *changed = *changed == 'A' ? 'B' : 'A';
    if (webhook_verify(secrets, &delivery, NOW_S) == WEBHOOK_GENUINE) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char empty[] = "";
    const char *at = size == 0 ? empty : (const char *)data;
    CLEANUP_FREE char *id = take_line(&at, &size);
    CLEANUP_FREE char *timestamp = take_line(&at, &size);
    CLEANUP_FREE char *signature = take_line(&at, &size);
    CLEANUP_FREE char *body = memory_string_n(at, size);
    struct webhook_delivery delivery = {.id = id,
                                        .timestamp = timestamp,
                                        .signature = signature,
                                        .body = body,
                                        .body_length = size};
    struct webhook_secrets *secrets = webhook_secrets_new();
    if (!webhook_secrets_add(secrets, SECRET, NULL)) {
        abort();
    }
    enum webhook_verdict verdict = webhook_verify(secrets, &delivery, NOW_S);
    struct webhook_event event = {NULL, NULL};
    if (signature != NULL && strlen(signature) <= WEBHOOK_HEADER_LIMIT) {
        bool is_the_vector = verdict == WEBHOOK_GENUINE; /* one seed is; its mutants are not */
        check_signed(secrets, delivery, is_the_vector ? WEBHOOK_FORGED : verdict);
    }
    if (webhook_event_parse(body, size, &event, NULL) &&
        (event.type == NULL || event.object_id == NULL)) {
        abort();
    }
    webhook_event_free(&event);
    webhook_secrets_free(secrets);
    return 0;
}
