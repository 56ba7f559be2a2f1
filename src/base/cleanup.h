/*
 * Scope-bound cleanup, so that no function needs `goto out`.
 *
 * A variable declared with one of the CLEANUP_ attributes is released when it leaves its scope.
 * Ownership is handed on with STEAL_PTR / STEAL_FD, which return the value and disarm the variable.
 */
#ifndef HOLT_BASE_CLEANUP_H
#define HOLT_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(function) __attribute__((cleanup(function)))

static inline void cleanup_free_pointer(void *pointer) {
    free(*(void **)pointer);
}

static inline void cleanup_close_fd(const int *fd) {
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

static inline void cleanup_close_file(FILE **file) {
    if (*file != NULL) {
        (void)fclose(*file);
    }
}

static inline void cleanup_close_dir(DIR **dir) {
    if (*dir != NULL) {
        (void)closedir(*dir);
    }
}

static inline int cleanup_steal_fd(int *fd) {
    int value = *fd;
    *fd = -1;
    return value;
}

/* Frees heap memory; declare as `CLEANUP_FREE char *name = NULL`. */
#define CLEANUP_FREE CLEANUP(cleanup_free_pointer)
/* Closes a file descriptor; declare as `CLEANUP_CLOSE int fd = -1`. */
#define CLEANUP_CLOSE CLEANUP(cleanup_close_fd)
#define CLEANUP_FILE  CLEANUP(cleanup_close_file)
#define CLEANUP_DIR   CLEANUP(cleanup_close_dir)

/* Hands ownership of a descriptor to the caller and leaves -1 behind. */
#define STEAL_FD(fd) cleanup_steal_fd(&(fd))
/* Hands ownership of a pointer to the caller and leaves NULL behind. */
#define STEAL_PTR(pointer)                                                                         \
    __extension__({                                                                                \
        __typeof__(pointer) stolen_ = (pointer);                                                   \
        (pointer) = NULL;                                                                          \
        stolen_;                                                                                   \
    })

#endif
