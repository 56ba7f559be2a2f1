/* Where the daemon's unprivileged process keeps its state: DIR/front/holt.db. */
#ifndef HOLT_CMD_SERVE_STATE_H
#define HOLT_CMD_SERVE_STATE_H

#include "state/state.h"

/*
 * Makes DIR/front, which is front's alone, and opens the database in it as front: before the
 * privileges are given up, and usable after. `state_directory` exists.
 */
struct state *serve_state_open(const char *state_directory, struct error **error);

#endif
