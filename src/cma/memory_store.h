/*
 * The memories of a store, client side (protocol.md section 7).
 *
 * One request a function; lists come page by page, so that the caller decides what is in memory at
 * a time. The store's and the memory's ids must have passed work_id_is_valid. Needs the sessions
 * token: the endpoints refuse the environment key. Each function returns the call under way, which
 * api_call_cancel ends; `done` has the contract of api_call_start.
 */
#ifndef HOLT_CMA_MEMORY_STORE_H
#define HOLT_CMA_MEMORY_STORE_H

#include "cma/api.h"

enum {
    MEMORY_SHA256_SIZE = 65, /* 64 lower-case hexadecimal digits and a NUL */
    MEMORY_PATH_LIMIT = 1024,
};

typedef void (*memory_done)(void *context, const struct api_answer *answer);

/* A page of the store's memories: 100 without content, or 20 with it. `cursor` NULL: the first. */
struct api_call *memory_list(struct api *api, const char *store_id, const char *cursor,
                             bool with_content, memory_done done, void *context);
/* The cursor of the page after this one; NULL: it was the last. Borrows from the page. */
const char *memory_next_page(struct json_object *page);
/* One memory with its content. */
struct api_call *memory_retrieve(struct api *api, const char *store_id, const char *memory_id,
                                 memory_done done, void *context);
/* `path` as in a folder, without a slash before it. The content is UTF-8. */
struct api_call *memory_create(struct api *api, const char *store_id, const char *path,
                               const char *content, size_t length, memory_done done, void *context);
/* Replaces the content if it still has the digest `expected_sha256`; else 409. */
struct api_call *memory_update(struct api *api, const char *store_id, const char *memory_id,
                               const char *content, size_t length, const char *expected_sha256,
                               memory_done done, void *context);
/* As memory_update: 409 when the content is another by now. */
struct api_call *memory_delete(struct api *api, const char *store_id, const char *memory_id,
                               const char *expected_sha256, memory_done done, void *context);

/* A memory as an answer shows it; borrows from it. */
struct memory_item {
    const char *id;
    const char *path; /* as in a folder, without the slash before it */
    const char *sha256;
    const char *content; /* NULL when the answer has none */
    size_t content_length;
};

/*
 * What an answer or an entry of a page says, checked: foreign input becomes a path beneath a
 * folder. False for anything else (an entry that is no memory, a path with "..", a bad digest).
 */
bool memory_item_read(struct json_object *json, struct memory_item *item);
/* Whether a path is plain: relative, no empty, "." or ".." part, within the limit. */
bool memory_path_is_plain(const char *path);
void memory_digest(const void *bytes, size_t length, char sha256[MEMORY_SHA256_SIZE]);

#endif
