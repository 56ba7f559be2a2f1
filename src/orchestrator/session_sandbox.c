/* The sandbox of a session: find, attach or replace, keep or destroy. */
#include "orchestrator/session_sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/random.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum { STATE_RETRY_MS = 1000 };

enum place_state {
    PLACE_FINDING,    /* the rows are asked */
    PLACE_ATTACHING,  /* keeper is asked for the one that the rows name */
    PLACE_DISCARDING, /* that one is gone: what is left of it is destroyed */
    PLACE_BEGINNING,  /* the row of a new one is written */
    PLACE_CREATING,   /* keeper makes it */
    PLACE_HELD,
    PLACE_KEEPING,    /* released, and left for the session's next item */
    PLACE_ENDING,     /* the row says that it ends */
    PLACE_DESTROYING, /* keeper destroys it */
    PLACE_RELEASED,
};

struct session_sandbox {
    enum place_state state;
    struct hands *hands;
    struct state *rows; /* or NULL */
    char *session_id;
    char name[STATE_ID_SIZE];
    enum session_sandbox_origin origin;
    bool is_in_transit;  /* an answer of hands is to come */
    bool is_let_go;      /* release was asked for while it was */
    bool is_live;        /* its row says so */
    bool is_unwanted;    /* it is looked for only to be destroyed */
    bool was_complained; /* about the rows, once */
    struct loop_timer *timer;
    struct session_sandbox_events events;
    void *context;
};

static void place_step(void *context);

static void go_to(struct session_sandbox *place, enum place_state state) {
    place->state = state;
    loop_timer_arm(place->timer, 0);
}

/* A row could not be read or written: the same step again, later. */
static void try_again(struct session_sandbox *place, const struct error *error) {
    if (!place->was_complained) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s waits: %s", place->session_id, text);
        place->was_complained = true;
    }
    loop_timer_arm(place->timer, STATE_RETRY_MS);
}

static void find(struct session_sandbox *place) {
    CLEANUP_ERROR struct error *error = NULL;
    struct state_sandbox row;
    bool is_found = false;
    if (place->rows == NULL || place->hands->operations->attach == NULL) {
        go_to(place, place->is_unwanted ? PLACE_RELEASED : PLACE_BEGINNING);
        return;
    }
    if (!state_sandbox_find(place->rows, place->session_id, &row, &is_found, &error)) {
        try_again(place, error);
        return;
    }
    if (!is_found) {
        go_to(place, place->is_unwanted ? PLACE_RELEASED : PLACE_BEGINNING);
        return;
    }
    memcpy(place->name, row.id, sizeof(row.id));
    if (place->is_unwanted) {
        go_to(place, PLACE_ENDING);
        return;
    }
    if (row.state == STATE_SANDBOX_CREATING) {
        go_to(place, PLACE_DISCARDING); /* never had a call: as if there had been none */
    } else if (!row.is_of_this_boot) {
        place->origin = SANDBOX_REBOOTED;
        go_to(place, PLACE_DISCARDING);
    } else {
        place->is_live = true;
        go_to(place, PLACE_ATTACHING);
    }
}

static void hold(struct session_sandbox *place, const struct hands_place *found, int take_fd) {
    place->state = PLACE_HELD;
    place->events.acquired(place->context, place->origin, found, take_fd, NULL);
}

static void on_attached(void *context, const struct hands_place *found, int take_fd,
                        const struct error *error) {
    struct session_sandbox *place = context;
    CLEANUP_CLOSE int fd = take_fd;
    place->is_in_transit = false;
    if (place->is_let_go) {
        loop_timer_arm(place->timer, 0);
        return;
    }
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: its sandbox %s is replaced: %s", place->session_id, place->name,
                 text);
        place->origin = SANDBOX_REPLACED;
        place->is_live = false;
        go_to(place, PLACE_DISCARDING);
        return;
    }
    place->origin = SANDBOX_RESUMED;
    struct hands_place resumed = *found;
    resumed.sandbox_id = place->name;
    hold(place, &resumed, STEAL_FD(fd));
}

static void on_discarded(void *context, const struct error *error) {
    struct session_sandbox *place = context;
    place->is_in_transit = false;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: %s", place->session_id, text);
    } else if (!state_sandbox_forget(place->rows, place->name, NULL)) {
        log_debug("sandbox %s: its row stays until the next reconciliation", place->name);
    }
    go_to(place, place->is_let_go ? PLACE_RELEASED : PLACE_BEGINNING);
}

static void discard(struct session_sandbox *place) {
    CLEANUP_ERROR struct error *error = NULL;
    if (!state_sandbox_ending(place->rows, place->name, &error)) {
        try_again(place, error);
        return;
    }
    place->is_in_transit = true;
    place->hands->operations->release(place->hands, place->name, on_discarded, place);
}

static void on_created(void *context, const struct hands_place *made, int take_fd,
                       const struct error *error) {
    struct session_sandbox *place = context;
    CLEANUP_CLOSE int fd = take_fd;
    place->is_in_transit = false;
    if (place->is_let_go) {
        loop_timer_arm(place->timer, 0);
        return;
    }
    if (error != NULL) {
        place->state = PLACE_HELD; /* what there may be of it is released by the owner */
        place->events.acquired(place->context, place->origin, made, -1, error);
        return;
    }
    struct hands_place found = *made;
    hold(place, &found, STEAL_FD(fd));
}

static void begin(struct session_sandbox *place) {
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_FREE char *name = random_id("sb-");
    memcpy(place->name, name, strlen(name) + 1);
    (void)FAULT_FAILS("sandbox.row.before");
    if (place->rows != NULL && !state_sandbox_begin(place->rows, place->name, place->session_id,
                                                    clock_wall_ms(), &error)) {
        try_again(place, error);
        return;
    }
    (void)FAULT_FAILS("sandbox.row.after");
    place->state = PLACE_CREATING;
    place->is_in_transit = true;
    place->hands->operations->acquire(place->hands, place->name, on_created, place);
}

static void on_destroyed(void *context, const struct error *error) {
    struct session_sandbox *place = context;
    place->is_in_transit = false;
    if (error == NULL && place->rows != NULL &&
        !state_sandbox_forget(place->rows, place->name, NULL)) {
        log_debug("sandbox %s: its row stays until the next reconciliation", place->name);
    }
    place->state = PLACE_RELEASED;
    place->events.released(place->context, error);
}

static void end(struct session_sandbox *place) {
    /* That the row cannot be written must not keep the sandbox alive: a restart destroys it too. */
    if (place->rows != NULL && !state_sandbox_ending(place->rows, place->name, NULL)) {
        log_debug("sandbox %s: its row does not say that it ends", place->name);
    }
    (void)FAULT_FAILS("sandbox.release.before");
    place->state = PLACE_DESTROYING;
    place->is_in_transit = true;
    place->hands->operations->release(place->hands, place->name, on_destroyed, place);
}

static void place_step(void *context) {
    struct session_sandbox *place = context;
    switch (place->state) {
    case PLACE_FINDING:
        find(place);
        break;
    case PLACE_ATTACHING:
        place->is_in_transit = true;
        place->hands->operations->attach(place->hands, place->name, on_attached, place);
        break;
    case PLACE_DISCARDING:
        discard(place);
        break;
    case PLACE_BEGINNING:
        begin(place);
        break;
    case PLACE_KEEPING:
        if (!state_sandbox_touch(place->rows, place->name, clock_wall_ms(), NULL)) {
            log_debug("sandbox %s: its last use could not be noted", place->name);
        }
        (void)FAULT_FAILS("sandbox.kept.after");
        place->state = PLACE_RELEASED;
        place->events.released(place->context, NULL);
        break;
    case PLACE_ENDING:
        end(place);
        break;
    case PLACE_RELEASED:
        place->events.released(place->context, NULL);
        break;
    case PLACE_CREATING:
    case PLACE_HELD:
    case PLACE_DESTROYING:
        break; /* answers carry on from here */
    }
}

struct session_sandbox *session_sandbox_acquire(struct loop *loop, struct hands *hands,
                                                struct state *state, const char *session_id,
                                                const struct session_sandbox_events *events,
                                                void *context) {
    struct session_sandbox *place = memory_new(struct session_sandbox);
    place->hands = hands;
    place->rows = state;
    place->session_id = memory_string(session_id);
    place->events = *events;
    place->context = context;
    place->timer = loop_timer_new(loop, place_step, place);
    place->state = PLACE_FINDING;
    loop_timer_arm(place->timer, 0);
    return place;
}

struct session_sandbox *session_sandbox_discard(struct loop *loop, struct hands *hands,
                                                struct state *state, const char *session_id,
                                                const struct session_sandbox_events *events,
                                                void *context) {
    struct session_sandbox *place =
        session_sandbox_acquire(loop, hands, state, session_id, events, context);
    place->is_unwanted = true;
    return place;
}

const char *session_sandbox_name(const struct session_sandbox *sandbox) {
    return sandbox->name;
}

bool session_sandbox_confirm(struct session_sandbox *sandbox, const char *incarnation,
                             struct error **error) {
    sandbox->is_live = sandbox->rows == NULL ||
                       state_sandbox_live(sandbox->rows, sandbox->name, incarnation, error);
    return sandbox->is_live;
}

void session_sandbox_release(struct session_sandbox *sandbox, bool is_kept) {
    bool has_one = sandbox->state != PLACE_FINDING && sandbox->state != PLACE_BEGINNING;
    sandbox->is_let_go = true;
    if (sandbox->state == PLACE_DISCARDING) {
        if (!sandbox->is_in_transit) {
            loop_timer_arm(sandbox->timer, 0);
        }
        return; /* on_discarded ends it */
    }
    if (!has_one) {
        sandbox->state = PLACE_RELEASED;
    } else if (is_kept && sandbox->is_live && sandbox->rows != NULL) {
        sandbox->state = PLACE_KEEPING;
    } else {
        sandbox->state = PLACE_ENDING;
    }
    if (!sandbox->is_in_transit) {
        loop_timer_arm(sandbox->timer, 0);
    }
}

void session_sandbox_free(struct session_sandbox *take_sandbox) {
    if (take_sandbox == NULL) {
        return;
    }
    loop_timer_free(take_sandbox->timer);
    free(take_sandbox->session_id);
    free(take_sandbox);
}
