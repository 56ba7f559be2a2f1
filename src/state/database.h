/*
 * Statements of the state database, prepared once. Private to src/state.
 */
#ifndef HOLT_STATE_DATABASE_H
#define HOLT_STATE_DATABASE_H

#include <sqlite3.h>

#include "base/buffer.h"
#include "base/error.h"
#include "state/state.h"

enum statement {
    STATEMENT_DELIVERY_NOTE,
    STATEMENT_DELIVERY_PRUNE,
    STATEMENT_ITEM_CLAIM,
    STATEMENT_ITEM_ACKNOWLEDGE,
    STATEMENT_ITEM_BEAT,
    STATEMENT_ITEM_STOPPING,
    STATEMENT_ITEM_FORGET,
    STATEMENT_ITEMS,
    STATEMENT_SANDBOX_BEGIN,
    STATEMENT_SANDBOX_LIVE,
    STATEMENT_SANDBOX_TOUCH,
    STATEMENT_SANDBOX_ENDING,
    STATEMENT_SANDBOX_RETIRE,
    STATEMENT_SANDBOX_EXISTS,
    STATEMENT_SANDBOX_FORGET,
    STATEMENT_SANDBOX_FIND,
    STATEMENT_SANDBOXES,
    STATEMENT_CALL_HANDED,
    STATEMENT_CALL_ENDED,
    STATEMENT_CALL_POSTED,
    STATEMENT_CALL_FIND,
    STATEMENT_CALLS_FORGET,
    STATEMENT_CALLS_PRUNE,
    STATEMENT_COUNT,
};

struct state {
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    char boot_id[STATE_ID_SIZE]; /* of this boot of the machine: random/boot_id in proc(5) */
};

/* A parameter of a statement; what it points to is borrowed during the call. */
struct value {
    enum { VALUE_TEXT, VALUE_INTEGER, VALUE_BYTES } kind;
    const char *text;           /* or NULL */
    const struct buffer *bytes; /* empty: NULL */
    int64_t integer;
};

static inline struct value value_text(const char *text) {
    return (struct value){.kind = VALUE_TEXT, .text = text};
}

static inline struct value value_integer(int64_t integer) {
    return (struct value){.kind = VALUE_INTEGER, .integer = integer};
}

static inline struct value value_bytes(const struct buffer *bytes) {
    return (struct value){.kind = VALUE_BYTES, .bytes = bytes};
}

/* Two arguments: the values in the order of the statement's parameters, and how many they are. */
#define VALUES(...)                                                                                \
    (const struct value[]){__VA_ARGS__},                                                           \
        sizeof((const struct value[]){__VA_ARGS__}) / sizeof(struct value)

/* Runs a statement that returns no rows. */
bool database_run(struct state *state, enum statement which, struct error **error,
                  const struct value *values, size_t count);
/* Binds a query, to be stepped with database_next and ended with database_end. */
bool database_begin(struct state *state, enum statement which, struct error **error,
                    const struct value *values, size_t count);
/* True while there is a row; false with *error set only on a failure. */
bool database_next(struct state *state, enum statement which, struct error **error);
void database_end(struct state *state, enum statement which);
const char *database_text(struct state *state, enum statement which, int column); /* or NULL */
int64_t database_integer(struct state *state, enum statement which, int column);
/* From here to database_relax each commit waits until the disk has it. */
void database_insist(struct state *state);
void database_relax(struct state *state);

#endif
