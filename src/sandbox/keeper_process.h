/* The privileged side of keeper, private to this room. */
#ifndef HOLT_SANDBOX_KEEPER_PROCESS_H
#define HOLT_SANDBOX_KEEPER_PROCESS_H

#include "sandbox/sandbox.h"

/*
 * The life of the keeper process: prepares the host, says on `socket_fd` whether that worked, and
 * serves requests until front's end closes or breaks the protocol; then it destroys every sandbox,
 * or, when front only went away and the options say so, leaves them; returns the exit status.
 */
int keeper_process_run(int socket_fd, const struct keeper_options *options);

#endif
