/* Fuzzes the frames between daemon and hand: what is accepted is an object with a type, and says
 * the same when it is framed again; the buffer never grows. */
#include <stdint.h>
#include <stdlib.h>

#include "hand/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct json_object *message) {
    CLEANUP_BUFFER struct buffer again = BUFFER_EMPTY;
    CLEANUP_JSON struct json_object *second = NULL;
    frame_append(&again, message);
    if (json_get_string(message, "type") == NULL ||
        (again.length - FRAME_HEADER_SIZE <= FRAME_PAYLOAD_LIMIT &&
         (frame_take(&again, &second, NULL) != FRAME_COMPLETE || again.length != 0))) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP_BUFFER struct buffer in = BUFFER_EMPTY;
    buffer_append(&in, data, size);
    for (;;) {
        CLEANUP_JSON struct json_object *message = NULL;
        CLEANUP_ERROR struct error *error = NULL;
        size_t before = in.length;
        enum frame_status status = frame_take(&in, &message, &error);
        if ((status == FRAME_COMPLETE) != (message != NULL) ||
            (status == FRAME_INVALID) != (error != NULL) ||
            (status == FRAME_COMPLETE) != (in.length < before)) {
            abort();
        }
        if (status != FRAME_COMPLETE) {
            return 0;
        }
        check(message);
    }
}
