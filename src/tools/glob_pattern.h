/*
 * The pattern language of the glob tool: minimatch's, as Node's fs.glob sets it up.
 *
 * Private to src/tools. No dot files for wildcards, case counts, no comments, no negation, a
 * backslash is a slash. A pattern is expanded (braces), split into segments and each segment
 * compiled once; matching one name costs a bounded number of steps.
 */
#ifndef HOLT_TOOLS_GLOB_PATTERN_H
#define HOLT_TOOLS_GLOB_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

enum glob_segment_kind { GLOB_LITERAL, GLOB_STARSTAR, GLOB_MAGIC };

struct glob_segment {
    enum glob_segment_kind kind;
    char *text;     /* as written; for GLOB_LITERAL the name to look for */
    char *name;     /* GLOB_LITERAL: text without its one-character brackets */
    void *compiled; /* GLOB_MAGIC */
    /* Equal for two segments exactly when they and all that follow them are written the same. */
    unsigned suffix_id;
};

/* One alternative of the braces. */
struct glob_alternative {
    struct glob_segment *segments;
    size_t count;
};

struct glob_pattern {
    struct glob_alternative *alternatives;
    size_t count;
    unsigned suffix_count; /* ids are below this; 0 is the empty suffix */
};

/*
 * Compiles. Returns NULL and sets *reason (a string constant) when the pattern is too long, makes
 * too many alternatives or is too deep.
 */
struct glob_pattern *glob_pattern_new(const char *text, const char **reason);
/* Whether one name (no slash) matches one segment. */
bool glob_segment_matches(const struct glob_segment *segment, const char *name);
void glob_pattern_free(struct glob_pattern *take_pattern);

static inline void cleanup_glob_pattern(struct glob_pattern **pattern) {
    glob_pattern_free(*pattern);
}
#define CLEANUP_GLOB_PATTERN CLEANUP(cleanup_glob_pattern)

#endif
