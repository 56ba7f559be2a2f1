/* The known key that somebody may have meant. */
#ifndef HOLT_CONFIG_NEAREST_H
#define HOLT_CONFIG_NEAREST_H

#include <stddef.h>

/* How many letters must be changed, added, removed or swapped with their neighbour to make one of
 * the other; texts longer than 64 bytes are never near (SIZE_MAX). */
size_t edit_distance(const char *one, const char *other);
/* The key of the table that is nearest to the unknown `key` ("sandbox.memroy"), or a section of it;
 * NULL when none is near. Written into the table's own text: `length` bytes of it count. */
const char *nearest_key(const char *key, size_t *length);

#endif
