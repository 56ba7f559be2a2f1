/* A pass is a walk through the phases below; each callback records, and step goes on. */
#include "orchestrator/memory_folder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "hand/operations.h"
#include "orchestrator/memory_job.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum {
    FOLDER_JOBS_LIMIT = 8,    /* as many as hand runs of ours at a time */
    FOLDER_BATCH = 256,       /* files that are read at once, if they are small, */
    FOLDER_BATCHES_LIMIT = 2, /* and as many of these at a time */
    FOLDER_FILES_LIMIT = 20000,
    FOLDER_PAGES_LIMIT = 1000,
    FOLDER_MODE = 0700,
    BASE_FILE_LIMIT = 8 << 20,
    /* Times of files may be coarse: a file that changed this lately is read again next time. */
    TIMES_TRUST_NS = 2000000000,
};

enum folder_task { TASK_OPEN, TASK_SYNC, TASK_REMOVE };

enum folder_phase {
    PHASE_IDLE,
    PHASE_LISTING,     /* which files are there? */
    PHASE_MARKER,      /* whose folder is it? */
    PHASE_RECALLING,   /* opening: what was the base? */
    PHASE_HASHING,     /* what is in the files that changed? */
    PHASE_ASKING,      /* what does the server have? page after page */
    PHASE_ACTING,      /* what was decided is done */
    PHASE_MAKING,      /* download: the folder, */
    PHASE_STAMPING,    /* its marker, */
    PHASE_DOWNLOADING, /* and page after page with content */
    PHASE_RECORDING,   /* the base is written beside the folder */
    PHASE_REMOVING,
    PHASE_FORGETTING, /* the base is removed too */
};

enum folder_marker { MARKER_GONE, MARKER_OURS, MARKER_OTHERS };

struct folder_job {
    struct memory_folder *folder;
    struct memory_job *job;
    LIST_ENTRY(folder_job) link;
};

struct memory_folder {
    struct memory_folder_options options;
    struct memory_place place;
    char *parent; /* of the root, and the last part of it */
    char *name;
    char *base_name; /* of the file with the base, in the parent */
    enum folder_task task;
    enum folder_phase phase;
    enum memory_mode mode;
    bool is_there; /* the folder, by the listing */
    bool is_download;
    enum folder_marker marker;
    size_t file_count; /* without the marker */
    int64_t listed_at_ns;
    struct memory_unread *unread;
    size_t unread_count;
    size_t unread_at;
    struct json_object *page; /* being worked off */
    size_t page_at;
    size_t page_count;
    size_t memory_count;
    size_t skipped_count;
    struct hand_request *asked;
    struct api_call *call;
    LIST_HEAD(, folder_job) jobs;
    size_t job_count;
    char *complaint; /* what was said last, so that it is said once */
    struct error *failure;
};

static void folder_step(struct memory_folder *folder);

/* Life. */

struct memory_folder *memory_folder_new(const struct memory_folder_options *options) {
    struct memory_folder *folder = memory_new(struct memory_folder);
    folder->options = *options;
    folder->place.api = options->api;
    folder->place.hand = options->hand;
    folder->place.sync = memory_sync_new(options->is_read_only);
    folder->place.session_id = memory_string(options->session_id);
    folder->place.store_id = memory_string(options->store_id);
    folder->place.root = memory_string(options->root);
    const char *slash = strrchr(options->root, '/');
    folder->parent = slash == options->root
                         ? memory_string("/")
                         : memory_string_n(options->root, (size_t)(slash - options->root));
    folder->name = memory_string(slash + 1);
    folder->base_name = memory_format(".holt-memory-%s", options->store_id);
    LIST_INIT(&folder->jobs);
    return folder;
}

static void forget_page(struct memory_folder *folder) {
    json_object_put(STEAL_PTR(folder->page));
    folder->page_at = 0;
}

void memory_folder_cancel(struct memory_folder *folder) {
    hand_request_cancel(STEAL_PTR(folder->asked));
    api_call_cancel(STEAL_PTR(folder->call));
    while (!LIST_EMPTY(&folder->jobs)) {
        struct folder_job *entry = LIST_FIRST(&folder->jobs);
        LIST_REMOVE(entry, link);
        memory_job_cancel(entry->job);
        free(entry);
    }
    folder->job_count = 0;
    forget_page(folder);
    free(STEAL_PTR(folder->unread));
    folder->unread_count = 0;
    error_free(STEAL_PTR(folder->failure));
    folder->phase = PHASE_IDLE;
}

void memory_folder_free(struct memory_folder *take_folder) {
    if (take_folder == NULL) {
        return;
    }
    memory_folder_cancel(take_folder);
    memory_sync_free(take_folder->place.sync);
    free(take_folder->place.session_id);
    free(take_folder->place.store_id);
    free(take_folder->place.root);
    free(take_folder->parent);
    free(take_folder->name);
    free(take_folder->base_name);
    free(take_folder->complaint);
    free(take_folder);
}

bool memory_folder_is_busy(const struct memory_folder *folder) {
    return folder->phase != PHASE_IDLE;
}

/* Ends. */

/* Says it, unless it is what was said last. */
static void complain(struct memory_folder *folder, const char *text) {
    if (folder->complaint == NULL || strcmp(folder->complaint, text) != 0) {
        log_warn("session %s: memory store %s: %s", folder->place.session_id,
                 folder->place.store_id, text);
    }
    free(folder->complaint);
    folder->complaint = memory_string(text);
}

static void conclude(struct memory_folder *folder) {
    CLEANUP_ERROR struct error *failure = STEAL_PTR(folder->failure);
    memory_folder_cancel(folder);
    if (failure != NULL && folder->task != TASK_OPEN) {
        CLEANUP_FREE char *text = error_text(failure);
        CLEANUP_FREE char *complaint = memory_format("not synchronised: %s", text);
        complain(folder, complaint);
        error_free(STEAL_PTR(failure));
    }
    folder->options.done(folder->options.owner, folder, failure);
}

/* The pass cannot go on; jobs under way are given up. */
static void fail(struct memory_folder *folder, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    (void)error_set(&folder->failure, error->code, "memory store %s at %s: %s",
                    folder->place.store_id, folder->place.root, text);
    conclude(folder);
}

static void fail_with(struct memory_folder *folder, enum error_code code, const char *text) {
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, code, "%s", text);
    fail(folder, error);
}

/* A pass that must not touch the folder ends, regularly. */
static void leave(struct memory_folder *folder, const char *text) {
    complain(folder, text);
    conclude(folder);
}

static void enter(struct memory_folder *folder, enum folder_phase phase) {
    folder->phase = phase;
    folder_step(folder);
}

/* Jobs. */

static void on_job_done(void *owner, struct memory_job *job, const struct error *error) {
    struct folder_job *entry = owner;
    struct memory_folder *folder = entry->folder;
    (void)job;
    LIST_REMOVE(entry, link);
    free(entry);
    folder->job_count--;
    if (error != NULL) {
        fail(folder, error);
        return;
    }
    folder_step(folder);
}

static struct folder_job *entry_new(struct memory_folder *folder) {
    struct folder_job *entry = memory_new(struct folder_job);
    entry->folder = folder;
    return entry;
}

/* NULL: there was nothing to wait for. */
static void entry_add(struct folder_job *entry, struct memory_job *job) {
    if (job == NULL) {
        free(entry);
        return;
    }
    entry->job = job;
    LIST_INSERT_HEAD(&entry->folder->jobs, entry, link);
    entry->folder->job_count++;
}

/* Listing. */

static void take_file(struct memory_folder *folder, const struct hand_listed_file *listed) {
    struct memory_sync *sync = folder->place.sync;
    struct memory_stamp stamp = memory_stamp_of(&listed->status);
    int64_t newest_ns = stamp.mtime_ns > stamp.ctime_ns ? stamp.mtime_ns : stamp.ctime_ns;
    if (strcmp(listed->path, MEMORY_MARKER) == 0) {
        return; /* it is asked for by itself */
    }
    folder->file_count++;
    struct memory_file *file = memory_sync_local(sync, listed->path, "");
    if (stamp.size > MEMORY_READ_LIMIT) {
        memory_sha sha;
        memory_large_digest(&stamp, sha);
        (void)memory_sync_local(sync, listed->path, sha);
    } else if (file->hashed[0] != '\0' && memory_stamp_is(&file->stamp, &stamp)) {
        (void)memory_sync_local(sync, listed->path, file->hashed);
    } else {
        folder->unread[folder->unread_count++] =
            (struct memory_unread){.file = file,
                                   .stamp = stamp,
                                   .may_cache = newest_ns < folder->listed_at_ns - TIMES_TRUST_NS};
    }
}

static void on_listed(void *context, const struct hand_listed_file *files, size_t count,
                      size_t dropped, const struct error *error) {
    struct memory_folder *folder = context;
    folder->asked = NULL;
    if (error != NULL && error->code != ERROR_NOT_FOUND) {
        fail(folder, error);
        return;
    }
    if (error == NULL && count >= FOLDER_FILES_LIMIT) {
        fail_with(folder, ERROR_LIMIT, "the folder has too many files");
        return;
    }
    if (dropped > 0) {
        log_debug("memory store %s: %zu entries of the folder cannot be listed",
                  folder->place.store_id, dropped);
    }
    folder->is_there = error == NULL;
    folder->unread = memory_zeroed(count + 1, sizeof(struct memory_unread));
    for (size_t i = 0; error == NULL && i < count; i++) {
        take_file(folder, &files[i]);
    }
    enter(folder, PHASE_MARKER);
}

static void begin_listing(struct memory_folder *folder) {
    folder->file_count = 0;
    folder->unread_count = 0;
    folder->unread_at = 0;
    folder->listed_at_ns = clock_wall_ms() * 1000000;
    memory_sync_begin(folder->place.sync);
    folder->asked =
        hand_list(folder->place.hand, folder->place.root, FOLDER_FILES_LIMIT, on_listed, folder);
}

/* Trust. */

static void download(struct memory_folder *folder) {
    memory_sync_reset(folder->place.sync);
    folder->is_download = true;
    folder->page_count = 0;
    folder->memory_count = 0;
    folder->skipped_count = 0;
    enter(folder, PHASE_MAKING);
}

static void recover(struct memory_folder *folder, const char *why) {
    log_warn("session %s: memory store %s: %s; downloading it again", folder->place.session_id,
             folder->place.store_id, why);
    download(folder);
}

/* The folder is there, or was, and its marker is known: what may be done with it? */
static void judge(struct memory_folder *folder) {
    bool is_empty = folder->file_count == 0;
    bool is_ours = folder->marker == MARKER_OURS;
    switch (folder->task) {
    case TASK_OPEN:
        if (folder->marker == MARKER_GONE && is_empty) {
            download(folder);
        } else {
            enter(folder, PHASE_RECALLING);
        }
        return;
    case TASK_REMOVE:
        if (is_ours) {
            enter(folder, PHASE_HASHING);
        } else if (folder->is_there && (!is_empty || folder->marker == MARKER_OTHERS)) {
            leave(folder, "its marker is gone or another's: the folder is left on disk");
        } else {
            enter(folder, PHASE_REMOVING);
        }
        return;
    case TASK_SYNC:
        if (is_ours) {
            enter(folder, PHASE_HASHING);
        } else if (folder->marker == MARKER_OTHERS) {
            leave(folder, "the marker is not this store's: the folder is left as it is");
        } else if (!is_empty) {
            leave(folder, "the marker is gone: the folder is left as it is");
        } else if (folder->mode == MEMORY_FLUSH) {
            conclude(folder);
        } else {
            recover(folder, "the folder or its marker is gone");
        }
        return;
    }
}

static void on_marker(void *context, const struct hand_file_status *status, const char *bytes,
                      size_t length, const struct error *error) {
    struct memory_folder *folder = context;
    (void)status;
    folder->asked = NULL;
    if (error != NULL && !memory_error_is_of_file(error)) {
        fail(folder, error);
        return;
    }
    if (error != NULL) {
        folder->marker = error->code == ERROR_NOT_FOUND ? MARKER_GONE : MARKER_OTHERS;
    } else {
        folder->marker =
            memory_marker_is(folder->place.store_id, bytes, length) ? MARKER_OURS : MARKER_OTHERS;
    }
    judge(folder);
}

static void on_base(void *context, const struct hand_file_status *status, const char *bytes,
                    size_t length, const struct error *error) {
    struct memory_folder *folder = context;
    CLEANUP_JSON struct json_object *json = NULL;
    (void)status;
    folder->asked = NULL;
    if (error != NULL && !memory_error_is_of_file(error)) {
        fail(folder, error);
        return;
    }
    bool is_json = error == NULL && json_parse(bytes, length, &json, NULL);
    const char *root = json_get_string(json, "root");
    struct json_object *base = json_get_object(json, "base");
    bool is_known =
        is_json && root != NULL && base != NULL && strcmp(root, folder->place.root) == 0;
    if (folder->marker != MARKER_OURS) {
        /* Where we were before the agent has spoilt the folder: it has the same as in a pass. */
        if (is_known) {
            leave(folder, "the marker is gone or another's: the folder is left as it is");
        } else {
            fail_with(folder, ERROR_CONFLICT,
                      "something is at its path already, and not this store's");
        }
        return;
    }
    if (is_known) {
        memory_sync_load(folder->place.sync, base);
    } else {
        log_warn("session %s: memory store %s: the folder was there before, and what it had in "
                 "common with the server is not known",
                 folder->place.session_id, folder->place.store_id);
    }
    enter(folder, PHASE_HASHING);
}

/* Hashing. */

static void hash_more(struct memory_folder *folder) {
    while (folder->job_count < FOLDER_BATCHES_LIMIT && folder->unread_at < folder->unread_count) {
        size_t left = folder->unread_count - folder->unread_at;
        size_t count = left < FOLDER_BATCH ? left : FOLDER_BATCH;
        struct folder_job *entry = entry_new(folder);
        entry_add(entry, memory_job_hash(&folder->place, &folder->unread[folder->unread_at], count,
                                         on_job_done, entry));
        folder->unread_at += count;
    }
    if (folder->job_count > 0) {
        return;
    }
    if (folder->task == TASK_REMOVE) {
        bool is_dirty = memory_sync_is_dirty(folder->place.sync);
        if (is_dirty) {
            leave(folder, "the folder holds what the server does not have: it is left on disk");
        } else {
            enter(folder, PHASE_REMOVING);
        }
    } else if (folder->mode == MEMORY_FLUSH && !memory_sync_is_dirty(folder->place.sync)) {
        conclude(folder);
    } else {
        enter(folder, PHASE_ASKING);
    }
}

/* Asking. */

static void ask_page(struct memory_folder *folder, memory_done done) {
    CLEANUP_JSON struct json_object *before = STEAL_PTR(folder->page);
    const char *cursor = memory_next_page(before);
    forget_page(folder);
    folder->page_count++;
    folder->call = memory_list(folder->place.api, folder->place.store_id, cursor,
                               folder->is_download, done, folder);
}

/* False after the pass failed. */
static bool take_page(struct memory_folder *folder, const struct api_answer *answer) {
    folder->call = NULL;
    if (answer->error != NULL) {
        fail(folder, answer->error);
        return false;
    }
    struct json_object *data = json_get_array(answer->body, "data");
    if (data == NULL) {
        fail_with(folder, ERROR_PROTOCOL, "the list of memories makes no sense");
        return false;
    }
    folder->memory_count += json_object_array_length(data);
    if (folder->memory_count > FOLDER_FILES_LIMIT || folder->page_count > FOLDER_PAGES_LIMIT) {
        fail_with(folder, ERROR_LIMIT, "the store has too many memories");
        return false;
    }
    folder->page = json_object_get(answer->body);
    return true;
}

/* The next memory of the page; false at its end. What is none is counted, not trusted. */
static bool next_item(struct memory_folder *folder, struct memory_item *item) {
    struct json_object *data = json_get_array(folder->page, "data");
    size_t count = data == NULL ? 0 : json_object_array_length(data);
    while (folder->page_at < count) {
        struct json_object *json = json_object_array_get_idx(data, folder->page_at++);
        bool is_item = memory_item_read(json, item) && strcmp(item->path, MEMORY_MARKER) != 0 &&
                       (!folder->is_download || item->content != NULL);
        if (is_item) {
            return true;
        }
        folder->skipped_count++;
    }
    return false;
}

static void log_notes(struct memory_folder *folder) {
    static const char *const texts[] = {
        [MEMORY_BOTH_CHANGED] = "changed here and on the server: the server's version is kept",
        [MEMORY_RESTORED] = "deleted here but changed on the server: it is restored",
        [MEMORY_RECREATED] = "deleted on the server but edited here: it is created again",
        [MEMORY_KEPT_READ_ONLY] = "deleted on the server but edited here: the file is kept, the "
                                  "store is read-only",
        [MEMORY_LEFT_REMOTE] = "changed here and on the server: the server's version is left",
    };
    for (size_t i = 0; i < memory_sync_count(folder->place.sync); i++) {
        const struct memory_file *file = memory_sync_at(folder->place.sync, i);
        if (file->note != MEMORY_NO_NOTE) {
            log_warn("session %s: memory store %s: %s: %s", folder->place.session_id,
                     folder->place.store_id, file->path, texts[file->note]);
        }
    }
}

static void log_skipped(struct memory_folder *folder) {
    if (folder->skipped_count > 0) {
        CLEANUP_FREE char *text = memory_format(
            "%zu entries of the server's list are no memories that can be files: left out",
            folder->skipped_count);
        complain(folder, text);
    }
}

static void on_page(void *context, const struct api_answer *answer) {
    struct memory_folder *folder = context;
    struct memory_item item;
    if (!take_page(folder, answer)) {
        return;
    }
    while (next_item(folder, &item)) {
        (void)memory_sync_remote(folder->place.sync, item.path, item.id, item.sha256);
    }
    if (memory_next_page(folder->page) != NULL) {
        ask_page(folder, on_page);
        return;
    }
    forget_page(folder);
    log_skipped(folder);
    if (!memory_sync_decide(folder->place.sync, folder->mode, clock_monotonic_ms())) {
        recover(folder, "every file is gone at once");
        return;
    }
    log_notes(folder);
    enter(folder, PHASE_ACTING);
}

/* Acting. */

static void act_more(struct memory_folder *folder) {
    enum memory_step step = MEMORY_NOTHING;
    struct memory_file *file = NULL;
    while (folder->job_count < FOLDER_JOBS_LIMIT &&
           (file = memory_sync_next(folder->place.sync, &step)) != NULL) {
        struct folder_job *entry = entry_new(folder);
        entry_add(entry, memory_job_act(&folder->place, file, step, on_job_done, entry));
    }
    if (folder->job_count > 0) {
        return;
    }
    size_t held = memory_sync_held_deletions(folder->place.sync);
    if (held > 0) {
        log_warn("session %s: memory store %s: %zu deletions wait for the next pass",
                 folder->place.session_id, folder->place.store_id, held);
    }
    enter(folder, PHASE_RECORDING);
}

/* Download. */

static void on_made(void *context, bool changed, const struct error *error) {
    struct memory_folder *folder = context;
    (void)changed;
    folder->asked = NULL;
    if (error != NULL) {
        fail(folder, error);
        return;
    }
    enter(folder, PHASE_STAMPING);
}

static void on_stamped(void *context, const struct hand_file_status *status,
                       const struct error *error) {
    struct memory_folder *folder = context;
    (void)status;
    folder->asked = NULL;
    if (error != NULL) {
        fail(folder, error);
        return;
    }
    enter(folder, PHASE_DOWNLOADING);
}

static void stamp(struct memory_folder *folder) {
    CLEANUP_FREE char *text = memory_marker_text(folder->place.store_id);
    folder->asked = hand_put(folder->place.hand, folder->place.root, MEMORY_MARKER,
                             MEMORY_FILE_MODE, text, strlen(text), on_stamped, folder);
}

static void on_full_page(void *context, const struct api_answer *answer) {
    struct memory_folder *folder = context;
    if (take_page(folder, answer)) {
        folder_step(folder);
    }
}

static void store_more(struct memory_folder *folder) {
    struct memory_item item;
    if (folder->call != NULL) {
        return;
    }
    while (folder->job_count < FOLDER_JOBS_LIMIT && next_item(folder, &item)) {
        struct memory_file *file =
            memory_sync_remote(folder->place.sync, item.path, item.id, item.sha256);
        struct folder_job *entry = entry_new(folder);
        entry_add(entry, memory_job_store(&folder->place, file, &item, on_job_done, entry));
    }
    if (folder->job_count > 0) {
        return;
    }
    if (folder->page == NULL || memory_next_page(folder->page) != NULL) {
        ask_page(folder, on_full_page);
        return;
    }
    log_skipped(folder);
    log_info("session %s: memory store %s: %zu memories in %s", folder->place.session_id,
             folder->place.store_id, folder->memory_count - folder->skipped_count,
             folder->place.root);
    enter(folder, PHASE_RECORDING);
}

/* The base outside. */

static void on_recorded(void *context, const struct hand_file_status *status,
                        const struct error *error) {
    struct memory_folder *folder = context;
    (void)status;
    folder->asked = NULL;
    if (error != NULL && !memory_error_is_of_file(error)) {
        fail(folder, error);
        return;
    }
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        complain(folder, text); /* only a restart would have needed it */
    }
    conclude(folder);
}

static void record(struct memory_folder *folder) {
    size_t length = 0;
    if (folder->skipped_count == 0) {
        free(STEAL_PTR(folder->complaint)); /* all is well: the same trouble is news again */
    }
    if (!memory_sync_has_news(folder->place.sync)) {
        conclude(folder);
        return;
    }
    CLEANUP_JSON struct json_object *json = json_object_new_object();
    json_set_string(json, "root", folder->place.root);
    json_set(json, "base", memory_sync_save(folder->place.sync));
    const char *text = json_text(json, &length);
    folder->asked = hand_put(folder->place.hand, folder->parent, folder->base_name,
                             MEMORY_FILE_MODE, text, length, on_recorded, folder);
}

/* Removal. */

static void on_removed(void *context, bool changed, const struct error *error) {
    struct memory_folder *folder = context;
    (void)changed;
    folder->asked = NULL;
    if (error != NULL && error->code != ERROR_NOT_FOUND) {
        fail(folder, error);
    } else if (folder->phase == PHASE_REMOVING) {
        enter(folder, PHASE_FORGETTING);
    } else {
        conclude(folder);
    }
}

/* The phases. */

static void folder_step(struct memory_folder *folder) {
    const struct memory_place *place = &folder->place;
    switch (folder->phase) {
    case PHASE_IDLE:
        break;
    case PHASE_LISTING:
        begin_listing(folder);
        break;
    case PHASE_MARKER:
        folder->asked = hand_get(place->hand, place->root, MEMORY_MARKER, MEMORY_MARKER_LIMIT,
                                 on_marker, folder);
        break;
    case PHASE_RECALLING:
        folder->asked = hand_get(place->hand, folder->parent, folder->base_name, BASE_FILE_LIMIT,
                                 on_base, folder);
        break;
    case PHASE_HASHING:
        hash_more(folder);
        break;
    case PHASE_ASKING:
        ask_page(folder, on_page);
        break;
    case PHASE_ACTING:
        act_more(folder);
        break;
    case PHASE_MAKING:
        folder->asked = hand_make(place->hand, place->root, NULL, FOLDER_MODE, on_made, folder);
        break;
    case PHASE_STAMPING:
        stamp(folder);
        break;
    case PHASE_DOWNLOADING:
        store_more(folder);
        break;
    case PHASE_RECORDING:
        record(folder);
        break;
    case PHASE_REMOVING:
        folder->asked =
            hand_remove(place->hand, folder->parent, folder->name, true, on_removed, folder);
        break;
    case PHASE_FORGETTING:
        folder->asked =
            hand_remove(place->hand, folder->parent, folder->base_name, false, on_removed, folder);
        break;
    }
}

static void begin(struct memory_folder *folder, enum folder_task task, enum memory_mode mode) {
    folder->task = task;
    folder->mode = mode;
    folder->is_download = false;
    folder->page_count = 0;
    folder->memory_count = 0;
    folder->skipped_count = 0;
    enter(folder, PHASE_LISTING);
}

void memory_folder_open(struct memory_folder *folder) {
    begin(folder, TASK_OPEN, MEMORY_SYNC);
}

void memory_folder_sync(struct memory_folder *folder, enum memory_mode mode) {
    begin(folder, TASK_SYNC, mode);
}

void memory_folder_remove(struct memory_folder *folder) {
    begin(folder, TASK_REMOVE, MEMORY_FLUSH);
}
