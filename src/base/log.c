/* Logging: one record, one line, one write. */
#include "base/log.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

enum { LOG_ROOMS_LIMIT = 16, LOG_ROOM_NAME_SIZE = 24 };

struct room_level {
    char room[LOG_ROOM_NAME_SIZE];
    enum log_level level;
};

struct log_levels {
    enum log_level level;
    struct room_level rooms[LOG_ROOMS_LIMIT];
    size_t room_count;
};

/* The process has one log; this is its configuration, written only by the functions below. */
static struct {
    struct log_levels levels;
    enum log_format format;
} log_state = {.levels = {.level = LOG_LEVEL_INFO}};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

static bool level_from_name(const char *name, enum log_level *level) {
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static bool parse_word(const char *word, struct log_levels *levels, struct error **error) {
    const char *equals = strchr(word, '=');
    enum log_level level = LOG_LEVEL_INFO;
    if (!level_from_name(equals == NULL ? word : equals + 1, &level)) {
        return error_set(error, ERROR_INPUT,
                         "unknown log level \"%s\": use debug, info, warn, error or off",
                         equals == NULL ? word : equals + 1);
    }
    if (equals == NULL) {
        levels->level = level;
        return true;
    }
    size_t name_length = (size_t)(equals - word);
    if (name_length == 0 || name_length >= LOG_ROOM_NAME_SIZE ||
        levels->room_count == LOG_ROOMS_LIMIT) {
        return error_set(error, ERROR_INPUT, "bad room in log level \"%s\"", word);
    }
    struct room_level *entry = &levels->rooms[levels->room_count++];
    memcpy(entry->room, word, name_length);
    entry->room[name_length] = '\0';
    entry->level = level;
    return true;
}

static bool parse_levels(const char *specification, struct log_levels *levels,
                         struct error **error) {
    CLEANUP_FREE char *copy = memory_string(specification);
    char *rest = copy;
    *levels = (struct log_levels){.level = LOG_LEVEL_INFO};
    for (char *word = strsep(&rest, ","); word != NULL; word = strsep(&rest, ",")) {
        if (!parse_word(word, levels, error)) {
            return false;
        }
    }
    return true;
}

bool log_check_levels(const char *specification, struct error **error) {
    struct log_levels ignored;
    return parse_levels(specification, &ignored, error);
}

bool log_configure_levels(const char *specification, struct error **error) {
    struct log_levels levels;
    if (!parse_levels(specification, &levels, error)) {
        return false;
    }
    log_state.levels = levels;
    return true;
}

void log_configure_format(enum log_format format) {
    log_state.format = format;
}

bool log_is_enabled(enum log_level level, const char *room) {
    for (size_t i = 0; i < log_state.levels.room_count; i++) {
        if (strcmp(log_state.levels.rooms[i].room, room) == 0) {
            return level >= log_state.levels.rooms[i].level;
        }
    }
    return level >= log_state.levels.level;
}

/* Control characters, quotes and backslashes as JSON escapes: neither format can be broken out of.
 */
static void append_escaped(struct buffer *line, const char *text, bool as_json) {
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char byte = (unsigned char)*p;
        if (byte < 0x20 || byte == 0x7f) {
            buffer_append_format(line, "\\u%04x", (unsigned)byte);
        } else {
            if (as_json && (byte == '"' || byte == '\\')) {
                buffer_append_char(line, '\\');
            }
            buffer_append_char(line, *p);
        }
    }
}

void log_write(enum log_level level, const char *room, const char *format, ...) {
    if (!log_is_enabled(level, room)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    CLEANUP_FREE char *message = memory_format_v(format, arguments);
    va_end(arguments);

    CLEANUP_BUFFER struct buffer line = BUFFER_EMPTY;
    char timestamp[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(clock_wall_ms(), timestamp);
    if (log_state.format == LOG_FORMAT_JSON) {
        buffer_append_format(&line,
                             "{\"time\":\"%s\",\"level\":\"%s\",\"room\":\"%s\",\"message\":\"",
                             timestamp, level_names[level], room);
        append_escaped(&line, message, true);
        buffer_append_string(&line, "\"}\n");
    } else {
        buffer_append_format(&line, "%s %-5s %s: ", timestamp, level_names[level], room);
        append_escaped(&line, message, false);
        buffer_append_char(&line, '\n');
    }
    /* A log that cannot be written has nowhere to say so. */
    ssize_t ignored = write(STDERR_FILENO, line.data, line.length);
    (void)ignored;
}
