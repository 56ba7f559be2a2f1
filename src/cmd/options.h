/* Values of command-line options, shared by the subcommands. Errors are ERROR_INPUT and name the
 * value. */
#ifndef HOLT_CMD_OPTIONS_H
#define HOLT_CMD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* "500ms", "60s", "2m", "1h", or a bare number of seconds; at most a year. Fractions as in "1.5s".
 */
bool option_duration(const char *text, int64_t *milliseconds, struct error **error);
/* "512", "64K", "100M", "2G": bytes, in powers of 1024. */
bool option_size(const char *text, int64_t *bytes, struct error **error);
/* A whole number between `lowest` and `highest`. */
bool option_integer(const char *text, int64_t lowest, int64_t highest, int64_t *value,
                    struct error **error);

#endif
