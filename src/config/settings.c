/* Settings: defaults, then what overwrites them, then what must hold between them. */
#include "config/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "config/load.h"
#include "config/table.h"

#define LOG_ROOM "config"
#include "base/log.h"

static void release_all(enum setting_owner kind, void *owner) {
    for (size_t i = 0; i < setting_row_count; i++) {
        if (setting_rows[i].owner == kind) {
            setting_release(&setting_rows[i], owner);
        }
    }
}

static void default_all(enum setting_owner kind, void *owner) {
    for (size_t i = 0; i < setting_row_count; i++) {
        if (setting_rows[i].owner == kind) {
            setting_assign_default(&setting_rows[i], owner);
        }
    }
}

void settings_free(struct settings *settings) {
    for (size_t i = 0; i < settings->environment_count; i++) {
        release_all(OF_ENVIRONMENT, &settings->environments[i]);
    }
    for (size_t i = 0; i < settings->tool_count; i++) {
        release_all(OF_TOOL, &settings->tools[i]);
        free(settings->tools[i].name);
    }
    free(settings->environments);
    free(settings->tools);
    release_all(OF_ENVIRONMENT, &settings->given);
    release_all(OF_DAEMON, settings);
    config_file_free(settings->file);
    *settings = (struct settings){.environments = NULL};
}

void assign_defaults(struct settings *settings) {
    *settings = (struct settings){.environments = NULL};
    default_all(OF_ENVIRONMENT, &settings->given);
    default_all(OF_DAEMON, settings);
}

struct environment_settings *add_environment(struct settings *settings) {
    settings->environments = memory_resize(settings->environments, settings->environment_count + 1,
                                           sizeof(struct environment_settings));
    struct environment_settings *environment =
        &settings->environments[settings->environment_count++];
    *environment = (struct environment_settings){.id = NULL};
    default_all(OF_ENVIRONMENT, environment);
    return environment;
}

struct tool_settings *add_tool(struct settings *settings, const char *name) {
    settings->tools =
        memory_resize(settings->tools, settings->tool_count + 1, sizeof(struct tool_settings));
    struct tool_settings *tool = &settings->tools[settings->tool_count++];
    *tool = (struct tool_settings){.name = memory_string(name)};
    default_all(OF_TOOL, tool);
    return tool;
}

/* The environments: those of the file, or the one of command line and variables. */

static void remove_environment(struct settings *settings, size_t index) {
    release_all(OF_ENVIRONMENT, &settings->environments[index]);
    settings->environments[index] = settings->environments[--settings->environment_count];
}

/* Command line and variables name one environment: no other is served. */
static void keep_given(struct settings *settings) {
    for (size_t i = settings->environment_count; i > 0; i--) {
        const char *id = settings->environments[i - 1].id;
        if (id == NULL || strcmp(id, settings->given.id) != 0) {
            remove_environment(settings, i - 1);
        }
    }
    if (settings->environment_count == 0) {
        (void)add_environment(settings);
    }
}

/* What command line and variables say of the one environment. */
static void overlay_given(struct settings *settings) {
    struct environment_settings *to = &settings->environments[0];
    bool has_key = settings->given.key != NULL || settings->given.key_file != NULL;
    if (has_key) { /* it replaces the file's, wherever that has it */
        free(STEAL_PTR(to->key_file));
        free(STEAL_PTR(to->key_variable));
    }
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->owner == OF_ENVIRONMENT && settings->sources[i] > FROM_FILE) {
            setting_move(row, to, &settings->given);
        }
    }
}

/* Several environments: what says not of which it speaks is refused, or ignored when it may have
 * been meant for another program. */
static void refuse_given(const struct settings *settings, struct problems *problems) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->owner != OF_ENVIRONMENT) {
            continue;
        }
        if (settings->sources[i] == FROM_COMMAND_LINE) {
            problems_add(problems, 0,
                         "--%s says not for which of the %zu environments: add --environment-id",
                         row->option, settings->environment_count);
        } else if (settings->sources[i] == FROM_VARIABLE) {
            log_warn("%s is ignored: the configuration file has %zu environments", row->variable,
                     settings->environment_count);
        }
    }
}

static void check_environment(struct settings *settings, size_t index, bool takes_keys,
                              struct problems *problems) {
    struct environment_settings *environment = &settings->environments[index];
    const char *name = environment->id;
    if (name == NULL) {
        return; /* the reader of the file has said why */
    }
    for (size_t i = 0; i < index; i++) {
        const char *other = settings->environments[i].id;
        if (other != NULL && strcmp(other, name) == 0) {
            problems_add(problems, environment->line, "environment %s is there twice", name);
        }
    }
    if (environment->key_file != NULL && environment->key_variable != NULL) {
        problems_add(problems, environment->line, "%s has both key_file and key_variable", name);
    }
    if (takes_keys && environment->key == NULL && environment->key_variable != NULL) {
        environment->key = credential_take_variable(environment->key_variable);
        if (environment->key == NULL) {
            problems_add(problems, environment->line,
                         "%s: the variable %s, which should hold its key, is not set", name,
                         environment->key_variable);
        }
    } else if (takes_keys && environment->key == NULL && environment->key_file == NULL) {
        problems_add(problems, environment->line,
                     "no key: give --environment-key-file or set ANTHROPIC_ENVIRONMENT_KEY%s",
                     environment->line == 0 ? "" : ", or key_file here");
    }
}

void check_environments(struct settings *settings, bool takes_keys, struct problems *problems) {
    for (size_t i = 0; i < settings->environment_count; i++) {
        check_environment(settings, i, takes_keys, problems);
    }
}

void inherit_settings(struct settings *settings) {
    static const char section[] = ENVIRONMENTS_KEY ".";
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->key == NULL) {
            continue;
        }
        for (size_t j = 0; j < setting_row_count && row->owner == OF_ENVIRONMENT; j++) {
            const struct setting *general = &setting_rows[j];
            if (general->key == NULL || strcmp(general->key, row->key + sizeof(section) - 1) != 0) {
                continue;
            }
            /* All of these are numbers. A bound of the daemon is no value of an environment that
             * has a lower one. */
            int64_t value = *(int64_t *)((char *)settings + general->offset);
            bool is_bound = general->offset == offsetof(struct settings, max_sessions);
            for (size_t k = 0; k < settings->environment_count; k++) {
                int64_t *own = (int64_t *)((char *)&settings->environments[k] + row->offset);
                if (*own == SETTING_UNSET || (is_bound && *own > value) ||
                    (!is_bound && settings->sources[j] > FROM_FILE)) {
                    *own = value;
                }
            }
        }
    }
}

static void resolve(struct settings *settings, bool takes_keys, struct problems *problems) {
    if (settings->given.id != NULL) {
        keep_given(settings);
    } else if (settings->environment_count == 0 && !takes_keys) {
        return; /* a file alone needs none: the command line may name it */
    } else if (settings->environment_count == 0) {
        problems_add(problems, 0,
                     "no environment: give --environment-id or set ANTHROPIC_ENVIRONMENT_ID");
        return;
    }
    if (settings->environment_count == 1) {
        overlay_given(settings);
    } else {
        refuse_given(settings, problems);
    }
    check_environments(settings, takes_keys, problems);
    inherit_settings(settings);
}

/* The whole. */

static const char *config_path(const char *given) {
    return given != NULL || access(DEFAULT_CONFIG_PATH, F_OK) != 0 ? given : DEFAULT_CONFIG_PATH;
}

static bool is_good(struct problems *problems, struct error **error) {
    problems_sort(problems);
    bool is_good = problems_to_error(problems, error);
    problems_free(problems);
    return is_good;
}

bool settings_load(struct settings *settings, int argc, char **argv, struct error **error) {
    struct problems problems = {.file = config_path(find_config_option(argc, argv))};
    assign_defaults(settings);
    if (problems.file != NULL) {
        settings->file = config_file_open(problems.file, &problems);
        if (settings->file != NULL) {
            load_file(settings, settings->file, &problems);
        }
    }
    if (!is_good(&problems, error) || !load_variables(settings, error) ||
        !load_command_line(settings, argc, argv, error)) {
        return false;
    }
    resolve(settings, true, &problems);
    return is_good(&problems, error);
}

void settings_apply_log(const struct settings *settings) {
    log_configure_format(strcmp(settings->log_format, "json") == 0 ? LOG_FORMAT_JSON
                                                                   : LOG_FORMAT_TEXT);
    (void)log_configure_levels(settings->log_levels,
                               NULL); /* they were checked when they were read */
}

void settings_warn(const struct settings *settings) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->kind == SETTING_SECRET && settings->sources[i] == FROM_COMMAND_LINE) {
            log_warn("--%s is visible to every user of this machine: use a file or %s", row->option,
                     row->variable);
        }
    }
}

void settings_check(const char *path, struct setting_list *problems_found, char **summary) {
    struct problems problems = {.file = path};
    struct settings settings;
    *problems_found = (struct setting_list){NULL, 0};
    assign_defaults(&settings);
    settings.file = config_file_open(path, &problems);
    if (settings.file != NULL) {
        load_file(&settings, settings.file, &problems);
    }
    resolve(&settings, false, &problems);
    problems_sort(&problems);
    problems_found->items = memory_zeroed(problems.count + 1, sizeof(char *));
    for (size_t i = 0; i < problems.count; i++) {
        problems_found->items[problems_found->count++] = problem_text(&problems, i);
    }
    *summary = memory_format("%zu environment%s, up to %lld sessions, %zu custom tool%s, "
                             "sandboxes in %s",
                             settings.environment_count, settings.environment_count == 1 ? "" : "s",
                             (long long)settings.max_sessions, settings.tool_count,
                             settings.tool_count == 1 ? "" : "s", settings.state_directory);
    problems_free(&problems);
    settings_free(&settings);
}

bool settings_show(const char *path, char **text, struct error **error) {
    struct problems problems = {.file = config_path(path)};
    struct settings settings;
    assign_defaults(&settings);
    if (problems.file != NULL) {
        settings.file = config_file_open(problems.file, &problems);
    }
    if (settings.file != NULL) {
        load_file(&settings, settings.file, &problems);
    }
    bool is_shown = is_good(&problems, error) && load_variables(&settings, error);
    if (is_shown) {
        resolve(&settings, false, &problems);
        is_shown = is_good(&problems, error);
    }
    *text = is_shown ? show_text(&settings) : NULL;
    settings_free(&settings);
    return is_shown;
}
