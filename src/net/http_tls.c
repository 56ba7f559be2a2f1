/* OpenSSL's defaults of Debian 12, narrowed. */
#include "net/http_tls.h"

#include <stdlib.h>

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/memory.h"

struct http_tls {
    SSL_CTX *context;
};

/* Says what OpenSSL found wrong; its queue is empty afterwards. */
static bool fail(struct error **error, const char *what, const char *path) {
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);
    ERR_clear_error();
    return error_set(error, ERROR_INPUT, "%s %s: %s", what, path,
                     reason == NULL ? "unreadable" : reason);
}

/* A key with a passphrase is refused instead of asking on a terminal. */
static int refuse_passphrase(char *text, int size, int is_writing, void *context) {
    (void)text;
    (void)size;
    (void)is_writing;
    (void)context;
    return 0;
}

/* ALPN: HTTP/1.1 is what we speak; a client that offers only others is left to notice. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length,
                           const unsigned char *offered, unsigned offered_length, void *context) {
    (void)ssl;
    (void)context;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *found = NULL;
    if (SSL_select_next_proto(&found, chosen_length, ours, sizeof(ours) - 1, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

static bool configure(SSL_CTX *context, const char *certificate_path, const char *key_path,
                      struct error **error) {
    (void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(context, refuse_passphrase);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    ERR_clear_error();
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        return error_set(error, ERROR_INTERNAL, "OpenSSL refuses TLS 1.2");
    }
    if (SSL_CTX_use_certificate_chain_file(context, certificate_path) != 1) {
        return fail(error, "certificate", certificate_path);
    }
    if (SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1) {
        return fail(error, "key", key_path);
    }
    return SSL_CTX_check_private_key(context) == 1 ||
           fail(error, "not the key of the certificate:", key_path);
}

struct http_tls *http_tls_load(const char *certificate_path, const char *key_path,
                               struct error **error) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL) {
        (void)error_set(error, ERROR_INTERNAL, "cannot set up TLS");
        return NULL;
    }
    if (!configure(context, certificate_path, key_path, error)) {
        SSL_CTX_free(context);
        return NULL;
    }
    struct http_tls *tls = memory_new(struct http_tls);
    tls->context = context;
    return tls;
}

void http_tls_free(struct http_tls *take_tls) {
    if (take_tls != NULL) {
        SSL_CTX_free(take_tls->context);
        free(take_tls);
    }
}

struct bufferevent *http_tls_accept(struct http_tls *tls, struct event_base *base) {
    SSL *ssl = SSL_new(tls->context);
    struct bufferevent *connection =
        ssl == NULL ? NULL
                    : bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                     BEV_OPT_CLOSE_ON_FREE);
    if (connection == NULL) {
        abort(); /* out of memory: evhttp would speak plain text here instead */
    }
    /* A peer that leaves without close_notify has left; HTTP has lengths of its own. */
    bufferevent_openssl_set_allow_dirty_shutdown(connection, 1);
    return connection;
}
