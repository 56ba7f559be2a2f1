/* The schema, its migrations, and the statements. */
#include "state/database.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/memory.h"

enum { BUSY_TIMEOUT_MS = 2000 };

/* Each entry brings a database of version N (its index) to N + 1. Never change one: add one. */
static const char *const migrations[] = {
    "CREATE TABLE delivery(webhook_id TEXT PRIMARY KEY, received_ms INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE INDEX delivery_age ON delivery(received_ms);"
    "CREATE TABLE work_item(id TEXT PRIMARY KEY, environment_id TEXT NOT NULL,"
    " session_id TEXT NOT NULL, state INTEGER NOT NULL, sealed_bearer BLOB, api_base_url TEXT,"
    " acknowledged_at TEXT, last_heartbeat TEXT);"
    "CREATE INDEX work_item_session ON work_item(session_id);"
    "CREATE TABLE sandbox(id TEXT PRIMARY KEY, session_id TEXT NOT NULL, state INTEGER NOT NULL,"
    " incarnation TEXT NOT NULL DEFAULT '', boot_id TEXT NOT NULL, created_ms INTEGER NOT NULL,"
    " used_ms INTEGER NOT NULL);"
    "CREATE INDEX sandbox_session ON sandbox(session_id);"
    "CREATE TABLE tool_call(session_id TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,"
    " state INTEGER NOT NULL, incarnation TEXT NOT NULL, handed_ms INTEGER NOT NULL,"
    " is_error INTEGER, digest TEXT, duration_us INTEGER, posted_ms INTEGER,"
    " PRIMARY KEY(session_id, id)) WITHOUT ROWID;"
    "CREATE INDEX tool_call_age ON tool_call(handed_ms);",
};

enum { SCHEMA_VERSION = sizeof(migrations) / sizeof(migrations[0]) };

static const char *const texts[STATEMENT_COUNT] = {
    [STATEMENT_DELIVERY_NOTE] = "INSERT OR IGNORE INTO delivery VALUES(?1, ?2)",
    [STATEMENT_DELIVERY_PRUNE] = "DELETE FROM delivery WHERE received_ms < ?1",
    [STATEMENT_ITEM_CLAIM] = "INSERT OR REPLACE INTO work_item VALUES(?1, ?2, ?3, ?4, ?5, ?6,"
                             " NULL, NULL)",
    [STATEMENT_ITEM_ACKNOWLEDGE] = "UPDATE work_item SET state = ?2, acknowledged_at = ?3,"
                                   " last_heartbeat = NULL WHERE id = ?1",
    [STATEMENT_ITEM_BEAT] = "UPDATE work_item SET state = ?2, last_heartbeat = ?3 WHERE id = ?1",
    [STATEMENT_ITEM_STOPPING] = "UPDATE work_item SET state = ?2 WHERE id = ?1",
    [STATEMENT_ITEM_FORGET] = "DELETE FROM work_item WHERE id = ?1",
    [STATEMENT_ITEMS] = "SELECT id, session_id, state, sealed_bearer, api_base_url,"
                        " acknowledged_at, last_heartbeat FROM work_item"
                        " WHERE environment_id = ?1 ORDER BY rowid",
    [STATEMENT_SANDBOX_BEGIN] = "INSERT INTO sandbox VALUES(?1, ?2, ?3, '', ?4, ?5, ?5)",
    [STATEMENT_SANDBOX_LIVE] = "UPDATE sandbox SET state = ?2, incarnation = ?3 WHERE id = ?1",
    [STATEMENT_SANDBOX_TOUCH] = "UPDATE sandbox SET used_ms = ?2 WHERE id = ?1",
    [STATEMENT_SANDBOX_ENDING] = "UPDATE sandbox SET state = ?2 WHERE id = ?1",
    [STATEMENT_SANDBOX_RETIRE] = "UPDATE sandbox SET state = ?2 WHERE id = ?1 AND NOT EXISTS("
                                 "SELECT 1 FROM work_item"
                                 " WHERE work_item.session_id = sandbox.session_id)",
    [STATEMENT_SANDBOX_EXISTS] = "SELECT 1 FROM sandbox WHERE id = ?1",
    [STATEMENT_SANDBOX_FORGET] = "DELETE FROM sandbox WHERE id = ?1",
    [STATEMENT_SANDBOX_FIND] = "SELECT id, incarnation, state, boot_id, 1, used_ms FROM sandbox"
                               " WHERE session_id = ?1 AND state <> ?2"
                               " ORDER BY created_ms DESC LIMIT 1",
    [STATEMENT_SANDBOXES] = "SELECT id, incarnation, state, boot_id, EXISTS(SELECT 1 FROM work_item"
                            " WHERE work_item.session_id = sandbox.session_id), used_ms"
                            " FROM sandbox ORDER BY used_ms",
    /* A row that says "ended" or "posted" is never turned back. */
    [STATEMENT_CALL_HANDED] = "INSERT OR IGNORE INTO tool_call(session_id, id, name, state,"
                              " incarnation, handed_ms) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [STATEMENT_CALL_ENDED] = "UPDATE tool_call SET state = max(state, ?3), is_error = ?4,"
                             " digest = ?5, duration_us = ?6 WHERE session_id = ?1 AND id = ?2",
    [STATEMENT_CALL_POSTED] = "UPDATE tool_call SET state = ?3, posted_ms = ?4"
                              " WHERE session_id = ?1 AND id = ?2",
    [STATEMENT_CALL_FIND] = "SELECT state, incarnation FROM tool_call"
                            " WHERE session_id = ?1 AND id = ?2",
    [STATEMENT_CALLS_FORGET] = "DELETE FROM tool_call WHERE session_id = ?1",
    [STATEMENT_CALLS_PRUNE] = "DELETE FROM tool_call WHERE state = ?2 AND handed_ms < ?1",
};

static bool set_error(struct state *state, struct error **error) {
    int code = sqlite3_extended_errcode(state->database);
    return error_set(error, ERROR_UNAVAILABLE, "cannot write the state database: %s (%d)",
                     sqlite3_errmsg(state->database), code);
}

static int bind_one(sqlite3_stmt *statement, int index, const struct value *value) {
    switch (value->kind) {
    case VALUE_TEXT:
        return sqlite3_bind_text(statement, index, value->text, -1, SQLITE_TRANSIENT);
    case VALUE_INTEGER:
        return sqlite3_bind_int64(statement, index, value->integer);
    case VALUE_BYTES:
        return value->bytes->length == 0
                   ? sqlite3_bind_null(statement, index)
                   : sqlite3_bind_blob64(statement, index, value->bytes->data, value->bytes->length,
                                         SQLITE_TRANSIENT);
    }
    return SQLITE_MISUSE;
}

bool database_begin(struct state *state, enum statement which, struct error **error,
                    const struct value *values, size_t count) {
    sqlite3_stmt *statement = state->statements[which];
    for (size_t i = 0; i < count; i++) {
        if (bind_one(statement, (int)i + 1, &values[i]) != SQLITE_OK) {
            (void)sqlite3_reset(statement);
            return set_error(state, error);
        }
    }
    return true;
}

bool database_run(struct state *state, enum statement which, struct error **error,
                  const struct value *values, size_t count) {
    if (!database_begin(state, which, error, values, count)) {
        return false;
    }
    bool is_done = sqlite3_step(state->statements[which]) == SQLITE_DONE || set_error(state, error);
    database_end(state, which);
    return is_done;
}

bool database_next(struct state *state, enum statement which, struct error **error) {
    int result = sqlite3_step(state->statements[which]);
    if (result != SQLITE_ROW && result != SQLITE_DONE) {
        return set_error(state, error);
    }
    return result == SQLITE_ROW;
}

void database_end(struct state *state, enum statement which) {
    (void)sqlite3_reset(state->statements[which]);
    (void)sqlite3_clear_bindings(state->statements[which]);
}

const char *database_text(struct state *state, enum statement which, int column) {
    return (const char *)sqlite3_column_text(state->statements[which], column);
}

int64_t database_integer(struct state *state, enum statement which, int column) {
    return sqlite3_column_int64(state->statements[which], column);
}

void database_insist(struct state *state) {
    (void)sqlite3_exec(state->database, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
}

void database_relax(struct state *state) {
    (void)sqlite3_exec(state->database, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
}

/* Opening. */

static bool execute(struct state *state, const char *text, struct error **error) {
    return sqlite3_exec(state->database, text, NULL, NULL, NULL) == SQLITE_OK ||
           set_error(state, error);
}

static bool read_version(struct state *state, int *version, struct error **error) {
    sqlite3_stmt *statement = NULL;
    bool is_read = sqlite3_prepare_v2(state->database, "PRAGMA user_version", -1, &statement,
                                      NULL) == SQLITE_OK &&
                   sqlite3_step(statement) == SQLITE_ROW;
    *version = is_read ? sqlite3_column_int(statement, 0) : 0;
    (void)sqlite3_finalize(statement);
    return is_read || set_error(state, error);
}

static bool migrate(struct state *state, struct error **error) {
    int version = 0;
    if (!read_version(state, &version, error)) {
        return false;
    }
    if (version < 0 || version > SCHEMA_VERSION) {
        return error_set(error, ERROR_UNSUPPORTED,
                         "its schema has version %d and this holt knows up to %d: start the newer "
                         "holt, or move the file away",
                         version, (int)SCHEMA_VERSION);
    }
    for (; version < SCHEMA_VERSION; version++) {
        CLEANUP_FREE char *done = memory_format("PRAGMA user_version=%d; COMMIT", version + 1);
        if (!execute(state, "BEGIN IMMEDIATE", error) ||
            !execute(state, migrations[version], error) || !execute(state, done, error)) {
            return false; /* closing rolls back */
        }
    }
    return true;
}

static bool prepare(struct state *state, struct error **error) {
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        if (sqlite3_prepare_v3(state->database, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &state->statements[i], NULL) != SQLITE_OK) {
            return set_error(state, error);
        }
    }
    return true;
}

static bool read_boot_id(struct state *state, struct error **error) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &text, STATE_ID_SIZE, error)) {
        return false;
    }
    size_t length = strcspn(buffer_string(&text), "\n");
    length = length < sizeof(state->boot_id) ? length : sizeof(state->boot_id) - 1;
    memcpy(state->boot_id, buffer_string(&text), length);
    return true;
}

static bool open_all(struct state *state, const char *path, struct error **error) {
    if (sqlite3_open_v2(path, &state->database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
        SQLITE_OK) {
        return set_error(state, error);
    }
    (void)sqlite3_busy_timeout(state->database, BUSY_TIMEOUT_MS);
    return execute(state,
                   "PRAGMA temp_store=MEMORY; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
                   error) &&
           migrate(state, error) && prepare(state, error) && read_boot_id(state, error);
}

struct state *state_open(const char *path, struct error **error) {
    struct state *state = memory_new(struct state);
    mode_t mask = umask(077);
    bool is_open = open_all(state, path, error);
    (void)umask(mask);
    if (!is_open) {
        (void)error_wrap(error, "cannot open the state database %s", path);
        state_close(state);
        return NULL;
    }
    return state;
}

void state_close(struct state *take_state) {
    if (take_state == NULL) {
        return;
    }
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        (void)sqlite3_finalize(take_state->statements[i]);
    }
    (void)sqlite3_close(take_state->database);
    free(take_state);
}
