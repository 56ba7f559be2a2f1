/* The custom tools of `holt serve`: argv arrays, schemas, one table. */
#include "cmd/serve_tools.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"

enum { SCHEMA_LIMIT = 1 << 20 };

struct serve_tools {
    struct custom_tools table;
    struct custom_tool tools[TOOLS_LIMIT];
    const char **commands[TOOLS_LIMIT];
};

static const char **argv_of(const struct setting_list *command) {
    const char **argv = memory_zeroed(command->count + 1, sizeof(char *));
    for (size_t i = 0; i < command->count; i++) {
        argv[i] = command->items[i];
    }
    return argv;
}

static bool read_schema(const char *path, struct json_object **schema, struct error **error) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, path, &text, SCHEMA_LIMIT, error) ||
        !json_parse(buffer_string(&text), text.length, schema, error)) {
        return error_wrap(error, "%s", path);
    }
    return json_object_is_type(*schema, json_type_object) ||
           error_set(error, ERROR_INPUT, "%s: a JSON schema is an object", path);
}

struct serve_tools *serve_tools_new(const struct settings *settings, struct error **error) {
    struct serve_tools *tools = memory_new(struct serve_tools);
    tools->table.tools = tools->tools;
    for (size_t i = 0; i < settings->tool_count; i++) {
        const struct tool_settings *given = &settings->tools[i];
        struct custom_tool *tool = &tools->tools[tools->table.count];
        tools->commands[tools->table.count++] = argv_of(&given->command);
        *tool = (struct custom_tool){
            .name = given->name,
            .command = tools->commands[i],
            .is_on_host = strcmp(given->where, "host") == 0,
            .timeout_ms = given->timeout_ms,
        };
        if (given->schema_path != NULL && !read_schema(given->schema_path, &tool->schema, error)) {
            (void)error_wrap(error, "custom tool %s", given->name);
            if (error != NULL) {
                (*error)->code = ERROR_INPUT; /* the configuration names it */
            }
            serve_tools_free(tools);
            return NULL;
        }
    }
    return tools;
}

void serve_tools_free(struct serve_tools *take_tools) {
    if (take_tools == NULL) {
        return;
    }
    for (size_t i = 0; i < take_tools->table.count; i++) {
        json_object_put(take_tools->tools[i].schema);
        free(take_tools->commands[i]);
    }
    free(take_tools);
}

const struct custom_tools *serve_tools_table(const struct serve_tools *tools) {
    return &tools->table;
}
