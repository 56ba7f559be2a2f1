/* Components are appended one by one; ".." takes the last one away again. */
#include "tools/path_text.h"

#include <string.h>

#include "base/buffer.h"

char *path_text_normalize(const char *path) {
    struct buffer out = BUFFER_EMPTY;
    while (*path != '\0') {
        size_t length = strcspn(path, "/");
        if (length == 2 && memcmp(path, "..", 2) == 0) {
            while (out.length > 0 && out.data[out.length - 1] != '/') {
                buffer_truncate(&out, out.length - 1);
            }
            buffer_truncate(&out, out.length > 0 ? out.length - 1 : 0);
        } else if (length > 0 && !(length == 1 && *path == '.')) {
            buffer_append_char(&out, '/');
            buffer_append(&out, path, length);
        }
        path += length + (path[length] == '/');
    }
    if (out.length == 0) {
        buffer_append_char(&out, '/');
    }
    return buffer_take_string(&out);
}
