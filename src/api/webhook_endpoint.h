/*
 * POST /webhook: where the control plane says that something happened (protocol.md section 6).
 *
 * Strangers reach this. A delivery that is not signed with one of the secrets gets 401 and an empty
 * body, whatever was wrong with it; other paths get 404, other methods 405. A genuine one is noted
 * by its webhook-id, answered 200 at once, and acted upon after that. Connections are bounded
 * (http_server.h). Refusals are logged at most once a second, with a count of the rest.
 *
 * When a delivery cannot be noted (a full disk, a read-only database) it is acted upon all the same
 * and answered 503. Acting twice is harmless: a second wake costs a poll, and a session ends once.
 * Not acting would lose a wake-up, and so would a 200: without the database no work can be claimed
 * either, and it is the repeated delivery that wakes the daemon once the disk is well again.
 */
#ifndef HOLT_API_WEBHOOK_ENDPOINT_H
#define HOLT_API_WEBHOOK_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "cma/webhook.h"
#include "net/http_tls.h"

struct webhook_endpoint;

struct webhook_endpoint_options {
    const char *address;
    uint16_t port;       /* 0: any free one */
    bool is_handed_over; /* accept on `listen_fd`, which is taken in any case */
    int listen_fd;
    struct http_tls *tls;                  /* NULL: plain, for a proxy in front; borrowed */
    const struct webhook_secrets *secrets; /* borrowed */
    /* Below: called from the loop; none may block. */
    /* Notes a delivery durably; *is_new is false when it was noted before. */
    bool (*note)(void *context, const char *webhook_id, int64_t now_ms, bool *is_new,
                 struct error **error);
    /* There may be work in the queue. */
    void (*wake)(void *context);
    /* The session was terminated, archived or deleted; the id is fit for URLs. May come again. */
    void (*session_ended)(void *context, const char *session_id);
    void *context;
};

struct webhook_endpoint *webhook_endpoint_new(struct loop *loop,
                                              const struct webhook_endpoint_options *options,
                                              struct error **error);
/* "127.0.0.1:8080"; the caller frees it. */
char *webhook_endpoint_address(const struct webhook_endpoint *endpoint);
/* Verifies with these from now on; borrowed. */
void webhook_endpoint_set_secrets(struct webhook_endpoint *endpoint,
                                  const struct webhook_secrets *secrets);
/* While it does not accept, new connections wait in the socket's backlog. */
void webhook_endpoint_set_accepting(struct webhook_endpoint *endpoint, bool is_accepting);
/* Connections that are open: what to wait for, within reason, before leaving. */
size_t webhook_endpoint_connection_count(struct webhook_endpoint *endpoint);
void webhook_endpoint_free(struct webhook_endpoint *take_endpoint); /* NULL is fine */

#endif
