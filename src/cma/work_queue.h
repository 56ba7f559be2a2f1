/*
 * The work queue of a self-hosted environment: poll, acknowledge, stop (protocol.md section 2).
 */
#ifndef HOLT_CMA_WORK_QUEUE_H
#define HOLT_CMA_WORK_QUEUE_H

#include "cma/api.h"

/* A claimed item, checked: ids are [A-Za-z0-9_-]{1,128}. Strings are owned. */
struct work_item {
    char *id;
    char *environment_id;
    char *session_id;   /* NULL for a health check */
    char *bearer;       /* the sessions token of the item's secret, or NULL; wiped when freed */
    char *api_base_url; /* from the secret, or NULL */
    bool is_disputed;   /* our acknowledgement may have been taken, or another's was */
    char *secret;       /* as it came, or NULL; wiped when freed */
    char *text;         /* the item's JSON as it came, secret included, or NULL; wiped when freed */
    /* Of an item that was ours before we were restarted: */
    bool is_resumed;
    char *last_heartbeat; /* of the last beat that was answered, or NULL */
};

void work_item_free(struct work_item *take_item); /* NULL is fine */

/* The item as the control plane sees it now. */
struct api_call *work_queue_get(struct api *api, const struct work_item *item,
                                void (*done)(void *context, const struct api_answer *answer),
                                void *context);

/* ids go into URLs: whatever else the control plane sends is refused. */
bool work_id_is_valid(const char *id);

/*
 * Takes an item out of a poll's answer; ERROR_PROTOCOL says what is wrong with it. A secret that
 * does not decode leaves the bearer NULL.
 */
struct work_item *work_item_parse(struct json_object *object, struct error **error);
/* Decodes a work secret (base64url JSON with sessions_token): false when it is none. */
bool work_secret_decode(const char *secret, char **bearer, char **api_base_url);

/* The control plane holds the poll for up to `block_ms` (1 to 999) while the queue is empty; 0: it
 * answers at once. */
struct api_call *work_queue_poll(struct api *api, const char *environment_id, const char *worker_id,
                                 int64_t block_ms,
                                 void (*done)(void *context, const struct api_answer *answer),
                                 void *context);
/* What a good answer to a poll holds: an item, NULL when the queue is empty, NULL and an error when
 * it is malformed. */
struct work_item *work_queue_polled(const struct api_answer *answer, struct error **error);

/* GET: the item as the queue holds it. One try. */
struct api_call *work_queue_look(struct api *api, const struct work_item *item,
                                 void (*done)(void *context, const struct api_answer *answer),
                                 void *context);
struct api_call *
work_queue_acknowledge(struct api *api, const struct work_item *item,
                       void (*done)(void *context, const struct api_answer *answer), void *context);
/* Forced, as the official worker stops: a conflict (already stopped) is a success for the caller.
 */
struct api_call *work_queue_stop(struct api *api, const struct work_item *item,
                                 void (*done)(void *context, const struct api_answer *answer),
                                 void *context);

#endif
