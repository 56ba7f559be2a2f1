/*
 * Custom tools: programs of the operator that answer agent.custom_tool_use.
 *
 * A tool runs in the session's sandbox, through hand and in the order of the agent's other calls,
 * or on the host, beside the daemon. Either way it gets the call's input as JSON on its standard
 * input, HOLT_TOOL_NAME, HOLT_TOOL_USE_ID and HOLT_SESSION_ID in its environment, and what it
 * prints is the answer; another exit status than 0 makes an error of it. docs/custom-tools.md.
 */
#ifndef HOLT_ORCHESTRATOR_CUSTOM_TOOLS_H
#define HOLT_ORCHESTRATOR_CUSTOM_TOOLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "base/loop.h"
#include "hand/client.h"

struct custom_tool {
    const char *name;
    const char *const *command; /* argv, NULL-terminated */
    bool is_on_host;
    int64_t timeout_ms;
    struct json_object *schema; /* a JSON schema of its input, or NULL */
};

/* All of a daemon; borrowed by its sessions. */
struct custom_tools {
    const struct custom_tool *tools;
    size_t count;
};

/* The tool of that name, or NULL. `tools` may be NULL. */
const struct custom_tool *custom_tools_find(const struct custom_tools *tools, const char *name);
/*
 * Whether the input has what the schema requires: `required` members, and members of a declared
 * `type`. Other parts of the schema are not looked at. False with *error, a text for the model.
 */
bool custom_tool_check_input(const struct custom_tool *tool, struct json_object *input,
                             struct error **error);

/* The custom calls of one session. */
struct custom_calls;

/* A call has ended; `content` (text blocks) is borrowed. Called from the loop. */
typedef void (*custom_call_ended)(void *context, const char *id, bool is_error,
                                  struct json_object *content);

struct custom_calls *custom_calls_new(struct loop *loop, const struct custom_tools *tools,
                                      const char *session_id, custom_call_ended ended,
                                      void *context);
/* Kills what still runs on the host and forgets answers that were kept; `ended` is not called any
 * more. NULL is fine. */
void custom_calls_free(struct custom_calls *take_calls);
bool custom_calls_owns(const struct custom_calls *calls, const char *name);
/* Whether a call of that tool would be lost with the daemon: it runs on the host. */
bool custom_calls_is_on_host(const struct custom_calls *calls, const char *name);

/*
 * Starts a call of a tool that is owned. On the host its end comes to `ended`, and is kept until
 * acknowledged: a known id is not run again, its answer comes once more. In the sandbox it is
 * a call of `hand` like any other, kept there until acknowledged: its result comes to the client's
 * `result`, and custom_calls_answer makes the answer of it. An input that does not fit the schema
 * is answered through `ended` in either case.
 */
void custom_calls_start(struct custom_calls *calls, struct hand_client *hand, const char *id,
                        const char *name, struct json_object *input);
/* Ends a call, of hand's as well: in the sandbox its result still comes; on the host `ended` says
 * that it was interrupted. */
void custom_calls_cancel(struct custom_calls *calls, struct hand_client *hand, const char *id);
/* The answer was posted. An unknown id is fine. */
void custom_calls_acknowledge(struct custom_calls *calls, const char *id);
/* What a result of hand is to the model: *is_error is read and set; the caller frees the content.
 */
struct json_object *custom_calls_answer(const struct custom_calls *calls, const char *name,
                                        bool *is_error, struct json_object *content);

#endif
