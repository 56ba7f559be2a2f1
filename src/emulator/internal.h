/*
 * What the emulator's files share. Private to the room.
 *
 * Ownership: the emulator owns environments, agents and sessions; an environment owns its work
 * items and waiting polls; a session owns its events, streams and the state of its script.
 */
#ifndef HOLT_EMULATOR_INTERNAL_H
#define HOLT_EMULATOR_INTERNAL_H

#include <json-c/linkhash.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/json.h"
#include "base/loop.h"
#include "emulator/emulator.h"
#include "emulator/queue.h"
#include "emulator/script.h"
#include "emulator/store.h"
#include "net/http_server.h"

enum {
    BODY_LIMIT_BYTES = 16 << 20,
    STREAM_BACKLOG_LIMIT_BYTES = 8 << 20, /* for at most STREAM_OVER_LIMIT_MS */
    STREAM_BURST_LIMIT_BYTES = 32 << 20,  /* at once; plus one event */
    STREAM_OVER_LIMIT_MS = 5000,
    EVENTS_LIMIT = 50000, /* of one session */
    PAGE_LIMIT = 1000,
    PAGE_DEFAULT = 100,
    REQUEST_KINDS_LIMIT = 64,
    BEATS_LIMIT = 1 << 18,
};

struct memory_store;
struct session;
struct webhooks;

/* A poll that waits for work. */
struct waiter {
    TAILQ_ENTRY(waiter) link;
    struct environment *environment;
    struct http_exchange *exchange;
    struct loop_timer *timer;
    int64_t reclaim_ms;
};

struct environment {
    struct emulator *emulator;
    char *id;
    struct json_object *json; /* as the API shows it */
    struct json_object *keys; /* its own keys, as an object {key: true} */
    struct work_queue queue;
    struct lh_table *items; /* id -> struct work_item, oldest first */
    TAILQ_HEAD(, waiter) waiters;
    struct json_object *pollers; /* worker id -> time of its last poll, ms */
};

struct agent {
    char *id;
    struct json_object *json;     /* the newest version, as the API shows it */
    struct json_object *versions; /* array of all, oldest first */
};

struct stream {
    LIST_ENTRY(stream) link;
    struct session *session;
    int64_t over_since_ms; /* when its backlog passed the limit; 0: it is below */
    struct http_exchange *exchange;
};

enum runner_phase {
    RUNNER_WAITS_FOR_MESSAGE,
    RUNNER_RUNS,
    RUNNER_WAITS_FOR_RESULTS,
    RUNNER_FINISHED,
    RUNNER_TERMINATED,
};

struct session {
    struct emulator *emulator;
    char *id;
    struct json_object *json;   /* as the API shows it */
    struct json_object *events; /* array, in order */
    struct work_item *item;     /* the newest work item; NULL: none yet */
    LIST_HEAD(, stream) streams;
    /* The script's state; see runner.c. */
    char *script_name;
    const struct script *script;
    size_t step;
    enum runner_phase phase;
    bool has_new_message;
    size_t waits; /* calls of this step that still need an answer */
    /* tool_use id -> {"step","call","name","is_custom","mode","permission","is_answered",
     * "is_waited"} */
    struct json_object *calls;
    struct json_object *failures; /* array of strings */
    int64_t posts_rejected;
    struct json_object *injected; /* path -> {"status","count","retry_after"} */
    struct loop_timer *timer;
};

struct emulator {
    struct loop *loop;
    struct http_server *server;
    struct store *store; /* NULL: memory only */
    struct script_set *scripts;
    struct webhooks *webhooks; /* NULL: none */
    char *api_key;
    char *skills_directory;               /* NULL: none */
    struct json_object *environment_keys; /* {key: true} */
    int64_t lease_ttl_ms;
    struct lh_table *environments;  /* id -> struct environment */
    struct lh_table *agents;        /* id -> struct agent */
    struct lh_table *sessions;      /* id -> struct session */
    struct lh_table *memory_stores; /* id -> struct memory_store */
    struct lh_table *tokens;        /* sessions token -> struct work_item */
    struct loop_timer *tick;
    struct loop_timer *ping;
    struct json_object *request_counts; /* kind -> number */
    int32_t *beats_late_ms; /* of the first BEATS_LIMIT heartbeats but each item's first */
    size_t beat_count;
};

/* Who asks. */
enum identity {
    IDENTITY_NONE,
    IDENTITY_ORGANIZATION,
    IDENTITY_ENVIRONMENT, /* a key of the environment that the request is about */
    IDENTITY_SESSION,     /* the token of the session that the request is about */
};

struct request {
    struct emulator *emulator;
    struct http_exchange *exchange;
    struct json_object *body; /* an object; owned by the dispatcher */
    const char *ids[2];       /* what the `:` segments of the route matched */
    enum identity identity;
    struct environment *environment;   /* set for /v1/environments/:id... */
    struct session *session;           /* set for /v1/sessions/:id... */
    struct work_item *item;            /* set for .../work/:id... */
    struct memory_store *memory_store; /* set for /v1/memory_stores/:id... */
    bool is_about_skills;              /* which every worker may read */
    const char *token_session_id;      /* IDENTITY_SESSION: the token's session */
};

/* emulator.c: answers. Each ends the request's exchange. */
void reply(struct request *request, struct json_object *take_json);
void reply_error(struct request *request, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void reply_error_details(struct request *request, int status, const char *message,
                         struct json_object *take_details);
/* As reply_error, with an error object of another type. */
void reply_error_object(struct request *request, int status, struct json_object *take_error);
/* One page of `take_all` (an array) as the query's limit, page and order ask. */
void reply_page(struct request *request, struct json_object *take_all, bool newest_first);
char *now_text(void);
/* Commits what was stored since the last commit. */
void emulator_commit(struct emulator *emulator);
/* Answers with a scripted failure if one is due; only workers get them. */
bool reply_injected(struct request *request, struct session *session, const char *path);

/* objects.c: environments and agents. */
void environment_create(struct request *request);
void environment_list(struct request *request);
void environment_get(struct request *request);
void environment_update(struct request *request);
void environment_archive(struct request *request);
void environment_delete(struct request *request);
void environment_add_key(struct request *request);
void environment_free(struct environment *take_environment);
bool environment_has_key(const struct environment *environment, const char *key);
void agent_create(struct request *request);
void agent_list(struct request *request);
void agent_get(struct request *request);
void agent_update(struct request *request);
void agent_archive(struct request *request);
void agent_versions(struct request *request);
void agent_free(struct agent *take_agent);
void objects_load(struct emulator *emulator);
/* Applies {key: value|null} to an object of strings; false when a value is of another type. */
bool merge_metadata(struct json_object *metadata, struct json_object *changes);
/* An array member's copy, or an empty array. */
struct json_object *array_or_empty(struct json_object *object, const char *key);
/* Marks archived_at and updated_at. */
void mark_archived(struct json_object *object);

/* sessions.c */
void session_create(struct request *request);
void session_list(struct request *request);
void session_get(struct request *request);
void session_update(struct request *request);
void session_archive(struct request *request);
void session_delete(struct request *request);
void session_send(struct request *request);
void session_events(struct request *request);
void session_stream(struct request *request);
void session_inspect(struct request *request);
void session_save(struct session *session);
void session_free(struct session *take_session);
void sessions_load(struct emulator *emulator);

/* events.c: history and streams. */
/* Appends an event, filling in id and processed_at, and streams it. */
enum { EMIT_HIDDEN = 1, EMIT_TWICE = 2 };
const char *session_emit(struct session *session, struct json_object *take_event, unsigned flags);
struct json_object *session_event_new(const char *type);
void session_write_streams(struct session *session, const char *bytes, size_t length);
void session_drop_streams(struct session *session);
void session_set_status(struct session *session, const char *status);

/* runner.c */
void runner_init(struct session *session);
/* After an event of the user has been appended. */
void runner_on_event(struct session *session, struct json_object *event);
/* NULL when the event may be posted; else why not, static or owned by the call. */
const char *runner_check_event(struct session *session, struct json_object *event);
/* Continues after a restart. */
void runner_resume(struct session *session);
struct json_object *runner_save(const struct session *session);
void runner_load(struct session *session, struct json_object *saved);
/* Whether events of that type answer a call, and of which sort. */
bool runner_is_result(const char *type, bool *is_custom);
/* The record of the call that an event is about, or NULL. */
struct json_object *runner_find_call(struct session *session, struct json_object *event,
                                     bool is_custom);

/* verdict.c */
/* After an event was refused: a second result of a call is recorded, never hidden. */
void runner_on_rejected(struct session *session, struct json_object *event);
struct json_object *runner_report(const struct session *session);

/* work.c */
void work_poll_handle(struct request *request);
void work_ack_handle(struct request *request);
void work_heartbeat_handle(struct request *request);
void work_stop_handle(struct request *request);
void work_get_handle(struct request *request);
void work_list_handle(struct request *request);
void work_stats_handle(struct request *request);
void work_update_handle(struct request *request);
/* Queues an item for the session unless one is still alive. */
void work_enqueue(struct session *session);
void work_register(struct environment *environment, struct work_item *item);
void work_save(struct environment *environment, struct work_item *item);
/* Gives free items to waiting polls. */
void work_deliver(struct environment *environment);
/* How late heartbeats were, {"count","late_p50_ms","late_p99_ms","late_max_ms"}. */
struct json_object *work_beats_report(const struct emulator *emulator);
void work_tick(void *context);
void waiter_free(struct waiter *take_waiter);
struct environment *environment_find(struct emulator *emulator, const char *id);
struct session *session_find(struct emulator *emulator, const char *id);

/* memory.c */
void memory_store_create(struct request *request);
void memory_store_list(struct request *request);
void memory_store_get(struct request *request);
void memory_store_update(struct request *request);
void memory_store_archive(struct request *request);
void memory_store_delete(struct request *request);
void memory_list_handle(struct request *request);
void memory_create_handle(struct request *request);
void memory_get_handle(struct request *request);
void memory_update_handle(struct request *request);
void memory_delete_handle(struct request *request);
struct memory_store *memory_store_find(struct emulator *emulator, const char *id);
void memory_store_free(struct memory_store *take_store);
bool memory_store_is_attached(struct memory_store *store, const char *session_id);
/* Fills in a new session's resources of type memory_store; false after an error was answered. */
bool memory_stores_attach(struct request *request, struct json_object *session_json);
void memory_stores_load(struct emulator *emulator);

/* skills.c */
void skill_list(struct request *request);
void skill_get(struct request *request);
void skill_versions(struct request *request);
void skill_version(struct request *request);
void skill_content(struct request *request);

/* webhooks.c */
struct webhooks *webhooks_new(struct loop *loop, const char *url, const char *secret,
                              struct error **error);
void webhooks_free(struct webhooks *take_webhooks);
/* Sends the event named `type` about a session; NULL webhooks: does nothing. */
void webhooks_send(struct webhooks *webhooks, const char *type, const char *session_id);

#endif
