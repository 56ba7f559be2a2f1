/*
 * Brace expansion, as npm's brace-expansion does it: {a,b}, {1..9..2}, {a..e}, nested.
 *
 * Private to src/tools.
 */
#ifndef HOLT_TOOLS_GLOB_BRACE_H
#define HOLT_TOOLS_GLOB_BRACE_H

#include <stdbool.h>
#include <stddef.h>

enum { GLOB_ALTERNATIVES_LIMIT = 10000, GLOB_EXPANSION_BYTES_LIMIT = 8 * 1024 * 1024 };

struct glob_words {
    char **list;
    size_t count;
    size_t bytes; /* of all words together */
};

/* Appends a word; takes it. False when a limit is reached (the word is freed). */
bool glob_words_add(struct glob_words *words, char *take_word);
void glob_words_free(struct glob_words *words);
/* Appends the expansions of `text`; false when there are too many or they nest too deep. */
bool glob_brace_expand(const char *text, struct glob_words *out);

#endif
