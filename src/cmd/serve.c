/* holt serve: the daemon, from its command line to its last sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "cmd/command.h"
#include "cmd/environments.h"
#include "cmd/front.h"
#include "cmd/idle_exit.h"
#include "cmd/locate.h"
#include "cmd/serve_state.h"
#include "cmd/serve_stage.h"
#include "cmd/serve_tools.h"
#include "cmd/serve_webhook.h"
#include "config/settings.h"
#include "net/http_client.h"
#include "orchestrator/dispatcher.h"
#include "orchestrator/reconciler.h"
#include "orchestrator/setup_memory.h"
#include "orchestrator/stage_git.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

#define SANDBOX_WORKDIR "/workspace"

enum {
    MAX_FILE_BYTES = 262144,
    DESCRIPTORS_OF_SESSION = 4,
    DESCRIPTORS_SPARE = 128,
};

static int run_serve(int argc, char **argv);

const struct command command_serve = {
    .name = "serve",
    .summary = "the daemon: claim work, serve each session in a sandbox of its own",
    .help = "usage: holt serve [OPTION]...\n"
            "\n"
            "Claims the work items of an environment and serves every session in a sandbox of its\n"
            "own. SIGTERM lets running calls finish, stops the items whose turn is over and exits\n"
            "0; a second one exits at once. What goes on is in the state directory: the next\n"
            "daemon finds sandboxes, calls and leases as they were left, also after kill -9.\n"
            "Needs root, for the sandboxes.\n"
            "\n"
            "Durations are written 500ms, 60s, 2m or 1h, sizes 64K, 100M or 2G.\n"
            "\n",
    .more_help = settings_help,
    .run = run_serve,
};

struct serve {
    struct settings settings;
    struct loop *loop;
    struct keeper *keeper;
    struct http_client *client;
    struct hands *hands;
    struct serve_stage *stage;
    struct serve_tools *tools;
    struct journal *journal;
    struct state *state;
    struct reconciler *reconciler;
    struct environments *environments;
    struct serve_webhook *webhook; /* NULL: none */
    struct idle_exit *idle_exit;   /* NULL: it stays */
    struct error *failure;
    bool is_stopping;
};

/* Written beside its place and renamed: a reader sees the whole line or no file. */
static bool write_ready_file(const char *path, const char *text, struct error **error) {
    CLEANUP_FREE char *line = memory_format("%s\n", text);
    CLEANUP_FREE char *temporary = memory_format("%s.new", path);
    CLEANUP_CLOSE int fd =
        open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot write the ready file %s", path);
    }
    if (!io_write_all(fd, line, strlen(line), error) || rename(temporary, path) != 0) {
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

static void on_environments_ended(void *context, const struct error *error) {
    serve_fail(context, error);
}

/* Keeper needs the privileges that front gave up: whoever started us starts us again, and both find
 * the sandboxes as they were. Nothing is stopped. */
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
    if (serve->webhook != NULL) { /* whoever comes now finds the next daemon, or tries again */
        webhook_endpoint_set_accepting(serve_webhook_endpoint(serve->webhook), false);
    }
    environments_stop(serve->environments, is_first ? serve->settings.drain_ms : 0);
}

/* Privileges are gone: what is read now must be readable to whom we have become. */
static void on_reload_signal(void *context, int signal_number) {
    (void)signal_number;
    struct serve *serve = context;
    CLEANUP_ERROR struct error *error = NULL;
    if (serve->is_stopping || !settings_reload(&serve->settings)) {
        return;
    }
    if (serve->environments != NULL) {
        environments_change(serve->environments);
        reconciler_set_keeping(serve->reconciler, serve->settings.keep_ms,
                               (size_t)serve->settings.keep_most);
    }
    settings_apply_log(&serve->settings);
    if (!serve_webhook_change(serve->webhook, &serve->settings, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("the webhook secrets stay as they were: %s", text);
    }
}

static bool on_note(void *context, const char *webhook_id, int64_t now_ms, bool *is_new,
                    struct error **error) {
    const struct serve *serve = context;
    return state_delivery_note(serve->state, webhook_id, now_ms, is_new, error);
}

static void on_wake(void *context) {
    struct serve *serve = context;
    idle_exit_touch(serve->idle_exit);
    environments_wake(serve->environments);
}

static void on_session_ended(void *context, const char *session_id) {
    struct serve *serve = context;
    idle_exit_touch(serve->idle_exit);
    log_info("session %s has ended", session_id);
    reconciler_end_session(serve->reconciler, session_id);
}

static bool is_idle(void *context) {
    const struct serve *serve = context;
    return !serve->is_stopping && environments_is_idle(serve->environments);
}

static void on_idle(void *context) {
    struct serve *serve = context;
    serve->is_stopping = true;
    environments_stop(serve->environments, 0);
}

static bool open_webhook(struct serve *serve, struct error **error) {
    return serve_webhook_open(serve->loop, &serve->settings,
                              &(struct serve_webhook_callbacks){
                                  .note = on_note,
                                  .wake = on_wake,
                                  .session_ended = on_session_ended,
                                  .context = serve,
                              },
                              &serve->webhook, error);
}

/* Keeper first: it must not have the keys, which files give us only after this. */
static bool start_keeper(struct serve *serve, struct error **error) {
    const struct settings *settings = &serve->settings;
    CLEANUP_FREE char *hand_path = locate_hand(error);
    serve->loop = hand_path == NULL ? NULL : loop_new(error);
    if (serve->loop == NULL) {
        return false;
    }
    const struct keeper_options options = {
        .state_directory = settings->state_directory,
        .root_directory = settings->root_directory,
        .hand_path = hand_path,
        .agent_is_unprivileged = strcmp(settings->user, "agent") == 0,
        .memory_limit_bytes = settings->memory_limit_bytes,
        .pids_limit = settings->pids_limit,
        .cpu_limit_percent = settings->cpu_limit_percent,
        .keeps_sandboxes = settings->keep_ms > 0,
    };
    serve->keeper = keeper_start(serve->loop, &options, error);
    if (serve->keeper == NULL) {
        return false;
    }
    keeper_on_exit(serve->keeper, on_keeper_exit, serve);
    return true;
}

/* Before keeper, which inherits it. A session has a stream, a hand and at times requests. */
static void raise_descriptor_limit(const struct settings *settings) {
    size_t needed = (size_t)settings->max_sessions * DESCRIPTORS_OF_SESSION + DESCRIPTORS_SPARE;
    size_t limit = io_raise_descriptor_limit();
    if (limit < needed) {
        log_warn("%lld sessions at once may need %zu open files, and the limit is %zu: raise it "
                 "(LimitNOFILE= of the service, ulimit -n) or lower max_sessions",
                 (long long)settings->max_sessions, needed, limit);
    }
}

/* Everything that needs privileges or a path, in the order in which it must happen. */
static bool serve_prepare(struct serve *serve, struct error **error) {
    const struct settings *settings = &serve->settings;
    raise_descriptor_limit(settings);
    if (!start_keeper(serve, error) || !environments_read_keys(settings, error)) {
        return false;
    }
    serve->tools = serve_tools_new(settings, error);
    if (serve->tools == NULL) {
        return false;
    }
    serve->state = serve_state_open(settings->state_directory, error);
    serve->stage = serve->state == NULL ? NULL : serve_stage_open(settings, error);
    if (serve->stage == NULL) {
        return false;
    }
    if (settings->journal_path != NULL) {
        serve->journal = journal_open(settings->journal_path, error);
        if (serve->journal == NULL) {
            return false;
        }
    }
    if (!loop_on_signal(serve->loop, SIGTERM, on_stop_signal, serve, error) ||
        !loop_on_signal(serve->loop, SIGINT, on_stop_signal, serve, error) ||
        !loop_on_signal(serve->loop, SIGHUP, on_reload_signal, serve, error) ||
        !open_webhook(serve, error)) {
        return false;
    }
    const char *ready = serve->webhook == NULL ? "ready" : serve_webhook_url(serve->webhook);
    /* The last thing that needs a path: from here on we may not be able to write there. */
    return (settings->ready_path == NULL || write_ready_file(settings->ready_path, ready, error)) &&
           front_drop_privileges(error);
}

static bool serve_run(struct serve *serve, struct error **error) {
    const struct settings *settings = &serve->settings;
    const struct hand_configuration configuration = {.workdir = SANDBOX_WORKDIR,
                                                     .max_file_bytes = MAX_FILE_BYTES,
                                                     .read_media = settings->reads_media};
    serve->client = http_client_new(serve->loop, error);
    if (serve->client == NULL) {
        return false;
    }
    serve->hands = hands_from_keeper(serve->keeper, &configuration);
    serve->hands->memory_sync_ms = settings->memory_sync_ms;
    serve->hands->stage = serve_stage_options(serve->stage, serve->client);
    if (serve->hands->stage->directory != NULL &&
        !stage_git_prepare(serve->hands->stage->directory, error)) {
        return false;
    }
    struct environments_options options = {
        .settings = settings,
        .client = serve->client,
        .common = {.loop = serve->loop,
                   .hands = serve->hands,
                   .journal = serve->journal,
                   .custom_tools = serve_tools_table(serve->tools),
                   .state = serve->state,
                   .keeps_sandboxes = settings->keep_ms > 0},
        .ended = on_environments_ended,
        .context = serve,
    };
    serve->reconciler =
        reconciler_start(&(struct reconciler_options){.loop = serve->loop,
                                                      .keeper = serve->keeper,
                                                      .state = serve->state,
                                                      .keep_ms = settings->keep_ms,
                                                      .keep_most = (size_t)settings->keep_most});
    serve_webhook_set_polling(serve->webhook, settings, &options.common);
    serve->environments = environments_start(&options);
    if (settings->exit_when_idle_ms != SETTING_UNSET) {
        serve->idle_exit =
            idle_exit_new(serve->loop, &(struct idle_exit_options){
                                           .idle_ms = settings->exit_when_idle_ms,
                                           .endpoint = serve_webhook_endpoint(serve->webhook),
                                           .is_idle = is_idle,
                                           .leave = on_idle,
                                           .context = serve,
                                       });
    }
    loop_run(serve->loop);
    if (serve->failure != NULL) {
        *error = STEAL_PTR(serve->failure);
        return false;
    }
    return true;
}

static void serve_release(struct serve *serve) {
    idle_exit_free(serve->idle_exit);
    serve_webhook_free(serve->webhook);
    environments_free(serve->environments);
    serve_tools_free(serve->tools);
    hands_free(serve->hands);
    http_client_free(serve->client);
    reconciler_free(serve->reconciler);
    serve_stage_free(serve->stage);
    keeper_stop(serve->keeper);
    state_close(serve->state);
    journal_close(serve->journal);
    loop_free(serve->loop);
}

static int run_serve(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    struct serve serve = {.loop = NULL};
    int exit_code = EXIT_CODE_OK;
    if (!settings_load(&serve.settings, argc, argv, &error)) {
        CLEANUP_FREE char *text = error_text(error);
        exit_code = command_usage_error(&command_serve, "%s", text);
    } else {
        settings_apply_log(&serve.settings);
        settings_warn(&serve.settings);
        if (!setup_memory_check_interval(serve.settings.memory_sync_ms, &error) ||
            !serve_prepare(&serve, &error) || !serve_run(&serve, &error)) {
            exit_code = command_report(&command_serve, error);
        }
    }
    serve_release(&serve);
    settings_free(&serve.settings);
    return exit_code;
}
