/* The sources of settings, private to this room: each overwrites what the ones before it said. */
#ifndef HOLT_CONFIG_LOAD_H
#define HOLT_CONFIG_LOAD_H

#include "base/buffer.h"
#include "config/problems.h"
#include "config/settings.h"

/*
 * A configuration file that can be read again after privileges were dropped: its directory is kept
 * open, so that only the file itself must be readable by whom we have become, and a file that was
 * renamed into its place is found.
 */
struct config_file {
    char *path;
    int directory_fd;
    const char *name; /* the last part of `path` */
};

/* NULL and a problem when there is no such directory. */
struct config_file *config_file_open(const char *path, struct problems *problems);
void config_file_free(struct config_file *take_file); /* NULL is fine */

/* Reads the file's text into settings that hold the defaults. */
void load_file(struct settings *settings, const struct config_file *file,
               struct problems *problems);
/* The same of text that is already here. */
void load_text(struct settings *settings, const char *text, size_t length,
               struct problems *problems);
bool load_variables(struct settings *settings, struct error **error);
/* The value of --config, without looking at the other options; NULL when it is not given. */
const char *find_config_option(int argc, char **argv);
bool load_command_line(struct settings *settings, int argc, char **argv, struct error **error);

/* The defaults, as the first source. */
void assign_defaults(struct settings *settings);
/* One more environment with its defaults. */
struct environment_settings *add_environment(struct settings *settings);
/* One more custom tool with its defaults. */
struct tool_settings *add_tool(struct settings *settings, const char *name);
/* What must hold within and between environments. `takes_keys`: they are taken out of the variables
 * that are named for them, and every environment must have one. */
void check_environments(struct settings *settings, bool takes_keys, struct problems *problems);
/* Gives every environment the daemon's value where it has none of its own. */
void inherit_settings(struct settings *settings);

/* A custom tool as a table of the file. */
void show_tool(struct buffer *out, const struct tool_settings *tool);
/* Settings as settings_show tells them; the caller frees it. */
char *show_text(const struct settings *settings);

#endif
