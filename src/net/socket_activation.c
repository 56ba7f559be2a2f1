/* The descriptors begin at 3; the variables say how many there are, and for whom. */
#include "net/socket_activation.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { FIRST_FD = 3, FDS_LIMIT = 64 };

/* A variable as a number; 0 when it is unset or is none. */
static long variable_number(const char *name) {
    const char *text = getenv(name);
    char *end = NULL;
    long number = text == NULL ? 0 : strtol(text, &end, 10);
    return text == NULL || end == text || *end != '\0' ? 0 : number;
}

/* Which of the colon-separated names is `name`; -1 when none is. */
static int index_of(const char *names, const char *name) {
    size_t length = strlen(name);
    for (int index = 0; *names != '\0'; index++) {
        size_t width = strcspn(names, ":");
        if (width == length && memcmp(names, name, length) == 0) {
            return index;
        }
        names += width + (names[width] == ':');
    }
    return -1;
}

bool socket_activation_take(const char *name, int *fd, struct error **error) {
    long pid = variable_number("LISTEN_PID");
    long count = variable_number("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    int chosen = count == 1 ? 0 : index_of(names == NULL ? "" : names, name);
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    *fd = -1;
    if (pid != (long)getpid() || count <= 0) {
        return true; /* a child of the process that was meant */
    }
    if (count > FDS_LIMIT || chosen < 0 || chosen >= count) {
        return error_set(error, ERROR_INPUT,
                         "%ld sockets were handed over and none is named \"%s\" "
                         "(FileDescriptorName= of the socket unit)",
                         count, name);
    }
    for (int i = 0; i < (int)count; i++) {
        if (i == chosen) {
            (void)fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
            *fd = FIRST_FD + i;
        } else {
            (void)close(FIRST_FD + i);
        }
    }
    return true;
}
