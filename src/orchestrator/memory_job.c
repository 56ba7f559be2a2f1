/* Each job is a chain of callbacks, one operation or request each, that ends in job_end. */
#include "orchestrator/memory_job.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "orchestrator/memory_folder.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

struct memory_job {
    const struct memory_place *place;
    struct memory_file *file;
    enum memory_step step;
    struct hand_request *asked;
    struct api_call *call;
    memory_sha sha;                     /* of the content under way */
    const struct memory_unread *unread; /* of a job that hashes */
    size_t unread_count;
    memory_job_done done;
    void *owner;
};

static struct memory_job *job_new(const struct memory_place *place, struct memory_file *file,
                                  memory_job_done done, void *owner) {
    struct memory_job *job = memory_new(struct memory_job);
    job->place = place;
    job->file = file;
    job->done = done;
    job->owner = owner;
    return job;
}

static void job_end(struct memory_job *job, const struct error *error) {
    job->done(job->owner, job, error);
    free(job);
}

void memory_job_cancel(struct memory_job *take_job) {
    hand_request_cancel(take_job->asked);
    api_call_cancel(take_job->call);
    free(take_job);
}

static void warn(const struct memory_job *job, const char *what, const struct error *error) {
    CLEANUP_FREE char *text = error == NULL ? NULL : error_text(error);
    log_warn("session %s: memory store %s: %s: %s%s%s", job->place->session_id,
             job->place->store_id, job->file->path, what, text == NULL ? "" : ": ",
             text == NULL ? "" : text);
}

/* An error of an operation: about the file it is only logged. */
static void end_with(struct memory_job *job, const char *what, const struct error *error) {
    if (memory_error_is_of_file(error)) {
        warn(job, what, error);
        job_end(job, NULL);
    } else {
        job_end(job, error);
    }
}

bool memory_error_is_of_file(const struct error *error) {
    switch (error->code) {
    case ERROR_NOT_FOUND:
    case ERROR_DENIED:
    case ERROR_LIMIT:
    case ERROR_SYSTEM:
    case ERROR_INPUT:
        return true;
    default:
        return false;
    }
}

char *memory_marker_text(const char *store_id) {
    return memory_format("version 1\n%s", store_id);
}

bool memory_marker_is(const char *store_id, const char *bytes, size_t length) {
    CLEANUP_FREE char *text = memory_marker_text(store_id);
    return length == strlen(text) && memcmp(bytes, text, length) == 0;
}

struct memory_stamp memory_stamp_of(const struct hand_file_status *status) {
    return (struct memory_stamp){.size = status->size,
                                 .mtime_ns = status->mtime_ns,
                                 .ctime_ns = status->ctime_ns,
                                 .inode = status->inode};
}

bool memory_stamp_is(const struct memory_stamp *stamp, const struct memory_stamp *other) {
    return stamp->size == other->size && stamp->mtime_ns == other->mtime_ns &&
           stamp->ctime_ns == other->ctime_ns && stamp->inode == other->inode;
}

/* No digest has a '!': it is never equal to one. */
void memory_large_digest(const struct memory_stamp *stamp, memory_sha sha) {
    CLEANUP_FREE char *text =
        memory_format("%lld %lld %lld %llu", (long long)stamp->size, (long long)stamp->mtime_ns,
                      (long long)stamp->ctime_ns, (unsigned long long)stamp->inode);
    memory_digest(text, strlen(text), sha);
    sha[0] = '!';
}

/* Hash. */

static void take_content(struct memory_sync *sync, const struct memory_unread *unread,
                         const struct hand_gathered_file *content) {
    struct memory_file *file = unread->file;
    memory_sha sha;
    file->hashed[0] = '\0';
    if (content->error == NULL) {
        struct memory_stamp stamp = memory_stamp_of(&content->status);
        memory_digest(content->bytes, content->length, sha);
        if (unread->may_cache && memory_stamp_is(&stamp, &unread->stamp)) {
            file->stamp = stamp;
            memcpy(file->hashed, sha, sizeof(sha));
        }
    } else if (content->error->code == ERROR_LIMIT) {
        memory_large_digest(&unread->stamp, sha);
    } else {
        return; /* gone, or turned into something else: then it is not in the folder */
    }
    (void)memory_sync_local(sync, file->path, sha);
}

static void gather(struct memory_job *job);

static void on_gathered(void *context, const struct hand_gathered_file *contents, size_t count,
                        const struct error *error) {
    struct memory_job *job = context;
    job->asked = NULL;
    if (error != NULL) {
        /* The folder itself is gone: then so are its files. */
        job_end(job, memory_error_is_of_file(error) ? NULL : error);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        take_content(job->place->sync, &job->unread[i], &contents[i]);
    }
    job->unread += count;
    job->unread_count -= count;
    if (job->unread_count == 0) {
        job_end(job, NULL);
    } else {
        gather(job); /* these were many bytes */
    }
}

static void gather(struct memory_job *job) {
    CLEANUP_FREE const char **paths = memory_zeroed(job->unread_count, sizeof(char *));
    for (size_t i = 0; i < job->unread_count; i++) {
        paths[i] = job->unread[i].file->path;
    }
    job->asked = hand_gather(job->place->hand, job->place->root, paths, job->unread_count,
                             MEMORY_READ_LIMIT, on_gathered, job);
}

struct memory_job *memory_job_hash(const struct memory_place *place,
                                   const struct memory_unread *unread, size_t count,
                                   memory_job_done done, void *owner) {
    struct memory_job *job = job_new(place, NULL, done, owner);
    job->unread = unread;
    job->unread_count = count;
    gather(job);
    return job;
}

/* Pull. */

static void on_stored(void *context, const struct hand_file_status *status,
                      const struct error *error) {
    (void)status;
    struct memory_job *job = context;
    job->asked = NULL;
    if (error != NULL) {
        end_with(job, "cannot be written", error);
        return;
    }
    memory_sync_settled(job->place->sync, job->file, job->sha);
    job_end(job, NULL);
}

static void store(struct memory_job *job, const struct memory_item *item) {
    memcpy(job->sha, item->sha256, sizeof(memory_sha));
    job->asked = hand_put(job->place->hand, job->place->root, job->file->path, MEMORY_FILE_MODE,
                          item->content, item->content_length, on_stored, job);
}

struct memory_job *memory_job_store(const struct memory_place *place, struct memory_file *file,
                                    const struct memory_item *item, memory_job_done done,
                                    void *owner) {
    struct memory_job *job = job_new(place, file, done, owner);
    store(job, item);
    return job;
}

static void on_retrieved(void *context, const struct api_answer *answer) {
    struct memory_job *job = context;
    struct memory_item item;
    job->call = NULL;
    if (answer->error != NULL) {
        if (answer->status != 404) { /* deleted since it was listed: the next pass sees it */
            warn(job, "cannot be fetched", answer->error);
        }
        job_end(job, NULL);
    } else if (!memory_item_read(answer->body, &item) || item.content == NULL) {
        warn(job, "the server's answer makes no sense", NULL);
        job_end(job, NULL);
    } else {
        store(job, &item);
    }
}

/* Upload. */

static void refuse(struct memory_job *job, const char *why, const struct error *error) {
    warn(job, why, error);
    memory_sync_refused(job->place->sync, job->file);
}

static void on_uploaded(void *context, const struct api_answer *answer) {
    struct memory_job *job = context;
    struct memory_sync *sync = job->place->sync;
    struct memory_item item;
    bool is_update = job->step == MEMORY_UPDATE;
    job->call = NULL;
    if (answer->error == NULL && memory_item_read(answer->body, &item)) {
        memory_sync_settled(sync, job->file, item.sha256);
    } else if (answer->error == NULL) {
        warn(job, "the server's answer to its upload makes no sense", NULL);
    } else if (is_update && answer->status == 404) {
        memory_sync_orphaned(sync, job->file);
    } else if (is_update && answer->status == 409) {
        warn(job, "changed here and on the server meanwhile; the server's version will be kept",
             NULL);
    } else if (answer->status == 400 || answer->status == 413) {
        refuse(job, "the server refuses it; not synchronised until it changes", answer->error);
    } else {
        warn(job, "cannot be uploaded", answer->error);
    }
    job_end(job, NULL);
}

static void on_read_for_upload(void *context, const struct hand_file_status *status,
                               const char *bytes, size_t length, const struct error *error) {
    (void)status;
    struct memory_job *job = context;
    const struct memory_place *place = job->place;
    job->asked = NULL;
    if (error != NULL && error->code == ERROR_NOT_FOUND) {
        job_end(job, NULL);
        return;
    }
    if (error != NULL) {
        end_with(job, "cannot be read", error);
        return;
    }
    if (!utf8_is_valid(bytes, length)) {
        refuse(job, "is not UTF-8 text; not synchronised until it changes", NULL);
        job_end(job, NULL);
        return;
    }
    memory_digest(bytes, length, job->sha);
    memory_sync_sending(place->sync, job->file, job->sha);
    job->call = job->step == MEMORY_UPDATE
                    ? memory_update(place->api, place->store_id, job->file->remote_id, bytes,
                                    length, job->file->remote, on_uploaded, job)
                    : memory_create(place->api, place->store_id, job->file->path, bytes, length,
                                    on_uploaded, job);
}

/* Remove: a memory that the server no longer has. */

static void on_removed(void *context, bool changed, const struct error *error) {
    (void)changed;
    struct memory_job *job = context;
    job->asked = NULL;
    if (error != NULL) {
        end_with(job, "deleted on the server; the file cannot be removed", error);
        return;
    }
    memory_sync_gone(job->place->sync, job->file);
    job_end(job, NULL);
}

static void on_read_for_removal(void *context, const struct hand_file_status *status,
                                const char *bytes, size_t length, const struct error *error) {
    struct memory_job *job = context;
    const struct memory_place *place = job->place;
    (void)status;
    job->asked = NULL;
    if (error != NULL && error->code == ERROR_NOT_FOUND) {
        memory_sync_gone(place->sync, job->file);
        job_end(job, NULL);
        return;
    }
    if (error != NULL) {
        end_with(job, "cannot be read", error);
        return;
    }
    memory_digest(bytes, length, job->sha);
    if (strcmp(job->sha, job->file->base) == 0) {
        job->asked = hand_remove(place->hand, place->root, job->file->path, false, on_removed, job);
        return;
    }
    memory_sync_edited(place->sync, job->file, job->sha); /* since the scan: the only copy */
    job_end(job, NULL);
}

/* Delete: a file that is missing, and still so, in a folder that is still ours. */

static void on_deleted(void *context, const struct api_answer *answer) {
    struct memory_job *job = context;
    job->call = NULL;
    if (answer->error == NULL || answer->status == 404) {
        memory_sync_gone(job->place->sync, job->file);
        log_info("session %s: memory store %s: %s: deleted, as its file was",
                 job->place->session_id, job->place->store_id, job->file->path);
    } else if (answer->status == 409 || answer->status == 412) {
        warn(job, "deleted here but changed on the server; the server's version is kept", NULL);
    } else {
        warn(job, "cannot be deleted", answer->error);
    }
    job_end(job, NULL);
}

static void on_looked_for(void *context, const struct hand_file_status *status, const char *bytes,
                          size_t length, const struct error *error) {
    struct memory_job *job = context;
    const struct memory_place *place = job->place;
    (void)status;
    (void)bytes;
    (void)length;
    job->asked = NULL;
    if (error != NULL && !memory_error_is_of_file(error)) {
        job_end(job, error);
        return;
    }
    if (error == NULL || error->code != ERROR_NOT_FOUND) {
        memory_sync_reappeared(place->sync, job->file);
        job_end(job, NULL);
        return;
    }
    if (!memory_sync_take_deletion(place->sync)) {
        job_end(job, NULL);
        return;
    }
    job->call = memory_delete(place->api, place->store_id, job->file->remote_id, job->file->base,
                              on_deleted, job);
}

static void on_marker_read(void *context, const struct hand_file_status *status, const char *bytes,
                           size_t length, const struct error *error) {
    struct memory_job *job = context;
    const struct memory_place *place = job->place;
    (void)status;
    job->asked = NULL;
    if (error != NULL || !memory_marker_is(place->store_id, bytes, length)) {
        /* The folder is being wiped: that deletes no memory. */
        job_end(job, error == NULL || memory_error_is_of_file(error) ? NULL : error);
        return;
    }
    job->asked = hand_get(place->hand, place->root, job->file->path, 0, on_looked_for, job);
}

/* Which way each step begins. */

struct memory_job *memory_job_act(const struct memory_place *place, struct memory_file *file,
                                  enum memory_step step, memory_job_done done, void *owner) {
    struct memory_job *job = job_new(place, file, done, owner);
    job->step = step;
    switch (step) {
    case MEMORY_PULL:
        job->call =
            memory_retrieve(place->api, place->store_id, file->remote_id, on_retrieved, job);
        return job;
    case MEMORY_CREATE:
    case MEMORY_UPDATE:
        if (file->local[0] == '!') {
            refuse(job, "is too large; not synchronised until it changes", NULL);
            break;
        }
        job->asked = hand_get(place->hand, place->root, file->path, MEMORY_READ_LIMIT,
                              on_read_for_upload, job);
        return job;
    case MEMORY_REMOVE:
        job->asked = hand_get(place->hand, place->root, file->path, MEMORY_READ_LIMIT,
                              on_read_for_removal, job);
        return job;
    case MEMORY_DELETE:
        job->asked = hand_get(place->hand, place->root, MEMORY_MARKER, MEMORY_MARKER_LIMIT,
                              on_marker_read, job);
        return job;
    case MEMORY_NOTHING:
        break;
    }
    free(job);
    return NULL;
}
