/*
 * Landlock as a layer under seccomp and the namespaces (landlock(7), Linux 5.13).
 *
 * What the domain takes away, even from root of the sandbox and even if another layer had a hole:
 * every change of the mount tree, device nodes, device ioctls outside /dev, abstract sockets and
 * signals across its border. It grants the ordinary use of all files: which files there are is the
 * mount namespace's business.
 */
#ifndef HOLT_SANDBOX_LANDLOCK_H
#define HOLT_SANDBOX_LANDLOCK_H

#include <stdbool.h>

#include "base/error.h"

/* The version of the kernel's Landlock; 0: it has none. */
int landlock_version(void);
/* Puts the calling process (no_new_privs set, in its final root) in a new domain. Without Landlock
 * in the kernel it does nothing and succeeds. */
bool landlock_enter(struct error **error);

#endif
