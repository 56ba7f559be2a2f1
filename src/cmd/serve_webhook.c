/* Secrets, certificate and socket, in one place that ends with the daemon. */
#include "cmd/serve_webhook.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/options.h"
#include "net/socket_activation.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

struct serve_webhook {
    struct webhook_secrets *secrets;
    struct http_tls *tls;
    struct webhook_endpoint *endpoint;
    char *url;
};

static bool read_secrets(struct webhook_secrets *secrets, const struct settings *settings,
                         struct error **error) {
    for (size_t i = 0; i < settings->webhook_secret_files.count; i++) {
        const char *path = settings->webhook_secret_files.items[i];
        struct credential *secret = credential_read_file(path, error);
        bool is_good =
            secret != NULL && webhook_secrets_add(secrets, credential_text(secret), error);
        credential_free(secret);
        if (!is_good) {
            return error_wrap(error, "webhook secret %s", path);
        }
    }
    if (settings->webhook_secret != NULL) {
        return webhook_secrets_add(secrets, credential_text(settings->webhook_secret), error) ||
               error_wrap(error, "ANTHROPIC_WEBHOOK_SIGNING_KEY");
    }
    return settings->webhook_secret_files.count > 0 ||
           error_set(error, ERROR_INPUT,
                     "webhooks need a secret: give --webhook-secret-file or set "
                     "ANTHROPIC_WEBHOOK_SIGNING_KEY");
}

static bool read_certificate(struct serve_webhook *webhook, const struct settings *settings,
                             struct error **error) {
    if (settings->webhook_certificate == NULL && settings->webhook_key == NULL) {
        return true;
    }
    if (settings->webhook_certificate == NULL || settings->webhook_key == NULL) {
        return error_set(error, ERROR_INPUT,
                         "--webhook-certificate and --webhook-key belong together");
    }
    webhook->tls = http_tls_load(settings->webhook_certificate, settings->webhook_key, error);
    return webhook->tls != NULL;
}

static bool listen_as_told(struct serve_webhook *webhook, struct loop *loop,
                           const struct settings *settings,
                           const struct serve_webhook_callbacks *callbacks, int handed_fd,
                           struct error **error) {
    CLEANUP_FREE char *host = NULL;
    struct webhook_endpoint_options options = {.is_handed_over = handed_fd >= 0,
                                               .listen_fd = handed_fd,
                                               .tls = webhook->tls,
                                               .secrets = webhook->secrets,
                                               .note = callbacks->note,
                                               .wake = callbacks->wake,
                                               .session_ended = callbacks->session_ended,
                                               .context = callbacks->context};
    if (handed_fd < 0 && !option_listen(settings->webhook_listen, &host, &options.port, error)) {
        return false;
    }
    options.address = host;
    webhook->endpoint = webhook_endpoint_new(loop, &options, error);
    if (webhook->endpoint == NULL) {
        return error_wrap(error, "webhooks");
    }
    CLEANUP_FREE char *address = webhook_endpoint_address(webhook->endpoint);
    webhook->url =
        memory_format("%s://%s/webhook", webhook->tls == NULL ? "http" : "https", address);
    log_info("webhooks are taken at %s%s", webhook->url,
             handed_fd >= 0 ? ", a socket that was handed over" : "");
    return true;
}

bool serve_webhook_open(struct loop *loop, const struct settings *settings,
                        const struct serve_webhook_callbacks *callbacks,
                        struct serve_webhook **webhook, struct error **error) {
    CLEANUP_CLOSE int handed_fd = -1;
    if (!socket_activation_take("webhook", &handed_fd, error)) {
        return false;
    }
    if (handed_fd < 0 && settings->webhook_listen == NULL) {
        return settings->poll == NULL || strcmp(settings->poll, "always") == 0 ||
               error_set(error, ERROR_INPUT, "--poll %s needs webhooks: give --webhook-listen",
                         settings->poll);
    }
    *webhook = memory_new(struct serve_webhook);
    (*webhook)->secrets = webhook_secrets_new();
    if (!read_secrets((*webhook)->secrets, settings, error) ||
        !read_certificate(*webhook, settings, error)) {
        return false;
    }
    return listen_as_told(*webhook, loop, settings, callbacks, STEAL_FD(handed_fd), error);
}

bool serve_webhook_change(struct serve_webhook *webhook, const struct settings *settings,
                          struct error **error) {
    if (webhook == NULL) {
        return true;
    }
    struct webhook_secrets *secrets = webhook_secrets_new();
    if (!read_secrets(secrets, settings, error)) {
        webhook_secrets_free(secrets);
        return false;
    }
    webhook_endpoint_set_secrets(webhook->endpoint, secrets);
    webhook_secrets_free(webhook->secrets);
    webhook->secrets = secrets;
    return true;
}

const char *serve_webhook_url(const struct serve_webhook *webhook) {
    return webhook->url;
}

struct webhook_endpoint *serve_webhook_endpoint(const struct serve_webhook *webhook) {
    return webhook == NULL ? NULL : webhook->endpoint;
}

void serve_webhook_set_polling(const struct serve_webhook *webhook, const struct settings *settings,
                               struct dispatcher_options *options) {
    const char *poll = settings->poll;
    if (poll == NULL) {
        poll = webhook == NULL ? "always" : "recovery";
    }
    options->is_waiting_for_wakes = strcmp(poll, "always") != 0;
    options->recovery_interval_ms =
        strcmp(poll, "recovery") == 0 ? settings->recovery_interval_ms : 0;
    options->debounce_ms = settings->webhook_debounce_ms;
}

void serve_webhook_free(struct serve_webhook *take_webhook) {
    if (take_webhook == NULL) {
        return;
    }
    webhook_endpoint_free(take_webhook->endpoint);
    http_tls_free(take_webhook->tls);
    webhook_secrets_free(take_webhook->secrets);
    free(take_webhook->url);
    free(take_webhook);
}
