/* Finds hand beside this executable: in the build tree, or in the installation. */
#include "cmd/locate.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

char *locate_hand(struct error **error) {
    /* From the folder of `holt`: build tree, installation (bin -> libexec), one folder for both. */
    static const char *const places[] = {"../hand/hand", "../libexec/holt/hand", "hand"};
    char self[PATH_MAX];
    const char *given = getenv("HOLT_HAND");
    if (given != NULL && *given != '\0') {
        CLEANUP_FREE char *path = realpath(given, NULL);
        if (path == NULL || access(path, X_OK) != 0) {
            (void)error_set_errno(error, errno, "HOLT_HAND names %s", given);
            return NULL;
        }
        return STEAL_PTR(path);
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length < 0) {
        (void)error_set_errno(error, errno, "cannot read /proc/self/exe");
        return NULL;
    }
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        CLEANUP_FREE char *candidate = memory_format("%s/%s", self, places[i]);
        CLEANUP_FREE char *path = realpath(candidate, NULL);
        if (path != NULL && access(path, X_OK) == 0) {
            return STEAL_PTR(path);
        }
    }
    (void)error_set(
        error, ERROR_NOT_FOUND,
        "hand is not installed: looked for ../libexec/holt/hand and hand beside %s/holt", self);
    return NULL;
}
