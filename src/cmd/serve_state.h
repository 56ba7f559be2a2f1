/* Where the daemon keeps its state: the database DIR/holt.db, and DIR/front for its own files. */
#ifndef HOLT_CMD_SERVE_STATE_H
#define HOLT_CMD_SERVE_STATE_H

#include "state/state.h"

/*
 * Opens the database, and makes DIR/front, where the unprivileged process may have files. To be
 * called before the privileges are given up: SQLite opens everything that it needs at once, so that
 * the database works after that although it is root's, wherever it lies. `state_directory` exists.
 */
struct state *serve_state_open(const char *state_directory, struct error **error);

#endif
