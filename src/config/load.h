/* The sources of settings, private to this room: each overwrites what the ones before it said. */
#ifndef HOLT_CONFIG_LOAD_H
#define HOLT_CONFIG_LOAD_H

#include "config/settings.h"

bool load_variables(struct settings *settings, struct error **error);
bool load_command_line(struct settings *settings, int argc, char **argv, struct error **error);

#endif
