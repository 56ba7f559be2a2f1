/* Clocks: monotonic for intervals, wall for timestamps that leave the process. */
#ifndef HOLT_BASE_CLOCK_H
#define HOLT_BASE_CLOCK_H

#include <stdint.h>

enum { CLOCK_TIMESTAMP_SIZE = 32 };

/* Milliseconds / microseconds on CLOCK_MONOTONIC: for timeouts and durations. */
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);
/* Milliseconds since 1970 on CLOCK_REALTIME. */
int64_t clock_wall_ms(void);
/* Writes an RFC 3339 UTC timestamp with milliseconds, e.g. 2026-11-21T06:30:00.123Z. */
void clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_TIMESTAMP_SIZE]);

#endif
