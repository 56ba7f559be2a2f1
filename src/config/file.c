/* The configuration file: its text, its keys, and what is wrong with them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/json.h"
#include "base/memory.h"
#include "config/load.h"
#include "config/nearest.h"
#include "config/options.h"
#include "config/table.h"
#include "config/toml.h"

enum { VALUE_SHOWN_LIMIT = 60 };

struct reader {
    struct settings *settings;
    struct problems *problems;
    struct json_object *lines;
};

struct config_file *config_file_open(const char *path, struct problems *problems) {
    const char *slash = strrchr(path, '/');
    size_t prefix = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    CLEANUP_FREE char *directory =
        slash == NULL ? memory_string(".") : memory_string_n(path, prefix);
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        problems_add(problems, 0, "cannot be read: %s", strerror(errno));
        return NULL;
    }
    struct config_file *file = memory_new(struct config_file);
    file->path = memory_string(path);
    file->directory_fd = fd;
    file->name = file->path + prefix;
    return file;
}

void config_file_free(struct config_file *take_file) {
    if (take_file != NULL) {
        (void)close(take_file->directory_fd);
        free(take_file->path);
        free(take_file);
    }
}

/* It decides what runs as root: whoever may write it, is root. */
static bool check_status(int fd, struct problems *problems) {
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        problems_add(problems, 0, "is no regular file");
        return false;
    }
    if ((status.st_mode & S_IWOTH) != 0) {
        problems_add(problems, 0, "can be written by everybody: chmod o-w it");
        return false;
    }
    return true;
}

static bool read_text(const struct config_file *file, struct buffer *text,
                      struct problems *problems) {
    CLEANUP_CLOSE int fd =
        openat(file->directory_fd, file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        problems_add(problems, 0, "cannot be read: %s", strerror(errno));
        return false;
    }
    CLEANUP_ERROR struct error *error = NULL;
    if (!check_status(fd, problems)) {
        return false;
    }
    if (!io_read_to_end(fd, text, TOML_TEXT_LIMIT, &error)) {
        CLEANUP_FREE char *why = error_text(error);
        problems_add(problems, 0, "cannot be read: %s", why);
        return false;
    }
    return true;
}

static int line_of(const struct reader *reader, const char *path) {
    return (int)json_get_int(reader->lines, path, 0);
}

static const struct setting *find_row(const char *key, enum setting_owner owner) {
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->key != NULL && row->owner == owner && strcmp(row->key, key) == 0) {
            return row;
        }
    }
    return NULL;
}

static bool is_section(const char *key) {
    size_t length = strlen(key);
    for (size_t i = 0; i < setting_row_count; i++) {
        const char *known = setting_rows[i].key;
        if (known != NULL && strncmp(known, key, length) == 0 && known[length] == '.') {
            return true;
        }
    }
    return false;
}

/* A value as the text that the command line would have; false when its type is another. */
static bool text_of_value(const struct setting *row, struct json_object *value,
                          struct buffer *out) {
    enum json_type type = json_object_get_type(value);
    switch (row->kind) {
    case SETTING_INTEGER:
        if (type != json_type_int) {
            return false;
        }
        break;
    case SETTING_DURATION:
    case SETTING_SIZE:
        if (type != json_type_int && type != json_type_string) {
            return false;
        }
        break;
    case SETTING_CPUS:
        if (type == json_type_double) {
            buffer_append_format(out, "%f", json_object_get_double(value));
            return true;
        }
        if (type != json_type_int) {
            return false;
        }
        break;
    case SETTING_SWITCH:
        if (type == json_type_boolean) {
            buffer_append_string(out, json_object_get_boolean(value) ? "on" : "off");
        }
        return type == json_type_boolean;
    default:
        if (type != json_type_string ||
            strlen(json_object_get_string(value)) !=
                (size_t)json_object_get_string_len(value) /* a NUL inside */) {
            return false;
        }
        break;
    }
    buffer_append_string(out, json_object_get_string(value));
    return true;
}

/* What the file says instead of what it should. A long text may be a secret in a wrong place. */
static void append_value(struct buffer *out, struct json_object *value) {
    static const char *const names[] = {
        [json_type_null] = "a date",        [json_type_boolean] = "true or false",
        [json_type_double] = "a number",    [json_type_int] = "a number",
        [json_type_object] = "a table",     [json_type_array] = "an array",
        [json_type_string] = "this string",
    };
    enum json_type type = json_object_get_type(value);
    size_t length = 0;
    const char *text = json_text(value, &length);
    if (type == json_type_array && json_object_array_length(value) == 0) {
        buffer_append_string(out, "an empty one");
        return;
    }
    bool is_plain = type != json_type_null && type != json_type_object && type != json_type_array;
    buffer_append_string(out, is_plain && length <= VALUE_SHOWN_LIMIT ? text : names[type]);
}

static void refuse_value(const struct reader *reader, const char *path, const struct setting *row,
                         struct json_object *value) {
    CLEANUP_BUFFER struct buffer expected = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer found = BUFFER_EMPTY;
    setting_expectation(row, &expected);
    if (json_object_is_type(value, json_type_string) &&
        (row->kind == SETTING_PATH || row->kind == SETTING_DIRECTORY ||
         row->kind == SETTING_VARIABLE)) {
        /* A key that was pasted where its file belongs is not shown. */
        buffer_append_string(&found, "this string");
    } else {
        append_value(&found, value);
    }
    problems_add(reader->problems, line_of(reader, path), "%s takes %s, not %s", path,
                 buffer_string(&expected), buffer_string(&found));
}

static bool assign_value(const struct setting *row, void *owner, struct json_object *value) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!text_of_value(row, value, &text)) {
        return false;
    }
    /* A daemon has no directory of its own: a path in the file says where it begins. */
    return (row->kind != SETTING_PATH || buffer_string(&text)[0] == '/') &&
           setting_assign(row, owner, buffer_string(&text), NULL);
}

static bool assign_list(const struct setting *row, void *owner, struct json_object *value) {
    if (!json_object_is_type(value, json_type_array)) {
        return false;
    }
    setting_release(row, owner);
    if (json_object_array_length(value) == 0 && row->owner == OF_TOOL) {
        return false; /* a command without a program */
    }
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
        if (!text_of_value(row, json_object_array_get_idx(value, i), &text) ||
            (row->has_paths && buffer_string(&text)[0] != '/') ||
            !setting_assign(row, owner, buffer_string(&text), NULL)) {
            return false;
        }
    }
    return true;
}

static void read_value(const struct reader *reader, const char *path, const struct setting *row,
                       void *owner, struct json_object *value) {
    bool is_good = row->kind == SETTING_LIST ? assign_list(row, owner, value)
                                             : assign_value(row, owner, value);
    if (!is_good) {
        refuse_value(reader, path, row, value);
    } else if (row->owner == OF_DAEMON) {
        reader->settings->sources[row - setting_rows] = FROM_FILE;
    }
}

static void refuse_key(const struct reader *reader, const char *path, const char *key) {
    size_t length = 0;
    const char *nearest = nearest_key(key, &length);
    if (nearest == NULL) {
        problems_add(reader->problems, line_of(reader, path), "unknown key \"%s\"", key);
    } else {
        problems_add(reader->problems, line_of(reader, path),
                     "unknown key \"%s\": did you mean \"%.*s\"?", key, (int)length, nearest);
    }
}

/* False when no row has the key. `path` is where it stands ("environments[0].id"), `key` what its
 * row is called ("environments.id"). */
static bool read_member(const struct reader *reader, const char *path, const char *key,
                        enum setting_owner owner_kind, void *owner, struct json_object *value) {
    const struct setting *row = find_row(key, owner_kind);
    if (row != NULL) {
        read_value(reader, path, row, owner, value);
    }
    return row != NULL;
}

static void read_environment(const struct reader *reader, size_t index, struct json_object *table) {
    CLEANUP_FREE char *place = memory_format(ENVIRONMENTS_KEY "[%zu]", index);
    struct environment_settings *environment = add_environment(reader->settings);
    environment->line = line_of(reader, place);
    if (!json_object_object_get_ex(table, "id", NULL)) {
        problems_add(reader->problems, environment->line, "an environment has no id");
    }
    json_object_object_foreach(table, name, value) {
        CLEANUP_FREE char *path = memory_format("%s.%s", place, name);
        CLEANUP_FREE char *key = memory_format(ENVIRONMENTS_KEY ".%s", name);
        if (!read_member(reader, path, key, OF_ENVIRONMENT, environment, value)) {
            refuse_key(reader, path, key);
        }
    }
}

static void read_environments(const struct reader *reader, struct json_object *list) {
    size_t count =
        json_object_is_type(list, json_type_array) ? json_object_array_length(list) : SIZE_MAX;
    if (count > ENVIRONMENTS_LIMIT) {
        problems_add(reader->problems, line_of(reader, ENVIRONMENTS_KEY),
                     "write each environment as [[" ENVIRONMENTS_KEY "]], at most %d of them",
                     ENVIRONMENTS_LIMIT);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct json_object *table = json_object_array_get_idx(list, i);
        if (json_object_is_type(table, json_type_object)) {
            read_environment(reader, i, table);
        } else {
            problems_add(reader->problems, line_of(reader, ENVIRONMENTS_KEY),
                         "an environment is a table");
        }
    }
}

static void read_tool(const struct reader *reader, const char *name, struct json_object *table) {
    CLEANUP_FREE char *place = memory_format(TOOLS_KEY ".%s", name);
    int line = line_of(reader, place);
    if (!option_id(name, NULL)) {
        problems_add(reader->problems, line,
                     "a tool's name is of letters, digits, _ and -, not \"%s\"", name);
        return;
    }
    if (!json_object_is_type(table, json_type_object)) {
        problems_add(reader->problems, line, "write each tool as [" TOOLS_KEY ".NAME]");
        return;
    }
    struct tool_settings *tool = add_tool(reader->settings, name);
    tool->line = line;
    json_object_object_foreach(table, member, value) {
        CLEANUP_FREE char *path = memory_format("%s.%s", place, member);
        CLEANUP_FREE char *key = memory_format(TOOLS_KEY ".%s", member);
        if (!read_member(reader, path, key, OF_TOOL, tool, value)) {
            refuse_key(reader, path, key);
        }
    }
    if (tool->command.count == 0 && !json_object_object_get_ex(table, "command", NULL)) {
        problems_add(reader->problems, line, "the tool %s has no command", name);
    }
}

static void read_tools(const struct reader *reader, struct json_object *tables) {
    if (!json_object_is_type(tables, json_type_object) ||
        json_object_object_length(tables) > TOOLS_LIMIT) {
        problems_add(reader->problems, line_of(reader, TOOLS_KEY),
                     "write each tool as [" TOOLS_KEY ".NAME], at most %d of them", TOOLS_LIMIT);
        return;
    }
    json_object_object_foreach(tables, name, table) {
        read_tool(reader, name, table);
    }
}

static void read_section(const struct reader *reader, const char *section,
                         struct json_object *table) {
    if (!json_object_is_type(table, json_type_object)) {
        problems_add(reader->problems, line_of(reader, section), "%s is a table: write [%s]",
                     section, section);
        return;
    }
    json_object_object_foreach(table, name, value) {
        CLEANUP_FREE char *key = memory_format("%s.%s", section, name);
        if (!read_member(reader, key, key, OF_DAEMON, reader->settings, value)) {
            refuse_key(reader, key, key);
        }
    }
}

static void read_root(const struct reader *reader, struct json_object *tree) {
    json_object_object_foreach(tree, key, value) {
        if (strcmp(key, ENVIRONMENTS_KEY) == 0) {
            read_environments(reader, value);
        } else if (strcmp(key, TOOLS_KEY) == 0) {
            read_tools(reader, value);
        } else if (is_section(key) && strchr(key, '.') == NULL) {
            read_section(reader, key, value);
        } else if (strchr(key, '.') != NULL ||
                   !read_member(reader, key, key, OF_DAEMON, reader->settings, value)) {
            refuse_key(reader, key, key);
        }
    }
}

void load_text(struct settings *settings, const char *text, size_t length,
               struct problems *problems) {
    CLEANUP_JSON struct json_object *tree = NULL;
    CLEANUP_JSON struct json_object *lines = NULL;
    struct toml_error error = {.line = 0};
    if (!toml_parse(text, length, &tree, &lines, &error)) {
        if (error.column > 0) {
            problems_add(problems, error.line, "column %d: %s", error.column, error.message);
        } else {
            problems_add(problems, error.line, "%s", error.message);
        }
        return;
    }
    read_root(&(struct reader){.settings = settings, .problems = problems, .lines = lines}, tree);
}

void load_file(struct settings *settings, const struct config_file *file,
               struct problems *problems) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (read_text(file, &text, problems)) {
        load_text(settings, buffer_string(&text), text.length, problems);
    }
}
