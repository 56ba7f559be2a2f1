/* A registry of id ranges in a directory of symbolic links. */
#include "sandbox/ids.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

enum {
    /* Above what useradd hands out for people and for subordinate ids, below 2^31, where some
     * programs begin to see negative numbers. */
    FIRST_BASE = 0x10000000,
    RANGE_COUNT = 24576,
    NAME_SIZE = 16,
};

static int open_below(int parent_fd, const char *name) {
    if (mkdirat(parent_fd, name, 0700) != 0 && errno != EEXIST) {
        return -1;
    }
    return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool ids_open(struct ids *out, const char *runtime_directory, struct error **error) {
    *out = (struct ids){.directory_fd = -1};
    CLEANUP_CLOSE int runtime_fd = open(runtime_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_CLOSE int holt_fd = runtime_fd < 0 ? -1 : open_below(runtime_fd, "holt");
    out->directory_fd = holt_fd < 0 ? -1 : open_below(holt_fd, "ids");
    if (out->directory_fd < 0) {
        return error_set_errno(error, errno, "cannot open the registry of ids %s/holt/ids",
                               runtime_directory);
    }
    ids_sweep(out);
    return true;
}

void ids_close(struct ids *ids) {
    if (ids->directory_fd >= 0) {
        (void)close(ids->directory_fd);
    }
    ids->directory_fd = -1;
}

bool ids_take(struct ids *ids, const char *holder, uint32_t *base, struct error **error) {
    for (uint32_t tried = 0; tried < RANGE_COUNT; tried++) {
        uint32_t number = ids->next;
        ids->next = (ids->next + 1) % RANGE_COUNT;
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "%u", number);
        if (symlinkat(holder, ids->directory_fd, name) == 0) {
            *base = (uint32_t)FIRST_BASE + number * (uint32_t)IDS_PER_SANDBOX;
            return true;
        }
        if (errno != EEXIST) {
            return error_set_errno(error, errno, "cannot take a range of ids");
        }
    }
    return error_set(error, ERROR_LIMIT, "all %d ranges of ids are in use", (int)RANGE_COUNT);
}

void ids_give_back(struct ids *ids, uint32_t base) {
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof(name), "%u", (base - (uint32_t)FIRST_BASE) / IDS_PER_SANDBOX);
    (void)unlinkat(ids->directory_fd, name, 0);
}

void ids_sweep(const struct ids *ids) {
    int fd = openat(ids->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_DIR DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry = NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char holder[PATH_MAX];
        ssize_t length = readlinkat(ids->directory_fd, entry->d_name, holder, sizeof(holder) - 1);
        if (length < 0) {
            continue;
        }
        holder[length] = '\0';
        if (access(holder, F_OK) != 0 && errno == ENOENT) {
            (void)unlinkat(ids->directory_fd, entry->d_name, 0);
        }
    }
}
