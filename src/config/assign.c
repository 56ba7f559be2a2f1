/* Values in their places: what each kind of setting takes, and what it leaves behind. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/table.h"

enum { VARIABLE_LIMIT = 128 };

typedef bool (*text_check)(const struct setting *row, const char *text, struct error **error);

static bool check_not_empty(const struct setting *row, const char *text, struct error **error) {
    (void)row;
    return *text != '\0' || error_set(error, ERROR_INPUT, "the value is empty");
}

static bool check_directory(const struct setting *row, const char *text, struct error **error) {
    (void)row;
    return *text == '/' || error_set(error, ERROR_INPUT, "\"%s\" is no absolute path", text);
}

static bool check_id(const struct setting *row, const char *text, struct error **error) {
    (void)row;
    return option_id(text, error);
}

static bool check_variable(const struct setting *row, const char *text, struct error **error) {
    (void)row;
    size_t length = strlen(text);
    return (length > 0 && length <= VARIABLE_LIMIT &&
            strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == length) ||
           error_set(error, ERROR_INPUT, "this is no name of a variable");
}

static bool check_url(const struct setting *row, const char *text, struct error **error) {
    (void)row;
    return option_base_url(text, error);
}

static bool check_listen(const struct setting *row, const char *text, struct error **error) {
    CLEANUP_FREE char *address = NULL;
    uint16_t port = 0;
    (void)row;
    return option_listen(text, &address, &port, error);
}

static bool check_log_levels(const struct setting *row, const char *text, struct error **error) {
    (void)row;
    return log_check_levels(text, error);
}

static bool check_choice(const struct setting *row, const char *text, struct error **error) {
    size_t length = strlen(text);
    for (const char *choice = row->choices; *choice != '\0';) {
        size_t width = strcspn(choice, "|");
        if (width == length && memcmp(choice, text, length) == 0) {
            return true;
        }
        choice += width + (choice[width] == '|');
    }
    return error_set(error, ERROR_INPUT, "\"%s\" is none of %s", text, row->choices);
}

/* How a text of this kind is judged; NULL: the kind is no text. */
static const text_check text_checks[] = {
    [SETTING_TEXT] = check_not_empty,
    [SETTING_PATH] = check_not_empty,
    [SETTING_DIRECTORY] = check_directory,
    [SETTING_ID] = check_id,
    [SETTING_VARIABLE] = check_variable,
    [SETTING_URL] = check_url,
    [SETTING_LISTEN] = check_listen,
    [SETTING_CHOICE] = check_choice,
    [SETTING_LOG_LEVELS] = check_log_levels,
    [SETTING_LIST] = check_not_empty,
    [SETTING_SECRET] = NULL,
};

static void *place_of(const struct setting *row, void *owner) {
    return (char *)owner + row->offset;
}

static bool list_append(struct setting_list *list, const char *text, struct error **error) {
    if (list->count == SETTING_ITEMS_LIMIT) {
        return error_set(error, ERROR_INPUT, "more than %d values", SETTING_ITEMS_LIMIT);
    }
    list->items = memory_resize(list->items, list->count + 1, sizeof(char *));
    list->items[list->count++] = memory_string(text);
    return true;
}

static bool is_number(const struct setting *row) {
    return row->kind == SETTING_INTEGER || row->kind == SETTING_DURATION ||
           row->kind == SETTING_SIZE || row->kind == SETTING_CPUS;
}

void setting_release(const struct setting *row, void *owner) {
    void *place = place_of(row, owner);
    if (row->kind == SETTING_LIST) {
        setting_list_free(place);
    } else if (row->kind == SETTING_SECRET) {
        struct credential **secret = place;
        credential_free(STEAL_PTR(*secret));
    } else if (text_checks[row->kind] != NULL) {
        char **text = place;
        free(STEAL_PTR(*text));
    }
}

static bool check_bounds(const struct setting *row, int64_t value, struct error **error) {
    if ((row->lowest == 0 && row->highest == 0) ||
        (value >= row->lowest && value <= row->highest)) {
        return true;
    }
    CLEANUP_BUFFER struct buffer expected = BUFFER_EMPTY;
    setting_expectation(row, &expected);
    return error_set(error, ERROR_INPUT, "it takes %s", buffer_string(&expected));
}

bool setting_assign(const struct setting *row, void *owner, const char *text,
                    struct error **error) {
    void *place = place_of(row, owner);
    switch (row->kind) {
    case SETTING_INTEGER:
        return option_integer(text, row->lowest, row->highest, place, error);
    case SETTING_DURATION:
        return option_duration(text, place, error) && check_bounds(row, *(int64_t *)place, error);
    case SETTING_SIZE:
        return option_size(text, place, error) && check_bounds(row, *(int64_t *)place, error);
    case SETTING_CPUS:
        return option_cpus(text, place, error);
    case SETTING_SWITCH:
        return option_switch(text, place, error);
    case SETTING_SECRET:
        return error_set(error, ERROR_INTERNAL, "a secret is taken, not copied");
    case SETTING_LIST:
        return check_not_empty(row, text, error) && list_append(place, text, error);
    default:
        if (!text_checks[row->kind](row, text, error)) {
            return false;
        }
        setting_release(row, owner);
        *(char **)place = memory_string(text);
        return true;
    }
}

void setting_take_secret(const struct setting *row, void *owner, struct credential *take_secret) {
    setting_release(row, owner);
    *(struct credential **)place_of(row, owner) = take_secret;
}

void setting_move(const struct setting *row, void *to, void *from) {
    void *target = place_of(row, to);
    void *source = place_of(row, from);
    setting_release(row, to);
    if (is_number(row)) {
        *(int64_t *)target = *(int64_t *)source;
    } else if (row->kind == SETTING_SWITCH) {
        *(bool *)target = *(bool *)source;
    } else if (row->kind == SETTING_LIST) {
        *(struct setting_list *)target = *(struct setting_list *)source;
        *(struct setting_list *)source = (struct setting_list){NULL, 0};
    } else if (row->kind == SETTING_SECRET) {
        *(struct credential **)target = STEAL_PTR(*(struct credential **)source);
    } else {
        *(char **)target = STEAL_PTR(*(char **)source);
    }
}

void setting_assign_default(const struct setting *row, void *owner) {
    setting_release(row, owner);
    if (row->fallback != NULL) {
        CLEANUP_ERROR struct error *error = NULL;
        if (!setting_assign(row, owner, row->fallback, &error)) {
            abort(); /* the table is wrong: a unit test would have said so */
        }
    } else if (is_number(row)) {
        *(int64_t *)place_of(row, owner) = SETTING_UNSET;
    }
}

static void append_duration(struct buffer *out, int64_t milliseconds) {
    static const struct {
        int64_t factor;
        const char *unit;
    } units[] = {{3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = milliseconds == 0 ? 2 : 0;
    while (milliseconds % units[i].factor != 0) {
        i++;
    }
    buffer_append_format(out, "\"%lld%s\"", (long long)(milliseconds / units[i].factor),
                         units[i].unit);
}

static void append_size(struct buffer *out, int64_t bytes) {
    static const char units[] = "TGMK";
    for (size_t i = 0; i < sizeof(units) - 1; i++) {
        int64_t factor = (int64_t)1 << (10 * (sizeof(units) - 1 - i));
        if (bytes > 0 && bytes % factor == 0) {
            buffer_append_format(out, "\"%lld%c\"", (long long)(bytes / factor), units[i]);
            return;
        }
    }
    buffer_append_format(out, "%lld", (long long)bytes);
}

/* As a basic string of TOML: what JSON escapes is escaped alike there. */
static void append_quoted(struct buffer *out, const char *text) {
    CLEANUP_JSON struct json_object *value = json_object_new_string(text);
    size_t length = 0;
    const char *quoted = json_text(value, &length);
    buffer_append(out, quoted, length);
}

static bool format_list(const struct setting_list *list, struct buffer *out) {
    for (size_t i = 0; i < list->count; i++) {
        buffer_append_string(out, i == 0 ? "[" : ", ");
        append_quoted(out, list->items[i]);
    }
    buffer_append_string(out, list->count == 0 ? "" : "]");
    return list->count > 0;
}

static void format_number(const struct setting *row, int64_t value, struct buffer *out) {
    switch (row->kind) {
    case SETTING_DURATION:
        append_duration(out, value);
        return;
    case SETTING_SIZE:
        append_size(out, value);
        return;
    case SETTING_CPUS:
        buffer_append_format(out, "%g", (double)value / 100);
        return;
    default:
        buffer_append_format(out, "%lld", (long long)value);
        return;
    }
}

bool setting_format(const struct setting *row, const void *owner, struct buffer *out) {
    const void *place = (const char *)owner + row->offset;
    if (is_number(row)) {
        int64_t value = *(const int64_t *)place;
        if (value != SETTING_UNSET) {
            format_number(row, value, out);
        }
        return value != SETTING_UNSET;
    }
    if (row->kind == SETTING_SWITCH) {
        buffer_append_string(out, *(const bool *)place ? "true" : "false");
        return true;
    }
    if (row->kind == SETTING_LIST) {
        return format_list(place, out);
    }
    if (row->kind == SETTING_SECRET) {
        bool is_set = *(struct credential *const *)place != NULL;
        buffer_append_string(out, is_set ? "\"(set)\"" : "");
        return is_set;
    }
    const char *text = *(char *const *)place;
    if (text != NULL) {
        append_quoted(out, text);
    }
    return text != NULL;
}

void setting_expectation(const struct setting *row, struct buffer *out) {
    static const char *const texts[] = {
        [SETTING_TEXT] = "a string",
        [SETTING_PATH] = "an absolute path",
        [SETTING_DIRECTORY] = "an absolute path",
        [SETTING_ID] = "an id of letters, digits, _ and -",
        [SETTING_VARIABLE] = "the name of a variable in capital letters",
        [SETTING_URL] = "an http or https URL",
        [SETTING_LISTEN] = "an IP address and a port such as \"127.0.0.1:8080\"",
        [SETTING_CHOICE] = "",
        [SETTING_LOG_LEVELS] = "debug, info, warn, error or off, and room=level after a comma",
        [SETTING_INTEGER] = "a whole number",
        [SETTING_DURATION] = "a duration such as \"500ms\", \"60s\" or \"2m\"",
        [SETTING_SIZE] = "a size such as \"512M\" or \"4G\"",
        [SETTING_CPUS] = "a number of CPUs such as 2 or 1.5",
        [SETTING_SWITCH] = "true or false",
        [SETTING_LIST] = "an array of strings",
        [SETTING_SECRET] = "no value in the file",
    };
    buffer_append_string(out, row->has_paths ? "an array of absolute paths" : texts[row->kind]);
    for (const char *choice = row->kind == SETTING_CHOICE ? row->choices : ""; *choice != '\0';) {
        size_t width = strcspn(choice, "|");
        buffer_append_format(out, "%s\"%.*s\"", choice == row->choices ? "" : " or ", (int)width,
                             choice);
        choice += width + (choice[width] == '|');
    }
    if (is_number(row) && row->highest > row->lowest) {
        buffer_append_string(out, " from ");
        format_number(row, row->lowest, out);
        buffer_append_string(out, " to ");
        format_number(row, row->highest, out);
    }
}

void *setting_owner(const struct setting *row, struct settings *settings) {
    switch (row->owner) {
    case OF_DAEMON:
        return settings;
    case OF_ENVIRONMENT:
        return &settings->given;
    case OF_TOOL:
        break;
    }
    return NULL;
}

void setting_list_free(struct setting_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct setting_list){NULL, 0};
}
