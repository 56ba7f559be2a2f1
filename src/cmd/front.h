/* What the daemon's unprivileged process gives up before it hears anything foreign. */
#ifndef HOLT_CMD_FRONT_H
#define HOLT_CMD_FRONT_H

#include <sys/types.h>

#include "base/error.h"

/* The user that front becomes as root: `holt` if there is one, else `nobody`. */
struct front_identity {
    uid_t uid;
    gid_t gid;
    const char *name;
};

void front_identity(struct front_identity *out);

/*
 * Makes the process untraceable by others of its user (PR_SET_DUMPABLE 0, no core dumps), sets
 * no_new_privs, drops every capability from every set, and, as root, becomes the user of
 * front_identity. Call it after keeper was forked and every privileged file opened.
 */
bool front_drop_privileges(struct error **error);

#endif
