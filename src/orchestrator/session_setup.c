/* A table of parts, started in order and finished in reverse. */
#include "orchestrator/session_setup.h"

#include <stdlib.h>

#include "base/memory.h"
#include "orchestrator/setup_memory.h"
#include "orchestrator/setup_skills.h"
#include "orchestrator/setup_stage.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum setup_state { SETUP_STARTING, SETUP_READY, SETUP_FINISHING, SETUP_DONE };

/* In the order of starting; ends with a NULL. */
static const struct session_setup_part *const parts[] = {&setup_stage, &setup_skills, &setup_memory,
                                                         NULL};

enum { PARTS_LIMIT = 8 };
_Static_assert(sizeof(parts) / sizeof(parts[0]) <= PARTS_LIMIT, "a place for each part");

struct session_setup {
    enum setup_state state;
    struct session_setup_context context;
    session_setup_done done;
    void *owner;
    void *started[PARTS_LIMIT]; /* NULL: not needed */
    size_t at;                  /* the part that is under way */
    struct loop_timer *step_timer;
    struct loop_timer *patience_timer;
    struct error *failure;
};

static void conclude(struct session_setup *setup, enum setup_state state) {
    setup->state = state;
    loop_timer_disarm(setup->patience_timer);
    setup->done(setup->owner, setup->failure);
}

static void on_part_done(void *owner, const struct error *error) {
    struct session_setup *setup = owner;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        if (setup->state == SETUP_STARTING) {
            (void)error_set(&setup->failure, error->code, "%s: %s", parts[setup->at]->name, text);
        } else {
            log_warn("session %s: %s: %s", setup->context.session_id, parts[setup->at]->name, text);
        }
    }
    setup->at += setup->state == SETUP_STARTING ? 1 : 0;
    loop_timer_arm(setup->step_timer, 0);
}

static void start_next(struct session_setup *setup) {
    while (parts[setup->at] != NULL && setup->failure == NULL) {
        void *part = parts[setup->at]->start(&setup->context, on_part_done, setup);
        setup->started[setup->at] = part;
        if (part != NULL) {
            return; /* on_part_done goes on */
        }
        setup->at++;
    }
    conclude(setup, SETUP_READY);
}

static void finish_next(struct session_setup *setup) {
    while (setup->at > 0) {
        void *part = setup->started[--setup->at];
        if (part != NULL && parts[setup->at]->finish != NULL) {
            parts[setup->at]->finish(part, on_part_done, setup);
            return;
        }
    }
    conclude(setup, SETUP_DONE);
}

static void setup_step(void *context) {
    struct session_setup *setup = context;
    switch (setup->state) {
    case SETUP_STARTING:
        start_next(setup);
        break;
    case SETUP_FINISHING:
        finish_next(setup);
        break;
    case SETUP_READY:
    case SETUP_DONE:
        break;
    }
}

static void on_patience_over(void *context) {
    struct session_setup *setup = context;
    log_warn("session %s: %s did not finish in time", setup->context.session_id,
             parts[setup->at]->name);
    loop_timer_disarm(setup->step_timer);
    conclude(setup, SETUP_DONE);
}

struct session_setup *session_setup_start(const struct session_setup_context *context,
                                          session_setup_done done, void *owner) {
    struct session_setup *setup = memory_new(struct session_setup);
    setup->context = *context;
    setup->done = done;
    setup->owner = owner;
    setup->step_timer = loop_timer_new(context->loop, setup_step, setup);
    setup->patience_timer = loop_timer_new(context->loop, on_patience_over, setup);
    loop_timer_arm(setup->step_timer, 0);
    return setup;
}

void session_setup_finish(struct session_setup *setup, int64_t patience_ms, session_setup_done done,
                          void *owner) {
    setup->state = SETUP_FINISHING;
    setup->at = PARTS_LIMIT;
    setup->done = done;
    setup->owner = owner;
    loop_timer_arm(setup->patience_timer, patience_ms);
    loop_timer_arm(setup->step_timer, 0);
}

void session_setup_free(struct session_setup *take_setup) {
    if (take_setup == NULL) {
        return;
    }
    size_t count = 0;
    while (parts[count] != NULL) {
        count++;
    }
    for (size_t i = count; i-- > 0;) {
        if (take_setup->started[i] != NULL) {
            parts[i]->free(take_setup->started[i]);
        }
    }
    loop_timer_free(take_setup->step_timer);
    loop_timer_free(take_setup->patience_timer);
    error_free(take_setup->failure);
    free(take_setup);
}
