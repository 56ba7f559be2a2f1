/*
 * One memory store and its folder in the sandbox: opened at the start, made the same again by
 * passes, all through hand and the API.
 *
 * The folder is trusted only while its marker names the store. A pass that fails is logged and
 * leaves the rest to the next; only opening can fail for the session. Bounded: FOLDER_JOBS_LIMIT
 * contents of at most a megabyte, or one page of the server's list, are in memory at a time, and
 * what is known of each path. Private to the room.
 *
 * What both sides had last (the base) is kept beside the folder, in .holt-memory-<store id>, so
 * that a daemon that was restarted, or a sandbox that is used again, knows an edit from a deletion.
 */
#ifndef HOLT_ORCHESTRATOR_MEMORY_FOLDER_H
#define HOLT_ORCHESTRATOR_MEMORY_FOLDER_H

#include "cma/api.h"
#include "hand/client.h"
#include "orchestrator/memory_sync.h"

#define MEMORY_MARKER ".anthropic-memory-store"

struct memory_folder;

struct memory_folder_options {
    struct api *api; /* with the sessions token; borrowed, as is all here */
    struct hand_client *hand;
    const char *session_id; /* for logs */
    const char *store_id;
    const char *root; /* absolute and normal */
    bool is_read_only;
    /* The pass, or the opening, is over; `error` only of an opening. Called from the loop. */
    void (*done)(void *owner, struct memory_folder *folder, const struct error *error);
    void *owner;
};

/* Copies the strings. */
struct memory_folder *memory_folder_new(const struct memory_folder_options *options);
/* Cancels what is under way. NULL is fine. */
void memory_folder_free(struct memory_folder *take_folder);

bool memory_folder_is_busy(const struct memory_folder *folder);
/*
 * Downloads the store into a folder that is not there, or empty; one that is there and marked as
 * this store's is taken over with a first pass. Anything else is an error. Once, first, and only
 * when not busy, as each of these:
 */
void memory_folder_open(struct memory_folder *folder);
void memory_folder_sync(struct memory_folder *folder, enum memory_mode mode);
/* Removes the folder, unless its marker is not ours or it holds what the server does not have. */
void memory_folder_remove(struct memory_folder *folder);
/* Gives a pass up, without `done`. */
void memory_folder_cancel(struct memory_folder *folder);

#endif
