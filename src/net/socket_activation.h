/* A listening socket that a service manager handed over: sd_listen_fds(3), without libsystemd. */
#ifndef HOLT_NET_SOCKET_ACTIVATION_H
#define HOLT_NET_SOCKET_ACTIVATION_H

#include "base/error.h"

/*
 * Takes the socket out of LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, which are unset: *fd is the
 * caller's (O_CLOEXEC), or -1 when nothing was handed to this process. Of several the one named
 * `name` is taken and the others are closed. ERROR_INPUT when none has the name. Call it once,
 * early.
 */
bool socket_activation_take(const char *name, int *fd, struct error **error);

#endif
