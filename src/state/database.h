/*
 * Statements of the state database, prepared once, bound by a format string. Private to src/state.
 *
 * A format has one letter a parameter: t text or NULL (const char *), i integer (int64_t), b blob
 * (const struct buffer *, empty: NULL).
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

/* Runs a statement that returns no rows. */
bool database_run(struct state *state, enum statement which, struct error **error,
                  const char *format, ...);
/* Binds a query, to be stepped with database_next and ended with database_end. */
bool database_begin(struct state *state, enum statement which, struct error **error,
                    const char *format, ...);
/* True while there is a row; false with *error set only on a failure. */
bool database_next(struct state *state, enum statement which, struct error **error);
void database_end(struct state *state, enum statement which);
const char *database_text(struct state *state, enum statement which, int column); /* or NULL */
int64_t database_integer(struct state *state, enum statement which, int column);
/* From here to database_relax each commit waits until the disk has it. */
void database_insist(struct state *state);
void database_relax(struct state *state);

#endif
