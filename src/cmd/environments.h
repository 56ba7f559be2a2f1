/*
 * The environments of one daemon: each with its own endpoint, key and dispatcher, all with one
 * bound of sessions and one line of who polls next (slots.h).
 *
 * One that fails for good (a wrong key) is said and ends alone; the daemon goes on with the others.
 */
#ifndef HOLT_CMD_ENVIRONMENTS_H
#define HOLT_CMD_ENVIRONMENTS_H

#include "config/settings.h"
#include "net/http_client.h"
#include "orchestrator/dispatcher.h"

struct environments;

/* Reads the key files; before privileges are dropped and after keeper was forked. */
bool environments_read_keys(const struct settings *settings, struct error **error);

struct environments_options {
    const struct settings *settings; /* borrowed, changed only before environments_change */
    struct http_client *client;      /* borrowed */
    /* What the dispatchers have in common: loop, hands, journal, how they learn of work. What is of
     * one environment is filled in. */
    struct dispatcher_options common;
    /* Nothing is served any more: everything was stopped as asked (NULL), or no environment is left
     * and this was the last one's error. */
    void (*ended)(void *context, const struct error *error);
    void *context;
};

struct environments *environments_start(const struct environments_options *options);
/* Something may be in a queue. */
void environments_wake(struct environments *environments);
/* Whether no session is served and no poll is owed. */
bool environments_is_idle(const struct environments *environments);
/* The settings changed while the daemon runs: bounds, idle times, intervals. */
void environments_change(struct environments *environments);
/* As dispatcher_stop, for all. */
void environments_stop(struct environments *environments, int64_t patience_ms);
void environments_free(struct environments *take_environments); /* NULL is fine */

#endif
