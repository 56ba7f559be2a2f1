/* holt worker poll: claims work items and gives each to a script, or serves it in this container.
 */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cma/work_queue.h"
#include "cmd/command.h"
#include "cmd/locate.h"
#include "cmd/worker_id.h"
#include "config/credential.h"
#include "config/options.h"
#include "net/http_client.h"
#include "orchestrator/dispatcher.h"
#include "orchestrator/setup_memory.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

#define DEFAULT_BASE_URL "https://api.anthropic.com"
#define IN_PROCESS       "in-process" /* ant's word for no script */

enum {
    DEFAULT_IDLE_MS = 60000,
    DEFAULT_DRAIN_MS = 30000,
    DEFAULT_SCRIPT_TIMEOUT_MS = 300000,
    MAX_FILE_BYTES = 262144,
};

static int run_poll(int argc, char **argv);

const struct command command_worker_poll = {
    .name = "worker poll",
    .summary = "claim work items; run a script for each, or serve them in this container",
    .help =
        "usage: holt worker poll [OPTION]...\n"
        "\n"
        "Claims the work items of an environment, one after another: a drop-in for\n"
        "`ant beta:worker poll`. With --on-work each item is given to a script, which starts a\n"
        "worker for it somewhere (`holt worker run`, `ant beta:worker run`, the SDK's). The script\n"
        "may stay until that worker ends, or return at once: the item stays claimed until the\n"
        "worker takes it over. Without a script the tools run in this container.\n"
        "SIGTERM ends the script and exits 0; the items of workers that run are left to them.\n"
        "\n"
        "  --environment-id ID       default ANTHROPIC_ENVIRONMENT_ID\n"
        "  --environment-key KEY     visible to other users: prefer ANTHROPIC_ENVIRONMENT_KEY\n"
        "  --worker-id ID            default ANTHROPIC_WORKER_ID, else host name and a random part\n"
        "  --base-url URL            the control plane (default ANTHROPIC_BASE_URL, else\n"
        "                            " DEFAULT_BASE_URL ")\n"
        "  --on-work SCRIPT          gets ANTHROPIC_WORK_ID, ANTHROPIC_SESSION_ID,\n"
        "                            ANTHROPIC_ENVIRONMENT_ID, ANTHROPIC_ENVIRONMENT_KEY,\n"
        "                            ANTHROPIC_BASE_URL and ANTHROPIC_WORK_SECRET, and the item's\n"
        "                            JSON on its input (default: none, the same as in-process)\n"
        "  --on-work-timeout DURATION\n"
        "                            stop the item when no worker came this long after the script\n"
        "                            returned (default 5m)\n"
        "  --workdir DIR             where the tools work (default the current directory)\n"
        "  --unrestricted-paths      the file tools may leave the working directory\n"
        "  --max-idle DURATION       end a session this long after its turn ended; 0 never\n"
        "                            (default 60s)\n"
        "  --sync-memory DURATION    memory stores are synchronised this often; 0 never\n"
        "                            (default 15s)\n"
        "  --read-media on|off       images and PDFs as blocks (default on)\n"
        "  --log-level SPEC          debug, info, warn, error, off; with room=level (default info)\n"
        "  --log-format FORMAT       text or json (default text)\n",
    .run = run_poll,
};

struct poll_arguments {
    const char *environment_id;
    const char *worker_id;
    const char *base_url;
    const char *script; /* NULL: serve here */
    const char *workdir;
    int64_t script_timeout_ms;
    int64_t max_idle_ms;
    int64_t memory_sync_ms;
    bool has_unrestricted_paths;
    bool reads_media;
    struct credential *key;
};

struct poll {
    struct loop *loop;
    struct dispatcher *dispatcher;
    struct error *failure;
    int signals;
};

static bool take_option(int option, struct poll_arguments *arguments, struct error **error) {
    switch (option) {
    case 'e':
        arguments->environment_id = optarg;
        return true;
    case 'k':
        credential_free(arguments->key);
        arguments->key = credential_take_argument(optarg);
        log_warn("--environment-key is visible to every user of this machine: use "
                 "ANTHROPIC_ENVIRONMENT_KEY");
        return true;
    case 'w':
        arguments->worker_id = optarg;
        return true;
    case 'b':
        arguments->base_url = optarg;
        return true;
    case 'o':
        arguments->script = *optarg == '\0' || strcmp(optarg, IN_PROCESS) == 0 ? NULL : optarg;
        return true;
    case 't':
        return option_duration(optarg, &arguments->script_timeout_ms, error) ||
               error_wrap(error, "--on-work-timeout");
    case 'd':
        arguments->workdir = optarg;
        return true;
    case 'u':
        arguments->has_unrestricted_paths = true;
        return true;
    case 'i':
        return option_duration(optarg, &arguments->max_idle_ms, error) ||
               error_wrap(error, "--max-idle");
    case 'm':
        return (option_duration(optarg, &arguments->memory_sync_ms, error) &&
                setup_memory_check_interval(arguments->memory_sync_ms, error)) ||
               error_wrap(error, "--sync-memory");
    case 'M':
        return option_switch(optarg, &arguments->reads_media, error) ||
               error_wrap(error, "--read-media");
    case 'l':
        return log_configure_levels(optarg, error) || error_wrap(error, "--log-level");
    case 'f':
        return option_log_format(optarg, error) || error_wrap(error, "--log-format");
    default:
        return error_set(error, ERROR_INPUT, "unknown option or missing value");
    }
}

static bool check(const struct poll_arguments *arguments, struct error **error) {
    if (arguments->environment_id == NULL) {
        return error_set(error, ERROR_INPUT,
                         "no --environment-id: give it or set ANTHROPIC_ENVIRONMENT_ID");
    }
    if (!work_id_is_valid(arguments->environment_id)) {
        return error_set(error, ERROR_INPUT, "--environment-id: \"%s\" is no id",
                         arguments->environment_id);
    }
    if (arguments->worker_id != NULL && !work_id_is_valid(arguments->worker_id)) {
        return error_set(error, ERROR_INPUT, "--worker-id: \"%s\" is no id", arguments->worker_id);
    }
    if (arguments->key == NULL) {
        return error_set(error, ERROR_INPUT, "no key: set ANTHROPIC_ENVIRONMENT_KEY");
    }
    if (!credential_is_sendable(arguments->key)) {
        return error_set(error, ERROR_INPUT, "the environment key is malformed");
    }
    return option_base_url(arguments->base_url, error) || error_wrap(error, "--base-url");
}

static bool parse(int argc, char **argv, struct poll_arguments *arguments, struct error **error) {
    static const struct option options[] = {
        {"environment-id", required_argument, NULL, 'e'},
        {"environment-key", required_argument, NULL, 'k'},
        {"worker-id", required_argument, NULL, 'w'},
        {"base-url", required_argument, NULL, 'b'},
        {"on-work", required_argument, NULL, 'o'},
        {"on-work-timeout", required_argument, NULL, 't'},
        {"workdir", required_argument, NULL, 'd'},
        {"unrestricted-paths", no_argument, NULL, 'u'},
        {"max-idle", required_argument, NULL, 'i'},
        {"sync-memory", required_argument, NULL, 'm'},
        {"read-media", required_argument, NULL, 'M'},
        {"log-level", required_argument, NULL, 'l'},
        {"log-format", required_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    *arguments = (struct poll_arguments){
        .environment_id = option_variable("ANTHROPIC_ENVIRONMENT_ID"),
        .worker_id = option_variable("ANTHROPIC_WORKER_ID"),
        .base_url = option_variable("ANTHROPIC_BASE_URL"),
        .workdir = ".",
        .script_timeout_ms = DEFAULT_SCRIPT_TIMEOUT_MS,
        .max_idle_ms = DEFAULT_IDLE_MS,
        .memory_sync_ms = MEMORY_SYNC_DEFAULT_MS,
        .reads_media = true,
        .key = credential_take_variable("ANTHROPIC_ENVIRONMENT_KEY"),
    };
    if (arguments->base_url == NULL) {
        arguments->base_url = DEFAULT_BASE_URL;
    }
    opterr = 0;
    optind = 1;
    for (int option = 0; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (!take_option(option, arguments, error)) {
            return option == '?' ? error_wrap(error, "%s", argv[optind - 1]) : false;
        }
    }
    if (optind != argc) {
        return error_set(error, ERROR_INPUT, "unexpected argument \"%s\"", argv[optind]);
    }
    return check(arguments, error);
}

static void on_ended(void *context, const struct error *error) {
    struct poll *poll = context;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        (void)error_set(&poll->failure, error->code, "%s", text);
    }
    loop_stop(poll->loop);
}

static void on_signal(void *context, int signal_number) {
    struct poll *poll = context;
    log_info("%s: %s", strsignal(signal_number),
             poll->signals == 0 ? "ending; a second signal ends at once" : "ending at once");
    if (poll->dispatcher != NULL) {
        dispatcher_stop(poll->dispatcher, poll->signals++ == 0 ? DEFAULT_DRAIN_MS : 0);
    }
}

/* Everything between a loop and its end; `hands` is NULL with a script. */
static bool serve(struct poll *poll, const struct poll_arguments *arguments, struct hands *hands,
                  struct error **error) {
    struct http_client *client = http_client_new(poll->loop, error);
    if (client == NULL) {
        return false;
    }
    const char *key = credential_text(arguments->key);
    struct api *api = api_new(poll->loop, client, arguments->base_url, key);
    const struct script_options script = {.path = arguments->script,
                                          .environment_key = key,
                                          .base_url = arguments->base_url,
                                          .timeout_ms = arguments->script_timeout_ms};
    CLEANUP_FREE char *worker_id =
        arguments->worker_id == NULL ? worker_id_new() : memory_string(arguments->worker_id);
    log_info("polling environment %s of %s as %s", arguments->environment_id, arguments->base_url,
             worker_id);
    poll->dispatcher = dispatcher_start(&(struct dispatcher_options){
        .loop = poll->loop,
        .api = api,
        .hands = hands,
        .script = arguments->script == NULL ? NULL : &script,
        .environment_id = arguments->environment_id,
        .worker_id = worker_id,
        .max_sessions = 1,
        .max_idle_ms = arguments->max_idle_ms,
        .poll_interval_ms = -1,
        .ended = on_ended,
        .context = poll,
    });
    loop_run(poll->loop);
    dispatcher_free(poll->dispatcher);
    api_free(api);
    http_client_free(client);
    if (poll->failure != NULL) {
        *error = STEAL_PTR(poll->failure);
        return false;
    }
    return true;
}

static bool serve_here(struct poll *poll, const struct poll_arguments *arguments,
                       struct error **error) {
    static const char *const everywhere[] = {"/", NULL};
    CLEANUP_FREE char *hand_path = locate_hand(error);
    CLEANUP_FREE char *workdir =
        hand_path == NULL ? NULL : option_directory(arguments->workdir, error);
    if (workdir == NULL) {
        return false;
    }
    const struct hand_configuration configuration = {
        .workdir = workdir,
        .allowed_roots = arguments->has_unrestricted_paths ? everywhere : NULL,
        .max_file_bytes = MAX_FILE_BYTES,
        .read_media = arguments->reads_media};
    struct hands *hands = hands_in_place(hand_path, &configuration);
    hands->memory_sync_ms = arguments->memory_sync_ms;
    bool is_served = serve(poll, arguments, hands, error);
    hands_free(hands);
    return is_served;
}

static int run_poll(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    struct poll_arguments arguments;
    int exit_code = EXIT_CODE_OK;
    if (!parse(argc, argv, &arguments, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        exit_code = command_usage_error(&command_worker_poll, "%s", text);
    } else {
        struct poll poll = {.loop = loop_new(&error)};
        bool is_ready = poll.loop != NULL &&
                        loop_on_signal(poll.loop, SIGTERM, on_signal, &poll, &error) &&
                        loop_on_signal(poll.loop, SIGINT, on_signal, &poll, &error);
        if (!is_ready || !(arguments.script == NULL ? serve_here(&poll, &arguments, &error)
                                                    : serve(&poll, &arguments, NULL, &error))) {
            exit_code = command_report(&command_worker_poll, error);
        }
        loop_free(poll.loop);
    }
    credential_free(arguments.key);
    return exit_code;
}
