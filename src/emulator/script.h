/*
 * Scripts: the brain of the emulator. docs/emulator.md describes the format.
 *
 * Parsing checks everything, so that the runner need not: after script_set_parse every step has
 * exactly one known kind, its members have the right types, regular expressions compile, and
 * indices are in range. The parsed set keeps the JSON of the steps; the runner reads it.
 */
#ifndef HOLT_EMULATOR_SCRIPT_H
#define HOLT_EMULATOR_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"

enum step_kind {
    STEP_MESSAGE,
    STEP_THINKING,
    STEP_WAIT,
    STEP_CALLS,
    STEP_DROP_STREAMS,
    STEP_EMIT,
    STEP_RAW_SSE,
    STEP_LAPSE_LEASE,
    STEP_STOPPING,
    STEP_INTERRUPT,
    STEP_FAIL_REQUESTS,
    STEP_TERMINATE,
    STEP_END_TURN,
};

struct script_set;
struct script;

/* Parses a script file's text; the error is one line that names script and step. */
struct script_set *script_set_parse(const char *text, size_t length, struct error **error);
/* The built-in set: one script, "default". */
struct script_set *script_set_builtin(void);
void script_set_free(struct script_set *take_set);

/* NULL when there is none of that name. */
const struct script *script_set_find(const struct script_set *set, const char *name);
size_t script_step_count(const struct script *script);
enum step_kind script_step_kind(const struct script *script, size_t index);
/* The step's JSON object, borrowed. */
struct json_object *script_step(const struct script *script, size_t index);

/*
 * Compares a result's text and error flag with a call's `expect` (NULL or JSON null: anything).
 * NULL when it matches; else one line that says how it does not, which the caller frees.
 */
char *script_expectation_failure(struct json_object *expect, bool is_error, const char *text);

#endif
