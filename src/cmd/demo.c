/* holt demo: emulator, daemon and one scripted session together, offline, shown live. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "cmd/child.h"
#include "cmd/command.h"
#include "config/options.h"
#include "cmd/session_flow.h"
#include "net/http_client.h"

enum {
    DEMO_TIMEOUT_MS = 60000,
    CHILD_READY_MS = 15000,
    CHILD_GRACE_MS = 20000,
    WORK_CHECK_MS = 50,
    LOG_SHOWN_LIMIT = 1024 * 1024,
};

static int run_demo(int argc, char **argv);

const struct command command_demo = {
    .name = "demo",
    .summary = "watch a scripted session run in a sandbox, offline, without a key",
    .help =
        "usage: holt demo [OPTION]...\n"
        "\n"
        "Starts a local control plane and the daemon on free loopback ports, creates an agent,\n"
        "an environment and a session as an application would, prints its events, says where\n"
        "the sandbox was and what it cost, and removes everything that it made. Needs root.\n"
        "Exits 0 when the session ended with end_turn and met the script's expectations.\n"
        "\n"
        "  --script FILE        the scripted session (see holt emulate; default: built in)\n"
        "  --user root|agent    who the agent is inside its sandbox (default root)\n"
        "  --timeout DURATION   give up after this long (default 60s)\n"
        "  --verbose            show the logs of both programs at the end\n",
    .run = run_demo,
};

enum demo_state {
    DEMO_STARTING_EMULATOR,
    DEMO_CREATING_ENVIRONMENT,
    DEMO_CREATING_KEY,
    DEMO_STARTING_DAEMON,
    DEMO_RUNNING_SESSION,
    DEMO_CHECKING_EXPECTATIONS,
    DEMO_STOPPING_DAEMON,
    DEMO_STOPPING_EMULATOR,
    DEMO_ENDED,
};

struct demo_arguments {
    const char *script;
    const char *user;
    int64_t timeout_ms;
    bool is_verbose;
};

struct demo {
    enum demo_state state;
    struct demo_arguments arguments;
    struct loop *loop;
    struct http_client *client;
    struct application *application;
    struct session_flow *flow;
    struct child *emulator;
    struct child *daemon;
    struct presenter presenter;
    char *directory; /* of everything that the demo makes */
    char *base_url;
    char *api_key;
    char *environment_id;
    char *environment_key;
    char *session_id;
    bool has_failed;
};

static void demo_step(struct demo *demo);

/* Remembers that the demo failed and why, once; what was started is then stopped in order. */
static void demo_fail(struct demo *demo, const char *what, const struct error *error) {
    CLEANUP_FREE char *text = error == NULL ? memory_string("") : error_text(error);
    if (!demo->has_failed) {
        presenter_failure(&demo->presenter, "%s%s%s", what, *text == '\0' ? "" : ": ", text);
    }
    demo->has_failed = true;
    if (demo->state < DEMO_STOPPING_DAEMON) {
        demo->state = DEMO_STOPPING_DAEMON;
        demo_step(demo);
    }
}

static char *demo_path(const struct demo *demo, const char *name) {
    return memory_format("%s/%s", demo->directory, name);
}

static void on_emulator_ready(void *context, const char *line) {
    struct demo *demo = context;
    demo->base_url = memory_string(line);
    demo->application = application_new(demo->loop, demo->client, demo->base_url, demo->api_key);
    presenter_note(&demo->presenter, "●", "control plane: %s (holt emulate)", demo->base_url);
    demo->state = DEMO_CREATING_ENVIRONMENT;
    demo_step(demo);
}

static void on_emulator_ended(void *context, const struct error *error) {
    struct demo *demo = context;
    if (demo->state == DEMO_STOPPING_EMULATOR) {
        if (error != NULL) {
            demo_fail(demo, "the emulator did not end well", error);
        }
        demo->state = DEMO_ENDED;
        loop_stop(demo->loop);
        return;
    }
    demo_fail(demo, "the emulator", error);
}

static void on_environment(void *context, struct json_object *answer, const struct error *error) {
    struct demo *demo = context;
    const char *id = json_get_string(answer, "id");
    if (id == NULL) {
        demo_fail(demo, "cannot create the environment", error);
        return;
    }
    demo->environment_id = memory_string(id);
    demo->state = DEMO_CREATING_KEY;
    demo_step(demo);
}

static void on_key(void *context, struct json_object *answer, const struct error *error) {
    struct demo *demo = context;
    const char *key = json_get_string(answer, "key");
    if (key == NULL) {
        demo_fail(demo, "cannot create the environment key", error);
        return;
    }
    demo->environment_key = memory_string(key);
    demo->state = DEMO_STARTING_DAEMON;
    demo_step(demo);
}

static void on_daemon_ready(void *context, const char *line) {
    (void)line;
    struct demo *demo = context;
    presenter_note(&demo->presenter, "●", "daemon: waiting for work (holt serve)");
    demo->state = DEMO_RUNNING_SESSION;
    demo_step(demo);
}

static void on_daemon_ended(void *context, const struct error *error) {
    struct demo *demo = context;
    if (demo->state == DEMO_STOPPING_DAEMON) {
        if (error != NULL) {
            demo_fail(demo, "the daemon did not end well", error);
        }
        demo->state = DEMO_STOPPING_EMULATOR;
        demo_step(demo);
        return;
    }
    demo_fail(demo, "the daemon", error);
}

static void on_session_ended(void *context, const char *session_id, const struct error *error) {
    struct demo *demo = context;
    if (session_id != NULL) {
        demo->session_id = memory_string(session_id);
    }
    if (error != NULL) {
        demo_fail(demo, "the session", error);
        return;
    }
    demo->state = DEMO_CHECKING_EXPECTATIONS;
    demo_step(demo);
}

static void on_verdict(void *context, struct json_object *answer, const struct error *error) {
    struct demo *demo = context;
    struct json_object *failures = json_get_array(answer, "failures");
    if (failures == NULL) {
        demo_fail(demo, "cannot ask the emulator for its verdict", error);
        return;
    }
    if (json_object_array_length(failures) > 0) {
        demo_fail(demo, "the script's expectations", NULL);
        presenter_failure(&demo->presenter, "%s", json_text(failures, NULL));
        return;
    }
    demo->state = DEMO_STOPPING_DAEMON;
    demo_step(demo);
}

static struct child *start_child(struct demo *demo, const char *name, const char *const *arguments,
                                 const char *const *environment,
                                 void (*ready)(void *context, const char *line),
                                 void (*ended)(void *context, const struct error *error)) {
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_FREE char *log_name = memory_format("%s.log", name);
    CLEANUP_FREE char *log_path = demo_path(demo, log_name);
    CLEANUP_FREE char *ready_name = memory_format("%s.ready", name);
    CLEANUP_FREE char *ready_path = demo_path(demo, ready_name);
    struct child *child = child_start(demo->loop,
                                      &(struct child_options){
                                          .arguments = arguments,
                                          .environment = environment,
                                          .log_path = log_path,
                                          .ready_path = ready_path,
                                          .ready_timeout_ms = CHILD_READY_MS,
                                          .ready = ready,
                                          .ended = ended,
                                          .context = demo,
                                      },
                                      &error);
    if (child == NULL) {
        demo_fail(demo, name, error);
    }
    return child;
}

static void start_emulator(struct demo *demo) {
    CLEANUP_FREE char *ready = demo_path(demo, "emulator.ready");
    CLEANUP_FREE char *key = memory_format("ANTHROPIC_API_KEY=%s", demo->api_key);
    const char *arguments[] = {"emulate", "--ready-file", ready, NULL, NULL, NULL};
    if (demo->arguments.script != NULL) {
        arguments[3] = "--script";
        arguments[4] = demo->arguments.script;
    }
    const char *environment[] = {key, NULL};
    demo->emulator =
        start_child(demo, "emulator", arguments, environment, on_emulator_ready, on_emulator_ended);
}

static void start_daemon(struct demo *demo) {
    CLEANUP_FREE char *ready = demo_path(demo, "daemon.ready");
    CLEANUP_FREE char *state = demo_path(demo, "state");
    CLEANUP_FREE char *journal = demo_path(demo, "journal");
    CLEANUP_FREE char *key = memory_format("ANTHROPIC_ENVIRONMENT_KEY=%s", demo->environment_key);
    const char *arguments[] = {"serve",
                               "--environment-id",
                               demo->environment_id,
                               "--base-url",
                               demo->base_url,
                               "--state-dir",
                               state,
                               "--ready-file",
                               ready,
                               "--journal",
                               journal,
                               "--max-idle",
                               "60s",
                               "--keep",
                               "0",
                               "--user",
                               demo->arguments.user,
                               NULL};
    const char *environment[] = {
        key, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    demo->daemon =
        start_child(demo, "daemon", arguments, environment, on_daemon_ready, on_daemon_ended);
}

static void create_environment(struct demo *demo) {
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    struct json_object *config = json_object_new_object();
    json_set_string(config, "type", "self_hosted");
    json_set_string(body, "name", "holt demo");
    json_set(body, "config", config);
    application_request(demo->application, "POST", "/v1/environments", body, on_environment, demo);
}

static void run_turn(struct demo *demo) {
    demo->flow = session_flow_start(
        demo->loop, &(struct session_flow_options){
                        .application = demo->application,
                        .presenter = &demo->presenter,
                        .prompt = "Write hello.txt, read it back, change it, find it.",
                        .environment_id = demo->environment_id,
                        .model = "claude-sonnet-5-5",
                        .timeout_ms = demo->arguments.timeout_ms,
                        .ended = on_session_ended,
                        .context = demo,
                    });
}

/* Says where the sandbox was and what it cost, from the daemon's journal. */
static void present_cost(struct demo *demo) {
    CLEANUP_FREE char *path = demo_path(demo, "journal");
    CLEANUP_BUFFER struct buffer journal = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, path, &journal, LOG_SHOWN_LIMIT, NULL) || journal.data == NULL) {
        return;
    }
    char *rest = journal.data;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        CLEANUP_JSON struct json_object *entry = NULL;
        const char *event =
            json_parse(line, strlen(line), &entry, NULL) ? json_get_string(entry, "event") : NULL;
        if (event == NULL) {
            continue;
        }
        if (strcmp(event, "sandbox_created") == 0) {
            presenter_note(&demo->presenter, "▣", "sandbox %s (%s): created in %.1f ms",
                           json_get_string(entry, "sandbox_id"), json_get_string(entry, "provider"),
                           (double)json_get_int(entry, "created_us", 0) / 1000);
        } else if (strcmp(event, "turn_ended") == 0) {
            presenter_note(&demo->presenter, "▣", "sandbox memory: %.1f MB, %lld processes",
                           (double)json_get_int(entry, "memory_bytes", 0) / 1e6,
                           (long long)json_get_int(entry, "process_count", 0));
        }
    }
}

static void stop_child(struct demo *demo, struct child *child, enum demo_state next) {
    if (child == NULL || !child_is_running(child)) {
        demo->state = next;
        demo_step(demo);
        return;
    }
    child_terminate(child, CHILD_GRACE_MS);
}

static void demo_step(struct demo *demo) {
    CLEANUP_FREE char *path = NULL;
    switch (demo->state) {
    case DEMO_STARTING_EMULATOR:
        start_emulator(demo);
        break;
    case DEMO_CREATING_ENVIRONMENT:
        create_environment(demo);
        break;
    case DEMO_CREATING_KEY:
        path = memory_format("/emulator/environments/%s/keys", demo->environment_id);
        application_request(demo->application, "POST", path, NULL, on_key, demo);
        break;
    case DEMO_STARTING_DAEMON:
        start_daemon(demo);
        break;
    case DEMO_RUNNING_SESSION:
        run_turn(demo);
        break;
    case DEMO_CHECKING_EXPECTATIONS:
        path = memory_format("/emulator/sessions/%s", demo->session_id);
        application_request(demo->application, "GET", path, NULL, on_verdict, demo);
        break;
    case DEMO_STOPPING_DAEMON:
        session_flow_free(STEAL_PTR(demo->flow));
        stop_child(demo, demo->daemon, DEMO_STOPPING_EMULATOR);
        break;
    case DEMO_STOPPING_EMULATOR:
        stop_child(demo, demo->emulator, DEMO_ENDED);
        break;
    case DEMO_ENDED:
        loop_stop(demo->loop);
        break;
    }
}

static void show_log(const struct demo *demo, const char *name) {
    CLEANUP_FREE char *path = demo_path(demo, name);
    CLEANUP_BUFFER struct buffer log = BUFFER_EMPTY;
    if (io_read_file(AT_FDCWD, path, &log, LOG_SHOWN_LIMIT, NULL) && log.length > 0) {
        (void)fprintf(stderr, "-- %s\n%s", name, buffer_string(&log));
    }
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static bool take_option(int option, struct demo_arguments *arguments, struct error **error) {
    switch (option) {
    case 's':
        arguments->script = optarg;
        if (access(optarg, R_OK) != 0) {
            return error_set(error, ERROR_INPUT, "--script: cannot read %s: %s", optarg,
                             strerror(errno));
        }
        return true;
    case 'u':
        arguments->user = optarg;
        if (strcmp(optarg, "root") != 0 && strcmp(optarg, "agent") != 0) {
            return error_set(error, ERROR_INPUT, "--user: \"%s\" is neither root nor agent",
                             optarg);
        }
        return true;
    case 't':
        if (!option_duration(optarg, &arguments->timeout_ms, error)) {
            return error_wrap(error, "--timeout");
        }
        return true;
    case 'v':
        arguments->is_verbose = true;
        return true;
    default:
        return error_set(error, ERROR_INPUT, "unknown option or missing value");
    }
}

static bool parse(int argc, char **argv, struct demo_arguments *arguments, struct error **error) {
    static const struct option options[] = {
        {"script", required_argument, NULL, 's'},
        {"user", required_argument, NULL, 'u'},
        {"timeout", required_argument, NULL, 't'},
        {"verbose", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    *arguments = (struct demo_arguments){.user = "root", .timeout_ms = DEMO_TIMEOUT_MS};
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
    return true;
}

static void on_interrupt(void *context, int signal_number) {
    (void)signal_number;
    demo_fail(context, "interrupted", NULL);
}

static bool demo_prepare(struct demo *demo, struct error **error) {
    char template[] = "/tmp/holt-demo-XXXXXX";
    if (mkdtemp(template) == NULL) {
        return error_set_errno(error, errno, "cannot make a directory under /tmp");
    }
    demo->directory = memory_string(template);
    demo->api_key = random_id("sk-ant-demo-");
    demo->loop = loop_new(error);
    if (demo->loop == NULL) {
        return false;
    }
    demo->client = http_client_new(demo->loop, error);
    return demo->client != NULL && loop_on_signal(demo->loop, SIGINT, on_interrupt, demo, error) &&
           loop_on_signal(demo->loop, SIGTERM, on_interrupt, demo, error);
}

static void demo_release(struct demo *demo) {
    session_flow_free(demo->flow);
    child_free(demo->daemon);
    child_free(demo->emulator);
    application_free(demo->application);
    http_client_free(demo->client);
    loop_free(demo->loop);
    if (demo->directory != NULL) {
        (void)nftw(demo->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
    if (demo->environment_key != NULL) {
        memory_wipe(demo->environment_key, strlen(demo->environment_key));
    }
    free(demo->directory);
    free(demo->base_url);
    free(demo->api_key);
    free(demo->environment_id);
    free(demo->environment_key);
    free(demo->session_id);
}

static int run_demo(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    struct demo demo = {.state = DEMO_STARTING_EMULATOR};
    if (!parse(argc, argv, &demo.arguments, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        return command_usage_error(&command_demo, "%s", text);
    }
    presenter_init(&demo.presenter, stdout);
    if (!demo_prepare(&demo, &error)) {
        demo_release(&demo);
        return command_report(&command_demo, error);
    }
    demo_step(&demo);
    if (demo.state != DEMO_ENDED) {
        loop_run(demo.loop);
    }
    present_cost(&demo);
    if (demo.has_failed || demo.arguments.is_verbose) {
        show_log(&demo, "emulator.log");
        show_log(&demo, "daemon.log");
    }
    if (!demo.has_failed) {
        presenter_note(&demo.presenter, "✓", "done: session %s, %zu tool calls, %zu results",
                       demo.session_id, demo.presenter.calls, demo.presenter.results);
    }
    demo_release(&demo);
    return demo.has_failed ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}
