/* URLs of strangers, taken apart by libcurl. */
#include "net/url.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

enum { URL_LIMIT = 4096 };

static void cleanup_handle(CURLU **handle) {
    curl_url_cleanup(*handle);
}

/* A part as a heap string of ours, "" when there is none. */
static char *part(CURLU *handle, CURLUPart what, unsigned flags) {
    char *text = NULL;
    if (curl_url_get(handle, what, &text, flags) != CURLUE_OK) {
        return memory_string("");
    }
    char *copy = memory_string(text);
    curl_free(text);
    return copy;
}

static bool has_control(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= ' ' || *text == 127) {
            return true;
        }
    }
    return false;
}

static void lower(char *text) {
    for (; *text != '\0'; text++) {
        *text = (char)tolower((unsigned char)*text);
    }
}

static bool check(const struct url *url, CURLU *handle, struct error **error) {
    CLEANUP_FREE char *user = part(handle, CURLUPART_USER, 0);
    CLEANUP_FREE char *password = part(handle, CURLUPART_PASSWORD, 0);
    bool is_file = strcmp(url->scheme, "file") == 0;
    if (!is_file && strcmp(url->scheme, "http") != 0 && strcmp(url->scheme, "https") != 0) {
        return error_set(error, ERROR_INPUT, "a URL of http, https or file is needed, not of %s",
                         url->scheme);
    }
    if (*user != '\0' || *password != '\0') {
        return error_set(error, ERROR_INPUT, "a URL with a user name is not taken");
    }
    if (!is_file && *url->host == '\0') {
        return error_set(error, ERROR_INPUT, "a URL without a host");
    }
    if (is_file && (*url->host != '\0' || url->file == NULL || url->file[0] != '/')) {
        return error_set(error, ERROR_INPUT, "a file URL is written file:///path");
    }
    return true;
}

bool url_parse(struct url *url, const struct url *base, const char *text, struct error **error) {
    *url = (struct url){0};
    CLEANUP(cleanup_handle)
    CURLU *handle = curl_url();
    if (strnlen(text, URL_LIMIT + 1) > URL_LIMIT || has_control(text)) {
        return error_set(error, ERROR_INPUT, "no URL: too long, or with blanks in it");
    }
    if (handle == NULL ||
        (base != NULL && curl_url_set(handle, CURLUPART_URL, base->text, 0) != CURLUE_OK)) {
        return error_set(error, ERROR_INTERNAL, "cannot parse a URL");
    }
    CURLUcode code = curl_url_set(handle, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
    if (code != CURLUE_OK) {
        return error_set(error, ERROR_INPUT, "no URL: %s", curl_url_strerror(code));
    }
    (void)curl_url_set(handle, CURLUPART_FRAGMENT, NULL, 0);
    url->text = part(handle, CURLUPART_URL, 0);
    url->scheme = part(handle, CURLUPART_SCHEME, 0);
    url->host = part(handle, CURLUPART_HOST, 0);
    url->port = part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    url->path = part(handle, CURLUPART_PATH, 0);
    lower(url->scheme);
    lower(url->host);
    if (strcmp(url->scheme, "file") == 0) {
        char *decoded = NULL; /* CURLU_URLDECODE refuses control characters */
        if (curl_url_get(handle, CURLUPART_PATH, &decoded, CURLU_URLDECODE) == CURLUE_OK) {
            url->file = memory_string(decoded);
            curl_free(decoded);
        }
    }
    if (!check(url, handle, error)) {
        url_free(url);
        return false;
    }
    return true;
}

static bool is_ambiguous(const char *path) {
    static const char *const encoded[] = {"%2e", "%2f", "%5c", "\\", "/../", "/./"};
    for (size_t i = 0; i < sizeof(encoded) / sizeof(encoded[0]); i++) {
        if (strcasestr(path, encoded[i]) != NULL) {
            return true;
        }
    }
    size_t length = strlen(path);
    return length >= 3 && strcmp(path + length - 3, "/..") == 0;
}

bool url_is_below(const struct url *url, const struct url *prefix) {
    size_t length = strlen(prefix->path);
    while (length > 0 && prefix->path[length - 1] == '/') {
        length--;
    }
    if (strcmp(url->scheme, prefix->scheme) != 0 || strcmp(url->host, prefix->host) != 0 ||
        strcmp(url->port, prefix->port) != 0) {
        return false;
    }
    return length == 0 ||
           (strncmp(url->path, prefix->path, length) == 0 &&
            (url->path[length] == '\0' || url->path[length] == '/') && !is_ambiguous(url->path));
}

void url_free(struct url *url) {
    free(url->text);
    free(url->scheme);
    free(url->host);
    free(url->port);
    free(url->path);
    free(url->file);
    *url = (struct url){0};
}
