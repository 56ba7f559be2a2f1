/*
 * Ranges of 65,536 user and group ids, each for one live sandbox of any keeper on this host.
 *
 * A range is held by a symbolic link /run/holt/ids/<number> whose target is the sandbox's
 * directory: making it is atomic, and whose directory is gone holds nothing any more.
 */
#ifndef HOLT_SANDBOX_IDS_H
#define HOLT_SANDBOX_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { IDS_PER_SANDBOX = 65536 };

struct ids {
    int directory_fd;
    uint32_t next;
};

/* Opens the registry below `runtime_directory` (/run, but for tests) and drops stale entries. */
bool ids_open(struct ids *out, const char *runtime_directory, struct error **error);
void ids_close(struct ids *ids);
/* Takes a free range for the sandbox whose directory is `holder`; *base is its first id. */
bool ids_take(struct ids *ids, const char *holder, uint32_t *base, struct error **error);
void ids_give_back(struct ids *ids, uint32_t base);
/* Drops every entry whose holder does not exist any more. */
void ids_sweep(const struct ids *ids);

#endif
