/* Capabilities of the calling process (capabilities(7)). */
#ifndef HOLT_SANDBOX_PRIVILEGES_H
#define HOLT_SANDBOX_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/*
 * Keeps these capabilities as permitted, effective and bounding set and no other in any set, and
 * sets no_new_privs: no exec brings anything back. Needs CAP_SETPCAP once.
 */
bool privileges_keep(const unsigned *capabilities, size_t count, struct error **error);

#endif
