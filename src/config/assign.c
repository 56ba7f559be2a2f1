/* Values in their places: what each kind of setting takes, and what it leaves behind. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "config/options.h"
#include "config/table.h"

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

void setting_release(const struct setting *row, void *owner) {
    void *place = place_of(row, owner);
    if (row->kind == SETTING_LIST) {
        struct setting_list *list = place;
        for (size_t i = 0; i < list->count; i++) {
            free(list->items[i]);
        }
        free(list->items);
        *list = (struct setting_list){NULL, 0};
    } else if (row->kind == SETTING_SECRET) {
        struct credential **secret = place;
        credential_free(STEAL_PTR(*secret));
    } else if (text_checks[row->kind] != NULL) {
        char **text = place;
        free(STEAL_PTR(*text));
    }
}

bool setting_assign(const struct setting *row, void *owner, const char *text,
                    struct error **error) {
    void *place = place_of(row, owner);
    switch (row->kind) {
    case SETTING_INTEGER:
        return option_integer(text, row->lowest, row->highest, place, error);
    case SETTING_DURATION:
        return option_duration(text, place, error);
    case SETTING_SIZE:
        return option_size(text, place, error);
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

void setting_assign_default(const struct setting *row, void *owner) {
    bool is_number = row->kind == SETTING_INTEGER || row->kind == SETTING_DURATION ||
                     row->kind == SETTING_SIZE || row->kind == SETTING_CPUS;
    setting_release(row, owner);
    if (row->fallback != NULL) {
        CLEANUP_ERROR struct error *error = NULL;
        if (!setting_assign(row, owner, row->fallback, &error)) {
            abort(); /* the table is wrong: a unit test would have said so */
        }
    } else if (is_number) {
        *(int64_t *)place_of(row, owner) = SETTING_UNSET;
    }
}
