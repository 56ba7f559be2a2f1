/* Sandboxes: a row before the thing, and after it. */
#include "state/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

bool state_sandbox_begin(struct state *state, const char *id, const char *session_id,
                         int64_t now_ms, struct error **error) {
    /* Should the machine go down, this row is what says that calls may have been handed over. */
    database_insist(state);
    bool is_written = database_run(state, STATEMENT_SANDBOX_BEGIN, error,
                                   VALUES(value_text(id), value_text(session_id),
                                          value_integer(STATE_SANDBOX_CREATING),
                                          value_text(state->boot_id), value_integer(now_ms)));
    database_relax(state);
    return is_written;
}

bool state_sandbox_live(struct state *state, const char *id, const char *incarnation,
                        struct error **error) {
    return database_run(
        state, STATEMENT_SANDBOX_LIVE, error,
        VALUES(value_text(id), value_integer(STATE_SANDBOX_LIVE), value_text(incarnation)));
}

bool state_sandbox_touch(struct state *state, const char *id, int64_t now_ms,
                         struct error **error) {
    return database_run(state, STATEMENT_SANDBOX_TOUCH, error,
                        VALUES(value_text(id), value_integer(now_ms)));
}

bool state_sandbox_ending(struct state *state, const char *id, struct error **error) {
    return database_run(state, STATEMENT_SANDBOX_ENDING, error,
                        VALUES(value_text(id), value_integer(STATE_SANDBOX_ENDING)));
}

bool state_sandbox_retire(struct state *state, const char *id, bool *is_retired,
                          struct error **error) {
    CLEANUP_ERROR struct error *failure = NULL;
    if (!database_run(state, STATEMENT_SANDBOX_RETIRE, error,
                      VALUES(value_text(id), value_integer(STATE_SANDBOX_ENDING)))) {
        return false;
    }
    *is_retired = sqlite3_changes(state->database) > 0;
    if (*is_retired ||
        !database_begin(state, STATEMENT_SANDBOX_EXISTS, error, VALUES(value_text(id)))) {
        return *is_retired;
    }
    *is_retired = !database_next(state, STATEMENT_SANDBOX_EXISTS, &failure);
    database_end(state, STATEMENT_SANDBOX_EXISTS);
    if (failure != NULL && error != NULL) {
        *error = STEAL_PTR(failure);
        return false;
    }
    return failure == NULL;
}

bool state_sandbox_forget(struct state *state, const char *id, struct error **error) {
    return database_run(state, STATEMENT_SANDBOX_FORGET, error, VALUES(value_text(id)));
}

static void read_sandbox(struct state *state, enum statement which, struct state_sandbox *out) {
    const char *boot_id = database_text(state, which, 3);
    *out = (struct state_sandbox){
        .state = (enum state_sandbox_state)database_integer(state, which, 2),
        .is_of_this_boot = boot_id != NULL && strcmp(boot_id, state->boot_id) == 0,
        .is_in_use = database_integer(state, which, 4) != 0,
        .used_ms = database_integer(state, which, 5),
    };
    (void)snprintf(out->id, sizeof(out->id), "%s", database_text(state, which, 0));
    (void)snprintf(out->incarnation, sizeof(out->incarnation), "%s",
                   database_text(state, which, 1));
}

bool state_sandbox_find(struct state *state, const char *session_id, struct state_sandbox *out,
                        bool *is_found, struct error **error) {
    CLEANUP_ERROR struct error *failure = NULL;
    *is_found = false;
    if (!database_begin(state, STATEMENT_SANDBOX_FIND, error,
                        VALUES(value_text(session_id), value_integer(STATE_SANDBOX_ENDING)))) {
        return false;
    }
    if (database_next(state, STATEMENT_SANDBOX_FIND, &failure)) {
        read_sandbox(state, STATEMENT_SANDBOX_FIND, out);
        *is_found = true;
    }
    database_end(state, STATEMENT_SANDBOX_FIND);
    if (failure != NULL && error != NULL) {
        *error = STEAL_PTR(failure);
        return false;
    }
    return failure == NULL;
}

bool state_sandboxes(struct state *state, struct state_sandbox **out, size_t *count,
                     struct error **error) {
    CLEANUP_ERROR struct error *failure = NULL;
    CLEANUP_FREE struct state_sandbox *rows = NULL;
    size_t capacity = 0;
    *count = 0;
    if (!database_begin(state, STATEMENT_SANDBOXES, error, NULL, 0)) {
        return false;
    }
    while (database_next(state, STATEMENT_SANDBOXES, &failure)) {
        if (*count == capacity) {
            capacity = capacity * 2 + 16;
            rows = memory_resize(rows, capacity, sizeof(*rows));
        }
        read_sandbox(state, STATEMENT_SANDBOXES, &rows[(*count)++]);
    }
    database_end(state, STATEMENT_SANDBOXES);
    if (failure != NULL) {
        *count = 0;
        if (error != NULL) {
            *error = STEAL_PTR(failure);
        }
        return false;
    }
    *out = STEAL_PTR(rows);
    return true;
}
