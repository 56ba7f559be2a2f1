/* Clocks: monotonic for intervals, wall for timestamps. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t clock_us(clockid_t clock) {
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_monotonic_us(void) {
    return clock_us(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void) {
    return clock_monotonic_us() / 1000;
}

int64_t clock_wall_ms(void) {
    return clock_us(CLOCK_REALTIME) / 1000;
}

void clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_TIMESTAMP_SIZE]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc = {0};
    char day_and_time[CLOCK_TIMESTAMP_SIZE - 8];
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(day_and_time, sizeof(day_and_time), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(out, CLOCK_TIMESTAMP_SIZE, "%s.%03dZ", day_and_time, (int)(wall_ms % 1000));
}
