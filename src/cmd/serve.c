/* holt serve: the daemon, from its command line to its last sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "cma/work_queue.h"
#include "cmd/command.h"
#include "cmd/credential.h"
#include "cmd/front.h"
#include "cmd/locate.h"
#include "cmd/options.h"
#include "net/http_client.h"
#include "orchestrator/dispatcher.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

#define DEFAULT_BASE_URL  "https://api.anthropic.com"
#define DEFAULT_STATE_DIR "/var/lib/holt"
#define SANDBOX_WORKDIR   "/workspace"

enum {
    DEFAULT_IDLE_MS = 60000,
    DEFAULT_DRAIN_MS = 30000,
    DEFAULT_SESSIONS = 64,
    MOST_SESSIONS = 4096,
    DEFAULT_PIDS = 1024,
    DEFAULT_MEMORY_MIB = 4096,
    MAX_FILE_BYTES = 262144,
};

static int run_serve(int argc, char **argv);

const struct command command_serve = {
    .name = "serve",
    .summary = "the daemon: claim work, serve each session in a sandbox of its own",
    .help =
        "usage: holt serve [OPTION]...\n"
        "\n"
        "Claims the work items of an environment and serves every session in a sandbox of its\n"
        "own. SIGTERM lets running calls finish, stops the items, destroys the sandboxes and\n"
        "exits 0; a second one does so at once. Needs root, for the sandboxes.\n"
        "\n"
        "  --environment-id ID          default ANTHROPIC_ENVIRONMENT_ID\n"
        "  --environment-key-file FILE  default: the key is in ANTHROPIC_ENVIRONMENT_KEY\n"
        "  --environment-key KEY        visible to other users: prefer one of the above\n"
        "  --base-url URL               the control plane (default ANTHROPIC_BASE_URL, else\n"
        "                               " DEFAULT_BASE_URL ")\n"
        "  --worker-id ID               default ANTHROPIC_WORKER_ID, else host name and a random\n"
        "                               part\n"
        "  --state-dir DIR              default " DEFAULT_STATE_DIR "\n"
        "  --root DIR                   root of the sandboxes (default: this host's own programs)\n"
        "  --user root|agent            who the agent is inside (default root)\n"
        "  --max-sessions N             served at once (default 64)\n"
        "  --max-idle DURATION          end a session this long after its turn; 0 never\n"
        "                               (default 60s)\n"
        "  --poll-interval DURATION     wait after an empty poll (default none after a long\n"
        "                               poll, else 1s to 3s, at random)\n"
        "  --drain DURATION             how long running calls may finish (default 30s)\n"
        "  --memory SIZE, --pids N, --cpus N\n"
        "                               limits of each sandbox; 0 none (default 4G, 1024, none)\n"
        "  --read-media on|off          images and PDFs as blocks (default on)\n"
        "  --log-level SPEC             debug, info, warn, error, off; with room=level\n"
        "  --log-format FORMAT          text or json\n"
        "  --journal FILE               append what was done, a line of JSON each\n"
        "  --ready-file FILE            written when the daemon serves\n",
    .run = run_serve,
};

struct serve_arguments {
    struct keeper_options keeper;
    const char *environment_id;
    const char *key_file;
    const char *base_url;
    const char *worker_id;
    const char *journal_path;
    const char *ready_path;
    struct credential *key;
    int64_t max_sessions;
    int64_t max_idle_ms;
    int64_t poll_interval_ms;
    int64_t drain_ms;
    bool reads_media;
};

struct serve {
    const struct serve_arguments *arguments;
    struct loop *loop;
    struct keeper *keeper;
    struct http_client *client;
    struct api *api;
    struct hands *hands;
    struct journal *journal;
    struct dispatcher *dispatcher;
    struct error *failure;
    bool is_stopping;
};

/* The command line. */

static bool take_cpus(const char *text, int64_t *percent, struct error **error) {
    char *end = NULL;
    double cpus = strtod(text, &end);
    if (end == text || *end != '\0' || !(cpus >= 0 && cpus <= 4096)) {
        return error_set(error, ERROR_INPUT, "\"%s\" is no number of CPUs", text);
    }
    *percent = (int64_t)(cpus * 100);
    return true;
}

static bool take_user(const char *text, bool *is_unprivileged, struct error **error) {
    if (strcmp(text, "root") != 0 && strcmp(text, "agent") != 0) {
        return error_set(error, ERROR_INPUT, "\"%s\" is neither root nor agent", text);
    }
    *is_unprivileged = strcmp(text, "agent") == 0;
    return true;
}

/* Options whose value is checked; the others are plain text. */
static bool take_value(int option, struct serve_arguments *arguments, struct error **error) {
    switch (option) {
    case 'u':
        return take_user(optarg, &arguments->keeper.agent_is_unprivileged, error);
    case 'n':
        return option_integer(optarg, 1, MOST_SESSIONS, &arguments->max_sessions, error);
    case 'i':
        return option_duration(optarg, &arguments->max_idle_ms, error);
    case 'p':
        return option_duration(optarg, &arguments->poll_interval_ms, error);
    case 'D':
        return option_duration(optarg, &arguments->drain_ms, error);
    case 'm':
        return option_size(optarg, &arguments->keeper.memory_limit_bytes, error);
    case 'P':
        return option_integer(optarg, 0, INT32_MAX, &arguments->keeper.pids_limit, error);
    case 'c':
        return take_cpus(optarg, &arguments->keeper.cpu_limit_percent, error);
    case 'M':
        return option_switch(optarg, &arguments->reads_media, error);
    case 'l':
        return log_configure_levels(optarg, error);
    case 'f':
        return option_log_format(optarg, error);
    case 'k':
        credential_free(arguments->key);
        arguments->key = credential_take_argument(optarg);
        log_warn("--environment-key is visible to every user of this machine: use "
                 "--environment-key-file or ANTHROPIC_ENVIRONMENT_KEY");
        return true;
    default:
        return error_set(error, ERROR_INPUT, "unknown option or missing value");
    }
}

static const char **text_of(int option, struct serve_arguments *arguments) {
    switch (option) {
    case 'e':
        return &arguments->environment_id;
    case 'K':
        return &arguments->key_file;
    case 'b':
        return &arguments->base_url;
    case 'w':
        return &arguments->worker_id;
    case 's':
        return &arguments->keeper.state_directory;
    case 'r':
        return &arguments->keeper.root_directory;
    case 'j':
        return &arguments->journal_path;
    case 'R':
        return &arguments->ready_path;
    default:
        return NULL;
    }
}

static bool check(const struct serve_arguments *arguments, struct error **error) {
    if (arguments->environment_id == NULL) {
        return error_set(error, ERROR_INPUT,
                         "no environment: give --environment-id or set ANTHROPIC_ENVIRONMENT_ID");
    }
    if (!work_id_is_valid(arguments->environment_id)) {
        return error_set(error, ERROR_INPUT, "--environment-id: \"%s\" is no id",
                         arguments->environment_id);
    }
    if (arguments->key == NULL && arguments->key_file == NULL) {
        return error_set(error, ERROR_INPUT,
                         "no key: give --environment-key-file or set ANTHROPIC_ENVIRONMENT_KEY");
    }
    if (arguments->worker_id != NULL && !work_id_is_valid(arguments->worker_id)) {
        return error_set(error, ERROR_INPUT, "--worker-id: \"%s\" is no id", arguments->worker_id);
    }
    if (*arguments->keeper.state_directory != '/') {
        return error_set(error, ERROR_INPUT, "--state-dir takes an absolute path");
    }
    return option_base_url(arguments->base_url, error) || error_wrap(error, "--base-url");
}

static bool parse(int argc, char **argv, struct serve_arguments *arguments, struct error **error) {
    static const struct option options[] = {
        {"environment-id", required_argument, NULL, 'e'},
        {"environment-key-file", required_argument, NULL, 'K'},
        {"environment-key", required_argument, NULL, 'k'},
        {"base-url", required_argument, NULL, 'b'},
        {"worker-id", required_argument, NULL, 'w'},
        {"state-dir", required_argument, NULL, 's'},
        {"root", required_argument, NULL, 'r'},
        {"user", required_argument, NULL, 'u'},
        {"max-sessions", required_argument, NULL, 'n'},
        {"max-idle", required_argument, NULL, 'i'},
        {"poll-interval", required_argument, NULL, 'p'},
        {"drain", required_argument, NULL, 'D'},
        {"memory", required_argument, NULL, 'm'},
        {"pids", required_argument, NULL, 'P'},
        {"cpus", required_argument, NULL, 'c'},
        {"read-media", required_argument, NULL, 'M'},
        {"log-level", required_argument, NULL, 'l'},
        {"log-format", required_argument, NULL, 'f'},
        {"journal", required_argument, NULL, 'j'},
        {"ready-file", required_argument, NULL, 'R'},
        {NULL, 0, NULL, 0},
    };
    *arguments = (struct serve_arguments){
        .keeper = {.state_directory = DEFAULT_STATE_DIR,
                   .pids_limit = DEFAULT_PIDS,
                   .memory_limit_bytes = (int64_t)DEFAULT_MEMORY_MIB << 20},
        .environment_id = option_variable("ANTHROPIC_ENVIRONMENT_ID"),
        .base_url = option_variable("ANTHROPIC_BASE_URL"),
        .worker_id = option_variable("ANTHROPIC_WORKER_ID"),
        .key = credential_take_variable("ANTHROPIC_ENVIRONMENT_KEY"),
        .max_sessions = DEFAULT_SESSIONS,
        .max_idle_ms = DEFAULT_IDLE_MS,
        .poll_interval_ms = -1,
        .drain_ms = DEFAULT_DRAIN_MS,
        .reads_media = true,
    };
    if (arguments->base_url == NULL) {
        arguments->base_url = DEFAULT_BASE_URL;
    }
    opterr = 0;
    optind = 1;
    int index = -1;
    for (int option = 0; (option = getopt_long(argc, argv, "", options, &index)) != -1;) {
        const char **text = text_of(option, arguments);
        if (text != NULL) {
            *text = optarg;
        } else if (!take_value(option, arguments, error)) {
            return option == '?' ? error_wrap(error, "%s", argv[optind - 1])
                                 : error_wrap(error, "--%s", options[index].name);
        }
    }
    if (optind != argc) {
        return error_set(error, ERROR_INPUT, "unexpected argument \"%s\"", argv[optind]);
    }
    return check(arguments, error);
}

/* The daemon. */

static char *default_worker_id(void) {
    char host[65] = "";
    (void)gethostname(host, sizeof(host) - 1);
    for (char *at = host; *at != '\0'; at++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", *at) ==
            NULL) {
            *at = '-';
        }
    }
    CLEANUP_FREE char *prefix = memory_format("%s-", *host == '\0' ? "holt" : host);
    return random_id(prefix);
}

/* Written beside its place and renamed: a reader sees the whole line or no file. */
static bool write_ready_file(const char *path, struct error **error) {
    CLEANUP_FREE char *temporary = memory_format("%s.new", path);
    CLEANUP_CLOSE int fd =
        open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot write the ready file %s", path);
    }
    if (!io_write_all(fd, "ready\n", 6, error) || rename(temporary, path) != 0) {
        (void)unlink(temporary);
        return error != NULL && *error != NULL
                   ? false
                   : error_set_errno(error, errno, "cannot write the ready file %s", path);
    }
    return true;
}

static void serve_fail(struct serve *serve, const struct error *error) {
    if (error != NULL && serve->failure == NULL) {
        CLEANUP_FREE char *text = error_text(error);
        (void)error_set(&serve->failure, error->code, "%s", text);
    }
    loop_stop(serve->loop);
}

static void on_dispatcher_ended(void *context, const struct error *error) {
    serve_fail(context, error);
}

/* Without keeper there are no sandboxes any more, and nothing to stop gently. */
static void on_keeper_exit(void *context, const struct error *error) {
    serve_fail(context, error);
}

static void on_stop_signal(void *context, int signal_number) {
    struct serve *serve = context;
    bool is_first = !serve->is_stopping;
    serve->is_stopping = true;
    log_info("%s: %s", strsignal(signal_number),
             is_first ? "letting running calls finish; a second signal ends at once"
                      : "ending at once");
    dispatcher_stop(serve->dispatcher, is_first ? serve->arguments->drain_ms : 0);
}

/* Everything that needs privileges or a path, in the order in which it must happen. */
static bool serve_prepare(struct serve *serve, struct serve_arguments *arguments,
                          struct error **error) {
    CLEANUP_FREE char *hand_path = locate_hand(error);
    if (hand_path == NULL) {
        return false;
    }
    arguments->keeper.hand_path = hand_path;
    serve->loop = loop_new(error);
    /* Keeper first: it must not have the key, which a file gives us only after this. */
    serve->keeper =
        serve->loop == NULL ? NULL : keeper_start(serve->loop, &arguments->keeper, error);
    if (serve->keeper == NULL) {
        return false;
    }
    keeper_on_exit(serve->keeper, on_keeper_exit, serve);
    if (arguments->key_file != NULL) {
        credential_free(arguments->key);
        arguments->key = credential_read_file(arguments->key_file, error);
        if (arguments->key == NULL) {
            return false;
        }
    }
    if (!credential_is_sendable(arguments->key)) {
        return error_set(error, ERROR_INPUT, "the environment key is malformed");
    }
    if (arguments->journal_path != NULL) {
        serve->journal = journal_open(arguments->journal_path, error);
        if (serve->journal == NULL) {
            return false;
        }
    }
    if (!loop_on_signal(serve->loop, SIGTERM, on_stop_signal, serve, error) ||
        !loop_on_signal(serve->loop, SIGINT, on_stop_signal, serve, error)) {
        return false;
    }
    /* The last thing that needs a path: from here on we may not be able to write there. */
    return (arguments->ready_path == NULL || write_ready_file(arguments->ready_path, error)) &&
           front_drop_privileges(error);
}

static bool serve_run(struct serve *serve, struct error **error) {
    const struct serve_arguments *arguments = serve->arguments;
    const struct hand_configuration configuration = {.workdir = SANDBOX_WORKDIR,
                                                     .max_file_bytes = MAX_FILE_BYTES,
                                                     .read_media = arguments->reads_media};
    CLEANUP_FREE char *worker_id =
        arguments->worker_id == NULL ? default_worker_id() : memory_string(arguments->worker_id);
    serve->client = http_client_new(serve->loop, error);
    if (serve->client == NULL) {
        return false;
    }
    serve->api =
        api_new(serve->loop, serve->client, arguments->base_url, credential_text(arguments->key));
    serve->hands = hands_from_keeper(serve->keeper, &configuration);
    log_info("serving environment %s of %s as %s, up to %lld sessions", arguments->environment_id,
             arguments->base_url, worker_id, (long long)arguments->max_sessions);
    serve->dispatcher = dispatcher_start(&(struct dispatcher_options){
        .loop = serve->loop,
        .api = serve->api,
        .hands = serve->hands,
        .journal = serve->journal,
        .environment_id = arguments->environment_id,
        .worker_id = worker_id,
        .max_sessions = (size_t)arguments->max_sessions,
        .max_idle_ms = arguments->max_idle_ms,
        .poll_interval_ms = arguments->poll_interval_ms,
        .ended = on_dispatcher_ended,
        .context = serve,
    });
    loop_run(serve->loop);
    if (serve->failure != NULL) {
        *error = STEAL_PTR(serve->failure);
        return false;
    }
    return true;
}

static void serve_release(struct serve *serve) {
    dispatcher_free(serve->dispatcher);
    hands_free(serve->hands);
    api_free(serve->api);
    http_client_free(serve->client);
    keeper_stop(serve->keeper);
    journal_close(serve->journal);
    loop_free(serve->loop);
}

static int run_serve(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    struct serve_arguments arguments;
    int exit_code = EXIT_CODE_OK;
    if (!parse(argc, argv, &arguments, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        exit_code = command_usage_error(&command_serve, "%s", text);
    } else {
        struct serve serve = {.arguments = &arguments};
        if (!serve_prepare(&serve, &arguments, &error) || !serve_run(&serve, &error)) {
            exit_code = command_report(&command_serve, error);
        }
        serve_release(&serve);
    }
    credential_free(arguments.key);
    return exit_code;
}
