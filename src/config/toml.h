/*
 * TOML 1.0 (through toml++, the only C++ of holt) to a JSON tree, with the line of every key.
 *
 * The tree has objects, arrays, strings, integers, doubles and booleans; a date or time is null, as
 * no setting is one. `lines` maps the path of every value ("sandbox.memory", "environments[1].id")
 * to its line. No exception leaves the C++ file; memory that runs out aborts as everywhere.
 */
#ifndef HOLT_CONFIG_TOML_H
#define HOLT_CONFIG_TOML_H

#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

#include <stddef.h>

struct json_object;

enum {
    TOML_TEXT_LIMIT = 1 << 20, /* bytes */
    TOML_MESSAGE_SIZE = 256,
};

struct toml_error {
    int line; /* from 1; 0: the whole text */
    int column;
    char message[TOML_MESSAGE_SIZE];
};

/*
 * Parses `length` bytes of UTF-8. On success *tree and *lines are new objects; otherwise both are
 * NULL and *error says why. Bounded: TOML_TEXT_LIMIT, 8 nested arrays or tables, 128 dots a line.
 */
bool toml_parse(const char *text, size_t length, struct json_object **tree,
                struct json_object **lines, struct toml_error *error);

#ifdef __cplusplus
}
#endif

#endif
