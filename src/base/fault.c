/* Fault points, driven by HOLT_FAULT; see fault.h for the format. */
#include "base/fault.h"

#ifdef HOLT_FAULTS

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

enum { FAULT_POINTS_LIMIT = 32, FAULT_NAME_SIZE = 48 };

enum fault_action { FAULT_KILL, FAULT_HOLD, FAULT_FAIL, FAULT_ACTION_COUNT };

struct fault {
    char name[FAULT_NAME_SIZE];
    enum fault_action action;
    long visits_before; /* visits that still pass unharmed */
};

static struct {
    bool is_loaded;
    size_t count;
    struct fault faults[FAULT_POINTS_LIMIT];
} fault_state;

/* A malformed entry is a mistake of a test: it stops the process rather than testing nothing. */
static enum fault_action action_of(const char *name) {
    static const char *const names[FAULT_ACTION_COUNT] = {"kill", "hold", "fail"};
    for (int i = 0; name != NULL && i < FAULT_ACTION_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            return (enum fault_action)i;
        }
    }
    abort();
}

static void load_one(char *word) {
    char *name = strsep(&word, ":");
    char *action = strsep(&word, ":");
    if (fault_state.count == FAULT_POINTS_LIMIT || name == NULL ||
        strlen(name) >= FAULT_NAME_SIZE) {
        abort();
    }
    struct fault *fault = &fault_state.faults[fault_state.count++];
    memcpy(fault->name, name, strlen(name) + 1);
    fault->action = action_of(action);
    fault->visits_before = word == NULL ? 0 : strtol(word, NULL, 10) - 1;
}

static void load(void) {
    const char *specification = getenv("HOLT_FAULT");
    fault_state.is_loaded = true;
    if (specification == NULL || *specification == '\0') {
        return;
    }
    CLEANUP_FREE char *copy = memory_string(specification);
    char *rest = copy;
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        load_one(word);
    }
}

bool fault_point(const char *name) {
    if (!fault_state.is_loaded) {
        load();
    }
    for (size_t i = 0; i < fault_state.count; i++) {
        struct fault *fault = &fault_state.faults[i];
        if (strcmp(fault->name, name) != 0) {
            continue;
        }
        if (fault->visits_before > 0) {
            fault->visits_before--;
            return false;
        }
        switch (fault->action) {
        case FAULT_KILL:
            (void)raise(SIGKILL);
            return true;
        case FAULT_HOLD:
            fault->visits_before = LONG_MAX; /* once */
            (void)raise(SIGSTOP);
            return false;
        case FAULT_FAIL:
        case FAULT_ACTION_COUNT:
            return true;
        }
    }
    return false;
}

#else

/* ISO C forbids an empty translation unit. */
typedef int fault_points_are_compiled_out;

#endif
