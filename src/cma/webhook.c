/* Webhook deliveries: Standard Webhooks signatures, then the event. */
#include "cma/webhook.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"

enum { SIGNATURE_SIZE = 32, TIMESTAMP_DIGITS_LIMIT = 12, SECRET_BYTES_LEAST = 16 };

struct webhook_secrets {
    size_t count;
    struct buffer keys[WEBHOOK_SECRETS_LIMIT];
};

struct webhook_secrets *webhook_secrets_new(void) {
    return memory_new(struct webhook_secrets);
}

bool webhook_secrets_add(struct webhook_secrets *secrets, const char *text, struct error **error) {
    static const char prefix[] = "whsec_";
    if (secrets->count == WEBHOOK_SECRETS_LIMIT) {
        return error_set(error, ERROR_INPUT, "more than %d webhook secrets", WEBHOOK_SECRETS_LIMIT);
    }
    struct buffer *key = &secrets->keys[secrets->count];
    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0 ||
        !base64_decode(key, text + sizeof(prefix) - 1, strlen(text) - (sizeof(prefix) - 1)) ||
        key->length < SECRET_BYTES_LEAST) {
        memory_wipe(key->data, key->length);
        buffer_free(key);
        return error_set(error, ERROR_INPUT,
                         "a webhook secret is \"whsec_\" and base64 of at least %d bytes: copy it "
                         "from the Console as it is",
                         SECRET_BYTES_LEAST);
    }
    secrets->count++;
    return true;
}

void webhook_secrets_free(struct webhook_secrets *take_secrets) {
    if (take_secrets == NULL) {
        return;
    }
    for (size_t i = 0; i < take_secrets->count; i++) {
        memory_wipe(take_secrets->keys[i].data, take_secrets->keys[i].length);
        buffer_free(&take_secrets->keys[i]);
    }
    free(take_secrets);
}

/* Present, not empty, within its bound, and of printable ASCII without blanks. */
static bool is_token(const char *text, size_t limit) {
    if (text == NULL || *text == '\0' || strnlen(text, limit + 1) > limit) {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (*p <= ' ' || *p > '~') {
            return false;
        }
    }
    return true;
}

static bool parse_timestamp(const char *text, int64_t *seconds) {
    int64_t value = 0;
    if (text == NULL || *text == '\0' ||
        strnlen(text, TIMESTAMP_DIGITS_LIMIT + 1) > TIMESTAMP_DIGITS_LIMIT) {
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9') {
            return false;
        }
        value = value * 10 + (*p - '0');
    }
    *seconds = value;
    return true;
}

static void sign(const struct buffer *key, const struct webhook_delivery *delivery,
                 unsigned char signature[SIGNATURE_SIZE]) {
    CLEANUP_BUFFER struct buffer signed_text = BUFFER_EMPTY;
    unsigned length = 0;
    buffer_append_format(&signed_text, "%s.%s.", delivery->id, delivery->timestamp);
    buffer_append(&signed_text, delivery->body, delivery->body_length);
    if (HMAC(EVP_sha256(), key->data, (int)key->length, (const unsigned char *)signed_text.data,
             signed_text.length, signature, &length) == NULL ||
        length != SIGNATURE_SIZE) {
        abort();
    }
}

/* Whether one "v1,<base64>" equals one of the signatures that our secrets give. */
static bool matches_any(const char *word, size_t length, unsigned char signatures[][SIGNATURE_SIZE],
                        size_t count) {
    CLEANUP_BUFFER struct buffer given = BUFFER_EMPTY;
    bool is_match = false;
    if (length < 3 || memcmp(word, "v1,", 3) != 0 || !base64_decode(&given, word + 3, length - 3) ||
        given.length != SIGNATURE_SIZE) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        is_match |= CRYPTO_memcmp(given.data, signatures[i], SIGNATURE_SIZE) == 0;
    }
    return is_match;
}

enum webhook_verdict webhook_verify(const struct webhook_secrets *secrets,
                                    const struct webhook_delivery *delivery, int64_t now_s) {
    int64_t sent_s = 0;
    if (!is_token(delivery->id, WEBHOOK_ID_LIMIT) ||
        !parse_timestamp(delivery->timestamp, &sent_s) || delivery->signature == NULL ||
        strnlen(delivery->signature, WEBHOOK_HEADER_LIMIT + 1) > WEBHOOK_HEADER_LIMIT ||
        delivery->body == NULL || delivery->body_length == 0 ||
        delivery->body_length > WEBHOOK_BODY_LIMIT) {
        return WEBHOOK_MALFORMED;
    }
    if (sent_s > now_s + WEBHOOK_TOLERANCE_S || sent_s < now_s - WEBHOOK_TOLERANCE_S) {
        return WEBHOOK_STALE;
    }
    unsigned char signatures[WEBHOOK_SECRETS_LIMIT][SIGNATURE_SIZE];
    for (size_t i = 0; i < secrets->count; i++) {
        sign(&secrets->keys[i], delivery, signatures[i]);
    }
    bool is_genuine = false;
    for (const char *word = delivery->signature; *word != '\0';) {
        size_t length = strcspn(word, " ");
        is_genuine |= matches_any(word, length, signatures, secrets->count);
        word += length;
        word += strspn(word, " ");
    }
    OPENSSL_cleanse(signatures, sizeof(signatures));
    return is_genuine ? WEBHOOK_GENUINE : WEBHOOK_FORGED;
}

const char *webhook_verdict_name(enum webhook_verdict verdict) {
    static const char *const names[] = {"genuine", "malformed", "stale", "forged"};
    return names[verdict];
}

bool webhook_event_parse(const char *body, size_t length, struct webhook_event *event,
                         struct error **error) {
    CLEANUP_JSON struct json_object *object = NULL;
    if (!json_parse(body, length, &object, error)) {
        return error_wrap(error, "webhook body");
    }
    struct json_object *data = json_get_object(object, "data");
    const char *type = json_get_string(data, "type");
    const char *object_id = json_get_string(data, "id");
    if (type == NULL || object_id == NULL) {
        return error_set(error, ERROR_PROTOCOL, "webhook body: no data.type or no data.id");
    }
    event->type = memory_string(type);
    event->object_id = memory_string(object_id);
    return true;
}

void webhook_event_free(struct webhook_event *event) {
    free(event->type);
    free(event->object_id);
    *event = (struct webhook_event){NULL, NULL};
}
