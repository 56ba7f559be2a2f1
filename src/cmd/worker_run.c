/* holt worker run: serves one claimed work item with the tools of this container. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "cmd/command.h"
#include "config/credential.h"
#include "cmd/locate.h"
#include "config/options.h"
#include "net/http_client.h"
#include "orchestrator/session_runner.h"
#include "orchestrator/setup_memory.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

#define DEFAULT_BASE_URL "https://api.anthropic.com"

enum { DEFAULT_IDLE_MS = 60000, DEFAULT_DRAIN_MS = 30000, MAX_FILE_BYTES = 262144 };

static int run_worker(int argc, char **argv);

const struct command command_worker_run = {
    .name = "worker run",
    .summary = "serve one claimed work item in this container",
    .help =
        "usage: holt worker run [OPTION]...\n"
        "\n"
        "Serves the session of one work item that something else has claimed and acknowledged,\n"
        "with the tools running in this container: a drop-in for `ant beta:worker run`. Ends when\n"
        "the session has ended or been idle. Exits 0 at a regular end, 1 on a failure, 2 when the\n"
        "command line is wrong.\n"
        "\n"
        "  --session-id ID         the session (default ANTHROPIC_SESSION_ID)\n"
        "  --work-id ID            its work item (default ANTHROPIC_WORK_ID)\n"
        "  --environment-id ID     its environment (default ANTHROPIC_ENVIRONMENT_ID)\n"
        "  --environment-key KEY   visible to other users: prefer ANTHROPIC_ENVIRONMENT_KEY\n"
        "  --base-url URL          the control plane (default ANTHROPIC_BASE_URL, else\n"
        "                          " DEFAULT_BASE_URL ")\n"
        "  --workdir DIR           where the tools work (default the current directory)\n"
        "  --unrestricted-paths    the file tools may leave the working directory\n"
        "  --max-idle DURATION     end this long after the turn ended; 0 never (default 60s)\n"
        "  --sync-memory DURATION    memory stores are synchronised this often; 0 never\n"
        "                            (default 15s)\n"
        "  --read-media on|off     images and PDFs as blocks (default on)\n"
        "  --log-level SPEC        debug, info, warn, error, off; with room=level (default info)\n"
        "  --log-format FORMAT     text or json (default text)\n"
        "\n"
        "ANTHROPIC_WORK_SECRET, when it holds a sessions token, is used instead of the key. The\n"
        "tools see neither: both are removed from the environment.\n",
    .run = run_worker,
};

struct worker_arguments {
    const char *session_id;
    const char *work_id;
    const char *environment_id;
    const char *base_url;
    const char *workdir;
    int64_t max_idle_ms;
    int64_t memory_sync_ms;
    bool has_unrestricted_paths;
    bool reads_media;
    struct credential *key;
    struct credential *secret;
};

struct worker {
    struct loop *loop;
    struct session_runner *runner;
    struct error *failure;
    int signals;
};

static bool take_option(int option, struct worker_arguments *arguments, struct error **error) {
    switch (option) {
    case 's':
        arguments->session_id = optarg;
        return true;
    case 'w':
        arguments->work_id = optarg;
        return true;
    case 'e':
        arguments->environment_id = optarg;
        return true;
    case 'k':
        credential_free(arguments->key);
        arguments->key = credential_take_argument(optarg);
        log_warn("--environment-key is visible to every user of this machine: use "
                 "ANTHROPIC_ENVIRONMENT_KEY");
        return true;
    case 'b':
        arguments->base_url = optarg;
        return true;
    case 'd':
        arguments->workdir = optarg;
        return true;
    case 'i':
        return option_duration(optarg, &arguments->max_idle_ms, error) ||
               error_wrap(error, "--max-idle");
    case 'm':
        return (option_duration(optarg, &arguments->memory_sync_ms, error) &&
                setup_memory_check_interval(arguments->memory_sync_ms, error)) ||
               error_wrap(error, "--sync-memory");
    case 'u':
        arguments->has_unrestricted_paths = true;
        return true;
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

static bool check(struct worker_arguments *arguments, struct error **error) {
    const struct {
        const char *value;
        const char *option;
        const char *variable;
    } needed[] = {
        {arguments->session_id, "--session-id", "ANTHROPIC_SESSION_ID"},
        {arguments->work_id, "--work-id", "ANTHROPIC_WORK_ID"},
        {arguments->environment_id, "--environment-id", "ANTHROPIC_ENVIRONMENT_ID"},
    };
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (needed[i].value == NULL) {
            return error_set(error, ERROR_INPUT, "no %s: give it or set %s", needed[i].option,
                             needed[i].variable);
        }
        if (!work_id_is_valid(needed[i].value)) {
            return error_set(error, ERROR_INPUT, "%s: \"%s\" is no id", needed[i].option,
                             needed[i].value);
        }
    }
    if (arguments->key == NULL && arguments->secret == NULL) {
        return error_set(error, ERROR_INPUT,
                         "no credential: set ANTHROPIC_WORK_SECRET or ANTHROPIC_ENVIRONMENT_KEY");
    }
    if (arguments->key != NULL && !credential_is_sendable(arguments->key)) {
        return error_set(error, ERROR_INPUT, "the environment key is malformed");
    }
    return option_base_url(arguments->base_url, error) || error_wrap(error, "--base-url");
}

static bool parse(int argc, char **argv, struct worker_arguments *arguments, struct error **error) {
    static const struct option options[] = {
        {"session-id", required_argument, NULL, 's'},
        {"work-id", required_argument, NULL, 'w'},
        {"environment-id", required_argument, NULL, 'e'},
        {"environment-key", required_argument, NULL, 'k'},
        {"base-url", required_argument, NULL, 'b'},
        {"workdir", required_argument, NULL, 'd'},
        {"max-idle", required_argument, NULL, 'i'},
        {"sync-memory", required_argument, NULL, 'm'},
        {"unrestricted-paths", no_argument, NULL, 'u'},
        {"read-media", required_argument, NULL, 'M'},
        {"log-level", required_argument, NULL, 'l'},
        {"log-format", required_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    *arguments = (struct worker_arguments){
        .session_id = option_variable("ANTHROPIC_SESSION_ID"),
        .work_id = option_variable("ANTHROPIC_WORK_ID"),
        .environment_id = option_variable("ANTHROPIC_ENVIRONMENT_ID"),
        .base_url = option_variable("ANTHROPIC_BASE_URL"),
        .workdir = ".",
        .max_idle_ms = DEFAULT_IDLE_MS,
        .memory_sync_ms = MEMORY_SYNC_DEFAULT_MS,
        .reads_media = true,
        .key = credential_take_variable("ANTHROPIC_ENVIRONMENT_KEY"),
        .secret = credential_take_variable("ANTHROPIC_WORK_SECRET"),
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

static void on_ended(void *context, struct session_runner *runner, const struct error *error) {
    struct worker *worker = context;
    (void)runner;
    worker->runner = NULL;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        (void)error_set(&worker->failure, error->code, "%s", text);
    }
    loop_stop(worker->loop);
}

static void on_signal(void *context, int signal_number) {
    struct worker *worker = context;
    (void)signal_number;
    if (worker->runner != NULL) {
        session_runner_stop(worker->runner, worker->signals++ == 0 ? DEFAULT_DRAIN_MS : 0);
    }
}

static struct work_item *item_of(const struct worker_arguments *arguments) {
    struct work_item *item = memory_new(struct work_item);
    item->id = memory_string(arguments->work_id);
    item->environment_id = memory_string(arguments->environment_id);
    item->session_id = memory_string(arguments->session_id);
    if (arguments->secret != NULL && !work_secret_decode(credential_text(arguments->secret),
                                                         &item->bearer, &item->api_base_url)) {
        log_warn("work %s: its secret holds no sessions token; using the environment key",
                 item->id);
    }
    return item;
}

/* Everything between a loop and its end. */
static bool serve_item(struct worker *worker, const struct worker_arguments *arguments,
                       struct error **error) {
    struct work_item *item = item_of(arguments);
    if (item->bearer == NULL && arguments->key == NULL) {
        work_item_free(item);
        return error_set(error, ERROR_DENIED,
                         "the work secret holds no sessions token and there is no environment key");
    }
    CLEANUP_FREE char *hand_path = locate_hand(error);
    CLEANUP_FREE char *workdir =
        hand_path == NULL ? NULL : option_directory(arguments->workdir, error);
    struct http_client *client = workdir == NULL ? NULL : http_client_new(worker->loop, error);
    if (client == NULL) {
        work_item_free(item);
        return false;
    }
    static const char *const everywhere[] = {"/", NULL};
    const struct hand_configuration configuration = {
        .workdir = workdir,
        .allowed_roots = arguments->has_unrestricted_paths ? everywhere : NULL,
        .max_file_bytes = MAX_FILE_BYTES,
        .read_media = arguments->reads_media};
    struct api *api = api_new(worker->loop, client, arguments->base_url,
                              arguments->key == NULL ? "" : credential_text(arguments->key));
    struct hands *hands = hands_in_place(hand_path, &configuration);
    hands->memory_sync_ms = arguments->memory_sync_ms;
    worker->runner = session_runner_start(
        &(struct session_runner_options){
            .loop = worker->loop,
            .api = api,
            .hands = hands,
            .max_idle_ms = arguments->max_idle_ms,
            .is_acknowledged = true,
            .ended = on_ended,
            .context = worker,
        },
        item, NULL);
    loop_run(worker->loop);
    hands_free(hands);
    api_free(api);
    http_client_free(client);
    if (worker->failure != NULL) {
        *error = STEAL_PTR(worker->failure);
        return false;
    }
    return true;
}

static int run_worker(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    struct worker_arguments arguments;
    int exit_code = EXIT_CODE_OK;
    if (!parse(argc, argv, &arguments, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        exit_code = command_usage_error(&command_worker_run, "%s", text);
    } else {
        struct worker worker = {.loop = loop_new(&error)};
        if (worker.loop == NULL ||
            !loop_on_signal(worker.loop, SIGTERM, on_signal, &worker, &error) ||
            !loop_on_signal(worker.loop, SIGINT, on_signal, &worker, &error) ||
            !serve_item(&worker, &arguments, &error)) {
            exit_code = command_report(&command_worker_run, error);
        }
        loop_free(worker.loop);
    }
    credential_free(arguments.key);
    credential_free(arguments.secret);
    return exit_code;
}
