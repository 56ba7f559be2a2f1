/* Work items and what is known of their leases. */
#include "state/database.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "state/sealed.h"

#define LOG_ROOM "state"
#include "base/log.h"

bool state_item_claim(struct state *state, const struct state_item *item, const char *seal_key,
                      struct error **error) {
    CLEANUP_BUFFER struct buffer sealed = BUFFER_EMPTY;
    if (item->bearer != NULL && !sealed_write(&sealed, seal_key, item->id, item->bearer, error)) {
        return false;
    }
    return database_run(state, STATEMENT_ITEM_CLAIM, error,
                        VALUES(value_text(item->id), value_text(item->environment_id),
                               value_text(item->session_id), value_integer(STATE_ITEM_CLAIMED),
                               value_bytes(&sealed), value_text(item->api_base_url)));
}

bool state_item_acknowledge(struct state *state, const char *id, const char *acknowledged_at,
                            struct error **error) {
    return database_run(state, STATEMENT_ITEM_ACKNOWLEDGE, error,
                        VALUES(value_text(id), value_integer(STATE_ITEM_ACKNOWLEDGED),
                               value_text(acknowledged_at)));
}

bool state_item_beat(struct state *state, const char *id, const char *last_heartbeat,
                     struct error **error) {
    return database_run(
        state, STATEMENT_ITEM_BEAT, error,
        VALUES(value_text(id), value_integer(STATE_ITEM_HELD), value_text(last_heartbeat)));
}

bool state_item_stopping(struct state *state, const char *id, struct error **error) {
    return database_run(state, STATEMENT_ITEM_STOPPING, error,
                        VALUES(value_text(id), value_integer(STATE_ITEM_STOPPING)));
}

bool state_item_forget(struct state *state, const char *id, struct error **error) {
    return database_run(state, STATEMENT_ITEM_FORGET, error, VALUES(value_text(id)));
}

/* A row as copies, so that `each` may write to the table. */
struct row {
    char *id;
    char *session_id;
    char *bearer;
    char *api_base_url;
    char *acknowledged_at;
    char *last_heartbeat;
    enum state_item_state state;
    bool is_sealed_shut;
    struct row *next;
};

static char *copy(struct state *state, int column) {
    const char *text = database_text(state, STATEMENT_ITEMS, column);
    return text == NULL ? NULL : memory_string(text);
}

static struct row *read_row(struct state *state, const char *seal_key) {
    struct row *row = memory_new(struct row);
    row->id = copy(state, 0);
    row->session_id = copy(state, 1);
    row->state = (enum state_item_state)database_integer(state, STATEMENT_ITEMS, 2);
    row->api_base_url = copy(state, 4);
    row->acknowledged_at = copy(state, 5);
    row->last_heartbeat = copy(state, 6);
    sqlite3_stmt *statement = state->statements[STATEMENT_ITEMS];
    int length = sqlite3_column_bytes(statement, 3);
    if (length > 0) {
        row->bearer =
            sealed_read(sqlite3_column_blob(statement, 3), (size_t)length, seal_key, row->id);
        row->is_sealed_shut = row->bearer == NULL;
    }
    return row;
}

static void free_row(struct row *take_row) {
    if (take_row->bearer != NULL) {
        memory_wipe(take_row->bearer, strlen(take_row->bearer));
    }
    free(take_row->bearer);
    free(take_row->id);
    free(take_row->session_id);
    free(take_row->api_base_url);
    free(take_row->acknowledged_at);
    free(take_row->last_heartbeat);
    free(take_row);
}

bool state_items_each(struct state *state, const char *environment_id, const char *seal_key,
                      void (*each)(void *context, const struct state_item *item), void *context,
                      struct error **error) {
    struct row *first = NULL;
    struct row **link = &first;
    if (!database_begin(state, STATEMENT_ITEMS, error, VALUES(value_text(environment_id)))) {
        return false;
    }
    CLEANUP_ERROR struct error *failure = NULL;
    while (database_next(state, STATEMENT_ITEMS, &failure)) {
        *link = read_row(state, seal_key);
        link = &(*link)->next;
    }
    database_end(state, STATEMENT_ITEMS);
    while (first != NULL) {
        struct row *row = first;
        first = row->next;
        if (row->is_sealed_shut) {
            log_warn("work %s was claimed with another environment key: it is left to its lease",
                     row->id);
            (void)state_item_forget(state, row->id, NULL);
        } else if (failure == NULL) {
            each(context, &(struct state_item){.id = row->id,
                                               .environment_id = environment_id,
                                               .session_id = row->session_id,
                                               .state = row->state,
                                               .bearer = row->bearer,
                                               .api_base_url = row->api_base_url,
                                               .acknowledged_at = row->acknowledged_at,
                                               .last_heartbeat = row->last_heartbeat});
        }
        free_row(row);
    }
    if (failure != NULL && error != NULL) {
        *error = STEAL_PTR(failure);
        return false;
    }
    return failure == NULL;
}
