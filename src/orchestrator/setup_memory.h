/*
 * The memory stores of a session: a part of its set-up (session_setup.h).
 *
 * Of interest outside the room: the interval of hands.h and its bounds.
 */
#ifndef HOLT_ORCHESTRATOR_SETUP_MEMORY_H
#define HOLT_ORCHESTRATOR_SETUP_MEMORY_H

#include "orchestrator/session_setup.h"

enum {
    MEMORY_SYNC_DEFAULT_MS = 15000,
    MEMORY_SYNC_LOWEST_MS = 5000, /* as the official worker's */
};

/* False with ERROR_INPUT for an interval that is neither 0 nor long enough. */
bool setup_memory_check_interval(int64_t interval_ms, struct error **error);

extern const struct session_setup_part setup_memory;

/*
 * What hand is told of a session's memory stores, before it is there: file tools may reach their
 * folders, and write and edit refuse those that are attached read-only.
 */
struct setup_memory_roots;

/* Extends the configuration by the stores of the session; both are borrowed for as long. */
struct setup_memory_roots *setup_memory_roots_new(struct json_object *session,
                                                  const struct hand_configuration *configuration);
const struct hand_configuration *
setup_memory_roots_configuration(const struct setup_memory_roots *roots);
void setup_memory_roots_free(struct setup_memory_roots *take_roots); /* NULL is fine */

#endif
