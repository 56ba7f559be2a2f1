/* holt emulate: the local control plane, from options to a clean end. */
#include "cmd/command.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/memory.h"
#include "config/options.h"
#include "emulator/emulator.h"

enum { SCRIPT_LIMIT_BYTES = 64 << 20, KEYS_LIMIT = 100, ADDRESS_LIMIT = 64 };

static const char help[] =
    "usage: holt emulate [OPTION]...\n"
    "\n"
    "Serves a local Claude Managed Agents control plane whose brain is a script, for offline\n"
    "development and tests. Prints \"listening on http://ADDRESS:PORT\" when it is ready.\n"
    "SIGTERM or SIGINT ends it.\n"
    "\n"
    "  --listen ADDRESS:PORT   where to listen (127.0.0.1:0; port 0 is any free one)\n"
    "  --script FILE           the brain (default: a built-in script that plays all six tools)\n"
    "  --data DIR              keep the state in DIR and continue from it (default: in memory)\n"
    "  --skills DIR            serve the skills in DIR: folders, zip and tar archives\n"
    "  --api-key KEY           the application's x-api-key (default: any is taken)\n"
    "  --environment-key KEY   a worker key that opens every environment; may be repeated\n"
    "  --lease-ttl DURATION    how long a lease lasts without a heartbeat (120s)\n"
    "  --webhook-url URL       where to send signed webhooks (default: none)\n"
    "  --webhook-secret SECRET the key that signs them: whsec_ and base64\n"
    "  --ready-file FILE       write the URL to FILE when ready\n"
    "  --log-level LEVEL       debug, info, warn, error or off; ROOM=LEVEL for one room (warn)\n"
    "  --log-format FORMAT     text or json (text)\n"
    "  --help                  print this text\n"
    "\n"
    "docs/emulator.md describes scripts and the /emulator endpoints.\n";

static int run(int argc, char **argv);

const struct command command_emulate = {
    .name = "emulate",
    .summary = "serve a local control plane with a scripted brain",
    .help = help,
    .run = run,
};

enum option_code {
    OPTION_LISTEN = 256,
    OPTION_SCRIPT,
    OPTION_DATA,
    OPTION_SKILLS,
    OPTION_API_KEY,
    OPTION_ENVIRONMENT_KEY,
    OPTION_LEASE_TTL,
    OPTION_WEBHOOK_URL,
    OPTION_WEBHOOK_SECRET,
    OPTION_READY_FILE,
    OPTION_LOG_LEVEL,
    OPTION_LOG_FORMAT,
};

struct settings {
    struct emulator_options emulator;
    const char *keys[KEYS_LIMIT];
    char address[ADDRESS_LIMIT];
    const char *script_file;
    const char *ready_file;
};

/* "127.0.0.1:8080" or "[::1]:8080". */
static bool parse_listen(struct settings *settings, const char *text, struct error **error) {
    const char *colon = strrchr(text, ':');
    int64_t port = 0;
    bool is_bracketed = *text == '[' && colon != NULL && colon > text && colon[-1] == ']';
    const char *start = is_bracketed ? text + 1 : text;
    size_t length = colon == NULL ? 0 : (size_t)(colon - start) - (is_bracketed ? 1 : 0);
    if (length == 0 || length >= sizeof(settings->address)) {
        return error_set(error, ERROR_INPUT, "--listen \"%s\": write ADDRESS:PORT", text);
    }
    if (!option_integer(colon + 1, 0, UINT16_MAX, &port, error)) {
        return error_wrap(error, "--listen");
    }
    memcpy(settings->address, start, length);
    settings->address[length] = '\0';
    settings->emulator.port = (uint16_t)port;
    return true;
}

static bool parse_ttl(struct settings *settings, const char *text, struct error **error) {
    if (!option_duration(text, &settings->emulator.lease_ttl_ms, error)) {
        return error_wrap(error, "--lease-ttl");
    }
    return settings->emulator.lease_ttl_ms >= 100 ||
           error_set(error, ERROR_INPUT, "--lease-ttl \"%s\": at least 100ms", text);
}

static bool parse_format(const char *text, struct error **error) {
    bool is_json = strcmp(text, "json") == 0;
    if (!is_json && strcmp(text, "text") != 0) {
        return error_set(error, ERROR_INPUT, "--log-format \"%s\": write text or json", text);
    }
    log_configure_format(is_json ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    return true;
}

static bool take_option(struct settings *settings, int code, const char *value,
                        struct error **error) {
    struct emulator_options *options = &settings->emulator;
    switch ((enum option_code)code) {
    case OPTION_LISTEN:
        return parse_listen(settings, value, error);
    case OPTION_SCRIPT:
        settings->script_file = value;
        return true;
    case OPTION_DATA:
        options->data_directory = value;
        return true;
    case OPTION_SKILLS:
        options->skills_directory = value;
        return true;
    case OPTION_API_KEY:
        options->api_key = value;
        return true;
    case OPTION_ENVIRONMENT_KEY:
        if (options->environment_key_count == KEYS_LIMIT) {
            return error_set(error, ERROR_INPUT, "at most %d environment keys", KEYS_LIMIT);
        }
        settings->keys[options->environment_key_count++] = value;
        return true;
    case OPTION_LEASE_TTL:
        return parse_ttl(settings, value, error);
    case OPTION_WEBHOOK_URL:
        options->webhook_url = value;
        return true;
    case OPTION_WEBHOOK_SECRET:
        options->webhook_secret = value;
        return true;
    case OPTION_READY_FILE:
        settings->ready_file = value;
        return true;
    case OPTION_LOG_LEVEL:
        return log_configure_levels(value, error);
    case OPTION_LOG_FORMAT:
        return parse_format(value, error);
    }
    return error_set(error, ERROR_INTERNAL, "unknown option code %d", code);
}

static int parse_arguments(struct settings *settings, int argc, char **argv, struct error **error) {
    static const struct option long_options[] = {
        {"listen", required_argument, NULL, OPTION_LISTEN},
        {"script", required_argument, NULL, OPTION_SCRIPT},
        {"data", required_argument, NULL, OPTION_DATA},
        {"skills", required_argument, NULL, OPTION_SKILLS},
        {"api-key", required_argument, NULL, OPTION_API_KEY},
        {"environment-key", required_argument, NULL, OPTION_ENVIRONMENT_KEY},
        {"lease-ttl", required_argument, NULL, OPTION_LEASE_TTL},
        {"webhook-url", required_argument, NULL, OPTION_WEBHOOK_URL},
        {"webhook-secret", required_argument, NULL, OPTION_WEBHOOK_SECRET},
        {"ready-file", required_argument, NULL, OPTION_READY_FILE},
        {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
        {"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
        {NULL, 0, NULL, 0},
    };
    int code = 0;
    while ((code = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        if (code == '?' || code == ':') {
            return command_usage_error(&command_emulate, "%s \"%s\"",
                                       code == '?' ? "unknown option" : "value missing for",
                                       argv[optind - 1]);
        }
        if (!take_option(settings, code, optarg, error)) {
            return command_report(&command_emulate, *error);
        }
    }
    if (optind < argc) {
        return command_usage_error(&command_emulate, "unexpected argument \"%s\"", argv[optind]);
    }
    if ((settings->emulator.webhook_url == NULL) != (settings->emulator.webhook_secret == NULL)) {
        return command_usage_error(&command_emulate,
                                   "--webhook-url and --webhook-secret belong together");
    }
    return EXIT_CODE_OK;
}

static void on_signal(void *context, int signal_number) {
    (void)signal_number;
    loop_stop(context);
}

/* A reader of the file sees either nothing or the whole URL. */
static bool write_ready_file(const char *path, const char *url, struct error **error) {
    CLEANUP_FREE char *temporary = memory_format("%s.new", path);
    CLEANUP_CLOSE int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot write %s", temporary);
    }
    CLEANUP_FREE char *line = memory_format("%s\n", url);
    if (!io_write_all(fd, line, strlen(line), error)) {
        return error_wrap(error, "cannot write %s", temporary);
    }
    return rename(temporary, path) == 0 || error_set_errno(error, errno, "cannot write %s", path);
}

static bool serve(struct settings *settings, struct loop *loop, struct error **error) {
    if (!loop_on_signal(loop, SIGTERM, on_signal, loop, error) ||
        !loop_on_signal(loop, SIGINT, on_signal, loop, error)) {
        return false;
    }
    struct emulator *emulator = emulator_new(loop, &settings->emulator, error);
    if (emulator == NULL) {
        return false;
    }
    bool is_v6 = strchr(settings->address, ':') != NULL;
    CLEANUP_FREE char *url = memory_format("http://%s%s%s:%u", is_v6 ? "[" : "", settings->address,
                                           is_v6 ? "]" : "", (unsigned)emulator_port(emulator));
    bool is_ready =
        settings->ready_file == NULL || write_ready_file(settings->ready_file, url, error);
    if (is_ready) {
        (void)printf("listening on %s\n", url);
        (void)fflush(stdout);
        loop_run(loop);
    }
    emulator_free(emulator);
    return is_ready;
}

static int run(int argc, char **argv) {
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_BUFFER struct buffer script = BUFFER_EMPTY;
    struct settings settings = {.address = "127.0.0.1"};
    settings.emulator.address = settings.address;
    settings.emulator.environment_keys = settings.keys;
    settings.emulator.lease_ttl_ms = 120000;
    (void)log_configure_levels("warn", NULL);
    int code = parse_arguments(&settings, argc, argv, &error);
    if (code != EXIT_CODE_OK) {
        return code;
    }
    if (settings.script_file != NULL) {
        if (!io_read_file(AT_FDCWD, settings.script_file, &script, SCRIPT_LIMIT_BYTES, &error)) {
            (void)error_wrap(&error, "--script");
            error->code = ERROR_INPUT; /* the command line names a file that is no script */
            return command_report(&command_emulate, error);
        }
        settings.emulator.script_text = buffer_string(&script);
        settings.emulator.script_length = script.length;
    }
    (void)io_raise_descriptor_limit(); /* a thousand sessions are several thousand connections */
    struct loop *loop = loop_new(&error);
    if (loop == NULL) {
        return command_report(&command_emulate, error);
    }
    bool is_served = serve(&settings, loop, &error);
    loop_free(loop);
    return is_served ? EXIT_CODE_OK : command_report(&command_emulate, error);
}
