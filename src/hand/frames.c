/* The frames between the daemon and `hand`: a length, then a JSON object. */
#include "hand/frames.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

void frame_append(struct buffer *out, struct json_object *message) {
    size_t length = 0;
    const char *text = json_text(message, &length);
    uint32_t header = htonl((uint32_t)length);
    buffer_append(out, &header, sizeof(header));
    buffer_append(out, text, length);
}

enum frame_status frame_take(struct buffer *in, struct json_object **message,
                             struct error **error) {
    uint32_t header = 0;
    *message = NULL;
    if (in->length < FRAME_HEADER_SIZE) {
        return FRAME_INCOMPLETE;
    }
    memcpy(&header, in->data, sizeof(header));
    size_t length = ntohl(header);
    if (length == 0 || length > FRAME_PAYLOAD_LIMIT) {
        (void)error_set(error, ERROR_PROTOCOL, "a frame of %zu bytes", length);
        return FRAME_INVALID;
    }
    if (in->length - FRAME_HEADER_SIZE < length) {
        return FRAME_INCOMPLETE;
    }
    struct json_object *object = NULL;
    if (!json_parse(in->data + FRAME_HEADER_SIZE, length, &object, error)) {
        (void)error_wrap(error, "frame");
        return FRAME_INVALID;
    }
    if (json_get_string(object, "type") == NULL) {
        json_object_put(object);
        (void)error_set(error, ERROR_PROTOCOL, "a frame without a type");
        return FRAME_INVALID;
    }
    buffer_consume(in, FRAME_HEADER_SIZE + length);
    *message = object;
    return FRAME_COMPLETE;
}
