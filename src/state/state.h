/*
 * The daemon's durable state: what it is about to do, as rows of one SQLite database.
 *
 * A step is a row before it is an action, so that a daemon that was killed anywhere continues. WAL:
 * a commit survives the death of the process; the row of a new sandbox is also synchronised to
 * disk, the others are not (a machine that went down took their sandboxes with it, which the row of
 * the sandbox tells by its boot id). Nothing but front writes to it. Functions return false with
 * *error when the row could not be written (a full disk, a read-only file): the action must then
 * not happen. Tokens of work items are sealed with a key made from the environment key, and never
 * readable in the file.
 */
#ifndef HOLT_STATE_STATE_H
#define HOLT_STATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct state;

/* Opens or makes the database at `path` (mode 0600), migrating an older schema. A newer one, or a
 * file that is no database, is an error that says what to do. */
struct state *state_open(const char *path, struct error **error);
void state_close(struct state *take_state); /* NULL is fine */
/* Forgets what is past use: deliveries after their retry horizon, calls answered days ago. */
bool state_prune(struct state *state, int64_t now_ms, struct error **error);

/* Deliveries of webhooks. */

/* Notes a delivery by its webhook-id; *is_new is false when it was noted before. */
bool state_delivery_note(struct state *state, const char *webhook_id, int64_t now_ms, bool *is_new,
                         struct error **error);

/* Work items and their leases. */

enum state_item_state {
    STATE_ITEM_CLAIMED = 1,  /* a poll handed it out; the acknowledgement may have been sent */
    STATE_ITEM_ACKNOWLEDGED, /* ours; a first beat may have been sent */
    STATE_ITEM_HELD,         /* beats were answered: last_heartbeat is the newest known */
    STATE_ITEM_STOPPING,     /* done; the stop may have been sent */
};

struct state_item {
    const char *id;
    const char *environment_id;
    const char *session_id;
    enum state_item_state state;
    const char *bearer;          /* the item's own token, or NULL */
    const char *api_base_url;    /* or NULL */
    const char *acknowledged_at; /* as the control plane said it, or NULL */
    const char *last_heartbeat;  /* verbatim, or NULL */
};

/* Writes a claimed item over an older row of the same id. `seal_key` is the environment key. */
bool state_item_claim(struct state *state, const struct state_item *item, const char *seal_key,
                      struct error **error);
bool state_item_acknowledge(struct state *state, const char *id, const char *acknowledged_at,
                            struct error **error);
bool state_item_beat(struct state *state, const char *id, const char *last_heartbeat,
                     struct error **error);
bool state_item_stopping(struct state *state, const char *id, struct error **error);
bool state_item_forget(struct state *state, const char *id, struct error **error);
/*
 * Calls `each` for every item of an environment, oldest first; strings live during the call. An
 * item whose token cannot be unsealed with this key is forgotten: its lease lapses and it comes
 * back by itself.
 */
bool state_items_each(struct state *state, const char *environment_id, const char *seal_key,
                      void (*each)(void *context, const struct state_item *item), void *context,
                      struct error **error);

/* Sandboxes. */

enum state_sandbox_state {
    STATE_SANDBOX_CREATING = 1, /* keeper may have been asked */
    STATE_SANDBOX_LIVE,         /* its hand answered: incarnation is known */
    STATE_SANDBOX_ENDING,       /* to be destroyed, if it still exists */
};

enum { STATE_ID_SIZE = 64 };

struct state_sandbox {
    char id[STATE_ID_SIZE];
    char incarnation[STATE_ID_SIZE + 1]; /* of its hand; "" unless live */
    enum state_sandbox_state state;
    bool is_of_this_boot; /* else the machine went down since, and it with it */
    bool is_in_use;       /* its session has a work item here */
    int64_t used_ms;      /* wall clock: when its last item ended */
};

bool state_sandbox_begin(struct state *state, const char *id, const char *session_id,
                         int64_t now_ms, struct error **error);
bool state_sandbox_live(struct state *state, const char *id, const char *incarnation,
                        struct error **error);
bool state_sandbox_touch(struct state *state, const char *id, int64_t now_ms, struct error **error);
bool state_sandbox_ending(struct state *state, const char *id, struct error **error);
/* As state_sandbox_ending, unless its session has a work item; an id without a row is retired. */
bool state_sandbox_retire(struct state *state, const char *id, bool *is_retired,
                          struct error **error);
bool state_sandbox_forget(struct state *state, const char *id, struct error **error);
/* The session's newest sandbox that is not ending. *is_found says whether there is one. */
bool state_sandbox_find(struct state *state, const char *session_id, struct state_sandbox *out,
                        bool *is_found, struct error **error);
/* Every row, least recently used first, copied into an array that the caller frees. */
bool state_sandboxes(struct state *state, struct state_sandbox **out, size_t *count,
                     struct error **error);

/* Tool calls. */

enum state_call_state {
    STATE_CALL_HANDED = 1, /* hand may have it */
    STATE_CALL_ENDED,      /* hand answered; its result may have been posted */
    STATE_CALL_POSTED,     /* the control plane took the result */
};

struct state_call {
    enum state_call_state state;
    char incarnation[STATE_ID_SIZE + 1]; /* of the hand that it was handed to */
};

bool state_call_handed(struct state *state, const char *session_id, const char *id,
                       const char *name, const char *incarnation, int64_t now_ms,
                       struct error **error);
/* `result` is digested, not kept. */
bool state_call_ended(struct state *state, const char *session_id, const char *id, bool is_error,
                      const char *result, size_t length, int64_t duration_us, struct error **error);
bool state_call_posted(struct state *state, const char *session_id, const char *id, int64_t now_ms,
                       struct error **error);
bool state_call_find(struct state *state, const char *session_id, const char *id,
                     struct state_call *out, bool *is_found, struct error **error);
/* The session is over for good. */
bool state_calls_forget(struct state *state, const char *session_id, struct error **error);

#endif
