/* holt: picks the subcommand. */
#include "cmd/command.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

static const struct command *const commands[] = {
    &command_serve,      &command_config_check, &command_config_show,
    &command_worker_run, &command_worker_poll,  &command_session,
    &command_demo,       &command_emulate,      NULL,
};

int command_usage_error(const struct command *command, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    CLEANUP_FREE char *message = memory_format_v(format, arguments);
    va_end(arguments);
    (void)fprintf(stderr, "holt %s: %s (see: holt %s --help)\n", command->name, message,
                  command->name);
    return EXIT_CODE_USAGE;
}

int command_report(const struct command *command, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    (void)fprintf(stderr, "holt %s: %s\n", command->name, text);
    return error != NULL && error->code == ERROR_INPUT ? EXIT_CODE_USAGE : EXIT_CODE_FAILED;
}

static void print_overview(FILE *out) {
    (void)fputs(
        "holt: self-hosted hands for Claude Managed Agents\n\nusage: holt COMMAND [OPTION]...\n\n",
        out);
    for (size_t i = 0; commands[i] != NULL; i++) {
        (void)fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    }
    (void)fputs("\nholt COMMAND --help describes a command; holt --version prints the version.\n",
                out);
}

/* How many words of argv name this command: 0 when they do not. */
static int words_matched(const struct command *command, int argc, char **argv) {
    CLEANUP_FREE char *name = memory_string(command->name);
    char *rest = name;
    int words = 0;
    for (char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " ")) {
        words++;
        if (words >= argc || strcmp(argv[words], word) != 0) {
            return 0;
        }
    }
    return words;
}

static bool asks_for_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_CODE_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_overview(stdout);
        return EXIT_CODE_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("holt " HOLT_VERSION);
        return EXIT_CODE_OK;
    }
    for (size_t i = 0; commands[i] != NULL; i++) {
        int words = words_matched(commands[i], argc, argv);
        if (words == 0) {
            continue;
        }
        if (asks_for_help(argc - words, argv + words)) {
            CLEANUP_FREE char *more =
                commands[i]->more_help == NULL ? NULL : commands[i]->more_help();
            (void)fputs(commands[i]->help, stdout);
            (void)fputs(more == NULL ? "" : more, stdout);
            return EXIT_CODE_OK;
        }
        return commands[i]->run(argc - words, argv + words);
    }
    (void)fprintf(stderr, "holt: unknown command \"%s\" (see: holt --help)\n", argv[1]);
    return EXIT_CODE_USAGE;
}
