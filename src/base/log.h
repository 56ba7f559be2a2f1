/*
 * Logging: text for terminals, JSON lines for machines, a level for each room.
 *
 * A record is a level, a room ("orchestrator", "keeper", ...), and a message of one line. Messages
 * never carry keys, tokens, secrets, tool input or tool output: ids, counts and names only. Control
 * characters in a message are escaped, so that foreign text cannot forge a line. Records go to
 * stderr with one write(2) each.
 */
#ifndef HOLT_BASE_LOG_H
#define HOLT_BASE_LOG_H

#include <stdbool.h>

#include "base/error.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/*
 * Parses a level specification: "info", or "info,orchestrator=debug,keeper=warn". Unknown words
 * fail with ERROR_INPUT and change nothing. Without a call the level is info.
 */
bool log_configure_levels(const char *specification, struct error **error);
/* As log_configure_levels, but changes nothing in any case. */
bool log_check_levels(const char *specification, struct error **error);
void log_configure_format(enum log_format format);
bool log_is_enabled(enum log_level level, const char *room);
void log_write(enum log_level level, const char *room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A .c file defines LOG_ROOM before it includes this header to use the short forms. */
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, LOG_ROOM, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, LOG_ROOM, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, LOG_ROOM, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, LOG_ROOM, __VA_ARGS__)

#endif
