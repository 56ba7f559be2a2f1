/*
 * Scale to zero: when the daemon may leave because nothing happens, without losing a webhook.
 *
 * After `idle_ms` of idleness the endpoint stops accepting: what comes then waits in the backlog of
 * the service manager's socket, for the next start. Connections that were accepted before are given
 * a moment to be answered; a delivery among them means staying.
 */
#ifndef HOLT_CMD_IDLE_EXIT_H
#define HOLT_CMD_IDLE_EXIT_H

#include "api/webhook_endpoint.h"

struct idle_exit;

struct idle_exit_options {
    int64_t idle_ms;
    struct webhook_endpoint *endpoint; /* NULL: none; borrowed */
    bool (*is_idle)(void *context);    /* no session, no poll owed */
    void (*leave)(void *context);      /* called once */
    void *context;
};

struct idle_exit *idle_exit_new(struct loop *loop, const struct idle_exit_options *options);
/* Something happened: idleness begins anew. NULL is fine. */
void idle_exit_touch(struct idle_exit *idle_exit);
void idle_exit_free(struct idle_exit *take_idle_exit); /* NULL is fine */

#endif
