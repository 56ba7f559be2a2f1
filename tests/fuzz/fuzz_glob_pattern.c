/* Fuzzes glob patterns: the first line is the pattern, the second a name. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tools/glob_pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    CLEANUP_FREE char *text =
        memory_string_n((const char *)data, strnlen((const char *)data, size));
    const char *reason = NULL;
    char *name = strchr(text, '\n');
    if (name != NULL) {
        *name++ = '\0';
    }
    CLEANUP_GLOB_PATTERN struct glob_pattern *pattern = glob_pattern_new(text, &reason);
    if ((pattern == NULL) != (reason != NULL)) {
        abort();
    }
    for (size_t i = 0; pattern != NULL && i < pattern->count && i < 100; i++) {
        for (size_t j = 0; j < pattern->alternatives[i].count; j++) {
            (void)glob_segment_matches(&pattern->alternatives[i].segments[j],
                                       name != NULL ? name : "name");
        }
    }
    return 0;
}
