/* What a session wants staged: a strict reader of a small schema. */
#include "orchestrator/stage_plan.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/memory.h"
#include "base/unpack.h"

enum { DIGEST_BYTES = 32, KEYS_LIMIT = 16, REF_LIMIT = 250, LABEL_URL_LIMIT = 200 };

static const char *const kind_names[] = {
    [STAGE_FILE] = "file", [STAGE_ARCHIVE] = "archive", [STAGE_GIT] = "git"};

void stage_digest(const void *bytes, size_t length, char digest[STAGE_DIGEST_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[DIGEST_BYTES] = {0};
    (void)EVP_Digest(bytes, length, raw, NULL, EVP_sha256(), NULL);
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        digest[2 * i] = digits[raw[i] >> 4];
        digest[2 * i + 1] = digits[raw[i] & 15];
    }
    digest[STAGE_DIGEST_SIZE - 1] = '\0';
}

/* What is allowed. */

bool stage_check_allowed(const struct stage_options *options, const struct url *url,
                         struct error **error) {
    if (options == NULL || options->allowed_count == 0) {
        return error_set(error, ERROR_DENIED,
                         "nothing may be staged here: the setting stage.allow is empty");
    }
    for (size_t i = 0; i < options->allowed_count; i++) {
        if (url_is_below(url, &options->allowed[i])) {
            return true;
        }
    }
    return error_set(error, ERROR_DENIED,
                     "%.*s is not allowed: it is below nothing that stage.allow lists",
                     (int)strcspn(url->text, "?"), url->text);
}

const struct stage_credential *stage_credential_of(const struct stage_options *options,
                                                   const struct url *url) {
    const struct stage_credential *best = NULL;
    for (size_t i = 0; i < options->credential_count; i++) {
        const struct stage_credential *credential = &options->credentials[i];
        if (url_is_below(url, &credential->prefix) &&
            (best == NULL || strlen(credential->prefix.path) > strlen(best->prefix.path))) {
            best = credential;
        }
    }
    return best;
}

/* One entry. */

static bool read_kind(struct stage_entry *entry, struct json_object *object, struct error **error) {
    const char *kind = json_get_string(object, "kind");
    for (size_t i = 0; kind != NULL && i < sizeof(kind_names) / sizeof(kind_names[0]); i++) {
        if (strcmp(kind, kind_names[i]) == 0) {
            entry->kind = (enum stage_kind)i;
            return true;
        }
    }
    return error_set(error, ERROR_INPUT, "kind is file, archive or git");
}

static bool check_keys(struct stage_entry *entry, struct json_object *object,
                       struct error **error) {
    static const struct {
        const char *key;
        bool is_string;
        bool is_of[3]; /* by kind */
    } keys[] = {
        {"kind", true, {true, true, true}},  {"url", true, {true, true, true}},
        {"path", true, {true, true, true}},  {"sha256", true, {true, true, false}},
        {"ref", true, {false, false, true}}, {"strip", false, {false, true, false}},
    };
    json_object_object_foreach(object, name, value) {
        size_t at = 0;
        while (at < sizeof(keys) / sizeof(keys[0]) && strcmp(keys[at].key, name) != 0) {
            at++;
        }
        if (at == sizeof(keys) / sizeof(keys[0]) || !keys[at].is_of[entry->kind]) {
            return error_set(error, ERROR_INPUT, "%s has no \"%.40s\"", kind_names[entry->kind],
                             name);
        }
        if (!json_object_is_type(value, keys[at].is_string ? json_type_string : json_type_int)) {
            return error_set(error, ERROR_INPUT, "%s is %s", name,
                             keys[at].is_string ? "a text" : "a number");
        }
    }
    return true;
}

static bool read_path(struct stage_entry *entry, struct json_object *object, struct error **error) {
    const char *path = json_get_string(object, "path");
    bool is_root = path == NULL || strcmp(path, "") == 0 || strcmp(path, ".") == 0;
    if (is_root && entry->kind == STAGE_FILE) {
        return error_set(error, ERROR_INPUT, "a file needs a path");
    }
    if (!is_root && !unpack_path_is_plain(path)) {
        return error_set(error, ERROR_INPUT, "path is relative to the workspace, without \"..\"");
    }
    if (!is_root && strncmp(path, ".holt", 5) == 0 && (path[5] == '\0' || path[5] == '/')) {
        return error_set(error, ERROR_INPUT, ".holt is not for staged files");
    }
    entry->path = memory_string(is_root ? "" : path);
    return true;
}

static bool read_sha256(struct stage_entry *entry, struct json_object *object,
                        struct error **error) {
    const char *sha256 = json_get_string(object, "sha256");
    if (sha256 == NULL) {
        return true;
    }
    if (strlen(sha256) != STAGE_DIGEST_SIZE - 1 ||
        strspn(sha256, "0123456789abcdef") != STAGE_DIGEST_SIZE - 1) {
        return error_set(error, ERROR_INPUT, "sha256 is 64 digits of 0-9a-f");
    }
    entry->sha256 = memory_string(sha256);
    return true;
}

/* What git could take for an option, a refspec or a pattern is no ref here. */
static bool read_ref(struct stage_entry *entry, struct json_object *object, struct error **error) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-@#+";
    const char *ref = json_get_string(object, "ref");
    if (ref == NULL) {
        return true;
    }
    size_t length = strnlen(ref, REF_LIMIT + 1);
    if (length == 0 || length > REF_LIMIT || strspn(ref, allowed) != length || *ref == '-' ||
        *ref == '+' || strstr(ref, "..") != NULL || strstr(ref, "@{") != NULL) {
        return error_set(error, ERROR_INPUT, "ref is a branch, a tag or a commit");
    }
    entry->ref = memory_string(ref);
    return true;
}

static bool read_strip(struct stage_entry *entry, struct json_object *object,
                       struct error **error) {
    entry->strip = json_get_int(object, "strip", 0);
    return (entry->strip >= 0 && entry->strip <= STAGE_STRIP_LIMIT) ||
           error_set(error, ERROR_INPUT, "strip is a number from 0 to %d", STAGE_STRIP_LIMIT);
}

static bool read_url(struct stage_entry *entry, struct json_object *object, struct error **error) {
    const char *url = json_get_string(object, "url");
    if (url == NULL) {
        return error_set(error, ERROR_INPUT, "it has no url");
    }
    return url_parse(&entry->url, NULL, url, error);
}

static void read_entry(struct stage_entry *entry, struct json_object *object,
                       const struct stage_options *options) {
    static bool (*const readers[])(struct stage_entry *, struct json_object *, struct error **) = {
        read_kind, check_keys, read_url, read_path, read_sha256, read_ref, read_strip,
    };
    struct error **problem = &entry->problem;
    size_t length = 0;
    const char *text = json_text(object, &length);
    stage_digest(text, length, entry->digest);
    if (!json_object_is_type(object, json_type_object)) {
        (void)error_set(problem, ERROR_INPUT, "an entry is an object");
    }
    for (size_t i = 0; *problem == NULL && i < sizeof(readers) / sizeof(readers[0]); i++) {
        (void)readers[i](entry, object, problem);
    }
    if (*problem == NULL) {
        (void)stage_check_allowed(options, &entry->url, problem);
    }
}

/* A query may hold what others should not see. */
static char *label_of(const struct stage_entry *entry, size_t number) {
    if (entry->url.text == NULL) {
        return memory_format("entry %zu", number);
    }
    size_t length = strcspn(entry->url.text, "?");
    return memory_format("entry %zu, %s %.*s", number, kind_names[entry->kind],
                         (int)(length < LABEL_URL_LIMIT ? length : LABEL_URL_LIMIT),
                         entry->url.text);
}

static struct stage_entry *add(struct stage_plan *plan) {
    plan->entries = memory_resize(plan->entries, plan->count + 1, sizeof(*plan->entries));
    struct stage_entry *entry = &plan->entries[plan->count++];
    *entry = (struct stage_entry){.kind = STAGE_FILE};
    return entry;
}

static void add_problem(struct stage_plan *plan, const char *label, const char *problem) {
    struct stage_entry *entry = add(plan);
    entry->label = memory_string(label);
    (void)error_set(&entry->problem, ERROR_INPUT, "%s", problem);
}

static void read_list(struct stage_plan *plan, const char *key, const char *text,
                      const struct stage_options *options) {
    CLEANUP_JSON struct json_object *list = NULL;
    if (!json_parse(text, strlen(text), &list, NULL) ||
        !json_object_is_type(list, json_type_array)) {
        add_problem(plan, key, "it is no JSON list of objects");
        return;
    }
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (plan->count == STAGE_ENTRIES_LIMIT) {
            add_problem(plan, key, "too many entries: the rest is left out");
            return;
        }
        struct stage_entry *entry = add(plan);
        read_entry(entry, json_object_array_get_idx(list, i), options);
        entry->label = label_of(entry, plan->count);
    }
}

bool stage_plan_read(struct stage_plan *plan, struct json_object *metadata,
                     const struct stage_options *options) {
    *plan = (struct stage_plan){0};
    for (int i = 0; i < KEYS_LIMIT; i++) {
        CLEANUP_FREE char *key =
            i == 0 ? memory_string(STAGE_KEY) : memory_format(STAGE_KEY ".%d", i);
        const char *text = json_get_string(metadata, key);
        if (text != NULL) {
            read_list(plan, key, text, options);
        }
    }
    return plan->count > 0;
}

void stage_plan_free(struct stage_plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        struct stage_entry *entry = &plan->entries[i];
        url_free(&entry->url);
        free(entry->path);
        free(entry->sha256);
        free(entry->ref);
        free(entry->label);
        error_free(entry->problem);
    }
    free(plan->entries);
    *plan = (struct stage_plan){0};
}
