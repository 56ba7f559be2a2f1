/* The custom tools of `holt serve`: from the settings to what sessions run. */
#ifndef HOLT_CMD_SERVE_TOOLS_H
#define HOLT_CMD_SERVE_TOOLS_H

#include "config/settings.h"
#include "orchestrator/custom_tools.h"

struct serve_tools;

/* Reads the schemas: needs their paths, so before privileges are dropped. Borrows the settings.
 * NULL with *error set. */
struct serve_tools *serve_tools_new(const struct settings *settings, struct error **error);
void serve_tools_free(struct serve_tools *take_tools); /* NULL is fine */
const struct custom_tools *serve_tools_table(const struct serve_tools *tools);

#endif
