/* Several dispatchers as one: started, woken, changed and stopped together, ended one by one. */
#include "cmd/environments.h"

#include <stdlib.h>

#include "base/memory.h"
#include "cmd/worker_id.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

struct served {
    struct environments *owner;
    const char *id;
    struct api *api;
    struct dispatcher *dispatcher;
    struct script_options script; /* borrowed by the dispatcher */
    bool has_ended;
};

struct environments {
    struct environments_options options;
    struct slots *slots;
    struct served *served;
    size_t count;
    size_t live_count;
    size_t failed_count;
};

bool environments_read_keys(const struct settings *settings, struct error **error) {
    for (size_t i = 0; i < settings->environment_count; i++) {
        struct environment_settings *environment = &settings->environments[i];
        if (environment->key_file != NULL) {
            credential_free(environment->key);
            environment->key = credential_read_file(environment->key_file, error);
            if (environment->key == NULL) {
                return error_wrap(error, "environment %s", environment->id);
            }
        }
        if (!credential_is_sendable(environment->key)) {
            return error_set(error, ERROR_INPUT, "the key of environment %s is malformed",
                             environment->id);
        }
    }
    return true;
}

static struct slots_limits limits_of(const struct settings *settings) {
    return (struct slots_limits){.sessions = (size_t)settings->max_sessions,
                                 .starting = (size_t)settings->max_starting};
}

static void on_dispatcher_ended(void *context, const struct error *error) {
    struct served *served = context;
    struct environments *environments = served->owner;
    served->has_ended = true;
    environments->live_count--;
    environments->failed_count += error != NULL ? 1 : 0;
    bool is_last = environments->live_count == 0;
    /* The error of the last one is the daemon's when none had another end; it is reported there. */
    bool is_failure = is_last && environments->failed_count == environments->count;
    if (error != NULL && !is_failure) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("environment %s is not served any more: %s; %zu of %zu are", served->id, text,
                  environments->live_count, environments->count);
    }
    if (is_last) {
        environments->options.ended(environments->options.context, is_failure ? error : NULL);
    }
}

static void start(struct served *served, const struct environment_settings *environment) {
    struct environments *environments = served->owner;
    const struct settings *settings = environments->options.settings;
    struct dispatcher_options options = environments->options.common;
    CLEANUP_FREE char *worker_id =
        environment->worker_id == NULL ? worker_id_new() : memory_string(environment->worker_id);
    served->id = environment->id;
    served->api = api_new(options.loop, environments->options.client, environment->base_url,
                          credential_text(environment->key));
    api_set_timeout(served->api, settings->request_timeout_ms);
    log_info("serving environment %s of %s as %s, up to %lld sessions", environment->id,
             environment->base_url, worker_id, (long long)environment->max_sessions);
    served->script = (struct script_options){.path = environment->on_work,
                                             .environment_key = credential_text(environment->key),
                                             .base_url = environment->base_url,
                                             .timeout_ms = environment->on_work_timeout_ms};
    options.api = served->api;
    options.seal_key = credential_text(environment->key);
    options.script = environment->on_work == NULL ? NULL : &served->script;
    options.environment_id = environment->id;
    options.worker_id = worker_id;
    options.slots = environments->slots;
    options.max_sessions = (size_t)environment->max_sessions;
    options.max_idle_ms = environment->max_idle_ms;
    options.poll_interval_ms = environment->poll_interval_ms;
    options.ended = on_dispatcher_ended;
    options.context = served;
    served->dispatcher = dispatcher_start(&options);
}

struct environments *environments_start(const struct environments_options *options) {
    const struct settings *settings = options->settings;
    const struct slots_limits limits = limits_of(settings);
    struct environments *environments = memory_new(struct environments);
    environments->options = *options;
    environments->slots = slots_new(&limits);
    environments->count = settings->environment_count;
    environments->live_count = settings->environment_count;
    environments->served = memory_zeroed(environments->count, sizeof(struct served));
    for (size_t i = 0; i < environments->count; i++) {
        environments->served[i].owner = environments;
        start(&environments->served[i], &settings->environments[i]);
    }
    return environments;
}

void environments_wake(struct environments *environments) {
    for (size_t i = 0; i < environments->count; i++) {
        dispatcher_wake(environments->served[i].dispatcher);
    }
}

bool environments_is_idle(const struct environments *environments) {
    for (size_t i = 0; i < environments->count; i++) {
        const struct served *served = &environments->served[i];
        if (!served->has_ended && !dispatcher_is_idle(served->dispatcher)) {
            return false;
        }
    }
    return true;
}

void environments_change(struct environments *environments) {
    const struct settings *settings = environments->options.settings;
    const struct slots_limits limits = limits_of(settings);
    for (size_t i = 0; i < environments->count; i++) {
        const struct environment_settings *environment = &settings->environments[i];
        api_set_timeout(environments->served[i].api, settings->request_timeout_ms);
        dispatcher_change(environments->served[i].dispatcher,
                          &(struct dispatcher_changes){
                              .max_sessions = (size_t)environment->max_sessions,
                              .max_idle_ms = environment->max_idle_ms,
                              .poll_interval_ms = environment->poll_interval_ms,
                              .recovery_interval_ms = settings->recovery_interval_ms,
                          });
    }
    slots_set_limits(environments->slots, &limits);
}

void environments_stop(struct environments *environments, int64_t patience_ms) {
    for (size_t i = 0; i < environments->count; i++) {
        dispatcher_stop(environments->served[i].dispatcher, patience_ms);
    }
}

void environments_free(struct environments *take_environments) {
    if (take_environments == NULL) {
        return;
    }
    for (size_t i = 0; i < take_environments->count; i++) {
        dispatcher_free(take_environments->served[i].dispatcher);
        api_free(take_environments->served[i].api);
    }
    slots_free(take_environments->slots);
    free(take_environments->served);
    free(take_environments);
}
