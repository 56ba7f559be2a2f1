/*
 * The TLS side of the HTTP server: a certificate chain and its key, read once, from PEM files.
 *
 * TLS 1.2 and 1.3 only, no renegotiation, no compression, HTTP/1.1 by ALPN. The files are read here
 * and not again, so that a process that gives up privileges afterwards needs no path to them.
 */
#ifndef HOLT_NET_HTTP_TLS_H
#define HOLT_NET_HTTP_TLS_H

#include "base/error.h"

struct http_tls;
struct event_base;
struct bufferevent;

/* ERROR_INPUT when a file is missing, is no PEM, or the key is not the certificate's. */
struct http_tls *http_tls_load(const char *certificate_path, const char *key_path,
                               struct error **error);
void http_tls_free(struct http_tls *take_tls); /* NULL is fine */

/* The accepting side of a connection that has no descriptor yet; for http_server.c. */
struct bufferevent *http_tls_accept(struct http_tls *tls, struct event_base *base);

#endif
