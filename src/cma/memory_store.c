/* The memories of a store: five requests, and what their answers may say. */
#include "cma/memory_store.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cma/work_queue.h"

enum {
    BASIC_PAGE = 100, /* the API's own bounds of a page */
    FULL_PAGE = 20,
    BASIC_PAGE_LIMIT = 4 << 20,
    FULL_PAGE_LIMIT = 32 << 20, /* 20 contents of 100 kB, each byte escaped as \uXXXX, and room */
    CURSOR_LIMIT = 4096,
    DIGEST_BYTES = 32,
};

static const char *const headers[] = {"anthropic-beta: agent-memory-2026-07-22", NULL};

static struct api_call *start(struct api *api, const char *method, const char *path,
                              struct json_object *body, size_t response_limit, memory_done done,
                              void *context) {
    return api_call_start(api, &(struct api_request){.method = method,
                                                     .path = path,
                                                     .headers = headers,
                                                     .body = body,
                                                     .retries = API_RETRIES,
                                                     .response_limit = response_limit,
                                                     .done = done,
                                                     .context = context});
}

struct api_call *memory_list(struct api *api, const char *store_id, const char *cursor,
                             bool with_content, memory_done done, void *context) {
    CLEANUP_BUFFER struct buffer path = BUFFER_EMPTY;
    buffer_append_format(&path, "/v1/memory_stores/%s/memories?view=%s&limit=%d", store_id,
                         with_content ? "full" : "basic", with_content ? FULL_PAGE : BASIC_PAGE);
    if (cursor != NULL) {
        buffer_append_string(&path, "&page=");
        buffer_append_percent_encoded(&path, cursor);
    }
    return start(api, "GET", buffer_string(&path), NULL,
                 with_content ? FULL_PAGE_LIMIT : BASIC_PAGE_LIMIT, done, context);
}

const char *memory_next_page(struct json_object *page) {
    const char *cursor = json_get_string(page, "next_page");
    bool is_cursor =
        cursor != NULL && *cursor != '\0' && strnlen(cursor, CURSOR_LIMIT + 1) <= CURSOR_LIMIT;
    return is_cursor ? cursor : NULL;
}

struct api_call *memory_retrieve(struct api *api, const char *store_id, const char *memory_id,
                                 memory_done done, void *context) {
    CLEANUP_FREE char *path =
        memory_format("/v1/memory_stores/%s/memories/%s?view=full", store_id, memory_id);
    return start(api, "GET", path, NULL, BASIC_PAGE_LIMIT, done, context);
}

struct api_call *memory_create(struct api *api, const char *store_id, const char *path,
                               const char *content, size_t length, memory_done done,
                               void *context) {
    CLEANUP_FREE char *target = memory_format("/v1/memory_stores/%s/memories", store_id);
    CLEANUP_FREE char *absolute = memory_format("/%s", path);
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    json_set_string(body, "path", absolute);
    json_set_string_n(body, "content", content, length);
    return start(api, "POST", target, body, 0, done, context);
}

struct api_call *memory_update(struct api *api, const char *store_id, const char *memory_id,
                               const char *content, size_t length, const char *expected_sha256,
                               memory_done done, void *context) {
    CLEANUP_FREE char *target =
        memory_format("/v1/memory_stores/%s/memories/%s", store_id, memory_id);
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    struct json_object *precondition = json_object_new_object();
    json_set_string(precondition, "type", "content_sha256");
    json_set_string(precondition, "content_sha256", expected_sha256);
    json_set_string_n(body, "content", content, length);
    json_set(body, "precondition", precondition);
    return start(api, "POST", target, body, 0, done, context);
}

struct api_call *memory_delete(struct api *api, const char *store_id, const char *memory_id,
                               const char *expected_sha256, memory_done done, void *context) {
    CLEANUP_FREE char *target =
        memory_format("/v1/memory_stores/%s/memories/%s?expected_content_sha256=%s", store_id,
                      memory_id, expected_sha256);
    return start(api, "DELETE", target, NULL, 0, done, context);
}

bool memory_path_is_plain(const char *path) {
    size_t length = strnlen(path, MEMORY_PATH_LIMIT + 1);
    if (length == 0 || length > MEMORY_PATH_LIMIT) {
        return false;
    }
    for (const char *at = path;;) {
        size_t part = strcspn(at, "/");
        if (part == 0 || (part == 1 && at[0] == '.') || (part == 2 && strncmp(at, "..", 2) == 0)) {
            return false;
        }
        if (at[part] == '\0') {
            return true;
        }
        at += part + 1;
    }
}

static bool is_sha256(const char *text) {
    return text != NULL && strlen(text) == MEMORY_SHA256_SIZE - 1 &&
           strspn(text, "0123456789abcdef") == MEMORY_SHA256_SIZE - 1;
}

bool memory_item_read(struct json_object *json, struct memory_item *item) {
    const char *type = json_get_string(json, "type");
    struct json_object *path = json_get(json, "path");
    struct json_object *content = json_get(json, "content");
    item->id = json_get_string(json, "id");
    item->sha256 = json_get_string(json, "content_sha256");
    if (type == NULL || strcmp(type, "memory") != 0 || item->id == NULL ||
        !work_id_is_valid(item->id) || !is_sha256(item->sha256) ||
        !json_object_is_type(path, json_type_string)) {
        return false;
    }
    item->path = json_object_get_string(path);
    bool is_whole = strlen(item->path) == (size_t)json_object_get_string_len(path);
    item->path += strspn(item->path, "/");
    bool has_content = json_object_is_type(content, json_type_string);
    item->content = has_content ? json_object_get_string(content) : NULL;
    item->content_length = has_content ? (size_t)json_object_get_string_len(content) : 0;
    return is_whole && memory_path_is_plain(item->path);
}

void memory_digest(const void *bytes, size_t length, char sha256[MEMORY_SHA256_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[DIGEST_BYTES];
    if (EVP_Digest(bytes, length, digest, NULL, EVP_sha256(), NULL) != 1) {
        abort(); /* only when libcrypto lacks SHA-256 */
    }
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        sha256[2 * i] = digits[digest[i] >> 4];
        sha256[2 * i + 1] = digits[digest[i] & 0xf];
    }
    sha256[MEMORY_SHA256_SIZE - 1] = '\0';
}
