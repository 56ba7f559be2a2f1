/* The session's resources become folders; a timer and the session's end set them going. */
#include "orchestrator/setup_memory.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cma/work_queue.h"
#include "orchestrator/memory_folder.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum {
    STORES_LIMIT = 32,
    NAME_LIMIT = 255,
    OPEN_TRIES = 10, /* while the control plane has trouble: 4 minutes */
    OPEN_RETRY_FIRST_MS = 2000,
    OPEN_RETRY_LIMIT_MS = 30000,
    FINAL_PATIENCE_MS = 20000, /* of the 30 s that a session's end has: the rest is the flush's */
};

bool setup_memory_check_interval(int64_t interval_ms, struct error **error) {
    return interval_ms == 0 || interval_ms >= MEMORY_SYNC_LOWEST_MS ||
           error_set(error, ERROR_INPUT, "memory stores are synchronised every %d s or less often",
                     MEMORY_SYNC_LOWEST_MS / 1000);
}

/* What the session says. */

struct wanted {
    const char *store_id;
    char *root;
    bool is_read_only;
};

struct wanted_list {
    struct wanted stores[STORES_LIMIT];
    size_t count;
};

static void wanted_free(struct wanted_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->stores[i].root);
    }
    list->count = 0;
}
#define CLEANUP_WANTED CLEANUP(wanted_free)

/* The string of a member; NULL when there is none, or it holds a NUL. */
static const char *whole_string(struct json_object *object, const char *key) {
    struct json_object *value = json_get(object, key);
    const char *text =
        json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
    bool is_whole = text != NULL && strlen(text) == (size_t)json_object_get_string_len(value);
    return is_whole ? text : NULL;
}

/* An absolute path without ".." parts, made plain; NULL for any other, and for "/". */
static char *clean_path(const char *path) {
    CLEANUP_BUFFER struct buffer clean = BUFFER_EMPTY;
    if (path[0] != '/' || strlen(path) >= PATH_MAX) {
        return NULL;
    }
    while (*path != '\0') {
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        if (length == 2 && strncmp(path, "..", 2) == 0) {
            return NULL;
        }
        if (length > 0 && !(length == 1 && path[0] == '.')) {
            buffer_append_char(&clean, '/');
            buffer_append(&clean, path, length);
        }
        path += length;
    }
    return clean.length == 0 ? NULL : buffer_take_string(&clean);
}

/* Whether a store's name can be the name of its folder. */
static bool is_folder_name(const char *name) {
    size_t length = strlen(name);
    bool is_good = length > 0 && length <= NAME_LIMIT && strcmp(name, ".") != 0 &&
                   strcmp(name, "..") != 0 && strchr(name, '/') == NULL;
    for (size_t i = 0; is_good && i < length; i++) {
        is_good = (unsigned char)name[i] >= ' ' && name[i] != '\x7f';
    }
    return is_good;
}

static bool want(struct wanted_list *list, struct json_object *resource, const char *workdir,
                 struct error **error) {
    const char *store_id = whole_string(resource, "memory_store_id");
    const char *mount_path = json_get_string(resource, "mount_path");
    const char *name = whole_string(resource, "name");
    const char *access = json_get_string(resource, "access");
    if (store_id == NULL || !work_id_is_valid(store_id) || list->count == STORES_LIMIT) {
        return error_set(error, ERROR_PROTOCOL, "a memory store without an id, or over %d stores",
                         STORES_LIMIT);
    }
    char *root = NULL;
    if (mount_path != NULL && mount_path[0] != '\0') {
        mount_path = whole_string(resource, "mount_path");
        root = mount_path == NULL ? NULL : clean_path(mount_path);
    } else {
        CLEANUP_FREE char *beside = memory_format(
            "%s/memory/%s", workdir, name != NULL && is_folder_name(name) ? name : store_id);
        root = clean_path(beside);
    }
    if (root == NULL) {
        return error_set(error, ERROR_PROTOCOL,
                         "memory store %s: its mount_path is not a clean absolute path", store_id);
    }
    list->stores[list->count++] =
        (struct wanted){.store_id = store_id,
                        .root = root,
                        .is_read_only = access != NULL && strcmp(access, "read_only") == 0};
    return true;
}

static bool is_beneath(const char *path, const char *root) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* A store within another's folder would become part of it. */
static bool check_apart(const struct wanted_list *list, struct error **error) {
    for (size_t i = 0; i < list->count; i++) {
        for (size_t j = 0; j < list->count; j++) {
            if (i != j && is_beneath(list->stores[i].root, list->stores[j].root)) {
                return error_set(error, ERROR_PROTOCOL,
                                 "memory stores %s and %s are mounted one in the other",
                                 list->stores[i].store_id, list->stores[j].store_id);
            }
        }
    }
    return true;
}

static bool read_wanted(struct wanted_list *list, struct json_object *session, const char *workdir,
                        struct error **error) {
    struct json_object *resources = json_get_array(session, "resources");
    size_t count = resources == NULL ? 0 : json_object_array_length(resources);
    for (size_t i = 0; i < count; i++) {
        struct json_object *resource = json_object_array_get_idx(resources, i);
        const char *type = json_get_string(resource, "type");
        if (type != NULL && strcmp(type, "memory_store") == 0 &&
            !want(list, resource, workdir, error)) {
            return false;
        }
    }
    return check_apart(list, error);
}

/* The roots. */

struct setup_memory_roots {
    struct hand_configuration configuration;
    const char **allowed;
    const char **read_only;
    struct wanted_list wanted;
};

/* The given roots and those of the stores, NULL-terminated. */
static const char **extend(const char *const *roots, const struct wanted_list *wanted,
                           bool only_read_only) {
    size_t count = 0;
    while (roots != NULL && roots[count] != NULL) {
        count++;
    }
    const char **all = memory_zeroed(count + wanted->count + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        all[i] = roots[i];
    }
    for (size_t i = 0; i < wanted->count; i++) {
        if (wanted->stores[i].is_read_only || !only_read_only) {
            all[count++] = wanted->stores[i].root;
        }
    }
    return all;
}

struct setup_memory_roots *setup_memory_roots_new(struct json_object *session,
                                                  const struct hand_configuration *configuration) {
    struct setup_memory_roots *roots = memory_new(struct setup_memory_roots);
    if (!read_wanted(&roots->wanted, session, configuration->workdir, NULL)) {
        wanted_free(&roots->wanted); /* the part reports it */
    }
    roots->configuration = *configuration;
    roots->allowed = extend(configuration->allowed_roots, &roots->wanted, false);
    roots->read_only = extend(configuration->read_only_roots, &roots->wanted, true);
    roots->configuration.allowed_roots = roots->allowed;
    roots->configuration.read_only_roots = roots->read_only;
    return roots;
}

const struct hand_configuration *
setup_memory_roots_configuration(const struct setup_memory_roots *roots) {
    return &roots->configuration;
}

void setup_memory_roots_free(struct setup_memory_roots *take_roots) {
    if (take_roots == NULL) {
        return;
    }
    wanted_free(&take_roots->wanted);
    free(take_roots->allowed);
    free(take_roots->read_only);
    free(take_roots);
}

/* The part. */

enum part_state {
    PART_OPENING,  /* one folder after the other */
    PART_SYNCING,  /* the session runs: a pass each interval */
    PART_SETTLING, /* it is over; passes under way may end */
    PART_FINAL,    /* the last pass of each */
    PART_FLUSHING, /* what it could not upload, once more */
    PART_REMOVING,
    PART_DONE,
};

struct memory_part {
    enum part_state state;
    struct session_setup_context context;
    session_setup_done done;
    void *owner;
    struct memory_folder *folders[STORES_LIMIT];
    size_t count;
    size_t opening;
    int open_tries;
    int64_t open_retry_ms;
    struct loop_timer *timer;
    struct error *failure;
};

static bool is_busy(const struct memory_part *part) {
    for (size_t i = 0; i < part->count; i++) {
        if (memory_folder_is_busy(part->folders[i])) {
            return true;
        }
    }
    return false;
}

static void sync_all(struct memory_part *part, enum memory_mode mode) {
    for (size_t i = 0; i < part->count; i++) {
        memory_folder_sync(part->folders[i], mode);
    }
}

static void conclude(struct memory_part *part) {
    part->state = PART_DONE;
    part->done(part->owner, NULL);
}

/* Nothing is under way: the next step of the end. */
static void advance(struct memory_part *part) {
    switch (part->state) {
    case PART_SYNCING:
        loop_timer_arm(part->timer, part->context.memory_sync_ms);
        break;
    case PART_SETTLING:
        part->state = PART_FINAL;
        sync_all(part, MEMORY_FINAL);
        break;
    case PART_FINAL:
        part->state = PART_FLUSHING;
        loop_timer_disarm(part->timer);
        sync_all(part, MEMORY_FLUSH);
        break;
    case PART_FLUSHING:
        if (!part->context.is_place_shared) {
            conclude(part);
            break;
        }
        part->state = PART_REMOVING;
        for (size_t i = 0; i < part->count; i++) {
            memory_folder_remove(part->folders[i]);
        }
        break;
    case PART_REMOVING:
        conclude(part);
        break;
    case PART_OPENING:
    case PART_DONE:
        break;
    }
}

/* Trouble that may pass: failing the session for it would leave it waiting for ever. */
static bool retry_opening(struct memory_part *part, const struct error *error) {
    bool may_pass = error->code == ERROR_UNAVAILABLE || error->code == ERROR_TIMEOUT;
    if (!may_pass || ++part->open_tries >= OPEN_TRIES) {
        return false;
    }
    CLEANUP_FREE char *text = error_text(error);
    log_warn("session %s: %s; trying again", part->context.session_id, text);
    loop_timer_arm(part->timer, part->open_retry_ms);
    part->open_retry_ms = part->open_retry_ms * 2 > OPEN_RETRY_LIMIT_MS
                              ? (int64_t)OPEN_RETRY_LIMIT_MS
                              : part->open_retry_ms * 2;
    return true;
}

static void on_opened(struct memory_part *part, const struct error *error) {
    if (error == NULL && ++part->opening < part->count) {
        memory_folder_open(part->folders[part->opening]);
        return;
    }
    if (error != NULL && retry_opening(part, error)) {
        return;
    }
    part->state = error == NULL ? PART_SYNCING : PART_DONE;
    if (error == NULL) {
        advance(part);
    }
    part->done(part->owner, error);
}

static void on_folder_done(void *owner, struct memory_folder *folder, const struct error *error) {
    struct memory_part *part = owner;
    (void)folder;
    if (part->state == PART_OPENING) {
        on_opened(part, error);
    } else if (!is_busy(part)) {
        advance(part);
    }
}

static void on_timer(void *context) {
    struct memory_part *part = context;
    switch (part->state) {
    case PART_OPENING:
        if (part->failure == NULL) {
            memory_folder_open(part->folders[part->opening]);
            break;
        }
        part->state = PART_DONE;
        part->done(part->owner, part->failure);
        break;
    case PART_SYNCING:
        sync_all(part, MEMORY_SYNC);
        break;
    case PART_SETTLING:
    case PART_FINAL:
        log_warn("session %s: the last synchronisation of its memory stores takes too long; "
                 "changed files are still uploaded",
                 part->context.session_id);
        for (size_t i = 0; i < part->count; i++) {
            memory_folder_cancel(part->folders[i]);
        }
        part->state = PART_FINAL;
        advance(part);
        break;
    default:
        break;
    }
}

static void add_folders(struct memory_part *part, const struct wanted_list *wanted) {
    for (size_t i = 0; i < wanted->count; i++) {
        const struct wanted *store = &wanted->stores[i];
        part->folders[part->count++] = memory_folder_new(
            &(struct memory_folder_options){.api = part->context.api,
                                            .hand = part->context.hand,
                                            .session_id = part->context.session_id,
                                            .store_id = store->store_id,
                                            .root = store->root,
                                            .is_read_only = store->is_read_only,
                                            .done = on_folder_done,
                                            .owner = part});
    }
}

static void *start(const struct session_setup_context *context, session_setup_done done,
                   void *owner) {
    CLEANUP_WANTED struct wanted_list wanted = {.count = 0};
    CLEANUP_ERROR struct error *error = NULL;
    bool is_good = read_wanted(&wanted, context->session, context->workdir, &error);
    if ((is_good && wanted.count == 0) || context->memory_sync_ms <= 0) {
        return NULL;
    }
    if (!context->has_token) {
        log_warn("session %s: its memory stores are not there: the work item brought no sessions "
                 "token, and they refuse the environment key",
                 context->session_id);
        return NULL;
    }
    struct memory_part *part = memory_new(struct memory_part);
    part->state = PART_OPENING;
    part->context = *context;
    part->done = done;
    part->owner = owner;
    part->timer = loop_timer_new(context->loop, on_timer, part);
    part->failure = STEAL_PTR(error);
    part->open_retry_ms = OPEN_RETRY_FIRST_MS;
    if (!is_good) {
        loop_timer_arm(part->timer, 0); /* never from inside start */
        return part;
    }
    add_folders(part, &wanted);
    memory_folder_open(part->folders[0]);
    return part;
}

static void finish(void *context, session_setup_done done, void *owner) {
    struct memory_part *part = context;
    part->done = done;
    part->owner = owner;
    loop_timer_arm(part->timer, FINAL_PATIENCE_MS);
    part->state = PART_SETTLING;
    if (!is_busy(part)) {
        advance(part);
    }
}

static void part_free(void *take_part) {
    struct memory_part *part = take_part;
    for (size_t i = 0; i < part->count; i++) {
        memory_folder_free(part->folders[i]);
    }
    loop_timer_free(part->timer);
    error_free(part->failure);
    free(part);
}

const struct session_setup_part setup_memory = {
    .name = "memory stores", .start = start, .finish = finish, .free = part_free};
