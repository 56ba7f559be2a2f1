/* Problems of a configuration file, kept until all of them are known. */
#include "config/problems.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/memory.h"

void problems_add(struct problems *problems, int line, const char *format, ...) {
    if (problems->count == PROBLEMS_LIMIT) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    problems->items[problems->count++] =
        (struct problem){.line = line, .text = memory_format_v(format, arguments)};
    va_end(arguments);
    /* Keys of the file are foreign to the terminal. */
    for (char *at = problems->items[problems->count - 1].text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *at = '?';
        }
    }
}

static int compare_lines(const void *left, const void *right) {
    const struct problem *a = left;
    const struct problem *b = right;
    return (a->line > b->line) - (a->line < b->line);
}

void problems_sort(struct problems *problems) {
    qsort(problems->items, problems->count, sizeof(problems->items[0]), compare_lines);
}

char *problem_text(const struct problems *problems, size_t index) {
    const struct problem *problem = &problems->items[index];
    if (problems->file == NULL) {
        return memory_string(problem->text);
    }
    return problem->line == 0
               ? memory_format("%s: %s", problems->file, problem->text)
               : memory_format("%s:%d: %s", problems->file, problem->line, problem->text);
}

bool problems_to_error(const struct problems *problems, struct error **error) {
    if (problems->count == 0) {
        return true;
    }
    CLEANUP_FREE char *first = problem_text(problems, 0);
    if (problems->count == 1) {
        return error_set(error, ERROR_INPUT, "%s", first);
    }
    return error_set(error, ERROR_INPUT, "%s; and %zu more: see holt config check %s", first,
                     problems->count - 1, problems->file);
}

void problems_free(struct problems *problems) {
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].text);
    }
    problems->count = 0;
}
