/*
 * Preloaded into holt by the fault tests: a wall clock that is as many seconds off as a file says.
 *
 * The file holds one decimal number and may change at any time. The monotonic clock is left alone,
 * as a real jump leaves it.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Prototypes of the libc carry attributes that a definition need not repeat. */
static long shift_seconds(void) {
    static int file = -2;
    char text[32];
    if (file == -2) {
        const char *path = getenv("SHIFTED_CLOCK_FILE");
        file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    }
    ssize_t length = file < 0 ? 0 : pread(file, text, sizeof(text) - 1, 0);
    if (length <= 0) {
        return 0;
    }
    text[length] = '\0';
    return strtol(text, NULL, 10);
}

typedef int clock_function(clockid_t, struct timespec *);

int clock_gettime(clockid_t clock, struct timespec *now) {
    static clock_function *real = NULL;
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int status = real(clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += shift_seconds();
    }
    return status;
}

time_t time(time_t *out) {
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
