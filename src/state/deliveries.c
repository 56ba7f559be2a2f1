/* Webhook deliveries, each noted once, and the forgetting of what is past use. */
#include "state/database.h"

/* Longer than any sender retries a delivery; calls are kept a week, for whoever asks what ran. */
static const int64_t delivery_horizon_ms = 3LL * 24 * 3600 * 1000;
static const int64_t call_horizon_ms = 7LL * 24 * 3600 * 1000;

bool state_delivery_note(struct state *state, const char *webhook_id, int64_t now_ms, bool *is_new,
                         struct error **error) {
    if (!database_run(state, STATEMENT_DELIVERY_NOTE, error,
                      VALUES(value_text(webhook_id), value_integer(now_ms)))) {
        return false;
    }
    *is_new = sqlite3_changes(state->database) > 0;
    return true;
}

bool state_prune(struct state *state, int64_t now_ms, struct error **error) {
    return database_run(state, STATEMENT_DELIVERY_PRUNE, error,
                        VALUES(value_integer(now_ms - delivery_horizon_ms))) &&
           database_run(
               state, STATEMENT_CALLS_PRUNE, error,
               VALUES(value_integer(now_ms - call_horizon_ms), value_integer(STATE_CALL_POSTED)));
}
