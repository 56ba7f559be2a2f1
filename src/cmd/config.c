/* holt config: what a configuration file says, and what is wrong with it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cmd/command.h"
#include "config/settings.h"

static int run_check(int argc, char **argv);
static int run_show(int argc, char **argv);

const struct command command_config_check = {
    .name = "config check",
    .summary = "whether the daemon's configuration file is fine",
    .help =
        "usage: holt config check [FILE]\n"
        "\n"
        "Prints FILE: fine, and what it makes of holt serve; or every mistake with its line, the\n"
        "key, and what is allowed there, and exits 1. FILE is " DEFAULT_CONFIG_PATH "\n"
        "unless it is given. Files that it names are not opened.\n",
    .run = run_check,
};

const struct command command_config_show = {
    .name = "config show",
    .summary = "the settings that holt serve would have",
    .help = "usage: holt config show [FILE]\n"
            "\n"
            "Prints every setting of holt serve as a configuration file, with where its value is\n"
            "from: FILE (else " DEFAULT_CONFIG_PATH ", if it exists), an environment variable, or\n"
            "the default. Secrets are only said to be set.\n",
    .run = run_show,
};

/* The one word after the command; false after a usage error. */
static bool take_path(const struct command *command, int argc, char **argv, const char **path) {
    *path = argc == 2 ? argv[1] : NULL;
    if (argc > 2) {
        (void)command_usage_error(command, "unexpected argument \"%s\"", argv[2]);
        return false;
    }
    if (argc == 2 && argv[1][0] == '-') {
        (void)command_usage_error(command, "%s: unknown option", argv[1]);
        return false;
    }
    return true;
}

static int run_check(int argc, char **argv) {
    const char *path = NULL;
    if (!take_path(&command_config_check, argc, argv, &path)) {
        return EXIT_CODE_USAGE;
    }
    path = path == NULL ? DEFAULT_CONFIG_PATH : path;
    struct setting_list problems;
    CLEANUP_FREE char *summary = NULL;
    settings_check(path, &problems, &summary);
    for (size_t i = 0; i < problems.count; i++) {
        (void)fprintf(stderr, "%s\n", problems.items[i]);
    }
    bool is_fine = problems.count == 0;
    if (is_fine) {
        (void)printf("%s: fine\n%s\n", path, summary);
    }
    setting_list_free(&problems);
    return is_fine ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}

static int run_show(int argc, char **argv) {
    const char *path = NULL;
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_FREE char *text = NULL;
    if (!take_path(&command_config_show, argc, argv, &path)) {
        return EXIT_CODE_USAGE;
    }
    if (!settings_show(path, &text, &error)) {
        (void)command_report(&command_config_show, error);
        return EXIT_CODE_FAILED;
    }
    (void)fputs(text, stdout);
    return EXIT_CODE_OK;
}
