/* Memory stores: text documents by path, each guarded by the SHA-256 of its content. */
#include "emulator/internal.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"
#include "base/random.h"

enum {
    CONTENT_LIMIT_BYTES = 102400,
    PATH_LIMIT_BYTES = 1024,
    PATH_SEGMENTS_LIMIT = 20,
    NAME_LIMIT = 255,
    MEMORIES_LIMIT = 2000, /* of one store */
    BASIC_PAGE_LIMIT = 100,
    FULL_PAGE_LIMIT = 20,
    PAGE_UNSAID = 20,
    SHA256_BYTES = 32,
    SHA256_TEXT = 2 * SHA256_BYTES + 1,
};

#define MOUNT_BASE "/mnt/memory/"

/* One document. Its JSON is what the API shows, with the content. */
struct memory {
    char *id;
    struct json_object *json;
};

struct memory_store {
    struct emulator *emulator;
    char *id;
    struct json_object *json;  /* as the API shows it */
    struct lh_table *memories; /* id -> struct memory */
};

/* ---- objects ---- */

static const char *path_of(const struct memory *memory) {
    return json_get_string(memory->json, "path");
}

static const char *sha_of(const struct memory *memory) {
    return json_get_string(memory->json, "content_sha256");
}

static void set_time(struct json_object *json, const char *key) {
    CLEANUP_FREE char *now = now_text();
    json_set_string(json, key, now);
}

static void store_save(struct memory_store *store) {
    store_put(store->emulator->store, "memory_store", store->id, store->json);
}

static struct memory_store *store_add(struct emulator *emulator, struct json_object *json) {
    struct memory_store *store = memory_new(struct memory_store);
    store->emulator = emulator;
    store->id = memory_string(json_get_string(json, "id"));
    store->json = json_object_get(json);
    store->memories = lh_kchar_table_new(16, NULL);
    (void)lh_table_insert(emulator->memory_stores, store->id, store);
    return store;
}

static struct memory *memory_add(struct memory_store *store, struct json_object *json) {
    struct memory *memory = memory_new(struct memory);
    memory->id = memory_string(json_get_string(json, "id"));
    memory->json = json_object_get(json);
    (void)lh_table_insert(store->memories, memory->id, memory);
    return memory;
}

static void memory_free(struct memory *take_memory) {
    json_object_put(take_memory->json);
    free(take_memory->id);
    free(take_memory);
}

void memory_store_free(struct memory_store *take_store) {
    struct lh_entry *entry = NULL;
    struct lh_entry *next = NULL;
    lh_foreach_safe(take_store->memories, entry, next) {
        memory_free(lh_entry_v(entry));
    }
    lh_table_free(take_store->memories);
    json_object_put(take_store->json);
    free(take_store->id);
    free(take_store);
}

struct memory_store *memory_store_find(struct emulator *emulator, const char *id) {
    void *found = NULL;
    return lh_table_lookup_ex(emulator->memory_stores, id, &found) ? found : NULL;
}

static void sha256_text(const char *bytes, size_t length, char text[SHA256_TEXT]) {
    unsigned char digest[SHA256_BYTES];
    (void)EVP_Digest(bytes, length, digest, NULL, EVP_sha256(), NULL);
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
}

static void memory_set_content(struct json_object *json, struct json_object *content) {
    char sha[SHA256_TEXT];
    size_t length = (size_t)json_object_get_string_len(content);
    sha256_text(json_object_get_string(content), length, sha);
    CLEANUP_FREE char *version = random_id("memver_");
    json_set(json, "content", json_object_get(content));
    json_set_string(json, "content_sha256", sha);
    json_set_int(json, "content_size_bytes", (int64_t)length);
    json_set_string(json, "memory_version_id", version);
}

/* ---- what a store is attached to ---- */

/* The session's resource for the store, or NULL. */
static struct json_object *attachment(struct session *session, const char *store_id) {
    struct json_object *resources = json_get_array(session->json, "resources");
    size_t count = resources == NULL ? 0 : json_object_array_length(resources);
    for (size_t i = 0; i < count; i++) {
        struct json_object *resource = json_object_array_get_idx(resources, i);
        const char *id = json_get_string(resource, "memory_store_id");
        if (id != NULL && strcmp(id, store_id) == 0) {
            return resource;
        }
    }
    return NULL;
}

bool memory_store_is_attached(struct memory_store *store, const char *session_id) {
    struct session *session = session_find(store->emulator, session_id);
    return session != NULL && attachment(session, store->id) != NULL;
}

/* "Team Notes!" -> "team-notes-", as the API documents it. */
static char *slug_of(const char *name) {
    struct buffer slug = BUFFER_EMPTY;
    for (const char *at = name; *at != '\0'; at++) {
        bool is_letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
        if (is_letter || (*at >= '0' && *at <= '9')) {
            buffer_append_char(&slug, (char)(*at >= 'A' && *at <= 'Z' ? *at - 'A' + 'a' : *at));
        } else if (slug.length == 0 || slug.data[slug.length - 1] != '-') {
            buffer_append_char(&slug, '-');
        }
    }
    return buffer_take_string(&slug);
}

/* A wanted resource as the session shows it; NULL after an error was answered. */
static struct json_object *attach(struct request *request, struct json_object *wanted) {
    const char *id = json_get_string(wanted, "memory_store_id");
    struct memory_store *store = id == NULL ? NULL : memory_store_find(request->emulator, id);
    if (store == NULL) {
        reply_error(request, id == NULL ? 400 : 404, "resources: memory_store_id: %s",
                    id == NULL ? "Field required" : "not found");
        return NULL;
    }
    if (json_get(store->json, "archived_at") != NULL) {
        reply_error(request, 400, "resources: memory store %s is archived", id);
        return NULL;
    }
    const char *access = json_get_string(wanted, "access");
    access = access == NULL ? "read_write" : access;
    if (strcmp(access, "read_write") != 0 && strcmp(access, "read_only") != 0) {
        reply_error(request, 400, "resources: access: must be read_write or read_only");
        return NULL;
    }
    struct json_object *resource = json_object_new_object();
    json_set_string(resource, "type", "memory_store");
    json_set_string(resource, "memory_store_id", id);
    json_set_string(resource, "access", access);
    json_set_string(resource, "name", json_get_string(store->json, "name"));
    json_set_string(resource, "description", json_get_string(store->json, "description"));
    json_set(resource, "instructions", json_object_get(json_get(wanted, "instructions")));
    struct json_object *mount_path = NULL;
    if (json_object_object_get_ex(wanted, "mount_path", &mount_path)) {
        json_set(resource, "mount_path", json_object_get(mount_path)); /* the emulator's own */
    } else {
        CLEANUP_FREE char *slug = slug_of(json_get_string(store->json, "name"));
        CLEANUP_FREE char *path = memory_format(MOUNT_BASE "%s", slug);
        json_set_string(resource, "mount_path", path);
    }
    return resource;
}

bool memory_stores_attach(struct request *request, struct json_object *session_json) {
    struct json_object *wanted = json_get_array(session_json, "resources");
    CLEANUP_JSON struct json_object *resources = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(wanted); i++) {
        struct json_object *resource = json_object_array_get_idx(wanted, i);
        const char *type = json_get_string(resource, "type");
        bool is_store = type != NULL && strcmp(type, "memory_store") == 0;
        struct json_object *shown =
            is_store ? attach(request, resource) : json_object_get(resource);
        if (is_store && shown == NULL) {
            return false;
        }
        (void)json_object_array_add(resources, shown);
    }
    json_set(session_json, "resources", json_object_get(resources));
    return true;
}

/* ---- stores ---- */

/* Copies the members that a caller may set; false after an error was answered. */
static bool apply_store(struct request *request, struct json_object *json) {
    const char *name = json_get_string(request->body, "name");
    const char *description = json_get_string(request->body, "description");
    if (name != NULL && (*name == '\0' || strlen(name) > NAME_LIMIT)) {
        reply_error(request, 400, "name: must have 1 to %d characters", NAME_LIMIT);
        return false;
    }
    if (name != NULL) {
        json_set_string(json, "name", name);
    }
    if (description != NULL) {
        json_set_string(json, "description", description);
    }
    if (!merge_metadata(json_get_object(json, "metadata"), json_get(request->body, "metadata"))) {
        reply_error(request, 400, "metadata: must be an object of strings");
        return false;
    }
    return true;
}

void memory_store_create(struct request *request) {
    if (json_get_string(request->body, "name") == NULL) {
        reply_error(request, 400, "name: Field required");
        return;
    }
    CLEANUP_FREE char *id = random_id("memstore_");
    CLEANUP_JSON struct json_object *json = json_object_new_object();
    json_set_string(json, "id", id);
    json_set_string(json, "type", "memory_store");
    json_set_string(json, "description", "");
    json_set(json, "metadata", json_object_new_object());
    set_time(json, "created_at");
    set_time(json, "updated_at");
    json_set(json, "archived_at", NULL);
    if (!apply_store(request, json)) {
        return;
    }
    store_save(store_add(request->emulator, json));
    reply(request, json_object_get(json));
}

void memory_store_list(struct request *request) {
    const char *archived = http_exchange_query(request->exchange, "include_archived");
    bool with_archived = archived != NULL && strcmp(archived, "true") == 0;
    struct json_object *all = json_object_new_array();
    struct lh_entry *entry = NULL;
    lh_foreach(request->emulator->memory_stores, entry) {
        struct memory_store *store = lh_entry_v(entry);
        if (with_archived || json_get(store->json, "archived_at") == NULL) {
            (void)json_object_array_add(all, json_object_get(store->json));
        }
    }
    reply_page(request, all, false);
}

void memory_store_get(struct request *request) {
    reply(request, json_object_get(request->memory_store->json));
}

static bool check_not_archived(struct request *request) {
    if (json_get(request->memory_store->json, "archived_at") == NULL) {
        return true;
    }
    reply_error(request, 400, "memory store %s is archived", request->memory_store->id);
    return false;
}

void memory_store_update(struct request *request) {
    struct memory_store *store = request->memory_store;
    if (check_not_archived(request) && apply_store(request, store->json)) {
        set_time(store->json, "updated_at");
        store_save(store);
        reply(request, json_object_get(store->json));
    }
}

void memory_store_archive(struct request *request) {
    mark_archived(request->memory_store->json);
    store_save(request->memory_store);
    reply(request, json_object_get(request->memory_store->json));
}

static struct json_object *deleted(const char *id, const char *type) {
    struct json_object *json = json_object_new_object();
    json_set_string(json, "id", id);
    json_set_string(json, "type", type);
    return json;
}

void memory_store_delete(struct request *request) {
    struct memory_store *store = request->memory_store;
    struct json_object *json = deleted(store->id, "memory_store_deleted");
    struct lh_entry *entry = NULL;
    lh_foreach(store->memories, entry) {
        store_delete(store->emulator->store, "memory", ((struct memory *)lh_entry_v(entry))->id);
    }
    store_delete(store->emulator->store, "memory_store", store->id);
    (void)lh_table_delete(store->emulator->memory_stores, store->id);
    memory_store_free(store);
    reply(request, json);
}

/* ---- memories ---- */

/* A scripted failure of the session whose token asks; answered when true. */
static bool reply_injected_memory(struct request *request) {
    struct session *session = request->identity == IDENTITY_SESSION
                                  ? session_find(request->emulator, request->token_session_id)
                                  : NULL;
    return session != NULL && reply_injected(request, session, "memory");
}

/* A memory as the view shows it. */
static struct json_object *shown(const struct memory *memory, bool is_full) {
    if (is_full) {
        return json_object_get(memory->json);
    }
    struct json_object *json = json_object_new_object();
    json_object_object_foreach(memory->json, key, value) {
        json_set(json, key, strcmp(key, "content") == 0 ? NULL : json_object_get(value));
    }
    return json;
}

/* The view that is asked for; false after an error was answered. */
static bool read_view(struct request *request, bool fallback_is_full, bool *is_full) {
    const char *view = http_exchange_query(request->exchange, "view");
    *is_full = view == NULL ? fallback_is_full : strcmp(view, "full") == 0;
    if (view != NULL && !*is_full && strcmp(view, "basic") != 0) {
        reply_error(request, 400, "view: must be basic or full");
        return false;
    }
    return true;
}

/* 409 with an error type of its own. The SDK would retry a 409: these will not pass. */
static void reply_conflict(struct request *request, const char *type, const char *message,
                           const struct memory *other) {
    struct json_object *error = json_object_new_object();
    json_set_string(error, "type", type);
    json_set_string(error, "message", message);
    if (other != NULL) {
        json_set_string(error, "conflicting_memory_id", other->id);
        json_set_string(error, "conflicting_path", path_of(other));
    }
    http_exchange_add_header(request->exchange, "x-should-retry", "false");
    reply_error_object(request, 409, error);
}

static struct memory *memory_find(struct request *request) {
    void *found = NULL;
    if (!lh_table_lookup_ex(request->memory_store->memories, request->ids[1], &found)) {
        reply_error(request, 404, "memory %s not found", request->ids[1]);
        return NULL;
    }
    return found;
}

/* A session may write where its attachment says so; false after an error was answered. */
static bool check_writable(struct request *request, bool is_deletion) {
    if (!is_deletion && !check_not_archived(request)) {
        return false;
    }
    if (request->identity != IDENTITY_SESSION) {
        return true;
    }
    struct session *session = session_find(request->emulator, request->token_session_id);
    struct json_object *resource =
        session == NULL ? NULL : attachment(session, request->memory_store->id);
    const char *access = json_get_string(resource, "access");
    if (access == NULL || strcmp(access, "read_write") != 0) {
        reply_error(request, 403, "the memory store is attached read-only");
        return false;
    }
    return true;
}

/* What the documentation says of a path; format characters and normalisation are not looked at. */
static bool is_path(const char *path) {
    size_t segments = 0;
    if (path[0] != '/' || strlen(path) > PATH_LIMIT_BYTES) {
        return false;
    }
    for (const char *at = path; *at == '/'; segments++) {
        at++;
        size_t length = strcspn(at, "/");
        bool is_dots = (length == 1 && at[0] == '.') || (length == 2 && strncmp(at, "..", 2) == 0);
        if (length == 0 || is_dots) {
            return false;
        }
        for (size_t i = 0; i < length; i++) {
            bool is_separator =
                strncmp(at + i, "\xe2\x80\xa8", 3) == 0 || strncmp(at + i, "\xe2\x80\xa9", 3) == 0;
            if ((unsigned char)at[i] < ' ' || at[i] == '\x7f' || is_separator) {
                return false;
            }
        }
        at += length;
    }
    return segments <= PATH_SEGMENTS_LIMIT;
}

static bool is_below(const char *path, const char *directory) {
    size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

/* False after an error was answered: a bad path, or one that another memory is in the way of. */
static bool check_path(struct request *request, struct json_object *value,
                       const struct memory *self) {
    const char *path =
        json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
    if (strlen(path) != (size_t)json_object_get_string_len(value) || !is_path(path)) {
        reply_error(request, 400, "path: must start with / and have 1 to %d clean segments",
                    PATH_SEGMENTS_LIMIT);
        return false;
    }
    struct lh_entry *entry = NULL;
    lh_foreach(request->memory_store->memories, entry) {
        const struct memory *other = lh_entry_v(entry);
        if (other != self && (is_below(path, path_of(other)) || is_below(path_of(other), path))) {
            reply_conflict(request, "memory_path_conflict_error",
                           "another memory is at this path, above it or below it", other);
            return false;
        }
    }
    return true;
}

static bool check_content(struct request *request, struct json_object *value) {
    if (!json_object_is_type(value, json_type_string)) {
        reply_error(request, 400, "content: must be a string");
        return false;
    }
    if (json_object_get_string_len(value) > CONTENT_LIMIT_BYTES) {
        reply_error(request, 400, "content: at most %d bytes", CONTENT_LIMIT_BYTES);
        return false;
    }
    return true;
}

static void memory_save(struct memory_store *store, const struct memory *memory) {
    store_put(store->emulator->store, "memory", memory->id, memory->json);
}

void memory_create_handle(struct request *request) {
    if (reply_injected_memory(request)) {
        return;
    }
    struct memory_store *store = request->memory_store;
    struct json_object *path = json_get(request->body, "path");
    struct json_object *content = json_get(request->body, "content");
    bool is_full = false;
    if (!read_view(request, false, &is_full) || !check_writable(request, false) ||
        !check_path(request, path, NULL) || !check_content(request, content)) {
        return;
    }
    if (lh_table_length(store->memories) >= MEMORIES_LIMIT) {
        reply_error(request, 400, "a memory store holds at most %d memories", MEMORIES_LIMIT);
        return;
    }
    CLEANUP_FREE char *id = random_id("mem_");
    CLEANUP_JSON struct json_object *json = json_object_new_object();
    json_set_string(json, "id", id);
    json_set_string(json, "type", "memory");
    json_set_string(json, "memory_store_id", store->id);
    json_set(json, "path", json_object_get(path));
    memory_set_content(json, content);
    set_time(json, "created_at");
    set_time(json, "updated_at");
    const struct memory *memory = memory_add(store, json);
    memory_save(store, memory);
    reply(request, shown(memory, is_full));
}

void memory_get_handle(struct request *request) {
    if (reply_injected_memory(request)) {
        return;
    }
    bool is_full = true;
    const struct memory *memory = memory_find(request);
    if (memory != NULL && read_view(request, true, &is_full)) {
        reply(request, shown(memory, is_full));
    }
}

/* Whether the memory is already what the update asks for: then its precondition does not matter. */
static bool is_same(const struct memory *memory, struct json_object *content,
                    struct json_object *path) {
    return (content == NULL || json_object_equal(content, json_get(memory->json, "content"))) &&
           (path == NULL || json_object_equal(path, json_get(memory->json, "path")));
}

void memory_update_handle(struct request *request) {
    if (reply_injected_memory(request)) {
        return;
    }
    struct memory *memory = memory_find(request);
    bool is_full = false;
    if (memory == NULL || !read_view(request, false, &is_full) || !check_writable(request, false)) {
        return;
    }
    struct json_object *path = json_get(request->body, "path");
    struct json_object *content = json_get(request->body, "content");
    const char *expected =
        json_get_string(json_get_object(request->body, "precondition"), "content_sha256");
    if ((content != NULL && !check_content(request, content)) ||
        (path != NULL && !check_path(request, path, memory))) {
        return;
    }
    bool is_unchanged = is_same(memory, content, path);
    if (!is_unchanged && expected != NULL && strcmp(expected, sha_of(memory)) != 0) {
        reply_conflict(request, "memory_precondition_failed_error",
                       "the memory's content is not the expected one", NULL);
        return;
    }
    if (!is_unchanged) {
        if (path != NULL) {
            json_set(memory->json, "path", json_object_get(path));
        }
        if (content != NULL) {
            memory_set_content(memory->json, content);
        }
        set_time(memory->json, "updated_at");
        memory_save(request->memory_store, memory);
    }
    reply(request, shown(memory, is_full));
}

void memory_delete_handle(struct request *request) {
    if (reply_injected_memory(request)) {
        return;
    }
    struct memory_store *store = request->memory_store;
    struct memory *memory = memory_find(request);
    if (memory == NULL || !check_writable(request, true)) {
        return;
    }
    const char *expected = http_exchange_query(request->exchange, "expected_content_sha256");
    if (expected != NULL && strcmp(expected, sha_of(memory)) != 0) {
        reply_conflict(request, "memory_precondition_failed_error",
                       "the memory's content is not the expected one", NULL);
        return;
    }
    struct json_object *json = deleted(memory->id, "memory_deleted");
    store_delete(store->emulator->store, "memory", memory->id);
    (void)lh_table_delete(store->memories, memory->id);
    memory_free(memory);
    reply(request, json);
}

/* ---- the list: by path, so that a cursor stays good while memories come and go ---- */

struct listing {
    const char *prefix; /* "" or "/notes/" */
    bool is_shallow;
    bool is_full;
    size_t limit;
    char *after; /* owned; the last path of the page before; "" at first */
};

static int compare_paths(const void *left, const void *right) {
    const struct memory *const *first = left;
    const struct memory *const *second = right;
    return strcmp(path_of(*first), path_of(*second));
}

/* What stands in the list for the memory: its path, or the directory below the prefix. */
static char *entry_path(const struct listing *listing, const struct memory *memory) {
    const char *path = path_of(memory);
    size_t above = listing->prefix[0] == '\0' ? 1 : strlen(listing->prefix);
    size_t length = above + strcspn(path + above, "/");
    bool is_rolled_up = listing->is_shallow && path[length] == '/';
    return memory_string_n(path, is_rolled_up ? length + 1 : strlen(path));
}

/* Whole number of the query from 0 to `highest`; false after an error was answered. */
static bool read_number(struct request *request, const char *name, size_t lowest, size_t highest,
                        size_t *value) {
    const char *text = http_exchange_query(request->exchange, name);
    if (text == NULL) {
        return true;
    }
    char *end = NULL;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number < lowest || number > highest) {
        reply_error(request, 400, "%s: must be between %zu and %zu", name, lowest, highest);
        return false;
    }
    *value = number;
    return true;
}

static bool read_listing(struct request *request, struct listing *listing) {
    static const char cursor_prefix[] = "page_";
    size_t depth = 0;
    const char *prefix = http_exchange_query(request->exchange, "path_prefix");
    const char *page = http_exchange_query(request->exchange, "page");
    listing->prefix = prefix == NULL ? "" : prefix;
    listing->limit = PAGE_UNSAID;
    if (!read_view(request, false, &listing->is_full) ||
        !read_number(request, "limit", 1, BASIC_PAGE_LIMIT, &listing->limit) ||
        !read_number(request, "depth", 0, 1, &depth)) {
        return false;
    }
    if (prefix != NULL && (*prefix != '/' || prefix[strlen(prefix) - 1] != '/')) {
        reply_error(request, 400, "path_prefix: must start and end with /");
        return false;
    }
    struct buffer after = BUFFER_EMPTY;
    if (page != NULL && *page != '\0' &&
        (strncmp(page, cursor_prefix, sizeof(cursor_prefix) - 1) != 0 ||
         !base64_decode(&after, page + sizeof(cursor_prefix) - 1,
                        strlen(page) - sizeof(cursor_prefix) + 1))) {
        reply_error(request, 400, "page: not a cursor of this list");
        buffer_free(&after);
        return false;
    }
    listing->is_shallow = depth == 1;
    listing->after = buffer_take_string(&after);
    if (listing->is_full && listing->limit > FULL_PAGE_LIMIT) {
        listing->limit = FULL_PAGE_LIMIT;
    }
    return true;
}

/* The page's entries; *last is the path of the last one when there are more. */
static struct json_object *collect(const struct listing *listing, struct memory **sorted,
                                   size_t count, char **last) {
    struct json_object *data = json_object_new_array();
    CLEANUP_FREE char *previous = memory_string(listing->after);
    for (size_t i = 0; i < count; i++) {
        CLEANUP_FREE char *path = entry_path(listing, sorted[i]);
        bool is_wanted = strncmp(path_of(sorted[i]), listing->prefix, strlen(listing->prefix)) == 0;
        if (!is_wanted || strcmp(path, previous) <= 0) {
            continue;
        }
        if (json_object_array_length(data) == listing->limit) {
            *last = STEAL_PTR(previous);
            return data;
        }
        if (path[strlen(path) - 1] == '/') {
            struct json_object *prefix = json_object_new_object();
            json_set_string(prefix, "type", "memory_prefix");
            json_set_string(prefix, "path", path);
            (void)json_object_array_add(data, prefix);
        } else {
            (void)json_object_array_add(data, shown(sorted[i], listing->is_full));
        }
        free(previous);
        previous = STEAL_PTR(path);
    }
    return data;
}

void memory_list_handle(struct request *request) {
    if (reply_injected_memory(request)) {
        return;
    }
    struct listing listing = {0};
    if (!read_listing(request, &listing)) {
        return;
    }
    size_t count = 0;
    struct memory_store *store = request->memory_store;
    CLEANUP_FREE struct memory **sorted =
        memory_zeroed((size_t)lh_table_length(store->memories) + 1, sizeof(struct memory *));
    struct lh_entry *entry = NULL;
    lh_foreach(store->memories, entry) {
        sorted[count++] = lh_entry_v(entry);
    }
    qsort(sorted, count, sizeof(struct memory *), compare_paths);
    CLEANUP_FREE char *last = NULL;
    struct json_object *json = json_object_new_object();
    json_set(json, "data", collect(&listing, sorted, count, &last));
    json_set(json, "next_page", NULL);
    if (last != NULL) {
        struct buffer cursor = BUFFER_EMPTY;
        buffer_append_string(&cursor, "page_");
        base64_encode(&cursor, last, strlen(last));
        json_set_string(json, "next_page", buffer_string(&cursor));
        buffer_free(&cursor);
    }
    free(listing.after);
    reply(request, json);
}

/* ---- restart ---- */

static void load_store(void *context, const char *id, struct json_object *value) {
    const char *own_id = json_get_string(value, "id");
    if (own_id != NULL && strcmp(own_id, id) == 0) {
        (void)store_add(context, value);
    }
}

static void load_memory(void *context, const char *id, struct json_object *value) {
    const char *own_id = json_get_string(value, "id");
    const char *store_id = json_get_string(value, "memory_store_id");
    struct memory_store *store = store_id == NULL ? NULL : memory_store_find(context, store_id);
    if (store != NULL && own_id != NULL && strcmp(own_id, id) == 0) {
        (void)memory_add(store, value);
    }
}

void memory_stores_load(struct emulator *emulator) {
    store_each(emulator->store, "memory_store", load_store, emulator);
    store_each(emulator->store, "memory", load_memory, emulator);
}
