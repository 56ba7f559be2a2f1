/* Settings: defaults, then what overwrites them, then what must hold between them. */
#include "config/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/load.h"
#include "config/table.h"

#define LOG_ROOM "config"
#include "base/log.h"

static void environment_free(struct environment_settings *environment) {
    for (size_t i = 0; i < setting_row_count; i++) {
        if (setting_rows[i].owner == OF_ENVIRONMENT) {
            setting_release(&setting_rows[i], environment);
        }
    }
}

void settings_free(struct settings *settings) {
    for (size_t i = 0; i < settings->environment_count; i++) {
        environment_free(&settings->environments[i]);
    }
    free(settings->environments);
    for (size_t i = 0; i < setting_row_count; i++) {
        setting_release(&setting_rows[i], setting_rows[i].owner == OF_ENVIRONMENT
                                              ? (void *)&settings->given
                                              : (void *)settings);
    }
    *settings = (struct settings){.environments = NULL};
}

static void assign_defaults(struct settings *settings) {
    *settings = (struct settings){.environments = NULL};
    for (size_t i = 0; i < setting_row_count; i++) {
        setting_assign_default(&setting_rows[i], setting_rows[i].owner == OF_ENVIRONMENT
                                                     ? (void *)&settings->given
                                                     : (void *)settings);
    }
}

static bool check_environment(const struct environment_settings *environment,
                              struct error **error) {
    if (environment->id == NULL) {
        return error_set(error, ERROR_INPUT,
                         "no environment: give --environment-id or set ANTHROPIC_ENVIRONMENT_ID");
    }
    return environment->key != NULL || environment->key_file != NULL ||
           error_set(error, ERROR_INPUT,
                     "no key: give --environment-key-file or set ANTHROPIC_ENVIRONMENT_KEY");
}

bool settings_load(struct settings *settings, int argc, char **argv, struct error **error) {
    assign_defaults(settings);
    if (!load_variables(settings, error) || !load_command_line(settings, argc, argv, error) ||
        !check_environment(&settings->given, error)) {
        return false;
    }
    settings->environments = memory_new(struct environment_settings);
    settings->environments[0] = settings->given;
    settings->environment_count = 1;
    settings->given = (struct environment_settings){.id = NULL};
    return true;
}

bool settings_apply_log(const struct settings *settings, struct error **error) {
    log_configure_format(strcmp(settings->log_format, "json") == 0 ? LOG_FORMAT_JSON
                                                                   : LOG_FORMAT_TEXT);
    if (!log_configure_levels(settings->log_levels, error)) {
        return false;
    }
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->kind == SETTING_SECRET && settings->sources[i] == FROM_COMMAND_LINE) {
            log_warn("--%s is visible to every user of this machine: use a file or %s", row->option,
                     row->variable);
        }
    }
    return true;
}
