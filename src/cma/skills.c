/* Two requests for a skill: the version, which resolves an alias and has the name, and its bytes.
 */
#include "cma/skills.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cma/work_queue.h"

#define LOG_ROOM "cma"
#include "base/log.h"

enum { CONTENT_TIMEOUT_MS = 180000 };

struct skill_download {
    struct api *api;
    char *skill_id;
    char *version_id;
    char *directory;
    struct api_call *call;
    skill_downloaded done;
    void *context;
};

size_t skills_of_session(struct json_object *session, struct skill_reference skills[SKILLS_LIMIT]) {
    struct json_object *array = json_get_array(json_get_object(session, "agent"), "skills");
    size_t total = array == NULL ? 0 : json_object_array_length(array);
    size_t count = 0;
    for (size_t i = 0; i < total; i++) {
        struct json_object *entry = json_object_array_get_idx(array, i);
        const char *version = json_get_string(entry, "version");
        const char *skill_id = json_get_string(entry, "skill_id");
        /* The id goes into a path, on the server's side and on ours. */
        if (skill_id == NULL || !work_id_is_valid(skill_id) || count == SKILLS_LIMIT) {
            log_warn("a skill is left out: %s",
                     count == SKILLS_LIMIT ? "the session has too many" : "its id is no id");
            continue;
        }
        skills[count++] = (struct skill_reference){skill_id, version == NULL ? "latest" : version};
    }
    return count;
}

static bool is_space(char c) {
    return strchr(" \t\r\n\v\f", c) != NULL && c != '\0';
}

char *skill_directory_name(const char *name) {
    while (is_space(*name)) {
        name++;
    }
    size_t length = strlen(name);
    while (length > 0 && is_space(name[length - 1])) {
        length--;
    }
    while (length > 0 && name[length - 1] == '/') {
        length--;
    }
    size_t start = length;
    while (start > 0 && name[start - 1] != '/') {
        start--;
    }
    CLEANUP_FREE char *component = memory_string_n(name + start, length - start);
    bool is_usable = component[0] != '\0' && strcmp(component, ".") != 0 &&
                     strcmp(component, "..") != 0 && strlen(component) <= NAME_MAX;
    return is_usable ? STEAL_PTR(component) : NULL;
}

static void download_free(struct skill_download *download) {
    api_call_cancel(download->call);
    free(download->skill_id);
    free(download->version_id);
    free(download->directory);
    free(download);
}

static void conclude(struct skill_download *download, const struct api_answer *answer,
                     const struct error *error) {
    struct skill_content content = {.directory = download->directory,
                                    .version_id = download->version_id,
                                    .bytes = answer->bytes,
                                    .length = answer->length};
    skill_downloaded done = download->done;
    void *context = download->context;
    done(context, error == NULL ? &content : NULL, error);
    download_free(download);
}

static void on_content(void *context, const struct api_answer *answer) {
    struct skill_download *download = context;
    download->call = NULL;
    conclude(download, answer, answer->error);
}

static char *version_path(const char *skill_id, const char *version, const char *rest) {
    struct buffer path = BUFFER_EMPTY;
    buffer_append_string(&path, "/v1/skills/");
    buffer_append_percent_encoded(&path, skill_id);
    buffer_append_string(&path, "/versions/");
    buffer_append_percent_encoded(&path, version);
    buffer_append_string(&path, rest);
    return buffer_take_string(&path);
}

static void on_version(void *context, const struct api_answer *answer) {
    struct skill_download *download = context;
    download->call = NULL;
    if (answer->error != NULL) {
        conclude(download, answer, answer->error);
        return;
    }
    const char *id = json_get_string(answer->body, "id");
    const char *name = json_get_string(answer->body, "name");
    if (id == NULL || !work_id_is_valid(id) || name == NULL) {
        CLEANUP_ERROR struct error *error = NULL;
        (void)error_set(&error, ERROR_PROTOCOL, "the version has no id or name");
        conclude(download, answer, error);
        return;
    }
    download->version_id = memory_string(id);
    download->directory = skill_directory_name(name);
    if (download->directory == NULL) {
        download->directory = memory_string(download->skill_id);
    }
    CLEANUP_FREE char *path = version_path(download->skill_id, id, "/content");
    download->call =
        api_call_start(download->api, &(struct api_request){.method = "GET",
                                                            .path = path,
                                                            .retries = API_RETRIES,
                                                            .timeout_ms = CONTENT_TIMEOUT_MS,
                                                            .response_limit = SKILL_ARCHIVE_LIMIT,
                                                            .is_raw = true,
                                                            .done = on_content,
                                                            .context = download});
}

struct skill_download *skill_download_start(struct api *api, const struct skill_reference *skill,
                                            skill_downloaded done, void *context) {
    struct skill_download *download = memory_new(struct skill_download);
    download->api = api;
    download->skill_id = memory_string(skill->skill_id);
    download->done = done;
    download->context = context;
    CLEANUP_FREE char *path = version_path(skill->skill_id, skill->version, "");
    download->call = api_call_start(api, &(struct api_request){.method = "GET",
                                                               .path = path,
                                                               .retries = API_RETRIES,
                                                               .done = on_version,
                                                               .context = download});
    return download;
}

void skill_download_cancel(struct skill_download *take_download) {
    if (take_download != NULL) {
        download_free(take_download);
    }
}
