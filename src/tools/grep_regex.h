/*
 * JavaScript regular expressions (ECMA-262 with Annex B, no flags) on PCRE2.
 *
 * Private to src/tools. A pattern is checked with V8's rules and error texts and translated, piece
 * by piece, into a PCRE2 pattern over UTF-16 code units in which every literal is spelt out, so
 * that nothing of Perl's dialect shines through. Matching is bounded: a pattern that backtracks too
 * long gives up and never hangs.
 *
 * Known differences: a capture inside a repeated group keeps its value from one round to the next;
 * a lookbehind of variable length cannot see beyond its own end (`$` and `\b` there mean the end).
 */
#ifndef HOLT_TOOLS_GREP_REGEX_H
#define HOLT_TOOLS_GREP_REGEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct grep_regex;

enum grep_match { GREP_MATCH_NO, GREP_MATCH_YES, GREP_MATCH_GAVE_UP };

/*
 * Compiles `length` bytes of UTF-8. On failure returns NULL and sets *reason to V8's reason
 * ("Unterminated group"), a string constant.
 */
struct grep_regex *grep_regex_new(const char *pattern, size_t length, const char **reason);
/* Whether the pattern matches anywhere in `count` code units. */
enum grep_match grep_regex_test(const struct grep_regex *regex, const uint16_t *units,
                                size_t count);
void grep_regex_free(struct grep_regex *take_regex);

static inline void cleanup_grep_regex(struct grep_regex **regex) {
    grep_regex_free(*regex);
}
#define CLEANUP_GREP_REGEX CLEANUP(cleanup_grep_regex)

#endif
