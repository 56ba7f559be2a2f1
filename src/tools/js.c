/* ToBoolean, ToString and ToNumber of ECMAScript for the values that JSON can carry. */
#include "tools/js.h"

#include <math.h>
#include <string.h>

static bool is_nonzero(double number) {
    return fpclassify(number) != FP_ZERO && !isnan(number);
}

bool js_is_truthy(struct json_object *value) {
    switch (json_object_get_type(value)) {
    case json_type_null:
        return false;
    case json_type_boolean:
        return json_object_get_boolean(value);
    case json_type_string:
        return json_object_get_string_len(value) > 0;
    case json_type_int:
    case json_type_double:
        return is_nonzero(json_object_get_double(value));
    default:
        return true;
    }
}

/* The shortest digits that read back as the same number; exponents only where JavaScript has them
 * for large values. */
static void append_double(struct buffer *out, double number) {
    char text[64] = "";
    for (int precision = 1; precision <= 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*g", precision, number);
        if (!(strtod(text, NULL) < number) && !(strtod(text, NULL) > number)) {
            break;
        }
    }
    if (strchr(text, 'e') != NULL && fabs(number) < 1e21 && fabs(number) >= 1) {
        (void)snprintf(text, sizeof(text), "%.0f", number);
    }
    buffer_append_string(out, text);
}

/* An element that is null is empty in a joined array, "null" elsewhere. */
static void append_array(struct buffer *out, struct json_object *array) {
    for (size_t i = 0; i < json_object_array_length(array); i++) {
        struct json_object *element = json_object_array_get_idx(array, i);
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        if (json_object_is_type(element, json_type_array)) {
            /* Deeper nesting than this never comes from a model; its text is of no use to a tool.
             */
            buffer_append_string(out, json_text(element, NULL));
        } else if (element != NULL) {
            js_append_string(out, element);
        }
    }
}

void js_append_string(struct buffer *out, struct json_object *value) {
    switch (json_object_get_type(value)) {
    case json_type_string:
        buffer_append(out, json_object_get_string(value),
                      (size_t)json_object_get_string_len(value));
        return;
    case json_type_double:
        append_double(out, json_object_get_double(value));
        return;
    case json_type_array:
        append_array(out, value);
        return;
    case json_type_object:
        buffer_append_string(out, "[object Object]");
        return;
    default:
        buffer_append_string(out, json_text(value, NULL));
        return;
    }
}

double js_number(struct json_object *value) {
    switch (json_object_get_type(value)) {
    case json_type_null:
        return 0;
    case json_type_boolean:
        return json_object_get_boolean(value) ? 1 : 0;
    case json_type_int:
    case json_type_double:
        return json_object_get_double(value);
    case json_type_string: {
        const char *text = json_object_get_string(value);
        text += strspn(text, " \t\r\n");
        char *end = NULL;
        double number = strtod(text, &end);
        return end[strspn(end, " \t\r\n")] == '\0' ? number : NAN;
    }
    default:
        return NAN;
    }
}
