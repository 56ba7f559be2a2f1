/*
 * Webhook deliveries: is this really from the control plane, and what does it say?
 *
 * Standard Webhooks as CMA uses them (protocol.md section 6): three headers, HMAC-SHA256 over
 * "id.timestamp.body", a list of `v1,<base64>` signatures of which any may match any of our secrets
 * (several during a rotation). Everything here is foreign input; nothing is parsed before the
 * signature was found good.
 */
#ifndef HOLT_CMA_WEBHOOK_H
#define HOLT_CMA_WEBHOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    WEBHOOK_BODY_LIMIT = 64 * 1024,
    WEBHOOK_HEADER_LIMIT = 4096, /* of webhook-signature; the id and timestamp are shorter */
    WEBHOOK_ID_LIMIT = 128,
    WEBHOOK_TOLERANCE_S = 300,
    WEBHOOK_SECRETS_LIMIT = 8,
};

struct webhook_secrets;

/* No secret yet: verifies nothing. */
struct webhook_secrets *webhook_secrets_new(void);
/* Adds a secret as the Console shows it, "whsec_<base64>"; ERROR_INPUT never repeats the secret. */
bool webhook_secrets_add(struct webhook_secrets *secrets, const char *text, struct error **error);
/* Wipes the keys. NULL is fine. */
void webhook_secrets_free(struct webhook_secrets *take_secrets);

/* A delivery as it came; absent headers are NULL. */
struct webhook_delivery {
    const char *id;
    const char *timestamp;
    const char *signature;
    const char *body;
    size_t body_length;
};

enum webhook_verdict {
    WEBHOOK_GENUINE,
    WEBHOOK_MALFORMED, /* a header is missing, too long, or not of its form; or the body too large
                        */
    WEBHOOK_STALE,     /* the timestamp is more than WEBHOOK_TOLERANCE_S off `now_s` */
    WEBHOOK_FORGED,    /* no signature matches */
};

/* Judges a delivery; signatures are compared in constant time. `now_s` is seconds since 1970. */
enum webhook_verdict webhook_verify(const struct webhook_secrets *secrets,
                                    const struct webhook_delivery *delivery, int64_t now_s);
/* "genuine", "malformed", ... for the log. */
const char *webhook_verdict_name(enum webhook_verdict verdict);

/* What a genuine delivery says; strings are owned. */
struct webhook_event {
    char *type;      /* "session.status_run_started", ... */
    char *object_id; /* the session's id for session.* */
};

/* Reads the body of a genuine delivery; ERROR_PROTOCOL when it is no event. */
bool webhook_event_parse(const char *body, size_t length, struct webhook_event *event,
                         struct error **error);
void webhook_event_free(struct webhook_event *event);

#endif
