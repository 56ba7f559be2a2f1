/* The command line and the environment variables of the daemon, read by the rows of the table. */
#include <getopt.h>
#include <string.h>

#include "base/memory.h"
#include "config/load.h"
#include "config/options.h"
#include "config/table.h"

enum {
    FIRST_OPTION = 256, /* getopt_long's own answers are characters */
    HELP_INDENT = 31,
    HELP_WIDTH = 92,
};

static bool take_argument(struct settings *settings, size_t index, char *argument,
                          struct error **error) {
    const struct setting *row = &setting_rows[index];
    void *owner = setting_owner(row, settings);
    if (row->kind == SETTING_SECRET) {
        setting_take_secret(row, owner, credential_take_argument(argument));
    } else {
        if (row->kind == SETTING_LIST && settings->sources[index] != FROM_COMMAND_LINE) {
            setting_release(row, owner); /* the first of the command line replaces the list */
        }
        if (!setting_assign(row, owner, argument, error)) {
            return error_wrap(error, "--%s", row->option);
        }
    }
    settings->sources[index] = FROM_COMMAND_LINE;
    return true;
}

bool load_variables(struct settings *settings, struct error **error) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        const char *value = row->variable == NULL ? NULL : option_variable(row->variable);
        if (value == NULL) {
            continue;
        }
        void *owner = setting_owner(row, settings);
        if (row->kind == SETTING_SECRET) {
            setting_take_secret(row, owner, credential_take_variable(row->variable));
        } else {
            setting_release(row, owner);
            if (!setting_assign(row, owner, value, error)) {
                return error_wrap(error, "%s", row->variable);
            }
        }
        settings->sources[i] = FROM_VARIABLE;
    }
    return true;
}

static void make_options(struct option options[SETTING_ROWS_LIMIT + 1]) {
    size_t count = 0;
    for (size_t i = 0; i < setting_row_count; i++) {
        if (setting_rows[i].option != NULL) {
            options[count++] = (struct option){setting_rows[i].option, required_argument, NULL,
                                               FIRST_OPTION + (int)i};
        }
    }
    options[count] = (struct option){NULL, 0, NULL, 0};
    opterr = 0;
    optind = 1;
}

const char *find_config_option(int argc, char **argv) {
    struct option options[SETTING_ROWS_LIMIT + 1];
    const char *path = NULL;
    make_options(options);
    for (int found = 0; (found = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (found >= FIRST_OPTION &&
            setting_rows[found - FIRST_OPTION].offset == offsetof(struct settings, config_path) &&
            setting_rows[found - FIRST_OPTION].owner == OF_DAEMON) {
            path = optarg;
        }
    }
    return path;
}

bool load_command_line(struct settings *settings, int argc, char **argv, struct error **error) {
    struct option options[SETTING_ROWS_LIMIT + 1];
    make_options(options);
    for (int found = 0; (found = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (found < FIRST_OPTION) {
            return error_set(error, ERROR_INPUT, "%s: unknown option or missing value",
                             argv[optind - 1]);
        }
        if (!take_argument(settings, (size_t)(found - FIRST_OPTION), optarg, error)) {
            return false;
        }
    }
    if (optind != argc) {
        return error_set(error, ERROR_INPUT, "unexpected argument \"%s\"", argv[optind]);
    }
    return true;
}

/* Appends words, wrapped, from the column of the explanations on. */
static void append_wrapped(struct buffer *out, const char *text) {
    size_t column = HELP_INDENT;
    for (const char *word = text; *word != '\0';) {
        size_t length = strcspn(word, " ");
        if (column > HELP_INDENT && column + 1 + length > HELP_WIDTH) {
            buffer_append_format(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        } else if (column > HELP_INDENT) {
            buffer_append_char(out, ' ');
            column++;
        }
        buffer_append(out, word, length);
        column += length;
        word += length + (word[length] == ' ');
    }
    buffer_append_char(out, '\n');
}

static void append_row(struct buffer *out, const struct setting *row) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append_string(&text, row->help);
    if (row->variable != NULL || row->fallback != NULL) {
        buffer_append_format(&text, " (default %s%s%s)", row->variable == NULL ? "" : row->variable,
                             row->variable != NULL && row->fallback != NULL ? ", else " : "",
                             row->fallback == NULL ? "" : row->fallback);
    }
    CLEANUP_FREE char *left = memory_format("  --%s %s", row->option, row->word);
    if (strlen(left) + 1 < HELP_INDENT) {
        buffer_append_format(out, "%-*s", HELP_INDENT, left);
    } else {
        buffer_append_format(out, "%s\n%*s", left, HELP_INDENT, "");
    }
    append_wrapped(out, buffer_string(&text));
}

char *settings_help(void) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    for (size_t i = 0; i < setting_row_count; i++) {
        if (setting_rows[i].option != NULL) {
            append_row(&out, &setting_rows[i]);
        }
    }
    return buffer_take_string(&out);
}
