/* What is wrong with a configuration file: any number of lines for a person, in the file's order.
 */
#ifndef HOLT_CONFIG_PROBLEMS_H
#define HOLT_CONFIG_PROBLEMS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { PROBLEMS_LIMIT = 100 };

struct problem {
    int line; /* 0: of the whole file */
    char *text;
};

struct problems {
    const char *file; /* its name as the operator gave it; borrowed; NULL: no file is involved */
    struct problem items[PROBLEMS_LIMIT];
    size_t count;
};

/* Notes one; further ones than PROBLEMS_LIMIT are dropped. */
void problems_add(struct problems *problems, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* By line; problems of the whole file first. */
void problems_sort(struct problems *problems);
/* "FILE:12: text"; the caller frees it. */
char *problem_text(const struct problems *problems, size_t index);
/* The first one, and how many more there are. True when there is none. */
bool problems_to_error(const struct problems *problems, struct error **error);
void problems_free(struct problems *problems);

#endif
