/*
 * URLs of strangers, taken apart by libcurl, the parser that will also use them.
 *
 * Only http, https and file; no user and password. Two URLs that reach the same thing may differ;
 * what decides here is scheme, host, port and path after dot segments were resolved.
 */
#ifndef HOLT_NET_URL_H
#define HOLT_NET_URL_H

#include <stdbool.h>

#include "base/error.h"

struct url {
    char *text;   /* the whole, without its fragment, as it is to be requested */
    char *scheme; /* "http", "https", "file" */
    char *host;   /* lower case; "" for a file */
    char *port;   /* always there; "" for a file */
    char *path;   /* as in the URL, percent-encoded; begins with a slash */
    char *file;   /* of a file: its decoded absolute path; else NULL */
};

/* ERROR_INPUT says what is wrong. `base` may be NULL; else `text` may be relative to it. */
bool url_parse(struct url *url, const struct url *base, const char *text, struct error **error);
/*
 * Whether `url` is `prefix` or lies below it, on whole path components. Below a path that is more
 * than "/", a URL with an encoded dot, slash or backslash is not: servers differ in what it means.
 */
bool url_is_below(const struct url *url, const struct url *prefix);
void url_free(struct url *url);
#define CLEANUP_URL CLEANUP(url_free)

#endif
