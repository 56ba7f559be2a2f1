/* Two tables and prepared statements; a failed write is logged once and ends persistence. */
#include "emulator/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

enum statement {
    STATEMENT_PUT,
    STATEMENT_DELETE,
    STATEMENT_ADD_EVENT,
    STATEMENT_DELETE_EVENTS,
    STATEMENT_EACH,
    STATEMENT_EVENTS,
    STATEMENT_COUNT,
};

#define PUT_TEXT                                                                                   \
    "INSERT INTO objects(kind, id, value) VALUES(?1, ?2, ?3) "                                     \
    "ON CONFLICT(kind, id) DO UPDATE SET value = ?3"

static const char *const statement_texts[STATEMENT_COUNT] = {
    [STATEMENT_PUT] = PUT_TEXT,
    [STATEMENT_DELETE] = "DELETE FROM objects WHERE kind = ?1 AND id = ?2",
    [STATEMENT_ADD_EVENT] = "INSERT INTO events(session, number, value) VALUES(?1, ?2, ?3)",
    [STATEMENT_DELETE_EVENTS] = "DELETE FROM events WHERE session = ?1",
    [STATEMENT_EACH] = "SELECT id, value FROM objects WHERE kind = ?1 ORDER BY rowid",
    [STATEMENT_EVENTS] = "SELECT session, value FROM events WHERE session = ?1 ORDER BY number",
};

static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    "CREATE TABLE IF NOT EXISTS objects(kind TEXT NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL,"
    " UNIQUE(kind, id));"
    "CREATE TABLE IF NOT EXISTS events(session TEXT NOT NULL, number INTEGER NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY(session, number)) WITHOUT ROWID;";

struct store {
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    bool is_in_transaction;
    bool has_failed;
};

static bool store_prepare(struct store *store, const char *path, struct error **error) {
    bool is_ready =
        sqlite3_open_v2(path, &store->database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) ==
            SQLITE_OK &&
        sqlite3_exec(store->database, schema, NULL, NULL, NULL) == SQLITE_OK;
    for (size_t i = 0; is_ready && i < STATEMENT_COUNT; i++) {
        is_ready = sqlite3_prepare_v2(store->database, statement_texts[i], -1,
                                      &store->statements[i], NULL) == SQLITE_OK;
    }
    return is_ready || error_set(error, ERROR_SYSTEM, "cannot open %s: %s", path,
                                 sqlite3_errmsg(store->database));
}

struct store *store_open(const char *directory, struct error **error) {
    if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
        (void)error_set_errno(error, errno, "cannot make the data directory %s", directory);
        return NULL;
    }
    CLEANUP_FREE char *path = memory_format("%s/emulator.db", directory);
    struct store *store = memory_new(struct store);
    /* The file holds keys: nobody else may read it. */
    mode_t mask = umask(077);
    bool is_ready = store_prepare(store, path, error);
    (void)umask(mask);
    if (!is_ready) {
        store_close(store);
        return NULL;
    }
    return store;
}

void store_close(struct store *take_store) {
    if (take_store == NULL) {
        return;
    }
    store_commit(take_store);
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        (void)sqlite3_finalize(take_store->statements[i]);
    }
    (void)sqlite3_close(take_store->database);
    free(take_store);
}

static void check(struct store *store, int result) {
    if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW || store->has_failed) {
        return;
    }
    store->has_failed = true;
    log_error("cannot write the data directory, state is in memory only from now on: %s",
              sqlite3_errmsg(store->database));
}

static void bind_text(struct store *store, enum statement which, int index, const char *text) {
    check(store, sqlite3_bind_text(store->statements[which], index, text, -1, SQLITE_TRANSIENT));
}

static void run(struct store *store, enum statement which) {
    if (!store->is_in_transaction) {
        check(store, sqlite3_exec(store->database, "BEGIN", NULL, NULL, NULL));
        store->is_in_transaction = true;
    }
    check(store, sqlite3_step(store->statements[which]));
    (void)sqlite3_reset(store->statements[which]);
    (void)sqlite3_clear_bindings(store->statements[which]);
}

void store_put(struct store *store, const char *kind, const char *id, struct json_object *value) {
    if (store == NULL) {
        return;
    }
    bind_text(store, STATEMENT_PUT, 1, kind);
    bind_text(store, STATEMENT_PUT, 2, id);
    bind_text(store, STATEMENT_PUT, 3, json_text(value, NULL));
    run(store, STATEMENT_PUT);
}

void store_delete(struct store *store, const char *kind, const char *id) {
    if (store == NULL) {
        return;
    }
    bind_text(store, STATEMENT_DELETE, 1, kind);
    bind_text(store, STATEMENT_DELETE, 2, id);
    run(store, STATEMENT_DELETE);
}

void store_add_event(struct store *store, const char *session_id, size_t index,
                     struct json_object *event) {
    if (store == NULL) {
        return;
    }
    bind_text(store, STATEMENT_ADD_EVENT, 1, session_id);
    check(store,
          sqlite3_bind_int64(store->statements[STATEMENT_ADD_EVENT], 2, (sqlite3_int64)index));
    bind_text(store, STATEMENT_ADD_EVENT, 3, json_text(event, NULL));
    run(store, STATEMENT_ADD_EVENT);
}

void store_delete_events(struct store *store, const char *session_id) {
    if (store == NULL) {
        return;
    }
    bind_text(store, STATEMENT_DELETE_EVENTS, 1, session_id);
    run(store, STATEMENT_DELETE_EVENTS);
}

void store_commit(struct store *store) {
    if (store == NULL || !store->is_in_transaction) {
        return;
    }
    check(store, sqlite3_exec(store->database, "COMMIT", NULL, NULL, NULL));
    store->is_in_transaction = false;
}

static struct json_object *column_json(sqlite3_stmt *statement) {
    const char *text = (const char *)sqlite3_column_text(statement, 1);
    struct json_object *value = NULL;
    if (text != NULL) {
        (void)json_parse(text, (size_t)sqlite3_column_bytes(statement, 1), &value, NULL);
    }
    return value;
}

void store_each(struct store *store, const char *kind,
                void (*visit)(void *context, const char *id, struct json_object *value),
                void *context) {
    if (store == NULL) {
        return;
    }
    sqlite3_stmt *statement = store->statements[STATEMENT_EACH];
    bind_text(store, STATEMENT_EACH, 1, kind);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        CLEANUP_JSON struct json_object *value = column_json(statement);
        visit(context, (const char *)sqlite3_column_text(statement, 0), value);
    }
    (void)sqlite3_reset(statement);
}

void store_load_events(struct store *store, const char *session_id, struct json_object *events) {
    if (store == NULL) {
        return;
    }
    sqlite3_stmt *statement = store->statements[STATEMENT_EVENTS];
    bind_text(store, STATEMENT_EVENTS, 1, session_id);
    while (sqlite3_step(statement) == SQLITE_ROW) {
        (void)json_object_array_add(events, column_json(statement));
    }
    (void)sqlite3_reset(statement);
}
