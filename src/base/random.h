/* Randomness from the kernel. */
#ifndef HOLT_BASE_RANDOM_H
#define HOLT_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills `length` bytes from getrandom(2); cannot fail once the system has booted, else aborts. */
void random_bytes(void *out, size_t length);
/* Uniform number below `bound` (bound > 0). */
uint32_t random_below(uint32_t bound);
/* `prefix` followed by 24 characters of [0-9a-z]; the caller frees it. 120 random bits. */
char *random_id(const char *prefix);

#endif
