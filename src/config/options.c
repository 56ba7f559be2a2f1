/* Values as people write them: durations, sizes, numbers. */
#include "config/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/memory.h"

enum { DURATION_LIMIT_S = 366 * 24 * 3600, CPUS_LIMIT = 4096, ID_LIMIT = 128 };

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].name, name) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

/* One number with its unit, of perhaps several ("1m30s"); negative when it is none. */
static double take_duration(const char **text) {
    static const struct unit units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    char *end = NULL;
    errno = 0;
    /* strtod would also take "inf", "nan" and hexadecimal: a duration begins with a digit. */
    double number = isdigit((unsigned char)**text) != 0 ? strtod(*text, &end) : -1;
    if (end == NULL || number < 0 || errno != 0) {
        return -1;
    }
    size_t length = strcspn(end, "0123456789");
    char name[8] = "";
    memcpy(name, end, length < sizeof(name) ? length : sizeof(name) - 1);
    const struct unit *unit = find_unit(units, sizeof(units) / sizeof(units[0]), name);
    *text = end + length;
    return unit == NULL ? -1 : number * (double)unit->factor;
}

bool option_duration(const char *text, int64_t *milliseconds, struct error **error) {
    const double limit = (double)DURATION_LIMIT_S * 1000;
    const char *at = text;
    double sum = 0;
    bool is_bare = *text != '\0' && text[strspn(text, "0123456789.")] == '\0';
    bool is_good = *text != '\0' && strpbrk(text, "xXeE") == NULL;
    if (is_good && is_bare) { /* seconds */
        char *end = NULL;
        sum = isdigit((unsigned char)*text) != 0 ? strtod(text, &end) * 1000 : -1;
        is_good = end != NULL && *end == '\0';
    }
    while (is_good && !is_bare && *at != '\0') {
        double part = take_duration(&at);
        is_good = part >= 0 && part <= limit;
        sum += part;
    }
    if (!is_good || sum > limit) {
        return error_set(error, ERROR_INPUT, "\"%s\" is no duration: write 500ms, 60s, 2m or 1h",
                         text);
    }
    *milliseconds = (int64_t)sum;
    return true;
}

bool option_size(const char *text, int64_t *bytes, struct error **error) {
    static const struct unit units[] = {
        {"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", (int64_t)1 << 40}};
    char *end = NULL;
    errno = 0;
    long long number = isdigit((unsigned char)text[0]) != 0 ? strtoll(text, &end, 10) : -1;
    const struct unit *unit =
        end == NULL ? NULL : find_unit(units, sizeof(units) / sizeof(units[0]), end);
    if (errno != 0 || unit == NULL || number < 0 ||
        __builtin_mul_overflow((int64_t)number, unit->factor, bytes)) {
        return error_set(error, ERROR_INPUT, "\"%s\" is no size: write bytes, or 64K, 100M, 2G",
                         text);
    }
    return true;
}

bool option_switch(const char *text, bool *is_on, struct error **error) {
    *is_on = strcmp(text, "on") == 0;
    if (!*is_on && strcmp(text, "off") != 0) {
        return error_set(error, ERROR_INPUT, "\"%s\" is neither on nor off", text);
    }
    return true;
}

bool option_integer(const char *text, int64_t lowest, int64_t highest, int64_t *value,
                    struct error **error) {
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < lowest || number > highest) {
        return error_set(error, ERROR_INPUT, "\"%s\" is no whole number between %lld and %lld",
                         text, (long long)lowest, (long long)highest);
    }
    *value = number;
    return true;
}

bool option_cpus(const char *text, int64_t *percent, struct error **error) {
    char *end = NULL;
    double cpus = isdigit((unsigned char)text[0]) != 0 ? strtod(text, &end) : -1;
    if (end == NULL || *end != '\0' || strpbrk(text, "xXeE") != NULL ||
        !(cpus >= 0 && cpus <= CPUS_LIMIT)) {
        return error_set(error, ERROR_INPUT, "\"%s\" is no number of CPUs", text);
    }
    *percent = (int64_t)(cpus * 100);
    return true;
}

bool option_id(const char *text, struct error **error) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strlen(text);
    return (length > 0 && length <= ID_LIMIT && strspn(text, allowed) == length) ||
           error_set(error, ERROR_INPUT, "\"%s\" is no id", text);
}

bool option_base_url(const char *text, struct error **error) {
    static const char *const schemes[] = {"https://", "http://"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t length = strlen(schemes[i]);
        if (strncmp(text, schemes[i], length) == 0 && strpbrk(text, " \t\r\n?#") == NULL &&
            text[length] != '\0' && text[length] != '/') {
            return true;
        }
    }
    return error_set(error, ERROR_INPUT, "\"%s\" is no http or https URL", text);
}

bool option_listen(const char *text, char **address, uint16_t *port, struct error **error) {
    const char *colon = strrchr(text, ':');
    bool is_bracketed = *text == '[' && colon != NULL && colon > text && colon[-1] == ']';
    const char *start = is_bracketed ? text + 1 : text;
    size_t length = colon == NULL ? 0 : (size_t)(colon - start) - (is_bracketed ? 1 : 0);
    int64_t number = 0;
    struct in6_addr parsed;
    if (length == 0) {
        return error_set(error, ERROR_INPUT, "\"%s\": write ADDRESS:PORT", text);
    }
    CLEANUP_FREE char *host = memory_string_n(start, length);
    if (inet_pton(is_bracketed ? AF_INET6 : AF_INET, host, &parsed) != 1) {
        return error_set(error, ERROR_INPUT, "\"%s\" is no IP address to listen on", host);
    }
    if (!option_integer(colon + 1, 0, UINT16_MAX, &number, error)) {
        return false;
    }
    *address = STEAL_PTR(host);
    *port = (uint16_t)number;
    return true;
}

bool option_log_format(const char *text, struct error **error) {
    if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0) {
        return error_set(error, ERROR_INPUT, "\"%s\" is neither text nor json", text);
    }
    log_configure_format(strcmp(text, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
    return true;
}

char *option_directory(const char *text, struct error **error) {
    CLEANUP_FREE char *path = realpath(text, NULL);
    struct stat status;
    if (path == NULL || stat(path, &status) != 0) {
        (void)error_set(error, ERROR_INPUT, "cannot use %s: %s", text, strerror(errno));
        return NULL;
    }
    if (!S_ISDIR(status.st_mode)) {
        (void)error_set(error, ERROR_INPUT, "%s is no directory", text);
        return NULL;
    }
    return STEAL_PTR(path);
}

const char *option_variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}
