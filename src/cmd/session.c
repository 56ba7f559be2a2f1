/* holt session: creates a session against any control plane and streams it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cmd/command.h"
#include "config/options.h"
#include "cmd/session_flow.h"
#include "net/http_client.h"

#define DEFAULT_BASE_URL "https://api.anthropic.com"
#define DEFAULT_MODEL    "claude-sonnet-5-5"

enum { DEFAULT_TURN_TIMEOUT_MS = 10 * 60 * 1000 };

static int run_session(int argc, char **argv);

const struct command command_session = {
    .name = "session",
    .summary = "create a session against any control plane and stream it",
    .help = "usage: holt session [OPTION]... PROMPT\n"
            "\n"
            "Creates an agent and a session, sends PROMPT as the user's message, and prints the\n"
            "session's events until its turn ends. Exits 0 when it ended with end_turn, 1 on any\n"
            "other end, 2 when the command line is wrong.\n"
            "\n"
            "  --base-url URL         the control plane (default ANTHROPIC_BASE_URL, else\n"
            "                         " DEFAULT_BASE_URL ")\n"
            "  --environment-id ID    the environment (default ANTHROPIC_ENVIRONMENT_ID)\n"
            "  --agent-id ID          an existing agent (default: a new one is created)\n"
            "  --model NAME           model of a new agent (default " DEFAULT_MODEL ")\n"
            "  --timeout DURATION     give up after this long: 90s, 10m (default 10m)\n"
            "  --json                 print each event as one line of JSON\n"
            "\n"
            "ANTHROPIC_API_KEY must hold the organisation's key.\n",
    .run = run_session,
};

struct session_arguments {
    const char *base_url;
    const char *api_key;
    const char *environment_id;
    const char *agent_id;
    const char *model;
    const char *prompt;
    int64_t timeout_ms;
    bool is_json;
};

struct session_command {
    struct loop *loop;
    struct presenter presenter;
    bool is_json;
    int exit_code;
};

/* Takes one option; false with *error when its value is wrong. */
static bool take_option(int option, struct session_arguments *arguments, struct error **error) {
    switch (option) {
    case 'b':
        arguments->base_url = optarg;
        return true;
    case 'e':
        arguments->environment_id = optarg;
        return true;
    case 'a':
        arguments->agent_id = optarg;
        return true;
    case 'm':
        arguments->model = optarg;
        return true;
    case 't':
        if (!option_duration(optarg, &arguments->timeout_ms, error)) {
            return error_wrap(error, "--timeout");
        }
        return true;
    case 'j':
        arguments->is_json = true;
        return true;
    default:
        return error_set(error, ERROR_INPUT, "unknown option or missing value");
    }
}

static const char *non_empty(const char *value) {
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool parse(int argc, char **argv, struct session_arguments *arguments,
                  struct error **error) {
    static const struct option options[] = {
        {"base-url", required_argument, NULL, 'b'},
        {"environment-id", required_argument, NULL, 'e'},
        {"agent-id", required_argument, NULL, 'a'},
        {"model", required_argument, NULL, 'm'},
        {"timeout", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    const char *base_url = non_empty(getenv("ANTHROPIC_BASE_URL"));
    *arguments = (struct session_arguments){
        .base_url = base_url == NULL ? DEFAULT_BASE_URL : base_url,
        .api_key = non_empty(getenv("ANTHROPIC_API_KEY")),
        .environment_id = non_empty(getenv("ANTHROPIC_ENVIRONMENT_ID")),
        .model = DEFAULT_MODEL,
        .timeout_ms = DEFAULT_TURN_TIMEOUT_MS,
    };
    opterr = 0;
    optind = 1;
    for (int option = 0; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (!take_option(option, arguments, error)) {
            return option == '?' ? error_wrap(error, "%s", argv[optind - 1]) : false;
        }
    }
    if (optind + 1 != argc || *argv[optind] == '\0') {
        return error_set(error, ERROR_INPUT, "give the prompt as one argument, in quotes");
    }
    arguments->prompt = argv[optind];
    if (arguments->api_key == NULL) {
        return error_set(error, ERROR_INPUT,
                         "ANTHROPIC_API_KEY is not set: export the organisation's key");
    }
    if (arguments->environment_id == NULL) {
        return error_set(error, ERROR_INPUT,
                         "no environment: give --environment-id or set ANTHROPIC_ENVIRONMENT_ID");
    }
    return true;
}

static void on_ended(void *context, const char *session_id, const struct error *error) {
    struct session_command *command = context;
    loop_stop(command->loop);
    if (error == NULL) {
        command->exit_code = EXIT_CODE_OK;
        if (!command->is_json) {
            presenter_note(&command->presenter, "✓", "done: session %s", session_id);
        }
        return;
    }
    command->exit_code = command_report(&command_session, error);
}

static int stream_session(struct loop *loop, struct http_client *client,
                          const struct session_arguments *arguments) {
    struct session_command command = {
        .loop = loop, .is_json = arguments->is_json, .exit_code = EXIT_CODE_FAILED};
    presenter_init(&command.presenter, stdout);
    struct application *application =
        application_new(loop, client, arguments->base_url, arguments->api_key);
    struct session_flow *flow =
        session_flow_start(loop, &(struct session_flow_options){
                                     .application = application,
                                     .presenter = arguments->is_json ? NULL : &command.presenter,
                                     .prompt = arguments->prompt,
                                     .environment_id = arguments->environment_id,
                                     .agent_id = arguments->agent_id,
                                     .model = arguments->model,
                                     .timeout_ms = arguments->timeout_ms,
                                     .ended = on_ended,
                                     .context = &command,
                                 });
    loop_run(loop);
    session_flow_free(flow);
    application_free(application);
    return command.exit_code;
}

static int run_session(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    struct session_arguments arguments;
    if (!parse(argc, argv, &arguments, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        return command_usage_error(&command_session, "%s", text);
    }
    struct loop *loop = loop_new(&error);
    struct http_client *client = loop == NULL ? NULL : http_client_new(loop, &error);
    int exit_code = client == NULL ? command_report(&command_session, error)
                                   : stream_session(loop, client, &arguments);
    http_client_free(client);
    loop_free(loop);
    return exit_code;
}
