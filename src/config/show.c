/* Settings as a TOML text, each with where it is from. */
#include "base/memory.h"
#include "config/load.h"
#include "config/table.h"

enum { SOURCE_COLUMN = 44 };

static const char *source_name(const struct settings *settings, size_t index) {
    switch ((enum setting_source)settings->sources[index]) {
    case FROM_DEFAULT:
        return "default";
    case FROM_FILE:
        return settings->file->path;
    case FROM_VARIABLE:
        return setting_rows[index].variable;
    case FROM_COMMAND_LINE:
        return "command line";
    }
    return "";
}

static void append_line(struct buffer *out, const char *key, const char *value,
                        const char *source) {
    CLEANUP_FREE char *left = memory_format("%s = %s", key, value);
    buffer_append_format(out, "%-*s # %s\n", SOURCE_COLUMN, left, source);
}

static void show_environment(struct buffer *out, const struct settings *settings,
                             const struct environment_settings *environment) {
    buffer_append_string(out, "\n[[" ENVIRONMENTS_KEY "]]\n");
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        CLEANUP_BUFFER struct buffer value = BUFFER_EMPTY;
        if (row->owner != OF_ENVIRONMENT || !setting_format(row, environment, &value)) {
            continue;
        }
        if (row->kind == SETTING_SECRET) { /* the file has no such key */
            buffer_append_format(out, "# key: (set)%*s # %s\n", SOURCE_COLUMN - 12, "",
                                 source_name(settings, i));
            continue;
        }
        const char *name = row->key + sizeof(ENVIRONMENTS_KEY);
        if (settings->sources[i] > FROM_FILE) {
            append_line(out, name, buffer_string(&value), source_name(settings, i));
        } else {
            buffer_append_format(out, "%s = %s\n", name, buffer_string(&value));
        }
    }
}

void show_tool(struct buffer *out, const struct tool_settings *tool) {
    buffer_append_format(out, "\n[" TOOLS_KEY ".%s]\n", tool->name);
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        CLEANUP_BUFFER struct buffer value = BUFFER_EMPTY;
        if (row->owner == OF_TOOL && setting_format(row, tool, &value)) {
            buffer_append_format(out, "%s = %s\n", row->key + sizeof(TOOLS_KEY),
                                 buffer_string(&value));
        }
    }
}

char *show_text(const struct settings *settings) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        CLEANUP_BUFFER struct buffer value = BUFFER_EMPTY;
        if (row->owner != OF_DAEMON || row->key == NULL) {
            continue;
        }
        if (setting_format(row, settings, &value)) {
            append_line(&out, row->key, buffer_string(&value), source_name(settings, i));
        } else {
            buffer_append_format(&out, "# %s: not set\n", row->key);
        }
    }
    for (size_t i = 0; i < settings->environment_count; i++) {
        show_environment(&out, settings, &settings->environments[i]);
    }
    for (size_t i = 0; i < settings->tool_count; i++) {
        show_tool(&out, &settings->tools[i]);
    }
    return buffer_take_string(&out);
}
