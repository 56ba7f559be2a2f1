/* One table of routes: who may ask, what is looked up first, and which function answers. */
#include "emulator/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/utf8.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

enum { SEGMENTS_LIMIT = 8, IDLE_TIMEOUT_MS = 120 * 1000, PING_INTERVAL_MS = 15 * 1000 };

enum access {
    ACCESS_ORGANIZATION = 1, /* the organisation's x-api-key */
    ACCESS_ENVIRONMENT = 2,  /* a key of the environment, or of the session's environment */
    ACCESS_SESSION = 4,      /* the token of the session, or of the work item */
};

enum lookup {
    LOOKUP_NONE,
    LOOKUP_ENVIRONMENT,
    LOOKUP_ITEM,
    LOOKUP_SESSION,
    LOOKUP_MEMORY_STORE,
    LOOKUP_SKILLS
};

enum {
    APPLICATION = ACCESS_ORGANIZATION,
    POLLER = ACCESS_ENVIRONMENT,
    HOLDER = ACCESS_ENVIRONMENT | ACCESS_SESSION,
    ANYONE = ACCESS_ORGANIZATION | ACCESS_ENVIRONMENT | ACCESS_SESSION,
    OBSERVER = ACCESS_ORGANIZATION | ACCESS_ENVIRONMENT,
    RECORDER = ACCESS_ORGANIZATION | ACCESS_SESSION, /* memories refuse the environment key */
};

static void stats_get(struct request *request);

static const struct route {
    const char *method;
    const char *pattern; /* ":" matches one segment */
    const char *kind;    /* name in the statistics */
    unsigned access;
    enum lookup lookup;
    void (*handle)(struct request *request);
} routes[] = {
    {"POST", "/v1/environments", "environment.create", APPLICATION, LOOKUP_NONE,
     environment_create},
    {"GET", "/v1/environments", "environment.list", APPLICATION, LOOKUP_NONE, environment_list},
    {"GET", "/v1/environments/:", "environment.get", OBSERVER, LOOKUP_ENVIRONMENT, environment_get},
    {"POST", "/v1/environments/:", "environment.update", APPLICATION, LOOKUP_ENVIRONMENT,
     environment_update},
    {"DELETE", "/v1/environments/:", "environment.delete", APPLICATION, LOOKUP_ENVIRONMENT,
     environment_delete},
    {"POST", "/v1/environments/:/archive", "environment.archive", APPLICATION, LOOKUP_ENVIRONMENT,
     environment_archive},
    {"GET", "/v1/environments/:/work/poll", "work.poll", POLLER, LOOKUP_ENVIRONMENT,
     work_poll_handle},
    {"GET", "/v1/environments/:/work/stats", "work.stats", OBSERVER, LOOKUP_ENVIRONMENT,
     work_stats_handle},
    {"GET", "/v1/environments/:/work", "work.list", OBSERVER, LOOKUP_ENVIRONMENT, work_list_handle},
    {"GET", "/v1/environments/:/work/:", "work.get", ANYONE, LOOKUP_ITEM, work_get_handle},
    {"POST", "/v1/environments/:/work/:", "work.update", ANYONE, LOOKUP_ITEM, work_update_handle},
    {"POST", "/v1/environments/:/work/:/ack", "work.ack", POLLER, LOOKUP_ITEM, work_ack_handle},
    {"POST", "/v1/environments/:/work/:/heartbeat", "work.heartbeat", HOLDER, LOOKUP_ITEM,
     work_heartbeat_handle},
    {"POST", "/v1/environments/:/work/:/stop", "work.stop", ANYONE, LOOKUP_ITEM, work_stop_handle},
    {"POST", "/v1/agents", "agent.create", APPLICATION, LOOKUP_NONE, agent_create},
    {"GET", "/v1/agents", "agent.list", APPLICATION, LOOKUP_NONE, agent_list},
    {"GET", "/v1/agents/:", "agent.get", APPLICATION, LOOKUP_NONE, agent_get},
    {"POST", "/v1/agents/:", "agent.update", APPLICATION, LOOKUP_NONE, agent_update},
    {"POST", "/v1/agents/:/archive", "agent.archive", APPLICATION, LOOKUP_NONE, agent_archive},
    {"GET", "/v1/agents/:/versions", "agent.versions", APPLICATION, LOOKUP_NONE, agent_versions},
    {"POST", "/v1/sessions", "session.create", APPLICATION, LOOKUP_NONE, session_create},
    {"GET", "/v1/sessions", "session.list", APPLICATION, LOOKUP_NONE, session_list},
    {"GET", "/v1/sessions/:", "session.get", ANYONE, LOOKUP_SESSION, session_get},
    {"POST", "/v1/sessions/:", "session.update", APPLICATION, LOOKUP_SESSION, session_update},
    {"DELETE", "/v1/sessions/:", "session.delete", APPLICATION, LOOKUP_SESSION, session_delete},
    {"POST", "/v1/sessions/:/archive", "session.archive", APPLICATION, LOOKUP_SESSION,
     session_archive},
    {"POST", "/v1/sessions/:/events", "events.send", ANYONE, LOOKUP_SESSION, session_send},
    {"GET", "/v1/sessions/:/events", "events.list", ANYONE, LOOKUP_SESSION, session_events},
    {"GET", "/v1/sessions/:/events/stream", "events.stream", ANYONE, LOOKUP_SESSION,
     session_stream},
    {"POST", "/v1/memory_stores", "memory_store.create", APPLICATION, LOOKUP_NONE,
     memory_store_create},
    {"GET", "/v1/memory_stores", "memory_store.list", APPLICATION, LOOKUP_NONE, memory_store_list},
    {"GET", "/v1/memory_stores/:", "memory_store.get", RECORDER, LOOKUP_MEMORY_STORE,
     memory_store_get},
    {"POST", "/v1/memory_stores/:", "memory_store.update", APPLICATION, LOOKUP_MEMORY_STORE,
     memory_store_update},
    {"DELETE", "/v1/memory_stores/:", "memory_store.delete", APPLICATION, LOOKUP_MEMORY_STORE,
     memory_store_delete},
    {"POST", "/v1/memory_stores/:/archive", "memory_store.archive", APPLICATION,
     LOOKUP_MEMORY_STORE, memory_store_archive},
    {"GET", "/v1/memory_stores/:/memories", "memory.list", RECORDER, LOOKUP_MEMORY_STORE,
     memory_list_handle},
    {"POST", "/v1/memory_stores/:/memories", "memory.create", RECORDER, LOOKUP_MEMORY_STORE,
     memory_create_handle},
    {"GET", "/v1/memory_stores/:/memories/:", "memory.get", RECORDER, LOOKUP_MEMORY_STORE,
     memory_get_handle},
    {"POST", "/v1/memory_stores/:/memories/:", "memory.update", RECORDER, LOOKUP_MEMORY_STORE,
     memory_update_handle},
    {"DELETE", "/v1/memory_stores/:/memories/:", "memory.delete", RECORDER, LOOKUP_MEMORY_STORE,
     memory_delete_handle},
    {"GET", "/v1/skills", "skill.list", ANYONE, LOOKUP_SKILLS, skill_list},
    {"GET", "/v1/skills/:", "skill.get", ANYONE, LOOKUP_SKILLS, skill_get},
    {"GET", "/v1/skills/:/versions", "skill.versions", ANYONE, LOOKUP_SKILLS, skill_versions},
    {"GET", "/v1/skills/:/versions/:", "skill.version", ANYONE, LOOKUP_SKILLS, skill_version},
    {"GET", "/v1/skills/:/versions/:/content", "skill.content", ANYONE, LOOKUP_SKILLS,
     skill_content},
    {"POST", "/emulator/environments/:/keys", "emulator.keys", APPLICATION, LOOKUP_ENVIRONMENT,
     environment_add_key},
    {"GET", "/emulator/sessions/:", "emulator.session", APPLICATION, LOOKUP_SESSION,
     session_inspect},
    {"GET", "/emulator/stats", "emulator.stats", APPLICATION, LOOKUP_NONE, stats_get},
};

enum { ROUTE_COUNT = sizeof(routes) / sizeof(routes[0]) };

char *now_text(void) {
    char text[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(clock_wall_ms(), text);
    return memory_string(text);
}

void emulator_commit(struct emulator *emulator) {
    store_commit(emulator->store);
}

/* ---- answers ---- */

/* Every answer carries a request id; an error names it in its body too. */
static char *add_request_id(struct request *request) {
    char *id = random_id("req_");
    http_exchange_add_header(request->exchange, "request-id", id);
    return id;
}

void reply(struct request *request, struct json_object *take_json) {
    free(add_request_id(request));
    http_reply_json(request->exchange, 200, take_json);
    json_object_put(take_json);
}

static const char *error_type(int status) {
    static const struct {
        int status;
        const char *type;
    } types[] = {{401, "authentication_error"}, {403, "permission_error"},
                 {404, "not_found_error"},      {413, "request_too_large"},
                 {429, "rate_limit_error"},     {529, "overloaded_error"}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].status == status) {
            return types[i].type;
        }
    }
    return status >= 500 ? "api_error" : "invalid_request_error";
}

void reply_error_object(struct request *request, int status, struct json_object *take_error) {
    CLEANUP_FREE char *id = add_request_id(request);
    CLEANUP_JSON struct json_object *json = json_object_new_object();
    json_set_string(json, "type", "error");
    json_set(json, "error", take_error);
    json_set_string(json, "request_id", id);
    http_reply_json(request->exchange, status, json);
}

void reply_error_details(struct request *request, int status, const char *message,
                         struct json_object *take_details) {
    struct json_object *error = json_object_new_object();
    json_set_string(error, "type", error_type(status));
    json_set_string(error, "message", message);
    if (take_details != NULL) {
        json_set(error, "details", take_details);
    }
    reply_error_object(request, status, error);
}

void reply_error(struct request *request, int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    CLEANUP_FREE char *message = memory_format_v(format, arguments);
    va_end(arguments);
    reply_error_details(request, status, message, NULL);
}

static bool parse_page(struct request *request, size_t *limit, size_t *offset) {
    static const char prefix[] = "page_";
    const char *limit_text = http_exchange_query(request->exchange, "limit");
    const char *page = http_exchange_query(request->exchange, "page");
    char *end = NULL;
    *limit = PAGE_DEFAULT;
    *offset = 0;
    if (limit_text != NULL) {
        long number = strtol(limit_text, &end, 10);
        if (end == limit_text || *end != '\0' || number < 1 || number > PAGE_LIMIT) {
            reply_error(request, 400, "limit: must be between 1 and %d", PAGE_LIMIT);
            return false;
        }
        *limit = (size_t)number;
    }
    if (page != NULL && *page != '\0') {
        const char *number = page + sizeof(prefix) - 1;
        if (strncmp(page, prefix, sizeof(prefix) - 1) != 0 ||
            strspn(number, "0123456789") != strlen(number) || strlen(number) > 9) {
            reply_error(request, 400, "page: not a cursor of this list");
            return false;
        }
        *offset = (size_t)strtoul(number, NULL, 10);
    }
    return true;
}

void reply_page(struct request *request, struct json_object *take_all, bool newest_first) {
    CLEANUP_JSON struct json_object *all = take_all;
    size_t limit = 0;
    size_t offset = 0;
    const char *order = http_exchange_query(request->exchange, "order");
    if (order != NULL && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
        reply_error(request, 400, "order: must be asc or desc");
        return;
    }
    if (!parse_page(request, &limit, &offset)) {
        return;
    }
    bool is_descending = order == NULL ? newest_first : strcmp(order, "desc") == 0;
    size_t count = json_object_array_length(all);
    struct json_object *data = json_object_new_array();
    size_t end = offset;
    for (; end < count && end - offset < limit; end++) {
        size_t index = is_descending ? count - 1 - end : end;
        (void)json_object_array_add(data, json_object_get(json_object_array_get_idx(all, index)));
    }
    struct json_object *json = json_object_new_object();
    json_set(json, "data", data);
    json_set(json, "next_page", NULL);
    if (end < count) {
        CLEANUP_FREE char *cursor = memory_format("page_%zu", end);
        json_set_string(json, "next_page", cursor);
    }
    reply(request, json);
}

bool reply_injected(struct request *request, struct session *session, const char *path) {
    struct json_object *failure = json_get_object(session->injected, path);
    if (failure == NULL || request->identity == IDENTITY_ORGANIZATION) {
        return false;
    }
    int status = (int)json_get_int(failure, "status", 500);
    int64_t count = json_get_int(failure, "count", 1);
    int64_t retry_after = json_get_int(failure, "retry_after", -1);
    if (retry_after >= 0) {
        CLEANUP_FREE char *seconds = memory_format("%lld", (long long)retry_after);
        http_exchange_add_header(request->exchange, "retry-after", seconds);
    }
    if (count <= 1) {
        json_object_object_del(session->injected, path);
    } else {
        json_set_int(failure, "count", count - 1);
    }
    session_save(session);
    reply_error(request, status, "scripted failure");
    return true;
}

/* ---- who asks ---- */

static const char *bearer_token(struct http_exchange *exchange) {
    static const char scheme[] = "Bearer ";
    const char *header = http_exchange_header(exchange, "authorization");
    return header == NULL || strncasecmp(header, scheme, sizeof(scheme) - 1) != 0
               ? NULL
               : header + sizeof(scheme) - 1;
}

/* The environment that the request is about, if it exists. */
static struct environment *subject_environment(struct request *request) {
    if (request->session != NULL) {
        return environment_find(request->emulator,
                                json_get_string(request->session->json, "environment_id"));
    }
    return request->environment;
}

static bool is_known_key(struct emulator *emulator, const char *key) {
    struct lh_entry *entry = NULL;
    lh_foreach(emulator->environments, entry) {
        if (environment_has_key(lh_entry_v(entry), key)) {
            return true;
        }
    }
    return json_object_object_get_ex(emulator->environment_keys, key, NULL);
}

/* Whether the request is about what the item's token opens. */
static bool is_token_for(struct request *request, const struct work_item *item) {
    if (request->is_about_skills) {
        return true;
    }
    if (request->memory_store != NULL) {
        return memory_store_is_attached(request->memory_store, item->session_id);
    }
    return request->session != NULL ? strcmp(request->session->id, item->session_id) == 0
                                    : request->item == item;
}

static enum identity identify_bearer(struct request *request, const char *key) {
    struct environment *environment = subject_environment(request);
    if (request->memory_store != NULL || request->is_about_skills
            ? is_known_key(request->emulator, key)
            : environment != NULL && environment_has_key(environment, key)) {
        return IDENTITY_ENVIRONMENT;
    }
    void *found = NULL;
    if (lh_table_lookup_ex(request->emulator->tokens, key, &found)) {
        const struct work_item *item = found;
        request->token_session_id = item->session_id;
        return is_token_for(request, item) ? IDENTITY_SESSION : IDENTITY_NONE;
    }
    return IDENTITY_NONE;
}

/*
 * SDK 1.x sends the organisation's key as a bearer too. When any key is taken, one that looks like
 * a worker's is still not: a wrong worker key must be refused.
 */
static bool is_organization_key(const struct emulator *emulator, const char *key) {
    static const char *const worker_prefixes[] = {"sk-ant-oat01-", "sk-ant-sst01-"};
    if (emulator->api_key != NULL) {
        return strcmp(key, emulator->api_key) == 0;
    }
    for (size_t i = 0; i < sizeof(worker_prefixes) / sizeof(worker_prefixes[0]); i++) {
        if (strncmp(key, worker_prefixes[i], strlen(worker_prefixes[i])) == 0) {
            return false;
        }
    }
    return *key != '\0';
}

static enum identity identify(struct request *request) {
    const char *token = bearer_token(request->exchange);
    if (token != NULL) {
        enum identity identity = identify_bearer(request, token);
        bool is_worker = identity != IDENTITY_NONE || is_known_key(request->emulator, token) ||
                         lh_table_lookup_ex(request->emulator->tokens, token, NULL);
        return is_worker || !is_organization_key(request->emulator, token) ? identity
                                                                           : IDENTITY_ORGANIZATION;
    }
    const char *key = http_exchange_header(request->exchange, "x-api-key");
    return key != NULL && is_organization_key(request->emulator, key) ? IDENTITY_ORGANIZATION
                                                                      : IDENTITY_NONE;
}

/* False after an error was answered. */
static bool check_access(struct request *request, unsigned access) {
    static const unsigned bits[] = {[IDENTITY_NONE] = 0,
                                    [IDENTITY_ORGANIZATION] = ACCESS_ORGANIZATION,
                                    [IDENTITY_ENVIRONMENT] = ACCESS_ENVIRONMENT,
                                    [IDENTITY_SESSION] = ACCESS_SESSION};
    request->identity = identify(request);
    if (request->identity == IDENTITY_NONE) {
        reply_error(request, 401, "invalid credentials");
        return false;
    }
    if ((access & bits[request->identity]) == 0) {
        /* To a worker's endpoint an application's key is just a wrong key. */
        int status = request->identity == IDENTITY_ORGANIZATION ? 401 : 403;
        reply_error(request, status, "these credentials may not do that");
        return false;
    }
    return true;
}

/* Anybody with valid credentials may learn that a thing does not exist; nobody else. */
static void reply_missing(struct request *request) {
    const char *token = bearer_token(request->exchange);
    bool is_known = identify(request) == IDENTITY_ORGANIZATION ||
                    (token != NULL && (is_known_key(request->emulator, token) ||
                                       lh_table_lookup_ex(request->emulator->tokens, token, NULL)));
    if (is_known) {
        reply_error(request, 404, "%s not found",
                    request->ids[1] == NULL ? request->ids[0] : request->ids[1]);
    } else {
        reply_error(request, 401, "invalid credentials");
    }
}

/* ---- dispatch ---- */

static bool look_up(struct request *request, enum lookup lookup) {
    void *item = NULL;
    switch (lookup) {
    case LOOKUP_NONE:
        return true;
    case LOOKUP_SKILLS:
        request->is_about_skills = true; /* one that is missing is told by its handler */
        return true;
    case LOOKUP_SESSION:
        request->session = session_find(request->emulator, request->ids[0]);
        return request->session != NULL;
    case LOOKUP_MEMORY_STORE:
        request->memory_store = memory_store_find(request->emulator, request->ids[0]);
        return request->memory_store != NULL;
    case LOOKUP_ENVIRONMENT:
        request->environment = environment_find(request->emulator, request->ids[0]);
        return request->environment != NULL;
    case LOOKUP_ITEM:
        request->environment = environment_find(request->emulator, request->ids[0]);
        if (request->environment == NULL ||
            !lh_table_lookup_ex(request->environment->items, request->ids[1], &item)) {
            return false;
        }
        request->item = item;
        return true;
    }
    return false;
}

/* Splits in place; the number of segments, or SEGMENTS_LIMIT + 1 when there are more. */
static size_t split(char *path, char *segments[SEGMENTS_LIMIT]) {
    size_t count = 0;
    char *rest = path + (*path == '/');
    for (char *part = strsep(&rest, "/"); part != NULL; part = strsep(&rest, "/")) {
        if (count == SEGMENTS_LIMIT) {
            return SEGMENTS_LIMIT + 1;
        }
        segments[count++] = part;
    }
    return count;
}

static bool matches(const char *pattern, char *const *segments, size_t count, const char *ids[2]) {
    size_t found = 0;
    pattern++;
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(pattern, "/");
        if (length == 0) {
            return false;
        }
        if (*pattern == ':') {
            ids[found++] = segments[i];
        } else if (strlen(segments[i]) != length || strncmp(segments[i], pattern, length) != 0) {
            return false;
        }
        pattern += length;
        pattern += *pattern == '/';
    }
    return *pattern == '\0';
}

static const struct route *find_route(struct request *request, char *path, bool *is_path_known) {
    char *segments[SEGMENTS_LIMIT];
    size_t count = split(path, segments);
    const char *method = http_exchange_method(request->exchange);
    for (size_t i = 0; count <= SEGMENTS_LIMIT && i < ROUTE_COUNT; i++) {
        const char *ids[2] = {NULL, NULL};
        if (matches(routes[i].pattern, segments, count, ids)) {
            *is_path_known = true;
            if (strcmp(routes[i].method, method) == 0) {
                memcpy(request->ids, ids, sizeof(ids));
                return &routes[i];
            }
        }
    }
    return NULL;
}

/* False after an error was answered. An absent body reads as an empty object. */
static bool parse_body(struct request *request) {
    size_t length = 0;
    const char *bytes = http_exchange_body(request->exchange, &length);
    if (length == 0) {
        request->body = json_object_new_object();
        return true;
    }
    CLEANUP_ERROR struct error *error = NULL;
    if (!json_parse(bytes, length, &request->body, &error)) {
        reply_error(request, 400, "the body is not JSON: %s", error->message);
        return false;
    }
    if (!json_object_is_type(request->body, json_type_object)) {
        reply_error(request, 400, "the body must be a JSON object");
        return false;
    }
    return true;
}

static void dispatch(struct request *request) {
    CLEANUP_FREE char *path = memory_string(http_exchange_path(request->exchange));
    bool is_path_known = false;
    if (!utf8_is_valid(path, strlen(path))) {
        reply_error(request, 400, "the path is not UTF-8"); /* answers name parts of it */
        return;
    }
    const struct route *route = find_route(request, path, &is_path_known);
    if (route == NULL) {
        reply_error(request, is_path_known ? 405 : 404, "%s",
                    is_path_known ? "method not allowed" : "not found");
        return;
    }
    struct json_object *counts = request->emulator->request_counts;
    json_set_int(counts, route->kind, json_get_int(counts, route->kind, 0) + 1);
    if (!look_up(request, route->lookup)) {
        reply_missing(request);
        return;
    }
    if (check_access(request, route->access) && parse_body(request)) {
        route->handle(request);
    }
}

static void on_exchange(void *context, struct http_exchange *exchange) {
    struct emulator *emulator = context;
    struct request request = {.emulator = emulator, .exchange = exchange};
    dispatch(&request);
    json_object_put(request.body);
    /* Before the loop sends the answer: what was answered is on disk. */
    emulator_commit(emulator);
}

static void stats_get(struct request *request) {
    struct emulator *emulator = request->emulator;
    int64_t counts[WORK_STATE_STOPPED + 1] = {0};
    struct lh_entry *entry = NULL;
    lh_foreach(emulator->environments, entry) {
        struct environment *environment = lh_entry_v(entry);
        struct lh_entry *item = NULL;
        lh_foreach(environment->items, item) {
            counts[((struct work_item *)lh_entry_v(item))->state]++;
        }
    }
    struct json_object *work = json_object_new_object();
    for (int state = WORK_STATE_QUEUED; state <= WORK_STATE_STOPPED; state++) {
        json_set_int(work, work_state_name((enum work_state)state), counts[state]);
    }
    struct json_object *json = json_object_new_object();
    json_set(json, "requests", json_object_get(emulator->request_counts));
    json_set(json, "work", work);
    json_set_int(json, "sessions", lh_table_length(emulator->sessions));
    json_set(json, "heartbeats", work_beats_report(emulator));
    reply(request, json);
}

/* ---- life ---- */

static void ping_streams(void *context) {
    static const char ping[] = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    struct emulator *emulator = context;
    struct lh_entry *entry = NULL;
    lh_foreach(emulator->sessions, entry) {
        session_write_streams(lh_entry_v(entry), ping, sizeof(ping) - 1);
    }
    loop_timer_arm(emulator->ping, PING_INTERVAL_MS);
}

static bool load_scripts(struct emulator *emulator, const struct emulator_options *options,
                         struct error **error) {
    emulator->scripts = options->script_text == NULL
                            ? script_set_builtin()
                            : script_set_parse(options->script_text, options->script_length, error);
    return emulator->scripts != NULL;
}

static bool start(struct emulator *emulator, const struct emulator_options *options,
                  struct error **error) {
    if (!load_scripts(emulator, options, error)) {
        return false;
    }
    if (options->data_directory != NULL) {
        emulator->store = store_open(options->data_directory, error);
        if (emulator->store == NULL) {
            return false;
        }
    }
    if (options->webhook_url != NULL) {
        emulator->webhooks =
            webhooks_new(emulator->loop, options->webhook_url, options->webhook_secret, error);
        if (emulator->webhooks == NULL) {
            return false;
        }
    }
    struct http_server_options server = {.address = options->address,
                                         .port = options->port,
                                         .body_limit = BODY_LIMIT_BYTES,
                                         .idle_timeout_ms = IDLE_TIMEOUT_MS,
                                         .handle = on_exchange,
                                         .context = emulator};
    emulator->server = http_server_new(emulator->loop, &server, error);
    if (emulator->server == NULL) {
        return false;
    }
    objects_load(emulator);
    memory_stores_load(emulator);
    sessions_load(emulator);
    loop_timer_arm(emulator->ping, PING_INTERVAL_MS);
    return true;
}

struct emulator *emulator_new(struct loop *loop, const struct emulator_options *options,
                              struct error **error) {
    struct emulator *emulator = memory_new(struct emulator);
    emulator->loop = loop;
    emulator->api_key = options->api_key == NULL ? NULL : memory_string(options->api_key);
    emulator->skills_directory =
        options->skills_directory == NULL ? NULL : memory_string(options->skills_directory);
    emulator->lease_ttl_ms = options->lease_ttl_ms;
    emulator->environment_keys = json_object_new_object();
    for (size_t i = 0; i < options->environment_key_count; i++) {
        json_set_bool(emulator->environment_keys, options->environment_keys[i], true);
    }
    emulator->environments = lh_kchar_table_new(16, NULL);
    emulator->agents = lh_kchar_table_new(16, NULL);
    emulator->sessions = lh_kchar_table_new(64, NULL);
    emulator->memory_stores = lh_kchar_table_new(16, NULL);
    emulator->tokens = lh_kchar_table_new(64, NULL);
    emulator->request_counts = json_object_new_object();
    emulator->tick = loop_timer_new(loop, work_tick, emulator);
    emulator->ping = loop_timer_new(loop, ping_streams, emulator);
    if (!start(emulator, options, error)) {
        emulator_free(emulator);
        return NULL;
    }
    return emulator;
}

uint16_t emulator_port(const struct emulator *emulator) {
    return http_server_port(emulator->server);
}

void emulator_free(struct emulator *take_emulator) {
    if (take_emulator == NULL) {
        return;
    }
    struct lh_entry *entry = NULL;
    struct lh_entry *next = NULL;
    http_server_free(take_emulator->server);
    lh_foreach_safe(take_emulator->sessions, entry, next) {
        session_free(lh_entry_v(entry));
    }
    lh_foreach_safe(take_emulator->environments, entry, next) {
        environment_free(lh_entry_v(entry));
    }
    lh_foreach_safe(take_emulator->agents, entry, next) {
        agent_free(lh_entry_v(entry));
    }
    lh_foreach_safe(take_emulator->memory_stores, entry, next) {
        memory_store_free(lh_entry_v(entry));
    }
    lh_table_free(take_emulator->memory_stores);
    lh_table_free(take_emulator->sessions);
    lh_table_free(take_emulator->environments);
    lh_table_free(take_emulator->agents);
    lh_table_free(take_emulator->tokens);
    webhooks_free(take_emulator->webhooks);
    store_close(take_emulator->store);
    script_set_free(take_emulator->scripts);
    json_object_put(take_emulator->environment_keys);
    json_object_put(take_emulator->request_counts);
    free(take_emulator->beats_late_ms);
    loop_timer_free(take_emulator->tick);
    loop_timer_free(take_emulator->ping);
    free(take_emulator->api_key);
    free(take_emulator->skills_directory);
    free(take_emulator);
}
