/* One turn of one session, as an application drives it. */
#include "cmd/session_flow.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum flow_state {
    FLOW_CREATING_AGENT,
    FLOW_CREATING_SESSION,
    FLOW_ATTACHING,
    FLOW_SENDING,
    FLOW_FOLLOWING,
    FLOW_ENDED,
};

struct session_flow {
    enum flow_state state;
    struct application *application;
    struct presenter *presenter;
    char *prompt;
    char *environment_id;
    char *agent_id;
    char *model;
    char *session_id;
    struct application_stream *stream;
    struct loop_timer *deadline;
    int64_t timeout_ms;
    bool has_started; /* the session was seen running: an idle event now ends our turn */
    void (*ended)(void *context, const char *session_id, const struct error *error);
    void *context;
};

static void flow_step(struct session_flow *flow);

static void flow_end(struct session_flow *flow, const struct error *error) {
    if (flow->state == FLOW_ENDED) {
        return;
    }
    flow->state = FLOW_ENDED;
    loop_timer_disarm(flow->deadline);
    flow->ended(flow->context, flow->session_id, error);
}

static void flow_fail(struct session_flow *flow, enum error_code code, const char *message) {
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, code, "%s", message);
    flow_end(flow, error);
}

/* Takes the "id" of a creation's answer; ends the flow when there is none. */
static bool take_id(struct session_flow *flow, struct json_object *answer,
                    const struct error *error, char **id) {
    if (error != NULL) {
        flow_end(flow, error);
        return false;
    }
    const char *found = json_get_string(answer, "id");
    if (found == NULL) {
        flow_fail(flow, ERROR_PROTOCOL, "the control plane's answer has no id");
        return false;
    }
    *id = memory_string(found);
    return true;
}

static void on_agent(void *context, struct json_object *answer, const struct error *error) {
    struct session_flow *flow = context;
    if (take_id(flow, answer, error, &flow->agent_id)) {
        flow->state = FLOW_CREATING_SESSION;
        flow_step(flow);
    }
}

static void on_session(void *context, struct json_object *answer, const struct error *error) {
    struct session_flow *flow = context;
    if (take_id(flow, answer, error, &flow->session_id)) {
        flow->state = FLOW_ATTACHING;
        flow_step(flow);
    }
}

static void on_sent(void *context, struct json_object *answer, const struct error *error) {
    (void)answer;
    struct session_flow *flow = context;
    if (error != NULL) {
        flow_end(flow, error);
    } else if (flow->state == FLOW_SENDING) {
        flow->state = FLOW_FOLLOWING;
    }
}

static void on_opened(void *context) {
    struct session_flow *flow = context;
    if (flow->state == FLOW_ATTACHING) {
        flow->state = FLOW_SENDING;
        flow_step(flow);
    }
}

/* Ends the flow when the event ends the turn (protocol.md section 3). */
static void judge_event(struct session_flow *flow, struct json_object *event) {
    const char *type = json_get_string(event, "type");
    if (type == NULL) {
        return;
    }
    if (strcmp(type, "session.status_running") == 0) {
        flow->has_started = true;
    } else if (strcmp(type, "session.status_terminated") == 0 ||
               strcmp(type, "session.deleted") == 0) {
        flow_fail(flow, ERROR_CANCELLED, "the session was terminated");
    } else if (strcmp(type, "session.status_idle") == 0 && flow->has_started) {
        const char *reason = json_get_string(json_get_object(event, "stop_reason"), "type");
        if (reason == NULL || strcmp(reason, "end_turn") == 0) {
            flow_end(flow, NULL);
        } else if (strcmp(reason, "requires_action") != 0) {
            CLEANUP_ERROR struct error *error = NULL;
            (void)error_set(&error, ERROR_CANCELLED, "the turn ended with %s", reason);
            flow_end(flow, error);
        }
    }
}

static void on_event(void *context, struct json_object *event) {
    struct session_flow *flow = context;
    if (flow->state == FLOW_ENDED) {
        return;
    }
    if (flow->presenter != NULL) {
        presenter_event(flow->presenter, event);
    } else {
        (void)puts(json_text(event, NULL));
        (void)fflush(stdout);
    }
    judge_event(flow, event);
}

static void on_stream_failed(void *context, const struct error *error) {
    flow_end(context, error);
}

static void on_deadline(void *context) {
    struct session_flow *flow = context;
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, ERROR_TIMEOUT,
                    "the turn did not end within %lld s (is a worker serving environment %s?)",
                    (long long)(flow->timeout_ms / 1000), flow->environment_id);
    flow_end(flow, error);
}

static void create_agent(struct session_flow *flow) {
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    struct json_object *tool = json_object_new_object();
    struct json_object *tools = json_object_new_array();
    json_set_string(tool, "type", "agent_toolset_20260401");
    (void)json_object_array_add(tools, tool);
    json_set_string(body, "name", "holt session");
    json_set_string(body, "model", flow->model);
    json_set(body, "tools", tools);
    application_request(flow->application, "POST", "/v1/agents", body, on_agent, flow);
}

static void create_session(struct session_flow *flow) {
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    json_set_string(body, "agent", flow->agent_id);
    json_set_string(body, "environment_id", flow->environment_id);
    application_request(flow->application, "POST", "/v1/sessions", body, on_session, flow);
}

static void send_prompt(struct session_flow *flow) {
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    struct json_object *block = json_object_new_object();
    struct json_object *content = json_object_new_array();
    struct json_object *event = json_object_new_object();
    struct json_object *events = json_object_new_array();
    json_set_string(block, "type", "text");
    json_set_string(block, "text", flow->prompt);
    (void)json_object_array_add(content, block);
    json_set_string(event, "type", "user.message");
    json_set(event, "content", content);
    (void)json_object_array_add(events, event);
    json_set(body, "events", events);
    CLEANUP_FREE char *path = memory_format("/v1/sessions/%s/events", flow->session_id);
    application_request(flow->application, "POST", path, body, on_sent, flow);
}

static void flow_step(struct session_flow *flow) {
    static const struct application_stream_events stream_events = {
        .opened = on_opened, .event = on_event, .failed = on_stream_failed};
    switch (flow->state) {
    case FLOW_CREATING_AGENT:
        create_agent(flow);
        break;
    case FLOW_CREATING_SESSION:
        create_session(flow);
        break;
    case FLOW_ATTACHING:
        flow->stream =
            application_stream_open(flow->application, flow->session_id, &stream_events, flow);
        break;
    case FLOW_SENDING:
        send_prompt(flow);
        break;
    case FLOW_FOLLOWING:
    case FLOW_ENDED:
        break;
    }
}

struct session_flow *session_flow_start(struct loop *loop,
                                        const struct session_flow_options *options) {
    struct session_flow *flow = memory_new(struct session_flow);
    flow->application = options->application;
    flow->presenter = options->presenter;
    flow->prompt = memory_string(options->prompt);
    flow->environment_id = memory_string(options->environment_id);
    flow->agent_id = options->agent_id == NULL ? NULL : memory_string(options->agent_id);
    flow->model = memory_string(options->model);
    flow->timeout_ms = options->timeout_ms;
    flow->ended = options->ended;
    flow->context = options->context;
    flow->deadline = loop_timer_new(loop, on_deadline, flow);
    loop_timer_arm(flow->deadline, options->timeout_ms);
    flow->state = flow->agent_id == NULL ? FLOW_CREATING_AGENT : FLOW_CREATING_SESSION;
    flow_step(flow);
    return flow;
}

void session_flow_free(struct session_flow *take_flow) {
    if (take_flow == NULL) {
        return;
    }
    application_stream_close(take_flow->stream);
    loop_timer_free(take_flow->deadline);
    free(take_flow->prompt);
    free(take_flow->environment_id);
    free(take_flow->agent_id);
    free(take_flow->model);
    free(take_flow->session_id);
    free(take_flow);
}
