/*
 * What a memory store and its folder have to do to be the same again: decisions only.
 *
 * Three views of each path: what the server lists, what the folder holds, and the base, which both
 * had when they were last the same. From these, step by step, the rules of the official worker
 * (docs/memory.md). Knows no network and no file system; contents are digests. The caller does what
 * is decided, in the order it is given, and tells how each went. Private to the room.
 *
 *   begin, remote and local for each path, decide; then for each file of next: do it, and tell.
 */
#ifndef HOLT_ORCHESTRATOR_MEMORY_SYNC_H
#define HOLT_ORCHESTRATOR_MEMORY_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "cma/memory_store.h"

enum {
    MEMORY_DELETE_WAIT_MS =
        30000,                /* how long a file must be missing before its memory is deleted */
    MEMORY_DELETES_FLOOR = 8, /* deletions of a pass: a quarter of the base within these */
    MEMORY_DELETES_CEILING = 50,
};

enum memory_mode {
    MEMORY_SYNC,  /* while the session runs */
    MEMORY_FINAL, /* its last: deletions do not wait */
    MEMORY_FLUSH, /* uploads only: nothing is deleted or written into the folder */
};

enum memory_step {
    MEMORY_NOTHING,
    MEMORY_CREATE, /* upload as a new memory */
    MEMORY_UPDATE, /* upload over `remote`, if that is what the server still has */
    MEMORY_REMOVE, /* remove the file if it still has the digest `base` */
    MEMORY_DELETE, /* delete the memory if the file is still missing and the server has `base` */
    MEMORY_PULL,   /* write the server's content to the folder */
};

/* What a person should hear of. */
enum memory_note {
    MEMORY_NO_NOTE,
    MEMORY_BOTH_CHANGED,   /* the server's version is kept */
    MEMORY_RESTORED,       /* deleted here, changed there: the server's version comes back */
    MEMORY_RECREATED,      /* deleted there, edited here: the file becomes a memory again */
    MEMORY_KEPT_READ_ONLY, /* deleted there, edited here, but the store is read-only: kept */
    MEMORY_LEFT_REMOTE,    /* both changed; a flush leaves the server's version alone */
};

/* Which version of a file was hashed, so that an unchanged one is not read again. */
struct memory_stamp {
    int64_t size;
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint64_t inode;
};

typedef char memory_sha[MEMORY_SHA256_SIZE]; /* "": none */

/* What is known of one path; to be read, and changed by the functions below. */
struct memory_file {
    char *path;
    char *remote_id; /* NULL: the server does not list it */
    memory_sha remote;
    memory_sha local;
    memory_sha base;
    memory_sha refused;        /* the content that the server will not take */
    memory_sha sent;           /* uploaded, and no answer heard yet */
    int64_t missing_since_ms;  /* 0: it is not missing, or nobody noticed */
    enum memory_step step;     /* decided, and not given to the caller yet */
    enum memory_note note;     /* of the decision */
    struct memory_stamp stamp; /* the caller's own: of `hashed` */
    memory_sha hashed;
};

struct memory_sync;

struct memory_sync *memory_sync_new(bool is_read_only);
void memory_sync_free(struct memory_sync *take_sync); /* NULL is fine */

/* Forgets everything but the hashes: the folder will be downloaded anew. */
void memory_sync_reset(struct memory_sync *sync);
/* A pass begins: forgets both listings. */
void memory_sync_begin(struct memory_sync *sync);
/* One path of a listing. The returned file lives until decide or reset. */
struct memory_file *memory_sync_remote(struct memory_sync *sync, const char *path, const char *id,
                                       const char *sha256);
/* `sha256` may be any text of the size of a digest that names the content. */
struct memory_file *memory_sync_local(struct memory_sync *sync, const char *path,
                                      const char *sha256);
/* The file of a path, or NULL. */
struct memory_file *memory_sync_find(struct memory_sync *sync, const char *path);

/* With the local listing only: whether a flush has anything to do. */
bool memory_sync_is_dirty(struct memory_sync *sync);
/*
 * Both listings are complete: decides. False when the folder lost every file at once (two or more),
 * which is a wiped folder and no deletion: then nothing is decided, and it must be downloaded
 * anew. `now_ms` is monotonic.
 */
bool memory_sync_decide(struct memory_sync *sync, enum memory_mode mode, int64_t now_ms);
/* The next file to act upon (its step says how), pulls last; NULL: none is left. */
struct memory_file *memory_sync_next(struct memory_sync *sync, enum memory_step *step);
/* How many files the last decision was about, one after the other; for notes. */
size_t memory_sync_count(const struct memory_sync *sync);
struct memory_file *memory_sync_at(const struct memory_sync *sync, size_t index);

/* How it went. What is not told changes nothing: the next pass decides again. */
/* The folder has the content of this digest, as has the server. */
void memory_sync_settled(struct memory_sync *sync, struct memory_file *file, const char *sha256);
/* Before an upload's request: its answer may get lost. */
void memory_sync_sending(struct memory_sync *sync, struct memory_file *file, const char *sha256);
/* The server, or a rule, refuses this content for good. */
void memory_sync_refused(struct memory_sync *sync, struct memory_file *file);
/* Neither side has it any more. */
void memory_sync_gone(struct memory_sync *sync, struct memory_file *file);
/* MEMORY_REMOVE found another content: this edit is the only copy. Decides what now; the file may
 * come again from memory_sync_next. */
void memory_sync_edited(struct memory_sync *sync, struct memory_file *file, const char *sha256);
/* MEMORY_UPDATE found no memory: the file is to be uploaded as a new one, now. */
void memory_sync_orphaned(struct memory_sync *sync, struct memory_file *file);
/* MEMORY_DELETE found the file: it is not missing. */
void memory_sync_reappeared(struct memory_sync *sync, struct memory_file *file);
/* May one more memory be deleted in this pass? */
bool memory_sync_take_deletion(struct memory_sync *sync);
/* Deletions that this pass has held back for the next. */
size_t memory_sync_held_deletions(const struct memory_sync *sync);

/* The base as {path: digest}, for a file that outlives us; and back, onto what is known. */
struct json_object *memory_sync_save(const struct memory_sync *sync);
void memory_sync_load(struct memory_sync *sync, struct json_object *base);
/* Whether the base changed since this was asked last. */
bool memory_sync_has_news(struct memory_sync *sync);

#endif
