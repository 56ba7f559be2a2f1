/* Fuzzes what a session asks to have staged: an entry without a problem is of an allowed place, and
 * goes to a plain path that is not ours; whatever is wrong is said. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/unpack.h"
#include "orchestrator/stage_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true) {
    if (!is_true) {
        abort();
    }
}

static void check_entry(const struct stage_entry *entry, const struct stage_options *options) {
    require(entry->label != NULL);
    if (entry->problem != NULL) {
        return;
    }
    require(stage_check_allowed(options, &entry->url, NULL));
    require(*entry->path == '\0' ? entry->kind != STAGE_FILE : unpack_path_is_plain(entry->path));
    require(strcmp(entry->path, ".holt") != 0 && strncmp(entry->path, ".holt/", 6) != 0);
    require(strcmp(entry->url.host, "h") == 0 || strcmp(entry->url.scheme, "file") == 0);
    require(entry->url.file == NULL || strncmp(entry->url.file, "/d/", 3) == 0 ||
            strcmp(entry->url.file, "/d") == 0);
    require(entry->url.file == NULL || strstr(entry->url.file, "/../") == NULL);
    require(entry->ref == NULL || (*entry->ref != '-' && strpbrk(entry->ref, " :*^~\n") == NULL));
    require(entry->strip >= 0 && entry->strip <= STAGE_STRIP_LIMIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const prefixes[] = {"https://h/a", "http://h:8080", "file:///d"};
    const char *bytes = (const char *)data;
    CLEANUP_FREE char *text = memory_string_n(bytes, strnlen(bytes, size));
    CLEANUP_JSON struct json_object *metadata = json_object_new_object();
    struct url allowed[3];
    struct stage_plan plan;
    for (size_t i = 0; i < 3; i++) {
        require(url_parse(&allowed[i], NULL, prefixes[i], NULL));
    }
    const struct stage_options options = {.allowed = allowed, .allowed_count = 3};
    json_set_string(metadata, STAGE_KEY, text);
    (void)stage_plan_read(&plan, metadata, &options);
    require(plan.count <= STAGE_ENTRIES_LIMIT + 1);
    for (size_t i = 0; i < plan.count; i++) {
        check_entry(&plan.entries[i], &options);
    }
    stage_plan_free(&plan);
    /* The same text as a URL, which needs no quoting. */
    struct url url;
    if (url_parse(&url, NULL, text, NULL)) {
        require(url.file == NULL ? *url.host != '\0' : *url.host == '\0');
        url_free(&url);
    }
    for (size_t i = 0; i < 3; i++) {
        url_free(&allowed[i]);
    }
    return 0;
}
