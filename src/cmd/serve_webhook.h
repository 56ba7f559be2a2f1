/*
 * The daemon's way to hear of work: its endpoint for webhooks, from the settings to a bound socket.
 *
 * Everything that needs privileges or a path happens in serve_webhook_open: the socket of a service
 * manager is taken, or one is bound; secrets, certificate and key are read.
 */
#ifndef HOLT_CMD_SERVE_WEBHOOK_H
#define HOLT_CMD_SERVE_WEBHOOK_H

#include "api/webhook_endpoint.h"
#include "config/settings.h"
#include "orchestrator/dispatcher.h"

struct serve_webhook;

/* What webhook_endpoint_options says of these. */
struct serve_webhook_callbacks {
    bool (*note)(void *context, const char *webhook_id, int64_t now_ms, bool *is_new,
                 struct error **error);
    void (*wake)(void *context);
    void (*session_ended)(void *context, const char *session_id);
    void *context;
};

/* *webhook is NULL when the settings want none and no socket was handed over. */
bool serve_webhook_open(struct loop *loop, const struct settings *settings,
                        const struct serve_webhook_callbacks *callbacks,
                        struct serve_webhook **webhook, struct error **error);
/* Where to send webhooks, "https://127.0.0.1:8443/webhook", as far as this process knows. */
const char *serve_webhook_url(const struct serve_webhook *webhook);
struct webhook_endpoint *serve_webhook_endpoint(const struct serve_webhook *webhook);
/*
 * Reads the secrets again; the old ones stay when any cannot be read. Privileges are gone by then:
 * the files must be readable to the user that the daemon has become. NULL is fine.
 */
bool serve_webhook_change(struct serve_webhook *webhook, const struct settings *settings,
                          struct error **error);
/* How dispatchers learn of work, with this endpoint or (NULL) without one. */
void serve_webhook_set_polling(const struct serve_webhook *webhook, const struct settings *settings,
                               struct dispatcher_options *options);
void serve_webhook_free(struct serve_webhook *take_webhook); /* NULL is fine */

#endif
