/* Fuzzes archives: whatever they hold, the tree has plain paths only, each folder before what is in
 * it, and no more bytes and members than allowed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_folder(const struct unpacked *unpacked, size_t before, const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return true;
    }
    CLEANUP_FREE char *above = memory_string_n(path, (size_t)(slash - path));
    for (size_t i = 0; i < before; i++) {
        const struct unpacked_member *member = &unpacked->members[i];
        if (strcmp(member->path, above) == 0) {
            return member->is_directory && member->has_children;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct unpack_limits limits = {
        .total_bytes = 256 * 1024, .file_bytes = 64 * 1024, .members = 64};
    CLEANUP_UNPACKED struct unpacked unpacked;
    CLEANUP_ERROR struct error *error = NULL;
    bool is_good = unpack_archive(data, size, &limits, &unpacked, &error);
    if (is_good != (error == NULL) || unpacked.count > limits.members) {
        abort();
    }
    size_t total = 0;
    for (size_t i = 0; i < unpacked.count; i++) {
        const struct unpacked_member *member = &unpacked.members[i];
        total += member->length;
        if (!unpack_path_is_plain(member->path) || !has_folder(&unpacked, i, member->path) ||
            member->length > limits.file_bytes || member->is_directory != (member->bytes == NULL) ||
            (i > 0 && strcmp(unpacked.members[i - 1].path, member->path) >= 0)) {
            abort();
        }
    }
    if (total > limits.total_bytes) {
        abort();
    }
    return 0;
}
