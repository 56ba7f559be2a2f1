/* Slots: three counts against three bounds, and one line of members that wait. */
#include "orchestrator/slots.h"

#include <assert.h>
#include <stdlib.h>

#include "base/memory.h"

struct slots {
    struct slots_limits limits;
    size_t session_count;
    size_t starting_count;
    size_t reserved_count;
    struct slots_member *first; /* in line, the longest waiting first */
    struct slots_member *last;
};

struct slots_member {
    struct slots *slots;
    struct slots_member *next; /* in line */
    size_t session_limit;
    size_t session_count;
    size_t starting_count;
    bool is_waiting;
    bool is_reserved;
    void (*granted)(void *context);
    void *context;
};

static bool has_room(const struct slots *slots) {
    return slots->session_count + slots->reserved_count < slots->limits.sessions &&
           slots->starting_count + slots->reserved_count < slots->limits.starting;
}

static void leave_line(struct slots_member *member) {
    struct slots *slots = member->slots;
    struct slots_member *before = NULL;
    for (struct slots_member *at = slots->first; at != NULL; before = at, at = at->next) {
        if (at != member) {
            continue;
        }
        *(before == NULL ? &slots->first : &before->next) = member->next;
        slots->last = slots->last == member ? before : slots->last;
        break;
    }
    member->next = NULL;
    member->is_waiting = false;
}

/* Reserves for those in line, in order; one that is at its own bound is passed over and keeps its
 * place. `asking` needs no call: it is asking just now. */
static void grant(struct slots *slots, const struct slots_member *asking) {
    struct slots_member *member = slots->first;
    while (member != NULL && has_room(slots)) {
        struct slots_member *next = member->next;
        if (member->session_count < member->session_limit) {
            leave_line(member);
            member->is_reserved = true;
            slots->reserved_count++;
            if (member != asking) {
                member->granted(member->context);
            }
        }
        member = next;
    }
}

struct slots *slots_new(const struct slots_limits *limits) {
    struct slots *slots = memory_new(struct slots);
    slots->limits = *limits;
    return slots;
}

void slots_free(struct slots *take_slots) {
    assert(take_slots == NULL || take_slots->first == NULL);
    free(take_slots);
}

void slots_set_limits(struct slots *slots, const struct slots_limits *limits) {
    slots->limits = *limits;
    grant(slots, NULL);
}

size_t slots_session_count(const struct slots *slots) {
    return slots->session_count;
}

bool slots_is_contended(const struct slots *slots) {
    for (const struct slots_member *at = slots->first; at != NULL; at = at->next) {
        if (at->session_count < at->session_limit) {
            return true;
        }
    }
    return false;
}

struct slots_member *slots_join(struct slots *slots, size_t session_limit,
                                void (*granted)(void *context), void *context) {
    struct slots_member *member = memory_new(struct slots_member);
    *member = (struct slots_member){
        .slots = slots, .session_limit = session_limit, .granted = granted, .context = context};
    return member;
}

void slots_leave(struct slots_member *take_member) {
    if (take_member == NULL) {
        return;
    }
    struct slots *slots = take_member->slots;
    leave_line(take_member);
    slots->reserved_count -= take_member->is_reserved ? 1 : 0;
    slots->session_count -= take_member->session_count;
    slots->starting_count -= take_member->starting_count;
    free(take_member);
    grant(slots, NULL);
}

void slots_set_member_limit(struct slots_member *member, size_t session_limit) {
    member->session_limit = session_limit;
    grant(member->slots, NULL);
}

bool slots_reserve(struct slots_member *member) {
    struct slots *slots = member->slots;
    if (!member->is_reserved && !member->is_waiting) {
        member->is_waiting = true;
        *(slots->last == NULL ? &slots->first : &slots->last->next) = member;
        slots->last = member;
        grant(slots, member);
    }
    return member->is_reserved;
}

void slots_cancel(struct slots_member *member) {
    struct slots *slots = member->slots;
    if (member->is_waiting) {
        leave_line(member);
    } else if (member->is_reserved) {
        member->is_reserved = false;
        slots->reserved_count--;
        grant(slots, NULL);
    }
}

void slots_claim(struct slots_member *member) {
    assert(member->is_reserved);
    member->is_reserved = false;
    member->slots->reserved_count--;
    slots_adopt(member);
}

void slots_adopt(struct slots_member *member) {
    member->session_count++;
    member->starting_count++;
    member->slots->session_count++;
    member->slots->starting_count++;
}

void slots_start(struct slots_member *member) {
    assert(member->starting_count > 0);
    member->starting_count--;
    member->slots->starting_count--;
    grant(member->slots, NULL);
}

void slots_end(struct slots_member *member, bool was_starting) {
    assert(member->session_count > 0);
    member->session_count--;
    member->slots->session_count--;
    if (was_starting) {
        slots_start(member);
    } else {
        grant(member->slots, NULL);
    }
}
