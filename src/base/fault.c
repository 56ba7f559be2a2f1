/* Fault points, driven by HOLT_FAULT; see fault.h for the format. */
#include "base/fault.h"

#ifdef HOLT_FAULTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

enum { FAULT_POINTS_LIMIT = 32, FAULT_NAME_SIZE = 48 };

struct fault {
    char name[FAULT_NAME_SIZE];
    bool kills;
    long visits_before; /* visits that still pass unharmed */
};

static struct {
    bool is_loaded;
    size_t count;
    struct fault faults[FAULT_POINTS_LIMIT];
} fault_state;

/* A malformed entry is a mistake of a test: it stops the process rather than testing nothing. */
static void load_one(char *word) {
    char *name = strsep(&word, ":");
    char *action = strsep(&word, ":");
    if (fault_state.count == FAULT_POINTS_LIMIT || name == NULL || action == NULL ||
        strlen(name) >= FAULT_NAME_SIZE ||
        (strcmp(action, "kill") != 0 && strcmp(action, "fail") != 0)) {
        abort();
    }
    struct fault *fault = &fault_state.faults[fault_state.count++];
    memcpy(fault->name, name, strlen(name) + 1);
    fault->kills = strcmp(action, "kill") == 0;
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
        if (fault->kills) {
            (void)raise(SIGKILL);
        }
        return true;
    }
    return false;
}

#else

/* ISO C forbids an empty translation unit. */
typedef int fault_points_are_compiled_out;

#endif
