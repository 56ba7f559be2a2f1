/* Tool calls: what may have been handed over, and what became of it. */
#include "state/database.h"

#include <openssl/evp.h>
#include <stdio.h>

enum { DIGEST_SIZE = 32 };

bool state_call_handed(struct state *state, const char *session_id, const char *id,
                       const char *name, const char *incarnation, int64_t now_ms,
                       struct error **error) {
    return database_run(state, STATEMENT_CALL_HANDED, error,
                        VALUES(value_text(session_id), value_text(id), value_text(name),
                               value_integer(STATE_CALL_HANDED), value_text(incarnation),
                               value_integer(now_ms)));
}

bool state_call_ended(struct state *state, const char *session_id, const char *id, bool is_error,
                      const char *result, size_t length, int64_t duration_us,
                      struct error **error) {
    unsigned char digest[DIGEST_SIZE];
    char text[2 * DIGEST_SIZE + 1] = "";
    if (EVP_Digest(result, length, digest, NULL, EVP_sha256(), NULL) > 0) {
        for (size_t i = 0; i < DIGEST_SIZE; i++) {
            (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
        }
    }
    return database_run(state, STATEMENT_CALL_ENDED, error,
                        VALUES(value_text(session_id), value_text(id),
                               value_integer(STATE_CALL_ENDED), value_integer(is_error),
                               value_text(text), value_integer(duration_us)));
}

bool state_call_posted(struct state *state, const char *session_id, const char *id, int64_t now_ms,
                       struct error **error) {
    return database_run(state, STATEMENT_CALL_POSTED, error,
                        VALUES(value_text(session_id), value_text(id),
                               value_integer(STATE_CALL_POSTED), value_integer(now_ms)));
}

bool state_call_find(struct state *state, const char *session_id, const char *id,
                     struct state_call *out, bool *is_found, struct error **error) {
    CLEANUP_ERROR struct error *failure = NULL;
    *is_found = false;
    if (!database_begin(state, STATEMENT_CALL_FIND, error,
                        VALUES(value_text(session_id), value_text(id)))) {
        return false;
    }
    if (database_next(state, STATEMENT_CALL_FIND, &failure)) {
        *is_found = true;
        out->state = (enum state_call_state)database_integer(state, STATEMENT_CALL_FIND, 0);
        (void)snprintf(out->incarnation, sizeof(out->incarnation), "%s",
                       database_text(state, STATEMENT_CALL_FIND, 1));
    }
    database_end(state, STATEMENT_CALL_FIND);
    if (failure != NULL && error != NULL) {
        *error = STEAL_PTR(failure);
        return false;
    }
    return failure == NULL;
}

bool state_calls_forget(struct state *state, const char *session_id, struct error **error) {
    return database_run(state, STATEMENT_CALLS_FORGET, error, VALUES(value_text(session_id)));
}
