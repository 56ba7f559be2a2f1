/*
 * One path of a memory store on its way: hashed, uploaded, pulled, removed or deleted.
 *
 * Each job is a few operations of hand and requests of the API, one after the other; what came of
 * it is told to the memory_sync. Trouble with the path or the server is logged and ends the job
 * regularly: the next pass decides again. Private to the room.
 */
#ifndef HOLT_ORCHESTRATOR_MEMORY_JOB_H
#define HOLT_ORCHESTRATOR_MEMORY_JOB_H

#include "cma/api.h"
#include "hand/operations.h"
#include "orchestrator/memory_sync.h"

enum {
    /* A larger file is not read: it is no memory (their limit is 100 kB), only another content. */
    MEMORY_READ_LIMIT = 1 << 20,
    MEMORY_FILE_MODE = 0600, /* as the official worker's */
    MEMORY_MARKER_LIMIT = 512,
};

/* What the jobs of one store have in common; outlives them. */
struct memory_place {
    struct api *api;
    struct hand_client *hand;
    struct memory_sync *sync;
    char *session_id; /* for logs */
    char *store_id;
    char *root;
};

struct memory_job;

/* Called once, from the loop, when the job is over; it frees itself after it. `error`: hand is of
 * no use any more, so that the pass cannot go on. */
typedef void (*memory_job_done)(void *owner, struct memory_job *job, const struct error *error);

/* A listed file that has to be read. */
struct memory_unread {
    struct memory_file *file;
    struct memory_stamp stamp;
    bool may_cache; /* it is old enough that its times tell a later change */
};
/* Reads listed files and tells their digests. `unread` must outlive the job. */
struct memory_job *memory_job_hash(const struct memory_place *place,
                                   const struct memory_unread *unread, size_t count,
                                   memory_job_done done, void *owner);
/* Writes a content that a list brought. */
struct memory_job *memory_job_store(const struct memory_place *place, struct memory_file *file,
                                    const struct memory_item *item, memory_job_done done,
                                    void *owner);
/* Does what memory_sync_next said. NULL: there is nothing to wait for, it is done. */
struct memory_job *memory_job_act(const struct memory_place *place, struct memory_file *file,
                                  enum memory_step step, memory_job_done done, void *owner);
/* No callback any more. */
void memory_job_cancel(struct memory_job *take_job);

/* The content of a store's marker; the caller frees it. */
char *memory_marker_text(const char *store_id);
bool memory_marker_is(const char *store_id, const char *bytes, size_t length);
/* Stands for the digest of a file that is too large to be read. */
void memory_large_digest(const struct memory_stamp *stamp, memory_sha sha);
struct memory_stamp memory_stamp_of(const struct hand_file_status *status);
bool memory_stamp_is(const struct memory_stamp *stamp, const struct memory_stamp *other);
/* Whether an error of an operation is about the file, not about hand. */
bool memory_error_is_of_file(const struct error *error);

#endif
