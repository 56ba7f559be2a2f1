/* Values of options and of keys in the configuration file, shared by the subcommands. Errors are
 * ERROR_INPUT and name the value. */
#ifndef HOLT_CONFIG_OPTIONS_H
#define HOLT_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* "500ms", "60s", "2m", "1h", several as in "1m30s", or a bare number of seconds; at most a year.
 * Fractions as in "1.5s".
 */
bool option_duration(const char *text, int64_t *milliseconds, struct error **error);
/* "512", "64K", "100M", "2G": bytes, in powers of 1024. */
bool option_size(const char *text, int64_t *bytes, struct error **error);
/* "on" or "off". */
bool option_switch(const char *text, bool *is_on, struct error **error);
/* A whole number between `lowest` and `highest`. */
bool option_integer(const char *text, int64_t lowest, int64_t highest, int64_t *value,
                    struct error **error);
/* "2", "1.5": CPUs, read as percent of one. */
bool option_cpus(const char *text, int64_t *percent, struct error **error);
/* [A-Za-z0-9_-]{1,128}: what may stand in a URL of the control plane. */
bool option_id(const char *text, struct error **error);
/* An http or https URL with a host. */
bool option_base_url(const char *text, struct error **error);
/* "127.0.0.1:8080" or "[::1]:8080": an IP address, which the caller frees, and a port. */
bool option_listen(const char *text, char **address, uint16_t *port, struct error **error);
/* "text" or "json": sets the format of the log. */
bool option_log_format(const char *text, struct error **error);
/* The absolute path of an existing directory; the caller frees it. */
char *option_directory(const char *text, struct error **error);
/* An environment variable, or NULL when it is unset or empty. */
const char *option_variable(const char *name);

#endif
