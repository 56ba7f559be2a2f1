/*
 * A session's events, each once and in order, whatever happens to the connection.
 *
 * Attaches to the stream first, then lists the whole history, then delivers: history in order, then
 * what the stream brought meanwhile, then what it brings (protocol.md section 3). After a
 * disconnect it backs off and does all of it again; events that were delivered are not delivered
 * again. An event without an id is delivered as often as it comes.
 */
#ifndef HOLT_CMA_EVENT_FEED_H
#define HOLT_CMA_EVENT_FEED_H

#include "cma/api.h"

struct event_feed;

struct event_feed_events {
    /* A new event; borrowed. The feed may be freed from here. */
    void (*event)(void *context, struct json_object *event);
    /* The history is delivered: what is unanswered now is really unanswered. Called after each
     * attach. The feed may be freed from here. */
    void (*reconciled)(void *context);
    /* The session cannot be followed any more: refused, gone, or broken beyond retries. */
    void (*failed)(void *context, const struct error *error);
};

struct event_feed *event_feed_open(struct api *api, const char *session_id,
                                   const struct event_feed_events *events, void *context);
/* Whether the history is delivered and the stream attached: false while an answer to a call that
 * was just delivered may still be on its way in the history. */
bool event_feed_is_reconciled(const struct event_feed *feed);
/* NULL is fine. */
void event_feed_close(struct event_feed *take_feed);

#endif
