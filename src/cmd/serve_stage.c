/* What holt serve stages: URL prefixes, credentials, and a directory for git. */
#include "cmd/serve_stage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/memory.h"
#define DIRECTORY "front/stage" /* front is the daemon's user's own: serve_state.h */

enum { HEADER_LIMIT = 16 * 1024 };

struct serve_stage {
    struct stage_options options;
    struct url *allowed;
    struct stage_credential *credentials;
    char **headers; /* what the credentials borrow; wiped when freed */
    size_t header_count;
    char *directory;
};

static bool read_allowed(struct serve_stage *stage, const struct setting_list *list,
                         struct error **error) {
    stage->allowed = memory_zeroed(list->count + 1, sizeof(struct url));
    for (size_t i = 0; i < list->count; i++) {
        if (!url_parse(&stage->allowed[i], NULL, list->items[i], error)) {
            return error_wrap(error, "stage.allow: \"%s\"", list->items[i]);
        }
        stage->options.allowed_count++;
    }
    stage->options.allowed = stage->allowed;
    return true;
}

/* "Name: value", and nothing that could begin another header. */
static bool is_header(const char *text) {
    const char *colon = strchr(text, ':');
    size_t length = colon == NULL ? 0 : (size_t)(colon - text);
    bool is_good = length > 0 && strcspn(text, " \t") >= length && colon[1] != '\0';
    for (const char *at = text; is_good && *at != '\0'; at++) {
        is_good = *at >= ' ' && *at < 127;
    }
    return is_good;
}

static bool read_credential(struct serve_stage *stage, const char *item, struct error **error) {
    const char *equals = strchr(item, '=');
    if (equals == NULL || equals[1] != '/') {
        return error_set(error, ERROR_INPUT, "write URL=/FILE");
    }
    CLEANUP_FREE char *prefix = memory_string_n(item, (size_t)(equals - item));
    struct stage_credential *credential = &stage->credentials[stage->options.credential_count];
    if (!url_parse(&credential->prefix, NULL, prefix, error)) {
        return false;
    }
    stage->options.credential_count++;
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, equals + 1, &text, HEADER_LIMIT, error)) {
        return false;
    }
    char *header = memory_string_n(buffer_string(&text), strcspn(buffer_string(&text), "\r\n"));
    memory_wipe(text.data, text.length);
    stage->headers[stage->header_count++] = header;
    credential->header = header;
    return is_header(credential->header) ||
           error_set(error, ERROR_INPUT, "%s holds no header: write Name: value in its first line",
                     equals + 1);
}

static bool read_credentials(struct serve_stage *stage, const struct setting_list *list,
                             struct error **error) {
    stage->credentials = memory_zeroed(list->count + 1, sizeof(struct stage_credential));
    stage->headers = memory_zeroed(list->count + 1, sizeof(char *));
    for (size_t i = 0; i < list->count; i++) {
        if (!read_credential(stage, list->items[i], error)) {
            return error_wrap(error, "stage.credentials");
        }
    }
    stage->options.credentials = stage->credentials;
    return true;
}

struct serve_stage *serve_stage_open(const struct settings *settings, struct error **error) {
    struct serve_stage *stage = memory_new(struct serve_stage);
    stage->options.entry_bytes = settings->stage_entry_bytes;
    stage->options.timeout_ms = settings->stage_timeout_ms;
    if (!read_allowed(stage, &settings->stage_allow, error) ||
        !read_credentials(stage, &settings->stage_credentials, error)) {
        serve_stage_free(stage);
        return NULL;
    }
    if (settings->stage_allow.count > 0) {
        stage->directory = memory_format("%s/" DIRECTORY, settings->state_directory);
        stage->options.directory = stage->directory;
    }
    return stage;
}

const struct stage_options *serve_stage_options(struct serve_stage *stage,
                                                struct http_client *client) {
    stage->options.client = client;
    return &stage->options;
}

void serve_stage_free(struct serve_stage *take_stage) {
    if (take_stage == NULL) {
        return;
    }
    for (size_t i = 0; i < take_stage->options.allowed_count; i++) {
        url_free(&take_stage->allowed[i]);
    }
    for (size_t i = 0; i < take_stage->options.credential_count; i++) {
        url_free(&take_stage->credentials[i].prefix);
    }
    for (size_t i = 0; i < take_stage->header_count; i++) {
        memory_wipe(take_stage->headers[i], strlen(take_stage->headers[i]));
        free(take_stage->headers[i]);
    }
    free(take_stage->allowed);
    free(take_stage->credentials);
    free(take_stage->headers);
    free(take_stage->directory);
    free(take_stage);
}
