/* The bytes behind a staged URL: hop by hop, or read at once. */
#include "orchestrator/stage_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/memory.h"

enum {
    REDIRECTS_LIMIT = 5,
    SILENCE_MS = 30000, /* without a byte */
};

struct stage_fetch {
    const struct stage_options *options;
    struct url url; /* where the next request goes */
    int redirects;
    struct http_request *request;
    struct loop_timer *timer; /* what is not to happen inside the caller's call */
    void (*done)(void *context, const char *bytes, size_t length, const struct error *error);
    void *context;
};

static void fetch_free(struct stage_fetch *fetch) {
    loop_timer_free(fetch->timer);
    url_free(&fetch->url);
    free(fetch);
}

static void conclude(struct stage_fetch *fetch, const char *bytes, size_t length,
                     const struct error *error) {
    fetch->done(fetch->context, bytes, length, error);
    fetch_free(fetch);
}

/* Files. */

char *stage_real_path(const struct stage_options *options, const struct url *url,
                      struct error **error) {
    char *real = realpath(url->file, NULL);
    if (real == NULL) {
        (void)error_set_errno(error, errno, "%s", url->file);
        return NULL;
    }
    for (size_t i = 0; i < options->allowed_count; i++) {
        const struct url *allowed = &options->allowed[i];
        CLEANUP_FREE char *root = allowed->file == NULL ? NULL : realpath(allowed->file, NULL);
        size_t length = root == NULL ? 0 : strcmp(root, "/") == 0 ? 0 : strlen(root);
        if (root != NULL && url_is_below(url, allowed) && strncmp(real, root, length) == 0 &&
            (real[length] == '\0' || real[length] == '/')) {
            return real;
        }
    }
    free(real);
    (void)error_set(error, ERROR_DENIED, "%s leads out of what is allowed", url->file);
    return NULL;
}

static bool read_file(const struct stage_fetch *fetch, struct buffer *bytes, struct error **error) {
    CLEANUP_FREE char *path = stage_real_path(fetch->options, &fetch->url, error);
    if (path == NULL) {
        return false;
    }
    /* A link that was put there since would be followed by nobody. */
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        return error_set_errno(error, errno, "%s", fetch->url.file);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(error, ERROR_INPUT, "%s is no regular file", fetch->url.file);
    }
    return io_read_to_end(fd, bytes, (size_t)fetch->options->entry_bytes, error);
}

/* HTTP. */

static void on_response(void *context, const struct http_response *response);

static void request(struct stage_fetch *fetch) {
    const struct stage_credential *credential = stage_credential_of(fetch->options, &fetch->url);
    const char *headers[] = {"Accept: */*", credential == NULL ? NULL : credential->header, NULL};
    fetch->request = http_request_start(fetch->options->client,
                                        &(struct http_request_options){
                                            .method = "GET",
                                            .url = fetch->url.text,
                                            .headers = headers,
                                            .timeout_ms = fetch->options->timeout_ms,
                                            .idle_timeout_ms = SILENCE_MS,
                                            .response_limit = (size_t)fetch->options->entry_bytes,
                                            .on_done = on_response,
                                            .context = fetch,
                                        });
}

static bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool follow(struct stage_fetch *fetch, const char *location, struct error **error) {
    struct url next;
    if (location == NULL) {
        return error_set(error, ERROR_PROTOCOL, "a redirect to nowhere");
    }
    if (fetch->redirects++ == REDIRECTS_LIMIT) {
        return error_set(error, ERROR_LIMIT, "more than %d redirects", REDIRECTS_LIMIT);
    }
    if (!url_parse(&next, &fetch->url, location, error)) {
        return error_wrap(error, "a redirect");
    }
    url_free(&fetch->url);
    fetch->url = next;
    if (fetch->url.file != NULL) {
        return error_set(error, ERROR_DENIED, "a redirect to a file");
    }
    return stage_check_allowed(fetch->options, &fetch->url, error) ||
           error_wrap(error, "a redirect");
}

static void on_response(void *context, const struct http_response *response) {
    struct stage_fetch *fetch = context;
    CLEANUP_ERROR struct error *error = NULL;
    fetch->request = NULL;
    if (response->error != NULL) {
        CLEANUP_FREE char *text = error_text(response->error);
        (void)error_set(&error, response->error->code, "%s", text);
    } else if (is_redirect(response->status)) {
        if (follow(fetch, http_response_header(response, "location"), &error)) {
            request(fetch);
            return;
        }
    } else if (response->status != 200) {
        (void)error_set(&error, ERROR_UNAVAILABLE, "the server answers with HTTP %ld",
                        response->status);
    }
    if (error != NULL) {
        conclude(fetch, NULL, 0, error);
    } else {
        conclude(fetch, response->body, response->body_length, NULL);
    }
}

/* Both. */

static void on_timer(void *context) {
    struct stage_fetch *fetch = context;
    if (fetch->url.file == NULL) {
        request(fetch);
        return;
    }
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    CLEANUP_ERROR struct error *error = NULL;
    bool is_read = read_file(fetch, &bytes, &error);
    conclude(fetch, is_read ? buffer_string(&bytes) : NULL, is_read ? bytes.length : 0, error);
}

struct stage_fetch *stage_fetch_start(struct loop *loop, const struct stage_options *options,
                                      const struct url *url,
                                      void (*done)(void *context, const char *bytes, size_t length,
                                                   const struct error *error),
                                      void *context) {
    struct stage_fetch *fetch = memory_new(struct stage_fetch);
    fetch->options = options;
    (void)url_parse(&fetch->url, NULL, url->text, NULL); /* a copy of what was parsed before */
    fetch->done = done;
    fetch->context = context;
    fetch->timer = loop_timer_new(loop, on_timer, fetch);
    loop_timer_arm(fetch->timer, 0);
    return fetch;
}

void stage_fetch_cancel(struct stage_fetch *take_fetch) {
    if (take_fetch != NULL) {
        if (take_fetch->request != NULL) {
            http_request_cancel(take_fetch->request);
        }
        fetch_free(take_fetch);
    }
}
