/* Keeps raw bytes, more than the limit can need, and decodes once at the end. */
#include "tools/bash_output.h"

#include <string.h>

#include "tools/tools.h"
#include "tools/utf8.h"

enum {
    /* A UTF-16 unit takes at most three bytes, so this many bytes are more units than are shown. */
    KEPT_BYTES = 4 * TOOLS_OUTPUT_LIMIT_UNITS,
    /* Beside the output the official buffer holds "\n", a marker of 53 bytes, digits and "\n". */
    MARKER_UNITS = 55,
};

void bash_output_add(struct bash_output *output, const char *bytes, size_t length) {
    buffer_append(&output->bytes, bytes, length);
    /* Trimmed seldom, because each trim moves what stays. */
    if (output->bytes.length > 2 * (size_t)KEPT_BYTES) {
        buffer_consume(&output->bytes, output->bytes.length - KEPT_BYTES);
        output->has_dropped = true;
    }
}

void bash_output_clear(struct bash_output *output) {
    buffer_free(&output->bytes);
    output->has_dropped = false;
}

/* Length of the CSI sequence at `text`, or 0: ESC [, parameters 0-9 ; ?, intermediates, a final. */
static size_t csi_length(const char *text, size_t length) {
    if (length < 3 || text[0] != '\033' || text[1] != '[') {
        return 0;
    }
    size_t at = 2;
    while (at < length &&
           ((text[at] >= '0' && text[at] <= '9') || text[at] == ';' || text[at] == '?')) {
        at++;
    }
    while (at < length && text[at] >= 0x20 && text[at] <= 0x2f) {
        at++;
    }
    return at < length && text[at] >= 0x40 && text[at] <= 0x7e ? at + 1 : 0;
}

static void append_without_csi(struct buffer *out, const char *text, size_t length) {
    size_t kept = 0;
    for (size_t at = 0; at < length;) {
        const char *escape = memchr(text + at, '\033', length - at);
        if (escape == NULL) {
            break;
        }
        at = (size_t)(escape - text);
        size_t skip = csi_length(text + at, length - at);
        if (skip > 0) {
            buffer_append(out, text + kept, at - kept);
            kept = at + skip;
        }
        at += skip > 0 ? skip : 1;
    }
    buffer_append(out, text + kept, length - kept);
}

void bash_output_text(const struct bash_output *output, size_t status_digits, struct buffer *text) {
    CLEANUP_BUFFER struct buffer decoded = BUFFER_EMPTY;
    utf8_append_lossy(&decoded, buffer_string(&output->bytes), output->bytes.length);
    size_t limit = TOOLS_OUTPUT_LIMIT_UNITS - MARKER_UNITS - status_digits;
    bool splits = false;
    size_t from = utf8_suffix(buffer_string(&decoded), decoded.length, limit, &splits);
    CLEANUP_BUFFER struct buffer shown = BUFFER_EMPTY;
    if (splits) {
        buffer_append_string(&shown, UTF8_REPLACEMENT);
    }
    append_without_csi(&shown, buffer_string(&decoded) + from, decoded.length - from);
    while (shown.length > 0 && shown.data[shown.length - 1] == '\n') {
        buffer_truncate(&shown, shown.length - 1);
    }
    if (from > 0 || output->has_dropped) {
        buffer_append_string(text, "[output truncated]\n");
    }
    buffer_append(text, buffer_string(&shown), shown.length);
}
