/*
 * The emulator's disk: JSON values by kind and id, and events by session, in SQLite (WAL).
 *
 * Writes gather in a transaction that store_commit ends, so that a crash leaves either all or none
 * of what one request did. A NULL store is fine everywhere and keeps nothing.
 */
#ifndef HOLT_EMULATOR_STORE_H
#define HOLT_EMULATOR_STORE_H

#include "base/error.h"
#include "base/json.h"

struct store;

/* Opens or creates DIRECTORY/emulator.db; makes the directory (0700) when it is missing. */
struct store *store_open(const char *directory, struct error **error);
void store_close(struct store *take_store);
void store_put(struct store *store, const char *kind, const char *id, struct json_object *value);
void store_delete(struct store *store, const char *kind, const char *id);
void store_add_event(struct store *store, const char *session_id, size_t index,
                     struct json_object *event);
void store_delete_events(struct store *store, const char *session_id);
void store_commit(struct store *store);
/* Calls `visit` for each value of a kind, in the order of creation. */
void store_each(struct store *store, const char *kind,
                void (*visit)(void *context, const char *id, struct json_object *value),
                void *context);
/* Appends a session's events, in order, to an array. */
void store_load_events(struct store *store, const char *session_id, struct json_object *events);

#endif
