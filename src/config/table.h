/*
 * The table of settings, private to this room and its tests: every name under which a setting can
 * be given, and how its value is read. From its rows come the command line, the environment
 * variables, the keys of the file, and the help text.
 */
#ifndef HOLT_CONFIG_TABLE_H
#define HOLT_CONFIG_TABLE_H

#include "base/buffer.h"
#include "config/settings.h"

enum setting_kind {
    SETTING_TEXT,       /* char *: any text but an empty one */
    SETTING_PATH,       /* char * */
    SETTING_DIRECTORY,  /* char *: an absolute path */
    SETTING_ID,         /* char *: [A-Za-z0-9_-]{1,128}, fit for URLs */
    SETTING_VARIABLE,   /* char *: the name of an environment variable */
    SETTING_URL,        /* char *: http or https, with a host */
    SETTING_LISTEN,     /* char *: an IP address and a port */
    SETTING_CHOICE,     /* char *: one of `choices` */
    SETTING_LOG_LEVELS, /* char *: "info", "info,orchestrator=debug" */
    SETTING_INTEGER,    /* int64_t, between `lowest` and `highest` */
    SETTING_DURATION,   /* int64_t, milliseconds */
    SETTING_SIZE,       /* int64_t, bytes */
    SETTING_CPUS,       /* int64_t, percent of one CPU */
    SETTING_SWITCH,     /* bool */
    SETTING_LIST,       /* struct setting_list; on the command line: an option given repeatedly */
    SETTING_SECRET,     /* struct credential *; from the command line or a variable only */
};

/* Whose member `offset` leads to. */
enum setting_owner { OF_DAEMON, OF_ENVIRONMENT, OF_TOOL };

#define ENVIRONMENTS_KEY "environments"
#define TOOLS_KEY        "tools"

struct setting {
    const char *key;      /* in the file: "sandbox.memory"; NULL: not there */
    const char *option;   /* without the dashes; NULL: none */
    const char *variable; /* NULL: none */
    const char *fallback; /* the default as one would write it; NULL: none */
    const char *word;     /* of its value in the help: "SIZE" */
    const char *help;     /* one sentence, without its end and without the default */
    const char *choices;  /* of SETTING_CHOICE: "root|agent" */
    int64_t lowest;       /* of numbers; no bounds when both are 0 */
    int64_t highest;
    size_t offset;
    enum setting_kind kind;
    enum setting_owner owner;
    bool has_paths; /* of SETTING_LIST: in the file each begins with a slash */
    bool is_live;   /* a changed file changes it while the daemon runs */
};

extern const struct setting setting_rows[];
extern const size_t setting_row_count;

/* Reads `text` as the row's kind and puts it in its place below `owner` (the struct that
 * row->owner names), releasing what was there. A list gets one more item. ERROR_INPUT. */
bool setting_assign(const struct setting *row, void *owner, const char *text, struct error **error);
/* Puts the default there; SETTING_UNSET, NULL, false or an empty list when there is none. */
void setting_assign_default(const struct setting *row, void *owner);
/* The value as it would be written in the file, with "(set)" for a secret; false when there is
 * none: NULL, SETTING_UNSET or an empty list. */
bool setting_format(const struct setting *row, const void *owner, struct buffer *out);
/* What values the row takes: "a whole number from 1 to 4096". */
void setting_expectation(const struct setting *row, struct buffer *out);
/* The struct that command line and variables fill for the row; NULL when they cannot. */
void *setting_owner(const struct setting *row, struct settings *settings);
/* Frees what is there and leaves NULL or an empty list; numbers stay. */
void setting_release(const struct setting *row, void *owner);
/* Takes the value of one owner to another; the first has none after it, numbers stay. */
void setting_move(const struct setting *row, void *to, void *from);
/* Takes the row's secret from a variable or a word of argv. */
void setting_take_secret(const struct setting *row, void *owner, struct credential *take_secret);

#endif
