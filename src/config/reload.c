/* The file read again: what can change is changed, what cannot is said, a bad file is refused. */
#include <string.h>

#include "base/memory.h"
#include "config/load.h"
#include "config/table.h"

#define LOG_ROOM "config"
#include "base/log.h"

struct change {
    struct settings *settings;
    struct settings *fresh;
    struct buffer changed; /* the keys, for the log */
};

static bool is_equal(const struct setting *row, const void *one, const void *other) {
    CLEANUP_BUFFER struct buffer left = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer right = BUFFER_EMPTY;
    bool has_left = setting_format(row, one, &left);
    bool has_right = setting_format(row, other, &right);
    return has_left == has_right && strcmp(buffer_string(&left), buffer_string(&right)) == 0;
}

static void note_change(struct change *change, const char *key, const char *id) {
    buffer_append_format(&change->changed, "%s%s%s%s", change->changed.length == 0 ? "" : ", ", key,
                         id == NULL ? "" : " of ", id == NULL ? "" : id);
}

static void warn_of(const struct change *change, const char *key, const char *id) {
    log_warn("%s: %s%s%s has changed: it takes effect when holt serve starts again",
             change->settings->file->path, key, id == NULL ? "" : " of ", id == NULL ? "" : id);
}

static void change_daemon(struct change *change) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->owner != OF_DAEMON || row->key == NULL ||
            change->settings->sources[i] > FROM_FILE ||
            is_equal(row, change->settings, change->fresh)) {
            continue;
        }
        if (row->is_live) {
            note_change(change, row->key, NULL);
            setting_move(row, change->settings, change->fresh);
            change->settings->sources[i] = change->fresh->sources[i];
        } else {
            warn_of(change, row->key, NULL);
        }
    }
}

static struct environment_settings *find_environment(struct settings *settings, const char *id) {
    for (size_t i = 0; i < settings->environment_count; i++) {
        if (strcmp(settings->environments[i].id, id) == 0) {
            return &settings->environments[i];
        }
    }
    return NULL;
}

/* Whether command line or variables said it of the one environment. */
static bool is_given_at(const struct settings *settings, size_t offset) {
    for (size_t i = 0; i < setting_row_count; i++) {
        if (setting_rows[i].owner == OF_ENVIRONMENT && setting_rows[i].offset == offset) {
            return settings->environment_count == 1 && settings->sources[i] > FROM_FILE;
        }
    }
    return false;
}

/* A key that was given takes the place of the file's, wherever that has it. */
static bool is_given(const struct settings *settings, const struct setting *row) {
    bool is_key = row->offset == offsetof(struct environment_settings, key_file) ||
                  row->offset == offsetof(struct environment_settings, key_variable);
    return is_given_at(settings, row->offset) ||
           (is_key && (is_given_at(settings, offsetof(struct environment_settings, key)) ||
                       is_given_at(settings, offsetof(struct environment_settings, key_file))));
}

/* `own` is what the file now says of the environment, or only defaults when it says nothing. */
static void change_environment(struct change *change, struct environment_settings *environment,
                               struct environment_settings *own) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->owner != OF_ENVIRONMENT || row->key == NULL || is_given(change->settings, row) ||
            is_equal(row, environment, own)) {
            continue;
        }
        if (row->is_live) {
            note_change(change, row->key, environment->id);
            setting_move(row, environment, own);
        } else if (environment->line > 0 && own->line > 0) {
            warn_of(change, row->key, environment->id);
        }
    }
}

static void change_environments(struct change *change) {
    struct settings *settings = change->settings;
    bool is_one_given = is_given_at(settings, offsetof(struct environment_settings, id));
    for (size_t i = 0; i < settings->environment_count; i++) {
        struct environment_settings *environment = &settings->environments[i];
        struct environment_settings *own = find_environment(change->fresh, environment->id);
        change_environment(change, environment, own);
        if (own->line == 0 && environment->line > 0) {
            log_warn("%s: environment %s is not there any more: it is served until holt serve "
                     "starts again",
                     settings->file->path, environment->id);
        }
    }
    for (size_t i = 0; i < change->fresh->environment_count && !is_one_given; i++) {
        const char *id = change->fresh->environments[i].id;
        if (find_environment(settings, id) == NULL) {
            log_warn("%s: environment %s is new: it is served when holt serve starts again",
                     settings->file->path, id);
        }
    }
}

static char *text_of_tools(const struct settings *settings) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    for (size_t i = 0; i < settings->tool_count; i++) {
        show_tool(&text, &settings->tools[i]);
    }
    return buffer_take_string(&text);
}

static void compare_tools(const struct change *change) {
    CLEANUP_FREE char *before = text_of_tools(change->settings);
    CLEANUP_FREE char *after = text_of_tools(change->fresh);
    if (strcmp(before, after) != 0) {
        warn_of(change, TOOLS_KEY, NULL);
    }
}

/* What the file says of environments is inherited from the daemon's values as they are now. An
 * environment that only the command line names has no values of its own. */
static void inherit_anew(struct settings *settings, struct settings *fresh) {
    for (size_t i = 0; i < settings->environment_count; i++) {
        if (find_environment(fresh, settings->environments[i].id) == NULL) {
            struct environment_settings *own = add_environment(fresh);
            own->id = memory_string(settings->environments[i].id);
        }
    }
    struct settings general = *settings; /* borrows everything but the environments */
    general.environments = fresh->environments;
    general.environment_count = fresh->environment_count;
    inherit_settings(&general);
}

static bool refuse(struct problems *problems) {
    problems_sort(problems);
    for (size_t i = 0; i < problems->count; i++) {
        CLEANUP_FREE char *text = problem_text(problems, i);
        log_error("%s", text);
    }
    log_error("%s: nothing was changed", problems->file);
    problems_free(problems);
    return false;
}

bool settings_reload(struct settings *settings) {
    if (settings->file == NULL) {
        log_warn("there is no configuration file to read again");
        return false;
    }
    struct problems problems = {.file = settings->file->path};
    struct settings fresh;
    assign_defaults(&fresh);
    load_file(&fresh, settings->file, &problems);
    check_environments(&fresh, false, &problems);
    bool is_good = problems.count == 0 || refuse(&problems);
    if (is_good) {
        struct change change = {.settings = settings, .fresh = &fresh, .changed = BUFFER_EMPTY};
        change_daemon(&change);
        inherit_anew(settings, &fresh);
        change_environments(&change);
        compare_tools(&change);
        log_info("%s was read again; changed: %s", settings->file->path,
                 change.changed.length == 0 ? "nothing" : buffer_string(&change.changed));
        buffer_free(&change.changed);
    }
    settings_free(&fresh);
    return is_good;
}
