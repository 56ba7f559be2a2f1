/*
 * The settings of `holt serve`: what the operator said, wherever it was said.
 *
 * One table (table.c) names every setting once: its key in the configuration file, its command-line
 * option, its environment variable, its type, default and bounds. Here is what it is read into. The
 * command line comes before the environment variables, these before the file, that before the
 * default. A new setting is one member here and one row there.
 *
 * Keys and other secrets are credentials (credential.h), never text. This room opens the
 * configuration file and nothing else: the files that settings name are their readers' business.
 */
#ifndef HOLT_CONFIG_SETTINGS_H
#define HOLT_CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "config/credential.h"

enum {
    SETTING_UNSET = -1,        /* of a number that has no default and that nobody gave */
    SETTING_ROWS_LIMIT = 128,  /* of the table */
    SETTING_ITEMS_LIMIT = 64,  /* of a list */
    TOOLS_LIMIT = 64,          /* of one daemon */
    ENVIRONMENTS_LIMIT = 256,  /* served by one daemon */
    MAX_SESSIONS_LIMIT = 4096, /* of one daemon */
};

/* Where a value came from, in rising precedence. */
enum setting_source { FROM_DEFAULT, FROM_FILE, FROM_VARIABLE, FROM_COMMAND_LINE };

/* A list of texts. */
struct setting_list {
    char **items;
    size_t count;
};

/* One environment that is served. After settings_load the numbers are what holds for it. */
struct environment_settings {
    char *id;
    char *base_url;
    char *worker_id; /* NULL: the daemon makes one up */
    char *on_work;   /* a script that serves its sessions; NULL: sandboxes here do */
    int64_t on_work_timeout_ms;
    char *key_file;         /* NULL: `key` is given */
    char *key_variable;     /* where `key` was taken from, or NULL */
    struct credential *key; /* NULL: in `key_file` */
    int64_t max_sessions;
    int64_t max_idle_ms;
    int64_t poll_interval_ms; /* SETTING_UNSET: as the dispatcher sees fit */
    int line;                 /* in the file; 0: it is not there */
};

/* A custom tool: a program of the operator. */
struct tool_settings {
    char *name;
    struct setting_list command; /* argv */
    char *schema_path;           /* NULL: none */
    char *where;                 /* "sandbox" or "host" */
    int64_t timeout_ms;
    int line;
};

struct settings {
    struct environment_settings *environments;
    size_t environment_count;
    struct tool_settings *tools;
    size_t tool_count;

    char *state_directory;
    char *journal_path; /* NULL: none */
    char *ready_path;   /* NULL: none */
    int64_t max_sessions;
    int64_t max_starting;
    int64_t max_idle_ms;
    int64_t memory_sync_ms;
    int64_t poll_interval_ms; /* SETTING_UNSET: as the dispatcher sees fit */
    int64_t drain_ms;
    int64_t request_timeout_ms;
    bool reads_media;
    char *poll;                   /* "always", "recovery" or "never"; NULL: as there are webhooks */
    int64_t recovery_interval_ms; /* of "recovery" */
    int64_t exit_when_idle_ms;    /* SETTING_UNSET: never */

    char *webhook_listen; /* "ADDRESS:PORT"; NULL: none, or a socket that is handed over */
    struct setting_list webhook_secret_files;
    struct credential *webhook_secret;
    char *webhook_certificate; /* NULL: plain HTTP */
    char *webhook_key;
    int64_t webhook_debounce_ms;

    char *root_directory; /* NULL: the host's own programs */
    char *user;           /* "root" or "agent" */
    int64_t memory_limit_bytes;
    int64_t pids_limit;
    int64_t cpu_limit_percent;
    int64_t keep_ms; /* for the next item of a session; 0: nothing outlives its item */
    int64_t keep_most;

    struct setting_list stage_allow;       /* URL prefixes */
    struct setting_list stage_credentials; /* "PREFIX=FILE" */
    int64_t stage_entry_bytes;
    int64_t stage_timeout_ms;

    char *log_levels;
    char *log_format;

    struct config_file *file; /* NULL: none was read */
    char *config_path;        /* --config; NULL: not given */
    /* What command line and variables say of the one environment that they can describe. */
    struct environment_settings given;
    unsigned char sources[SETTING_ROWS_LIMIT]; /* enum setting_source, by row of the table */
};

#define DEFAULT_CONFIG_PATH "/etc/holt/holt.toml"

/*
 * Reads the file (--config, or DEFAULT_CONFIG_PATH if it exists), the environment variables and the
 * command line. Secrets are wiped where they were found. `settings` is to be freed in any case.
 * Errors are ERROR_INPUT and name the option, or the line and key of the file.
 */
bool settings_load(struct settings *settings, int argc, char **argv, struct error **error);
/*
 * Reads the file again. What can change while the daemon runs is changed in `settings`; every other
 * difference is a warning in the log. A bad file changes nothing: its problems are logged and false
 * is returned.
 */
bool settings_reload(struct settings *settings);
/* The problems of a file, a line each, in its order; an empty list and a summary when it is fine.
 * The caller frees both. */
void settings_check(const char *path, struct setting_list *problems, char **summary);
/* File (NULL: the default one, if it exists) and variables as a TOML text that says where each
 * value is from; secrets are only said to be set. */
bool settings_show(const char *path, char **text, struct error **error);
void setting_list_free(struct setting_list *list);
/* Makes the log as the settings say. */
void settings_apply_log(const struct settings *settings);
/* Warns of what is unwise in them. */
void settings_warn(const struct settings *settings);
/* The options with their defaults, as lines of a help text; the caller frees it. */
char *settings_help(void);
/* Wipes secrets; the struct is empty after it. */
void settings_free(struct settings *settings);

#endif
