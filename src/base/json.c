/* JSON through json-c: bounded parsing of foreign text and typed member access. */
#include "base/json.h"

#include <limits.h>
#include <string.h>

#include "base/utf8.h"

static void cleanup_tokener(struct json_tokener **tokener) {
    json_tokener_free(*tokener);
}

bool json_parse(const char *text, size_t length, struct json_object **out, struct error **error) {
    *out = NULL;
    if (length > INT_MAX - 1) {
        return error_set(error, ERROR_LIMIT, "JSON of %zu bytes is too large", length);
    }
    /* Not JSON_TOKENER_VALIDATE_UTF8: it takes overlong forms and encoded surrogates. */
    size_t valid = utf8_valid_prefix(text, length);
    if (valid < length) {
        return error_set(error, ERROR_PROTOCOL, "malformed JSON at byte %zu: invalid UTF-8", valid);
    }
    CLEANUP(cleanup_tokener)
    struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_LIMIT);
    if (tokener == NULL) {
        return error_set(error, ERROR_INTERNAL, "cannot make a JSON parser");
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    struct json_object *object = json_tokener_parse_ex(tokener, text, (int)length);
    size_t end = json_tokener_get_parse_end(tokener);
    if (json_tokener_get_error(tokener) == json_tokener_continue) {
        /* A bare number ends only at a delimiter: one NUL byte says that the text is over. */
        object = json_tokener_parse_ex(tokener, "", 1);
        end = length;
    }
    enum json_tokener_error status = json_tokener_get_error(tokener);
    if (status != json_tokener_success) {
        json_object_put(object);
        return error_set(error, ERROR_PROTOCOL, "malformed JSON at byte %zu: %s", end,
                         status == json_tokener_continue ? "it ends too early"
                                                         : json_tokener_error_desc(status));
    }
    size_t rest = end < length ? strspn(text + end, " \t\r\n") : 0;
    if (end < length && end + rest < length) {
        json_object_put(object);
        return error_set(error, ERROR_PROTOCOL, "malformed JSON at byte %zu: text after the value",
                         end + rest);
    }
    *out = object;
    return true;
}

const char *json_text(struct json_object *object, size_t *length) {
    size_t ignored = 0;
    return json_object_to_json_string_length(
        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
        length == NULL ? &ignored : length);
}

struct json_object *json_get(struct json_object *object, const char *key) {
    struct json_object *value = NULL;
    if (object == NULL || !json_object_is_type(object, json_type_object) ||
        !json_object_object_get_ex(object, key, &value)) {
        return NULL;
    }
    return value;
}

static struct json_object *get_typed(struct json_object *object, const char *key,
                                     enum json_type type) {
    struct json_object *value = json_get(object, key);
    return value != NULL && json_object_is_type(value, type) ? value : NULL;
}

const char *json_get_string(struct json_object *object, const char *key) {
    struct json_object *value = get_typed(object, key, json_type_string);
    return value == NULL ? NULL : json_object_get_string(value);
}

struct json_object *json_get_object(struct json_object *object, const char *key) {
    return get_typed(object, key, json_type_object);
}

struct json_object *json_get_array(struct json_object *object, const char *key) {
    return get_typed(object, key, json_type_array);
}

bool json_get_bool(struct json_object *object, const char *key, bool fallback) {
    struct json_object *value = get_typed(object, key, json_type_boolean);
    return value == NULL ? fallback : json_object_get_boolean(value);
}

int64_t json_get_int(struct json_object *object, const char *key, int64_t fallback) {
    struct json_object *value = get_typed(object, key, json_type_int);
    return value == NULL ? fallback : json_object_get_int64(value);
}

void json_set(struct json_object *object, const char *key, struct json_object *take_value) {
    (void)json_object_object_add(object, key, take_value);
}

void json_set_string(struct json_object *object, const char *key, const char *value) {
    json_set(object, key, json_object_new_string(value));
}

void json_set_string_n(struct json_object *object, const char *key, const char *value,
                       size_t length) {
    json_set(object, key, json_object_new_string_len(value, (int)length));
}

void json_set_bool(struct json_object *object, const char *key, bool value) {
    json_set(object, key, json_object_new_boolean(value));
}

void json_set_int(struct json_object *object, const char *key, int64_t value) {
    json_set(object, key, json_object_new_int64(value));
}
