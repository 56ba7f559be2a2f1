/* Skills from a directory: each entry, a tree or an archive, is one; read anew for each request. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <openssl/evp.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "emulator/internal.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

enum {
    ARCHIVE_LIMIT = 64 * 1024 * 1024,
    DIGEST_SHOWN = 12, /* bytes of a version id */
    MILLISECONDS = 1000,
};

/* One skill as it is on disk now. */
struct skill {
    char *id;
    char *version_id; /* says what is in it */
    char created_at[CLOCK_TIMESTAMP_SIZE];
    struct buffer archive;
};

static void skill_free(struct skill *skill) {
    free(skill->id);
    free(skill->version_id);
    buffer_free(&skill->archive);
}
#define CLEANUP_SKILL CLEANUP(skill_free)

/* A tree as a zip. */

static la_ssize_t append_bytes(struct archive *archive, void *context, const void *bytes,
                               size_t length) {
    struct buffer *out = context;
    if (out->length + length > ARCHIVE_LIMIT) {
        archive_set_error(archive, EFBIG, "over %d bytes", ARCHIVE_LIMIT);
        return -1;
    }
    buffer_append(out, bytes, length);
    return (la_ssize_t)length;
}

/* The same tree gives the same bytes: no time and no owner of the disk is in them. */
static bool add_node(struct archive *archive, const FTSENT *node, const char *path) {
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_mode(entry, node->fts_statp->st_mode);
    archive_entry_set_mtime(entry, 1767225600, 0);
    if (node->fts_info == FTS_F) {
        if (!io_read_file(AT_FDCWD, node->fts_accpath, &bytes, ARCHIVE_LIMIT, NULL)) {
            archive_entry_free(entry);
            return false;
        }
        archive_entry_set_size(entry, (la_int64_t)bytes.length);
    } else if (node->fts_info == FTS_SL || node->fts_info == FTS_SLNONE) {
        char target[PATH_MAX] = "";
        (void)!readlink(node->fts_accpath, target, sizeof(target) - 1);
        archive_entry_set_symlink(entry, target);
    }
    bool is_good = archive_write_header(archive, entry) == ARCHIVE_OK &&
                   (bytes.length == 0 || archive_write_data(archive, bytes.data, bytes.length) ==
                                             (la_ssize_t)bytes.length);
    archive_entry_free(entry);
    return is_good;
}

static int compare_nodes(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool add_tree(struct archive *archive, const char *root, const char *name) {
    char *paths[] = {(char *)(uintptr_t)root, NULL};
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, compare_nodes);
    bool is_good = walk != NULL;
    for (FTSENT *node = NULL; is_good && (node = fts_read(walk)) != NULL;) {
        bool is_wanted = node->fts_info == FTS_D || node->fts_info == FTS_F ||
                         node->fts_info == FTS_SL || node->fts_info == FTS_SLNONE;
        CLEANUP_FREE char *path = memory_format("%s%s", name, node->fts_path + strlen(root));
        is_good = !is_wanted || add_node(archive, node, path);
    }
    if (walk != NULL) {
        (void)fts_close(walk);
    }
    return is_good;
}

static bool zip_tree(const char *root, const char *name, struct buffer *out) {
    struct archive *archive = archive_write_new();
    /* Names are UTF-8 whatever this process was started with. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 == (locale_t)0 ? utf8 : uselocale(utf8);
    bool is_good = archive_write_set_format_zip(archive) == ARCHIVE_OK &&
                   archive_write_set_options(archive, "hdrcharset=UTF-8") <= ARCHIVE_OK &&
                   archive_write_set_bytes_in_last_block(archive, 1) == ARCHIVE_OK &&
                   archive_write_open(archive, out, NULL, append_bytes, NULL) == ARCHIVE_OK &&
                   add_tree(archive, root, name);
    is_good = archive_write_close(archive) == ARCHIVE_OK && is_good;
    (void)archive_write_free(archive);
    if (utf8 != (locale_t)0) {
        (void)uselocale(before);
        freelocale(utf8);
    }
    return is_good;
}

/* Finding them. */

/* The id of an entry of the directory: its name without what says that it is an archive; or NULL.
 */
static char *id_of(const char *entry) {
    static const char *const endings[] = {".zip",    ".tar",     ".tar.gz", ".tgz",
                                          ".tar.xz", ".tar.bz2", ".tar.zst"};
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strspn(entry, allowed);
    bool is_id = length > 0 && entry[length] == '\0';
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        is_id = is_id || (length > 0 && strcmp(entry + length, endings[i]) == 0);
    }
    return is_id ? memory_string_n(entry, length) : NULL;
}

static void set_version(struct skill *skill) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (EVP_Digest(buffer_string(&skill->archive), skill->archive.length, digest, &size,
                   EVP_sha256(), NULL) != 1) {
        size = 0;
    }
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append_string(&text, "skillver_");
    for (size_t i = 0; i < size && i < DIGEST_SHOWN; i++) {
        buffer_append_format(&text, "%02x", digest[i]);
    }
    skill->version_id = buffer_take_string(&text);
}

/* Reads an entry of the directory if it is a skill. */
static bool load(const char *directory, const char *entry, struct skill *skill) {
    *skill = (struct skill){.id = id_of(entry)};
    CLEANUP_FREE char *path = memory_format("%s/%s", directory, entry);
    struct stat status;
    if (skill->id == NULL || stat(path, &status) != 0) {
        return false;
    }
    bool is_read = S_ISDIR(status.st_mode)
                       ? zip_tree(path, skill->id, &skill->archive)
                       : strcmp(entry, skill->id) != 0 && S_ISREG(status.st_mode) &&
                             io_read_file(AT_FDCWD, path, &skill->archive, ARCHIVE_LIMIT, NULL);
    if (!is_read) {
        log_warn("%s cannot be served as a skill", path);
        return false;
    }
    clock_format_rfc3339((int64_t)status.st_mtim.tv_sec * MILLISECONDS, skill->created_at);
    set_version(skill);
    return true;
}

/* Calls `visit` for each skill until it returns false, in no order. */
static void each_skill(struct emulator *emulator, bool (*visit)(void *context, struct skill *skill),
                       const char *only_id, void *context) {
    CLEANUP_DIR DIR *directory =
        emulator->skills_directory == NULL ? NULL : opendir(emulator->skills_directory);
    struct dirent *entry = NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        CLEANUP_FREE char *id = id_of(entry->d_name);
        if (id == NULL || (only_id != NULL && strcmp(id, only_id) != 0)) {
            continue;
        }
        CLEANUP_SKILL struct skill skill;
        if (load(emulator->skills_directory, entry->d_name, &skill) && !visit(context, &skill)) {
            return;
        }
    }
}

static bool take_skill(void *context, struct skill *skill) {
    struct skill *found = context;
    *found = *skill;
    *skill = (struct skill){0};
    return false;
}

/* The skill that the request is about; false after an error was answered. */
static bool find(struct request *request, struct skill *skill) {
    *skill = (struct skill){0};
    each_skill(request->emulator, take_skill, request->ids[0], skill);
    const char *version = request->ids[1];
    if (skill->id != NULL && (version == NULL || strcmp(version, "latest") == 0 ||
                              strcmp(version, skill->version_id) == 0)) {
        return true;
    }
    reply_error(request, 404, "%s not found", skill->id == NULL ? request->ids[0] : version);
    return false;
}

/* What the API shows. */

static struct json_object *skill_json(const struct skill *skill) {
    struct json_object *source = json_object_new_object();
    json_set_string(source, "type", "custom");
    struct json_object *json = json_object_new_object();
    json_set_string(json, "type", "skill");
    json_set_string(json, "id", skill->id);
    json_set_string(json, "display_name", skill->id);
    json_set_string(json, "latest_version_id", skill->version_id);
    json_set(json, "source", source);
    json_set_string(json, "created_at", skill->created_at);
    json_set_string(json, "updated_at", skill->created_at);
    return json;
}

static struct json_object *version_json(const struct skill *skill) {
    struct json_object *json = json_object_new_object();
    json_set_string(json, "type", "skill_version");
    json_set_string(json, "id", skill->version_id);
    json_set_string(json, "skill_id", skill->id);
    json_set_string(json, "name", skill->id);
    json_set_string(json, "description", "");
    json_set_string(json, "created_at", skill->created_at);
    return json;
}

static bool add_skill(void *context, struct skill *skill) {
    (void)json_object_array_add(context, skill_json(skill));
    return true;
}

void skill_list(struct request *request) {
    struct json_object *all = json_object_new_array();
    each_skill(request->emulator, add_skill, NULL, all);
    reply_page(request, all, false);
}

void skill_get(struct request *request) {
    CLEANUP_SKILL struct skill skill;
    if (find(request, &skill)) {
        reply(request, skill_json(&skill));
    }
}

void skill_versions(struct request *request) {
    CLEANUP_SKILL struct skill skill;
    if (find(request, &skill)) {
        struct json_object *all = json_object_new_array();
        (void)json_object_array_add(all, version_json(&skill));
        reply_page(request, all, false);
    }
}

void skill_version(struct request *request) {
    CLEANUP_SKILL struct skill skill;
    if (find(request, &skill)) {
        reply(request, version_json(&skill));
    }
}

void skill_content(struct request *request) {
    CLEANUP_SKILL struct skill skill;
    if (find(request, &skill)) {
        http_reply_bytes(request->exchange, 200, "application/binary",
                         buffer_string(&skill.archive), skill.archive.length);
    }
}
