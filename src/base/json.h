/*
 * JSON (RFC 8259) through json-c, with the bounds and the shorthand that every room needs.
 *
 * json-c is used because it accepts what JavaScript peers really send: a lone surrogate escape
 * becomes U+FFFD instead of a refusal, and key order is kept. Ownership follows json-c:
 * json_object_put releases; the get functions below borrow.
 */
#ifndef HOLT_BASE_JSON_H
#define HOLT_BASE_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { JSON_DEPTH_LIMIT = 64 };

static inline void cleanup_json(struct json_object **object) {
    json_object_put(*object);
}
/* Declare as `CLEANUP_JSON struct json_object *object = NULL`. */
#define CLEANUP_JSON CLEANUP(cleanup_json)

/*
 * Parses exactly one JSON value from `length` bytes of foreign text: strict grammar, valid UTF-8,
 * at most JSON_DEPTH_LIMIT deep, nothing but white space after it. Fails with ERROR_PROTOCOL and
 * the byte offset. On success *out is the value; JSON null gives *out == NULL and returns true.
 */
bool json_parse(const char *text, size_t length, struct json_object **out, struct error **error);

/* Compact text of a value, without escaped slashes; valid until the object changes or is freed. */
const char *json_text(struct json_object *object, size_t *length);

/* Member of an object; NULL when `object` is no object, the key is absent, or the value is null. */
struct json_object *json_get(struct json_object *object, const char *key);
/* Typed members: NULL / the fallback when absent or of another type. */
const char *json_get_string(struct json_object *object, const char *key);
struct json_object *json_get_object(struct json_object *object, const char *key);
struct json_object *json_get_array(struct json_object *object, const char *key);
bool json_get_bool(struct json_object *object, const char *key, bool fallback);
int64_t json_get_int(struct json_object *object, const char *key, int64_t fallback);

/* Setters that take ownership of the value where there is one. */
void json_set(struct json_object *object, const char *key, struct json_object *take_value);
void json_set_string(struct json_object *object, const char *key, const char *value);
void json_set_string_n(struct json_object *object, const char *key, const char *value,
                       size_t length);
void json_set_bool(struct json_object *object, const char *key, bool value);
void json_set_int(struct json_object *object, const char *key, int64_t value);

#endif
