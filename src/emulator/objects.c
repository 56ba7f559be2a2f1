/* Environments and agents: JSON objects with defaults filled in, kept by id. */
#include "emulator/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

struct environment *environment_find(struct emulator *emulator, const char *id) {
    void *found = NULL;
    return lh_table_lookup_ex(emulator->environments, id, &found) ? found : NULL;
}

bool merge_metadata(struct json_object *metadata, struct json_object *changes) {
    if (changes == NULL) {
        return true;
    }
    if (!json_object_is_type(changes, json_type_object)) {
        return false;
    }
    json_object_object_foreach(changes, key, value) {
        if (value == NULL) {
            json_object_object_del(metadata, key);
        } else if (json_object_is_type(value, json_type_string)) {
            json_set(metadata, key, json_object_get(value));
        } else {
            return false;
        }
    }
    return true;
}

struct json_object *array_or_empty(struct json_object *object, const char *key) {
    struct json_object *array = json_get_array(object, key);
    return array == NULL ? json_object_new_array() : json_object_get(array);
}

static void set_now(struct json_object *object, const char *key) {
    CLEANUP_FREE char *now = now_text();
    json_set_string(object, key, now);
}

void mark_archived(struct json_object *object) {
    if (json_get(object, "archived_at") == NULL) {
        set_now(object, "archived_at");
        set_now(object, "updated_at");
    }
}

/* ---- environments ---- */

static void environment_save(struct environment *environment) {
    CLEANUP_JSON struct json_object *saved = json_object_new_object();
    json_set(saved, "json", json_object_get(environment->json));
    json_set(saved, "keys", json_object_get(environment->keys));
    store_put(environment->emulator->store, "environment", environment->id, saved);
}

static struct environment *environment_add(struct emulator *emulator, const char *id) {
    struct environment *environment = memory_new(struct environment);
    environment->emulator = emulator;
    environment->id = memory_string(id);
    environment->keys = json_object_new_object();
    environment->pollers = json_object_new_object();
    environment->items = lh_kchar_table_new(16, NULL);
    queue_init(&environment->queue, emulator->lease_ttl_ms);
    TAILQ_INIT(&environment->waiters);
    (void)lh_table_insert(emulator->environments, environment->id, environment);
    return environment;
}

void environment_free(struct environment *take_environment) {
    while (!TAILQ_EMPTY(&take_environment->waiters)) {
        struct waiter *waiter = TAILQ_FIRST(&take_environment->waiters);
        struct http_exchange *exchange = waiter->exchange;
        waiter_free(waiter);
        http_exchange_abort(exchange);
    }
    struct lh_entry *entry = NULL;
    struct lh_entry *next = NULL;
    lh_foreach_safe(take_environment->items, entry, next) {
        struct work_item *item = lh_entry_v(entry);
        (void)lh_table_delete(take_environment->emulator->tokens, item->sessions_token);
        queue_item_free(&take_environment->queue, item);
    }
    lh_table_free(take_environment->items);
    json_object_put(take_environment->json);
    json_object_put(take_environment->keys);
    json_object_put(take_environment->pollers);
    free(take_environment->id);
    free(take_environment);
}

bool environment_has_key(const struct environment *environment, const char *key) {
    return json_object_object_get_ex(environment->keys, key, NULL) ||
           json_object_object_get_ex(environment->emulator->environment_keys, key, NULL);
}

/* Copies the members that a caller may set; false after an error was answered. */
static bool apply_environment(struct request *request, struct json_object *json) {
    struct json_object *body = request->body;
    const char *name = json_get_string(body, "name");
    if (name != NULL) {
        json_set_string(json, "name", name);
    }
    const char *description = json_get_string(body, "description");
    if (description != NULL) {
        json_set_string(json, "description", description);
    }
    const char *scope = json_get_string(body, "scope");
    if (scope != NULL) {
        json_set_string(json, "scope", scope);
    }
    struct json_object *config = json_get_object(body, "config");
    if (config != NULL) {
        const char *type = json_get_string(config, "type");
        if (type == NULL || strcmp(type, "self_hosted") != 0) {
            reply_error(request, 400,
                        "config.type: the emulator has self_hosted environments only");
            return false;
        }
        json_set(json, "config", json_object_get(config));
    }
    if (!merge_metadata(json_get_object(json, "metadata"), json_get(body, "metadata"))) {
        reply_error(request, 400, "metadata: must be an object of strings");
        return false;
    }
    return true;
}

static struct json_object *new_object(const char *type, const char *id_prefix) {
    CLEANUP_FREE char *id = random_id(id_prefix);
    struct json_object *json = json_object_new_object();
    json_set_string(json, "type", type);
    json_set_string(json, "id", id);
    json_set(json, "description", NULL);
    json_set(json, "metadata", json_object_new_object());
    set_now(json, "created_at");
    set_now(json, "updated_at");
    json_set(json, "archived_at", NULL);
    return json;
}

void environment_create(struct request *request) {
    if (json_get_string(request->body, "name") == NULL) {
        reply_error(request, 400, "name: Field required");
        return;
    }
    CLEANUP_JSON struct json_object *json = new_object("environment", "env_");
    struct json_object *config = json_object_new_object();
    json_set_string(config, "type", "self_hosted");
    json_set(json, "config", config);
    json_set_string(json, "scope", "organization");
    if (!apply_environment(request, json)) {
        return;
    }
    struct environment *environment =
        environment_add(request->emulator, json_get_string(json, "id"));
    environment->json = json_object_get(json);
    environment_save(environment);
    reply(request, json_object_get(environment->json));
}

void environment_list(struct request *request) {
    struct json_object *all = json_object_new_array();
    const char *archived = http_exchange_query(request->exchange, "include_archived");
    bool with_archived = archived != NULL && strcmp(archived, "true") == 0;
    struct lh_entry *entry = NULL;
    lh_foreach(request->emulator->environments, entry) {
        struct environment *environment = lh_entry_v(entry);
        if (with_archived || json_get(environment->json, "archived_at") == NULL) {
            (void)json_object_array_add(all, json_object_get(environment->json));
        }
    }
    reply_page(request, all, false);
}

void environment_get(struct request *request) {
    reply(request, json_object_get(request->environment->json));
}

void environment_update(struct request *request) {
    struct environment *environment = request->environment;
    if (apply_environment(request, environment->json)) {
        set_now(environment->json, "updated_at");
        environment_save(environment);
        reply(request, json_object_get(environment->json));
    }
}

void environment_archive(struct request *request) {
    mark_archived(request->environment->json);
    environment_save(request->environment);
    reply(request, json_object_get(request->environment->json));
}

void environment_delete(struct request *request) {
    struct emulator *emulator = request->emulator;
    struct environment *environment = request->environment;
    struct lh_entry *entry = NULL;
    lh_foreach(emulator->sessions, entry) {
        struct session *session = lh_entry_v(entry);
        const char *id = json_get_string(session->json, "environment_id");
        if (session->item != NULL && id != NULL && strcmp(id, environment->id) == 0) {
            session->item = NULL;
        }
    }
    lh_foreach(environment->items, entry) {
        store_delete(emulator->store, "work", lh_entry_k(entry));
    }
    store_delete(emulator->store, "environment", environment->id);
    struct json_object *json = json_object_new_object();
    json_set_string(json, "id", environment->id);
    json_set_string(json, "type", "environment_deleted");
    (void)lh_table_delete(emulator->environments, environment->id);
    environment_free(environment);
    reply(request, json);
}

void environment_add_key(struct request *request) {
    enum { KEYS_LIMIT = 100 };
    if (json_object_object_length(request->environment->keys) >= KEYS_LIMIT) {
        reply_error(request, 400, "an environment has at most %d keys", KEYS_LIMIT);
        return;
    }
    CLEANUP_FREE char *key = random_id("sk-ant-oat01-");
    json_set_bool(request->environment->keys, key, true);
    environment_save(request->environment);
    struct json_object *json = json_object_new_object();
    json_set_string(json, "key", key);
    reply(request, json);
}

/* ---- agents ---- */

static struct agent *agent_find(struct request *request) {
    void *found = NULL;
    if (!lh_table_lookup_ex(request->emulator->agents, request->ids[0], &found)) {
        reply_error(request, 404, "agent %s not found", request->ids[0]);
        return NULL;
    }
    return found;
}

static struct agent *agent_add(struct emulator *emulator, const char *id) {
    struct agent *agent = memory_new(struct agent);
    agent->id = memory_string(id);
    (void)lh_table_insert(emulator->agents, agent->id, agent);
    return agent;
}

static void agent_save(struct emulator *emulator, struct agent *agent) {
    store_put(emulator->store, "agent", agent->id, agent->versions);
}

void agent_free(struct agent *take_agent) {
    json_object_put(take_agent->json);
    json_object_put(take_agent->versions);
    free(take_agent->id);
    free(take_agent);
}

static struct json_object *normal_model(struct json_object *model) {
    if (json_object_is_type(model, json_type_string)) {
        struct json_object *config = json_object_new_object();
        json_set(config, "id", json_object_get(model));
        json_set_string(config, "speed", "standard");
        return config;
    }
    return json_get_string(model, "id") == NULL ? NULL : json_object_get(model);
}

static struct json_object *copy_of(struct json_object *value) {
    struct json_object *copy = NULL;
    if (value == NULL || json_object_deep_copy(value, &copy, NULL) != 0) {
        return NULL;
    }
    return copy;
}

/* Tools as the API shows them: the toolset has configs and a default_config. */
static struct json_object *normal_tools(struct json_object *tools) {
    struct json_object *normal = copy_of(tools);
    for (size_t i = 0; i < json_object_array_length(normal); i++) {
        struct json_object *tool = json_object_array_get_idx(normal, i);
        const char *type = json_get_string(tool, "type");
        if (type == NULL || strstr(type, "toolset") == NULL) {
            continue;
        }
        if (json_get_array(tool, "configs") == NULL) {
            json_set(tool, "configs", json_object_new_array());
        }
        struct json_object *config = json_get_object(tool, "default_config");
        if (config == NULL) {
            config = json_object_new_object();
            json_set(tool, "default_config", config);
        }
        json_set_bool(config, "enabled", json_get_bool(config, "enabled", true));
        if (json_get_object(config, "permission_policy") == NULL) {
            struct json_object *policy = json_object_new_object();
            json_set_string(policy, "type", "always_allow");
            json_set(config, "permission_policy", policy);
        }
    }
    return normal;
}

static struct json_object *normal_skills(struct json_object *skills) {
    struct json_object *normal = copy_of(skills);
    for (size_t i = 0; i < json_object_array_length(normal); i++) {
        struct json_object *skill = json_object_array_get_idx(normal, i);
        if (json_object_is_type(skill, json_type_object) &&
            json_get_string(skill, "version") == NULL) {
            json_set_string(skill, "version", "latest");
        }
    }
    return normal;
}

static bool apply_agent(struct request *request, struct json_object *json) {
    static const char *const texts[] = {"name", "description", "system"};
    static const char *const arrays[] = {"mcp_servers", "tools", "skills"};
    static const char *const objects[] = {"multiagent", "execution_identity"};
    struct json_object *body = request->body;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json_object *value = NULL;
        if (json_object_object_get_ex(body, texts[i], &value)) {
            json_set(json, texts[i], json_object_get(value));
        }
    }
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        struct json_object *value = json_get_array(body, arrays[i]);
        if (value != NULL) {
            json_set(json, arrays[i],
                     strcmp(arrays[i], "tools") == 0    ? normal_tools(value)
                     : strcmp(arrays[i], "skills") == 0 ? normal_skills(value)
                                                        : json_object_get(value));
        }
    }
    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        struct json_object *value = json_get_object(body, objects[i]);
        if (value != NULL) {
            json_set(json, objects[i], json_object_get(value));
        }
    }
    struct json_object *model = json_get(body, "model");
    if (model != NULL) {
        struct json_object *normal = normal_model(model);
        if (normal == NULL) {
            reply_error(request, 400, "model: must be a string or an object with an id");
            return false;
        }
        json_set(json, "model", normal);
    }
    if (!merge_metadata(json_get_object(json, "metadata"), json_get(body, "metadata"))) {
        reply_error(request, 400, "metadata: must be an object of strings");
        return false;
    }
    return true;
}

void agent_create(struct request *request) {
    if (json_get_string(request->body, "name") == NULL ||
        json_get(request->body, "model") == NULL) {
        reply_error(request, 400, "name, model: Field required");
        return;
    }
    CLEANUP_JSON struct json_object *json = new_object("agent", "agent_");
    struct json_object *identity = json_object_new_object();
    json_set_string(identity, "type", "service_account");
    json_set_string(identity, "service_account_id", "svac_emulator");
    json_set_int(json, "version", 1);
    json_set(json, "system", NULL);
    json_set(json, "multiagent", NULL);
    json_set(json, "execution_identity", identity);
    json_set(json, "tools", json_object_new_array());
    json_set(json, "skills", json_object_new_array());
    json_set(json, "mcp_servers", json_object_new_array());
    if (!apply_agent(request, json)) {
        return;
    }
    struct agent *agent = agent_add(request->emulator, json_get_string(json, "id"));
    agent->json = json_object_get(json);
    agent->versions = json_object_new_array();
    (void)json_object_array_add(agent->versions, json_object_get(json));
    agent_save(request->emulator, agent);
    reply(request, json_object_get(agent->json));
}

void agent_list(struct request *request) {
    struct json_object *all = json_object_new_array();
    const char *archived = http_exchange_query(request->exchange, "include_archived");
    bool with_archived = archived != NULL && strcmp(archived, "true") == 0;
    struct lh_entry *entry = NULL;
    lh_foreach(request->emulator->agents, entry) {
        struct agent *agent = lh_entry_v(entry);
        if (with_archived || json_get(agent->json, "archived_at") == NULL) {
            (void)json_object_array_add(all, json_object_get(agent->json));
        }
    }
    reply_page(request, all, false);
}

void agent_get(struct request *request) {
    struct agent *agent = agent_find(request);
    if (agent == NULL) {
        return;
    }
    const char *version = http_exchange_query(request->exchange, "version");
    long number = version == NULL ? 0 : strtol(version, NULL, 10);
    if (version != NULL &&
        (number < 1 || (size_t)number > json_object_array_length(agent->versions))) {
        reply_error(request, 404, "agent %s has no such version", agent->id);
        return;
    }
    reply(request, json_object_get(version == NULL ? agent->json
                                                   : json_object_array_get_idx(
                                                         agent->versions, (size_t)number - 1)));
}

void agent_update(struct request *request) {
    struct agent *agent = agent_find(request);
    if (agent == NULL) {
        return;
    }
    int64_t version = json_get_int(agent->json, "version", 1);
    if (json_get_int(request->body, "version", version) != version) {
        reply_error(request, 409, "agent %s is at version %lld", agent->id, (long long)version);
        return;
    }
    CLEANUP_JSON struct json_object *next = copy_of(agent->json);
    if (!apply_agent(request, next)) {
        return;
    }
    json_set_int(next, "version", version + 1);
    set_now(next, "updated_at");
    json_object_put(agent->json);
    agent->json = json_object_get(next);
    (void)json_object_array_add(agent->versions, json_object_get(next));
    agent_save(request->emulator, agent);
    reply(request, json_object_get(agent->json));
}

void agent_archive(struct request *request) {
    struct agent *agent = agent_find(request);
    if (agent != NULL) {
        mark_archived(agent->json);
        agent_save(request->emulator, agent);
        reply(request, json_object_get(agent->json));
    }
}

void agent_versions(struct request *request) {
    struct agent *agent = agent_find(request);
    if (agent != NULL) {
        reply_page(request, copy_of(agent->versions), true);
    }
}

/* ---- restart ---- */

static void load_environment(void *context, const char *id, struct json_object *value) {
    struct json_object *json = json_get_object(value, "json");
    struct json_object *keys = json_get_object(value, "keys");
    if (json != NULL) {
        struct environment *environment = environment_add(context, id);
        environment->json = json_object_get(json);
        if (keys != NULL) {
            json_object_put(environment->keys);
            environment->keys = json_object_get(keys);
        }
    }
}

static void load_agent(void *context, const char *id, struct json_object *value) {
    size_t count =
        json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
    if (count > 0) {
        struct agent *agent = agent_add(context, id);
        agent->versions = json_object_get(value);
        agent->json = json_object_get(json_object_array_get_idx(value, count - 1));
    }
}

void objects_load(struct emulator *emulator) {
    store_each(emulator->store, "environment", load_environment, emulator);
    store_each(emulator->store, "agent", load_agent, emulator);
}
