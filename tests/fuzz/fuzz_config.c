/* Fuzzes the configuration file: whatever it holds, there are settings that can be shown or
 * problems with a line each; what is shown of good settings is read as the same settings. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/load.h"
#include "config/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_problems(struct problems *problems) {
    problems_sort(problems);
    for (size_t i = 0; i < problems->count; i++) {
        CLEANUP_FREE char *text = problem_text(problems, i);
        if (strncmp(text, "f:", 2) != 0 || strpbrk(text, "\r\n\t\x1b") != NULL) {
            abort();
        }
    }
}

/* The text of the daemon's own settings: without where they are from. */
static void append_settings(struct buffer *out, const struct settings *settings) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        CLEANUP_BUFFER struct buffer value = BUFFER_EMPTY;
        if (row->owner == OF_DAEMON && row->key != NULL && setting_format(row, settings, &value)) {
            buffer_append_format(out, "%s = %s\n", row->key, buffer_string(&value));
        }
    }
}

static void check_round_trip(const struct settings *settings) {
    CLEANUP_BUFFER struct buffer first = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer second = BUFFER_EMPTY;
    struct problems problems = {.file = "f"};
    struct settings again;
    append_settings(&first, settings);
    assign_defaults(&again);
    load_text(&again, buffer_string(&first), first.length, &problems);
    append_settings(&second, &again);
    if (problems.count != 0 || strcmp(buffer_string(&first), buffer_string(&second)) != 0) {
        abort();
    }
    settings_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    struct problems problems = {.file = "f"};
    struct settings settings;
    buffer_append(&text, data, size);
    assign_defaults(&settings);
    load_text(&settings, buffer_string(&text), text.length, &problems);
    check_problems(&problems);
    if (problems.count == 0) {
        check_round_trip(&settings);
    }
    problems_free(&problems);
    settings_free(&settings);
    return 0;
}
