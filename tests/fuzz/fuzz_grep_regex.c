/* Fuzzes JavaScript patterns: the first line is the pattern, the rest the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tools/grep_regex.h"
#include "tools/utf16.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    const char *line = size > 0 ? memchr(bytes, '\n', size) : NULL;
    size_t pattern_length = line != NULL ? (size_t)(line - bytes) : size;
    size_t text_length = line != NULL ? size - pattern_length - 1 : 0;
    const char *reason = NULL;
    CLEANUP_FREE uint16_t *units = memory_zeroed(text_length + 1, sizeof *units);
    CLEANUP_GREP_REGEX struct grep_regex *regex = grep_regex_new(bytes, pattern_length, &reason);
    if ((regex == NULL) != (reason != NULL)) {
        abort();
    }
    if (regex != NULL && text_length > 0) {
        (void)grep_regex_test(regex, units, utf16_decode(line + 1, text_length, units));
    }
    return 0;
}
