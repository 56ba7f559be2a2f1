/* Three views of each path, one function that decides on them, and what became of the decision. */
#include "orchestrator/memory_sync.h"

#include <stdlib.h>
#include <string.h>

#include <json-c/linkhash.h>

#include "base/memory.h"

struct memory_sync {
    bool is_read_only;
    struct lh_table *files;     /* path -> struct memory_file */
    struct memory_file **order; /* of the last decision, by path */
    size_t order_count;
    size_t at; /* memory_sync_next: where to look on */
    bool is_pulling;
    size_t deletions_left;
    size_t held_deletions;
    bool has_news;
};

static bool has(const memory_sha sha) {
    return sha[0] != '\0';
}

static bool is_equal(const memory_sha left, const memory_sha right) {
    return strcmp(left, right) == 0;
}

static void set(memory_sha to, const char *sha256) {
    size_t length = strnlen(sha256, sizeof(memory_sha) - 1);
    memmove(to, sha256, length);
    to[length] = '\0';
}

static void set_base(struct memory_sync *sync, struct memory_file *file, const char *sha256) {
    if (!is_equal(file->base, sha256)) {
        set(file->base, sha256);
        sync->has_news = true;
    }
}

/* The files. */

static void file_free(struct lh_entry *entry) {
    struct memory_file *file = lh_entry_v(entry);
    free(file->path);
    free(file->remote_id);
    free(file);
}

struct memory_sync *memory_sync_new(bool is_read_only) {
    struct memory_sync *sync = memory_new(struct memory_sync);
    sync->is_read_only = is_read_only;
    sync->files = lh_kchar_table_new(64, file_free);
    return sync;
}

void memory_sync_free(struct memory_sync *take_sync) {
    if (take_sync != NULL) {
        lh_table_free(take_sync->files);
        free(take_sync->order);
        free(take_sync);
    }
}

struct memory_file *memory_sync_find(struct memory_sync *sync, const char *path) {
    void *found = NULL;
    return lh_table_lookup_ex(sync->files, path, &found) ? found : NULL;
}

static struct memory_file *find_or_add(struct memory_sync *sync, const char *path) {
    struct memory_file *file = memory_sync_find(sync, path);
    if (file == NULL) {
        file = memory_new(struct memory_file);
        file->path = memory_string(path);
        (void)lh_table_insert(sync->files, file->path, file);
    }
    return file;
}

void memory_sync_reset(struct memory_sync *sync) {
    memory_sync_begin(sync);
    struct lh_entry *entry = NULL;
    lh_foreach(sync->files, entry) {
        struct memory_file *file = lh_entry_v(entry);
        set_base(sync, file, "");
        set(file->sent, "");
        file->missing_since_ms = 0;
    }
}

void memory_sync_begin(struct memory_sync *sync) {
    struct lh_entry *entry = NULL;
    struct lh_entry *next = NULL;
    lh_foreach_safe(sync->files, entry, next) {
        struct memory_file *file = lh_entry_v(entry);
        if (!has(file->local) && !has(file->base) && !has(file->sent)) {
            (void)lh_table_delete_entry(sync->files, entry);
            continue;
        }
        free(STEAL_PTR(file->remote_id));
        set(file->remote, "");
        set(file->local, "");
        file->step = MEMORY_NOTHING;
        file->note = MEMORY_NO_NOTE;
    }
    sync->order_count = 0;
    sync->at = 0;
    sync->is_pulling = false;
}

struct memory_file *memory_sync_remote(struct memory_sync *sync, const char *path, const char *id,
                                       const char *sha256) {
    struct memory_file *file = find_or_add(sync, path);
    free(file->remote_id);
    file->remote_id = memory_string(id);
    set(file->remote, sha256);
    return file;
}

struct memory_file *memory_sync_local(struct memory_sync *sync, const char *path,
                                      const char *sha256) {
    struct memory_file *file = find_or_add(sync, path);
    set(file->local, sha256);
    return file;
}

/* Decisions. */

static bool is_refused(const struct memory_file *file) {
    return is_equal(file->refused, file->local);
}

/* The server does not have it, and the file is an edit or new: the only copy. */
static void decide_only_copy(struct memory_sync *sync, struct memory_file *file) {
    bool was_known = has(file->base);
    set_base(sync, file, "");
    if (sync->is_read_only) {
        file->note = was_known ? MEMORY_KEPT_READ_ONLY : MEMORY_NO_NOTE;
    } else if (!is_refused(file)) {
        file->note = was_known ? MEMORY_RECREATED : MEMORY_NO_NOTE;
        file->step = MEMORY_CREATE;
    }
}

static void decide_missing_remote(struct memory_sync *sync, struct memory_file *file) {
    if (!has(file->local)) {
        memory_sync_gone(sync, file);
    } else if (has(file->base) && is_equal(file->local, file->base)) {
        file->step = MEMORY_REMOVE;
    } else {
        decide_only_copy(sync, file);
    }
}

/* The folder had it, and it is gone from there. */
static void decide_missing_local(struct memory_sync *sync, struct memory_file *file,
                                 enum memory_mode mode, int64_t now_ms) {
    if (!is_equal(file->remote, file->base)) {
        file->missing_since_ms = 0;
        file->note = MEMORY_RESTORED;
        file->step = MEMORY_PULL;
        return;
    }
    if (sync->is_read_only) {
        return;
    }
    if (file->missing_since_ms == 0) {
        file->missing_since_ms = now_ms;
    }
    if (mode == MEMORY_FINAL || now_ms - file->missing_since_ms >= MEMORY_DELETE_WAIT_MS) {
        file->step = MEMORY_DELETE;
    }
}

static void decide_file(struct memory_sync *sync, struct memory_file *file, enum memory_mode mode,
                        int64_t now_ms) {
    if (has(file->local)) {
        file->missing_since_ms = 0;
    }
    if (!has(file->remote)) {
        decide_missing_remote(sync, file);
        return;
    }
    if (!has(file->local) && has(file->base)) {
        decide_missing_local(sync, file, mode, now_ms);
        return;
    }
    bool is_edited = has(file->local) && !is_equal(file->local, file->base) &&
                     !is_equal(file->local, file->remote);
    if (is_equal(file->local, file->remote)) {
        set_base(sync, file, file->remote);
    } else if (!is_equal(file->remote, file->base)) {
        file->note = is_edited ? MEMORY_BOTH_CHANGED : MEMORY_NO_NOTE;
        file->step = MEMORY_PULL;
    } else if (is_edited && !sync->is_read_only && !is_refused(file)) {
        file->step = MEMORY_UPDATE;
    }
}

static void decide_flush(struct memory_sync *sync, struct memory_file *file) {
    if (sync->is_read_only || !has(file->local) || is_equal(file->local, file->base) ||
        is_refused(file)) {
        return;
    }
    if (!has(file->remote)) {
        file->step = MEMORY_CREATE;
    } else if (is_equal(file->remote, file->local)) {
        set_base(sync, file, file->remote);
    } else if (!is_equal(file->remote, file->base)) {
        file->note = MEMORY_LEFT_REMOTE;
    } else {
        file->step = MEMORY_UPDATE;
    }
}

static int compare_paths(const void *left, const void *right) {
    const struct memory_file *const *first = left;
    const struct memory_file *const *second = right;
    return strcmp((*first)->path, (*second)->path);
}

/*
 * An upload whose answer was lost may have been saved: a memory with exactly what was sent is ours,
 * no edit of another. Only the first listing after it may be read so.
 */
static void settle_sent(struct memory_sync *sync) {
    struct lh_entry *entry = NULL;
    lh_foreach(sync->files, entry) {
        struct memory_file *file = lh_entry_v(entry);
        if (has(file->sent) && is_equal(file->sent, file->remote)) {
            set_base(sync, file, file->sent);
        }
        set(file->sent, "");
    }
}

bool memory_sync_decide(struct memory_sync *sync, enum memory_mode mode, int64_t now_ms) {
    size_t local_count = 0;
    size_t base_count = 0;
    settle_sent(sync);
    sync->order_count = 0;
    sync->order = memory_resize(sync->order, (size_t)lh_table_length(sync->files) + 1,
                                sizeof(struct memory_file *));
    struct lh_entry *entry = NULL;
    lh_foreach(sync->files, entry) {
        struct memory_file *file = lh_entry_v(entry);
        sync->order[sync->order_count++] = file;
        local_count += has(file->local) ? 1 : 0;
        base_count += has(file->base) ? 1 : 0;
    }
    qsort(sync->order, sync->order_count, sizeof(struct memory_file *), compare_paths);
    if (mode != MEMORY_FLUSH && local_count == 0 && base_count > 1) {
        return false;
    }
    size_t quarter = base_count / 4;
    sync->deletions_left = quarter < MEMORY_DELETES_FLOOR     ? MEMORY_DELETES_FLOOR
                           : quarter > MEMORY_DELETES_CEILING ? MEMORY_DELETES_CEILING
                                                              : quarter;
    sync->held_deletions = 0;
    sync->at = 0;
    sync->is_pulling = false;
    for (size_t i = 0; i < sync->order_count; i++) {
        if (mode == MEMORY_FLUSH) {
            decide_flush(sync, sync->order[i]);
        } else {
            decide_file(sync, sync->order[i], mode, now_ms);
        }
    }
    return true;
}

bool memory_sync_is_dirty(struct memory_sync *sync) {
    struct lh_entry *entry = NULL;
    lh_foreach(sync->files, entry) {
        struct memory_file *file = lh_entry_v(entry);
        bool is_changed = !is_equal(file->local, file->base) || has(file->sent);
        if (!sync->is_read_only && has(file->local) && is_changed && !is_refused(file)) {
            return true;
        }
    }
    return false;
}

struct memory_file *memory_sync_next(struct memory_sync *sync, enum memory_step *step) {
    for (;;) {
        while (sync->at < sync->order_count) {
            struct memory_file *file = sync->order[sync->at++];
            bool is_due =
                file->step == MEMORY_PULL ? sync->is_pulling : file->step != MEMORY_NOTHING;
            if (is_due) {
                *step = file->step;
                file->step = MEMORY_NOTHING;
                return file;
            }
        }
        if (sync->is_pulling) {
            return NULL;
        }
        sync->is_pulling = true;
        sync->at = 0;
    }
}

size_t memory_sync_count(const struct memory_sync *sync) {
    return sync->order_count;
}

struct memory_file *memory_sync_at(const struct memory_sync *sync, size_t index) {
    return sync->order[index];
}

/* How it went. */

/* memory_sync_next shall find it although it has passed it. */
static void look_again(struct memory_sync *sync) {
    sync->at = 0;
}

void memory_sync_settled(struct memory_sync *sync, struct memory_file *file, const char *sha256) {
    set_base(sync, file, sha256);
    set(file->refused, "");
    set(file->sent, "");
}

void memory_sync_sending(struct memory_sync *sync, struct memory_file *file, const char *sha256) {
    (void)sync;
    set(file->sent, sha256);
}

void memory_sync_refused(struct memory_sync *sync, struct memory_file *file) {
    (void)sync;
    set(file->refused, file->local);
    set(file->sent, "");
}

void memory_sync_gone(struct memory_sync *sync, struct memory_file *file) {
    set_base(sync, file, "");
    file->missing_since_ms = 0;
}

void memory_sync_edited(struct memory_sync *sync, struct memory_file *file, const char *sha256) {
    set(file->local, sha256);
    decide_only_copy(sync, file);
    look_again(sync);
}

void memory_sync_orphaned(struct memory_sync *sync, struct memory_file *file) {
    free(STEAL_PTR(file->remote_id));
    set(file->remote, "");
    set_base(sync, file, "");
    file->step = MEMORY_CREATE;
    look_again(sync);
}

void memory_sync_reappeared(struct memory_sync *sync, struct memory_file *file) {
    (void)sync;
    file->missing_since_ms = 0;
}

bool memory_sync_take_deletion(struct memory_sync *sync) {
    if (sync->deletions_left == 0) {
        sync->held_deletions++;
        return false;
    }
    sync->deletions_left--;
    return true;
}

size_t memory_sync_held_deletions(const struct memory_sync *sync) {
    return sync->held_deletions;
}

/* The base outside. */

struct json_object *memory_sync_save(const struct memory_sync *sync) {
    struct json_object *base = json_object_new_object();
    struct lh_entry *entry = NULL;
    lh_foreach(sync->files, entry) {
        const struct memory_file *file = lh_entry_v(entry);
        if (has(file->base)) {
            json_set_string(base, file->path, file->base);
        }
    }
    return base;
}

void memory_sync_load(struct memory_sync *sync, struct json_object *base) {
    json_object_object_foreach(base, path, value) {
        const char *sha256 = json_object_get_string(value);
        if (json_object_is_type(value, json_type_string) && memory_path_is_plain(path) &&
            strlen(sha256) == MEMORY_SHA256_SIZE - 1) {
            set(find_or_add(sync, path)->base, sha256);
        }
    }
    sync->has_news = false;
}

bool memory_sync_has_news(struct memory_sync *sync) {
    bool has_news = sync->has_news;
    sync->has_news = false;
    return has_news;
}
