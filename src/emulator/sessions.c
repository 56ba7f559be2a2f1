/* Sessions: created from an agent's snapshot, bound to a script, listed, changed, ended. */
#include "emulator/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

struct session *session_find(struct emulator *emulator, const char *id) {
    void *found = NULL;
    return lh_table_lookup_ex(emulator->sessions, id, &found) ? found : NULL;
}

void session_save(struct session *session) {
    if (session->emulator->store == NULL) {
        return;
    }
    CLEANUP_JSON struct json_object *saved = json_object_new_object();
    json_set(saved, "json", json_object_get(session->json));
    json_set(saved, "runner", runner_save(session));
    store_put(session->emulator->store, "session", session->id, saved);
}

static struct session *session_add(struct emulator *emulator, struct json_object *json) {
    struct session *session = memory_new(struct session);
    session->emulator = emulator;
    session->id = memory_string(json_get_string(json, "id"));
    session->json = json_object_get(json);
    session->events = json_object_new_array();
    LIST_INIT(&session->streams);
    runner_init(session);
    (void)lh_table_insert(emulator->sessions, session->id, session);
    return session;
}

void session_free(struct session *take_session) {
    session_drop_streams(take_session);
    loop_timer_free(take_session->timer);
    json_object_put(take_session->json);
    json_object_put(take_session->events);
    json_object_put(take_session->calls);
    json_object_put(take_session->failures);
    json_object_put(take_session->injected);
    free(take_session->script_name);
    free(take_session->id);
    free(take_session);
}

/* The agent that a creation names: an id, or {"type","id","version"?, overrides...}. */
static struct json_object *resolve_agent(struct request *request) {
    static const char *const overrides[] = {"model", "system", "tools", "skills", "mcp_servers"};
    struct json_object *wanted = json_get(request->body, "agent");
    const char *id = json_object_is_type(wanted, json_type_string) ? json_object_get_string(wanted)
                                                                   : json_get_string(wanted, "id");
    void *found = NULL;
    if (id == NULL || !lh_table_lookup_ex(request->emulator->agents, id, &found)) {
        reply_error(request, id == NULL ? 400 : 404, "agent: %s",
                    id == NULL ? "Field required" : "not found");
        return NULL;
    }
    const struct agent *agent = found;
    int64_t version = json_get_int(wanted, "version", json_get_int(agent->json, "version", 1));
    if (version < 1 || (size_t)version > json_object_array_length(agent->versions)) {
        reply_error(request, 404, "agent: no such version");
        return NULL;
    }
    struct json_object *snapshot = NULL;
    (void)json_object_deep_copy(json_object_array_get_idx(agent->versions, (size_t)version - 1),
                                &snapshot, NULL);
    static const char *const private_members[] = {"created_at", "updated_at", "archived_at",
                                                  "metadata"};
    for (size_t i = 0; i < sizeof(private_members) / sizeof(private_members[0]); i++) {
        json_object_object_del(snapshot, private_members[i]);
    }
    for (size_t i = 0; i < sizeof(overrides) / sizeof(overrides[0]); i++) {
        struct json_object *value = json_get(wanted, overrides[i]);
        if (value != NULL) {
            json_set(snapshot, overrides[i], json_object_get(value));
        }
    }
    return snapshot;
}

static struct json_object *initial_json(struct request *request, struct json_object *agent) {
    CLEANUP_FREE char *id = random_id("sesn_");
    CLEANUP_FREE char *now = now_text();
    struct json_object *json = json_object_new_object();
    json_set_string(json, "type", "session");
    json_set_string(json, "id", id);
    json_set_string(json, "status", "idle");
    json_set(json, "environment_id", json_object_get(json_get(request->body, "environment_id")));
    json_set(json, "agent", json_object_get(agent));
    json_set(json, "resources", array_or_empty(request->body, "resources"));
    json_set(json, "metadata", json_object_new_object());
    json_set(json, "title", json_object_get(json_get(request->body, "title")));
    json_set_string(json, "created_at", now);
    json_set_string(json, "updated_at", now);
    json_set(json, "archived_at", NULL);
    json_set(json, "budget", json_object_get(json_get_object(request->body, "budget")));
    json_set(json, "usage", json_object_new_object());
    json_set(json, "stats", json_object_new_object());
    json_set(json, "vault_ids", array_or_empty(request->body, "vault_ids"));
    json_set(json, "outcome_evaluations", json_object_new_array());
    return json;
}

/* False after an error was answered. */
static bool check_creation(struct request *request, struct json_object *json) {
    const char *id = json_get_string(json, "environment_id");
    struct environment *environment = id == NULL ? NULL : environment_find(request->emulator, id);
    if (environment == NULL) {
        reply_error(request, id == NULL ? 400 : 404, "environment_id: %s",
                    id == NULL ? "Field required" : "not found");
        return false;
    }
    if (json_get(environment->json, "archived_at") != NULL) {
        struct json_object *details = json_object_new_object();
        json_set_string(details, "error_code", "environment_archived");
        reply_error_details(request, 400, "the environment is archived", details);
        return false;
    }
    if (!merge_metadata(json_get_object(json, "metadata"), json_get(request->body, "metadata"))) {
        reply_error(request, 400, "metadata: must be an object of strings");
        return false;
    }
    const char *script = json_get_string(json_get_object(json, "metadata"), "script");
    script = script == NULL ? "default" : script;
    if (script_set_find(request->emulator->scripts, script) == NULL) {
        reply_error(request, 400, "metadata.script: the emulator has no script \"%s\"", script);
        return false;
    }
    return true;
}

void session_create(struct request *request) {
    CLEANUP_JSON struct json_object *agent = resolve_agent(request);
    if (agent == NULL) {
        return;
    }
    CLEANUP_JSON struct json_object *json = initial_json(request, agent);
    struct json_object *initial = json_get_array(request->body, "initial_events");
    if (!check_creation(request, json) || !memory_stores_attach(request, json)) {
        return;
    }
    struct session *session = session_add(request->emulator, json);
    work_enqueue(session);
    for (size_t i = 0; initial != NULL && i < json_object_array_length(initial); i++) {
        struct json_object *event = json_object_array_get_idx(initial, i);
        if (runner_check_event(session, event) == NULL) {
            (void)session_emit(session, json_object_get(event), 0);
            runner_on_event(session, event);
        }
    }
    session_save(session);
    reply(request, json_object_get(session->json));
}

static bool is_listed(struct request *request, struct session *session) {
    const char *archived = http_exchange_query(request->exchange, "include_archived");
    const char *agent = http_exchange_query(request->exchange, "agent_id");
    const char *agent_id = json_get_string(json_get_object(session->json, "agent"), "id");
    if (json_get(session->json, "archived_at") != NULL &&
        (archived == NULL || strcmp(archived, "true") != 0)) {
        return false;
    }
    if (agent != NULL && (agent_id == NULL || strcmp(agent, agent_id) != 0)) {
        return false;
    }
    const char *status = NULL;
    size_t n = 0;
    while ((status = http_exchange_query_nth(request->exchange, "statuses[]", n)) != NULL) {
        if (strcmp(status, json_get_string(session->json, "status")) == 0) {
            return true;
        }
        n++;
    }
    return n == 0;
}

void session_list(struct request *request) {
    struct json_object *all = json_object_new_array();
    struct lh_entry *entry = NULL;
    lh_foreach(request->emulator->sessions, entry) {
        struct session *session = lh_entry_v(entry);
        if (is_listed(request, session)) {
            (void)json_object_array_add(all, json_object_get(session->json));
        }
    }
    reply_page(request, all, true);
}

void session_get(struct request *request) {
    if (!reply_injected(request, request->session, "session")) {
        reply(request, json_object_get(request->session->json));
    }
}

void session_update(struct request *request) {
    struct session *session = request->session;
    struct json_object *title = NULL;
    if (!merge_metadata(json_get_object(session->json, "metadata"),
                        json_get(request->body, "metadata"))) {
        reply_error(request, 400, "metadata: must be an object of strings");
        return;
    }
    if (json_object_object_get_ex(request->body, "title", &title)) {
        json_set(session->json, "title", json_object_get(title));
    }
    session_set_status(session, json_get_string(session->json, "status"));
    session_save(session);
    reply(request, json_object_get(session->json));
}

void session_archive(struct request *request) {
    struct session *session = request->session;
    mark_archived(session->json);
    if (session->phase != RUNNER_TERMINATED) {
        session->phase = RUNNER_TERMINATED;
        loop_timer_disarm(session->timer);
        session_set_status(session, "terminated");
        (void)session_emit(session, session_event_new("session.status_terminated"), 0);
        webhooks_send(session->emulator->webhooks, "session.archived", session->id);
    }
    session_save(session);
    reply(request, json_object_get(session->json));
}

void session_delete(struct request *request) {
    struct session *session = request->session;
    struct emulator *emulator = request->emulator;
    (void)session_emit(session, session_event_new("session.deleted"), 0);
    webhooks_send(emulator->webhooks, "session.deleted", session->id);
    store_delete(emulator->store, "session", session->id);
    store_delete_events(emulator->store, session->id);
    struct json_object *json = json_object_new_object();
    json_set_string(json, "id", session->id);
    json_set_string(json, "type", "session_deleted");
    (void)lh_table_delete(emulator->sessions, session->id);
    session_free(session);
    reply(request, json);
}

void session_inspect(struct request *request) {
    reply(request, runner_report(request->session));
}

/* ---- restart ---- */

static void load_session(void *context, const char *id, struct json_object *value) {
    struct emulator *emulator = context;
    struct json_object *json = json_get_object(value, "json");
    const char *own_id = json_get_string(json, "id");
    if (own_id != NULL && strcmp(own_id, id) == 0) {
        struct session *session = session_add(emulator, json);
        runner_load(session, json_get_object(value, "runner"));
    }
}

static void load_item(void *context, const char *id, struct json_object *value) {
    struct emulator *emulator = context;
    (void)id;
    const char *environment_id = json_get_string(value, "environment_id");
    struct environment *environment =
        environment_id == NULL ? NULL : environment_find(emulator, environment_id);
    struct work_item *item =
        environment == NULL ? NULL : queue_item_load(&environment->queue, value);
    if (item == NULL) {
        return;
    }
    work_register(environment, item);
    struct session *session = session_find(emulator, item->session_id);
    if (session != NULL) {
        session->item = item; /* in the order of creation: the newest remains */
    }
}

void sessions_load(struct emulator *emulator) {
    store_each(emulator->store, "session", load_session, emulator);
    store_each(emulator->store, "work", load_item, emulator);
    struct lh_entry *entry = NULL;
    lh_foreach(emulator->sessions, entry) {
        struct session *session = lh_entry_v(entry);
        store_load_events(emulator->store, session->id, session->events);
        runner_resume(session);
    }
    if (emulator->store != NULL) {
        loop_timer_arm(emulator->tick, 0);
    }
}
