/* Fuzzes what a poll brings: a work item taken in has ids that are safe in a URL, one refused comes
 * with a reason, and a secret either gives a token or nothing at all. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"
#include "cma/work_queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_secret(const char *secret) {
    CLEANUP_FREE char *bearer = NULL;
    CLEANUP_FREE char *base_url = NULL;
    bool is_good = work_secret_decode(secret, &bearer, &base_url);
    if (is_good != (bearer != NULL) || (bearer != NULL && *bearer == '\0') ||
        (base_url != NULL && (!is_good || *base_url == '\0'))) {
        abort();
    }
}

static void check_item(struct json_object *object) {
    CLEANUP_ERROR struct error *error = NULL;
    struct work_item *item = work_item_parse(object, &error);
    if ((item == NULL) != (error != NULL)) {
        abort();
    }
    if (item == NULL) {
        return;
    }
    const char *type = json_get_string(json_get_object(object, "data"), "type");
    bool is_session = type != NULL && strcmp(type, "session") == 0;
    if (!work_id_is_valid(item->id) || !work_id_is_valid(item->environment_id) ||
        is_session != (item->session_id != NULL) ||
        (is_session && !work_id_is_valid(item->session_id)) ||
        (item->bearer == NULL && item->api_base_url != NULL)) {
        abort();
    }
    work_item_free(item);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    CLEANUP_FREE char *text = memory_string_n(bytes, strnlen(bytes, size));
    CLEANUP_JSON struct json_object *object = NULL;
    check_secret(text);
    if (json_parse(bytes, size, &object, NULL)) {
        check_item(object);
        /* The secret as it is without the wrapping that a fuzzer seldom finds. */
        size_t length = 0;
        const char *inner = json_text(object, &length);
        CLEANUP_BUFFER struct buffer encoded = BUFFER_EMPTY;
        base64_encode(&encoded, inner, length);
        check_secret(buffer_string(&encoded));
    }
    return 0;
}
