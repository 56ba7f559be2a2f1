/*
 * The table of subcommands. Each is one file that exports one `const struct command`; main.c lists
 * them, and that list is the command line, the help and the dispatcher.
 */
#ifndef HOLT_CMD_COMMAND_H
#define HOLT_CMD_COMMAND_H

enum exit_code { EXIT_CODE_OK = 0, EXIT_CODE_FAILED = 1, EXIT_CODE_USAGE = 2 };

struct command {
    const char *name;    /* as typed: "serve", or two words: "worker run" */
    const char *summary; /* one line for `holt help` */
    const char *help;    /* whole text of `holt NAME --help`, ends in a newline */
    /* Text that follows the help, when a table makes it; freed by the caller. May be NULL. */
    char *(*more_help)(void);
    /* argv[0] is the last word of the name. Returns an exit code. */
    int (*run)(int argc, char **argv);
};

/* One a file, in the order of `holt help`. */
extern const struct command command_serve;
extern const struct command command_config_check;
extern const struct command command_config_show;
extern const struct command command_worker_run;
extern const struct command command_worker_poll;
extern const struct command command_session;
extern const struct command command_demo;
extern const struct command command_emulate;

/* Prints "holt NAME: message" and how to get help to stderr; returns EXIT_CODE_USAGE. */
int command_usage_error(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Logs nothing, prints "holt NAME: <error text>" to stderr; returns EXIT_CODE_FAILED, or
 * EXIT_CODE_USAGE when the error is ERROR_INPUT. */
struct error;
int command_report(const struct command *command, const struct error *error);

#endif
