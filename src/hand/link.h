/*
 * hand's end of the connection to the daemon: frames in, frames out, never waiting for the peer.
 *
 * Private to hand. At most one connection; results are taken from the calls only while little is
 * queued, so a peer that does not read costs LINK_QUEUE_LIMIT and one frame.
 */
#ifndef HOLT_HAND_LINK_H
#define HOLT_HAND_LINK_H

#include "base/buffer.h"
#include "base/error.h"
#include "hand/calls.h"

enum { LINK_QUEUE_LIMIT = 1024 * 1024 };

struct link {
    int fd; /* -1: no connection */
    bool is_configured;
    bool is_closing; /* an error frame is on its way out; then the connection ends */
    struct buffer in, out;
    size_t sent;       /* of out; the bytes before it are gone already */
    char *incarnation; /* drawn when hand starts */
};

void link_init(struct link *link);
/* Takes a connected socket; an earlier connection is closed. */
void link_attach(struct link *link, int take_fd, struct calls *calls);
void link_close(struct link *link);
short link_poll_events(const struct link *link);
/* Moves bytes and acts on frames. *shutdown is set when the daemon asks for the end. */
void link_step(struct link *link, struct calls *calls, bool *shutdown);

#endif
