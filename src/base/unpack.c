/* libarchive lists and reads the members; what they become is decided when all are known. */
#include "base/unpack.h"

#include <ctype.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"

enum {
    READ_SIZE = 64 * 1024,
    NAME_SHOWN = 200,
    /* Members that are left out count as well: a list of a million links ends too. */
    ENTRIES_PER_MEMBER = 2,
};

/* A member as it was found. */
struct found {
    char *path; /* without "." and empty components; "" for the root itself */
    bool is_directory, is_special, is_executable;
    struct buffer bytes;
};

struct unpacking {
    const struct unpack_limits *limits;
    struct archive *archive;
    bool is_zip;
    struct found *found;
    size_t count;
    size_t total_bytes;
    char chunk[READ_SIZE];
};

static bool refuse_library(struct archive *archive, struct error **error) {
    const char *text = archive_error_string(archive);
    return error_set(error, ERROR_INPUT, "the archive is damaged or of an unknown kind: %.*s",
                     NAME_SHOWN, text == NULL ? "no reason given" : text);
}

bool unpack_path_is_plain(const char *path) {
    size_t components = 0;
    for (const char *at = path;; at++) {
        size_t length = strcspn(at, "/");
        if (length == 0 || length > NAME_MAX || (length == 1 && at[0] == '.') ||
            (length == 2 && strncmp(at, "..", 2) == 0) || ++components > UNPACK_DEPTH_LIMIT) {
            return false;
        }
        at += length;
        if (*at == '\0') {
            return (size_t)(at - path) < PATH_MAX;
        }
    }
}

/* Absolute, or with a ".." between slashes of either kind. */
static bool is_unsafe(const char *name) {
    name += strspn(name, " \t\r\n\v\f");
    if (name[0] == '/') {
        return true;
    }
    for (;;) {
        size_t length = strcspn(name, "/\\");
        if (length == 2 && strncmp(name, "..", 2) == 0) {
            return true;
        }
        name += length;
        if (*name == '\0') {
            return false;
        }
        name++;
    }
}

/*
 * The official worker cannot leave out a link or device whose name its tools do not print as it is,
 * and refuses the archive then; so does this one, or the same skill would work here and not there.
 */
static bool is_excludable(const char *name, bool is_zip) {
    if (name[0] == '\0' || (is_zip && name[0] == '-')) {
        return false;
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (*at < 0x20 || *at > 0x7e || strchr("\\^#", *at) != NULL) {
            return false;
        }
    }
    return true;
}

/* Without "." and empty components; of a zip's names also without control characters, as unzip. */
static char *clean_path(const char *name, bool is_zip) {
    CLEANUP_BUFFER struct buffer printable = BUFFER_EMPTY;
    for (const char *at = name; *at != '\0'; at++) {
        if (!is_zip || !iscntrl((unsigned char)*at)) {
            buffer_append_char(&printable, *at);
        }
    }
    struct buffer path = BUFFER_EMPTY;
    for (const char *at = buffer_string(&printable); *at != '\0';) {
        size_t length = strcspn(at, "/");
        if (length > 0 && !(length == 1 && at[0] == '.')) {
            buffer_append_string(&path, path.length == 0 ? "" : "/");
            buffer_append(&path, at, length);
        }
        at += length;
        at += strspn(at, "/");
    }
    return buffer_take_string(&path);
}

static bool read_bytes(struct unpacking *unpacking, struct found *found, struct error **error) {
    for (;;) {
        la_ssize_t length = archive_read_data(unpacking->archive, unpacking->chunk, READ_SIZE);
        if (length < 0) {
            return refuse_library(unpacking->archive, error);
        }
        if (length == 0) {
            return true;
        }
        buffer_append(&found->bytes, unpacking->chunk, (size_t)length);
        unpacking->total_bytes += (size_t)length;
        if (found->bytes.length > unpacking->limits->file_bytes ||
            unpacking->total_bytes > unpacking->limits->total_bytes) {
            return error_set(error, ERROR_LIMIT, "the archive unpacks to too many bytes");
        }
    }
}

/* The name, valid UTF-8, or NULL. */
static const char *name_of(struct archive_entry *entry) {
    const char *name = archive_entry_pathname(entry);
    if (name == NULL) {
        name = archive_entry_pathname_utf8(entry);
    }
    return name != NULL && mbstowcs(NULL, name, 0) != (size_t)-1 ? name : NULL;
}

static bool take_entry(struct unpacking *unpacking, struct archive_entry *entry,
                       struct error **error) {
    const char *name = name_of(entry);
    if (name == NULL) {
        return error_set(error, ERROR_INPUT, "a member's name is not UTF-8");
    }
    mode_t type = archive_entry_filetype(entry);
    bool is_link = archive_entry_hardlink(entry) != NULL;
    struct found found = {
        .is_directory = type == AE_IFDIR,
        .is_special = is_link || (type != AE_IFREG && type != AE_IFDIR && type != 0),
        .is_executable = (archive_entry_perm(entry) & 0111) != 0,
    };
    if (found.is_special && !is_excludable(name, unpacking->is_zip)) {
        return error_set(error, ERROR_INPUT,
                         "refusing to extract archive: cannot safely exclude member \"%.*s\"",
                         NAME_SHOWN, name);
    }
    if (is_unsafe(name)) {
        return error_set(error, ERROR_INPUT, "refusing to extract unsafe archive member: %.*s",
                         NAME_SHOWN, name);
    }
    if (unpacking->count >= ENTRIES_PER_MEMBER * unpacking->limits->members) {
        return error_set(error, ERROR_LIMIT, "the archive has too many members");
    }
    found.path = clean_path(name, unpacking->is_zip);
    unpacking->found =
        memory_resize(unpacking->found, unpacking->count + 1, sizeof(*unpacking->found));
    unpacking->found[unpacking->count++] = found;
    if (found.path[0] != '\0' && !unpack_path_is_plain(found.path)) {
        return error_set(error, ERROR_LIMIT, "a member's path is too long or too deep");
    }
    return found.is_directory || found.is_special ||
           read_bytes(unpacking, &unpacking->found[unpacking->count - 1], error);
}

static bool read_entries(struct unpacking *unpacking, const void *bytes, size_t length,
                         struct error **error) {
    struct archive *archive = unpacking->archive;
    if (unpacking->is_zip) {
        (void)archive_read_support_format_zip_seekable(archive);
    } else {
        (void)archive_read_support_format_tar(archive);
        (void)archive_read_support_filter_gzip(archive);
        (void)archive_read_support_filter_bzip2(archive);
        (void)archive_read_support_filter_xz(archive);
        (void)archive_read_support_filter_lzma(archive);
        (void)archive_read_support_filter_zstd(archive);
        (void)archive_read_support_filter_compress(archive);
    }
    (void)archive_read_set_options(archive, "hdrcharset=UTF-8");
    if (archive_read_open_memory(archive, bytes, length) != ARCHIVE_OK) {
        return refuse_library(archive, error);
    }
    for (;;) {
        struct archive_entry *entry = NULL;
        int status = archive_read_next_header(archive, &entry);
        if (status == ARCHIVE_EOF) {
            return true;
        }
        /* A warning is about a name or an attribute: names are checked, attributes not used. */
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) {
            return refuse_library(archive, error);
        }
        if (!take_entry(unpacking, entry, error)) {
            return false;
        }
    }
}

/* What the members become. */

static int compare_members(const void *a, const void *b) {
    return strcmp(((const struct unpacked_member *)a)->path,
                  ((const struct unpacked_member *)b)->path);
}

/* The one folder that everything plain lies in, or NULL. */
static char *top_folder(const struct unpacking *unpacking) {
    const char *top = NULL;
    size_t length = 0;
    bool is_nested = false;
    for (size_t i = 0; i < unpacking->count; i++) {
        const struct found *found = &unpacking->found[i];
        if (found->is_special || found->path[0] == '\0') {
            continue;
        }
        size_t first = strcspn(found->path, "/");
        if (top == NULL) {
            top = found->path;
            length = first;
        } else if (first != length || strncmp(top, found->path, length) != 0) {
            return NULL;
        }
        is_nested = is_nested || found->path[first] == '/';
    }
    return is_nested ? memory_string_n(top, length) : NULL;
}

/* The names of what is left out. */
static struct json_object *excluded_names(const struct unpacking *unpacking) {
    struct json_object *names = json_object_new_object();
    for (size_t i = 0; i < unpacking->count; i++) {
        if (unpacking->found[i].is_special) {
            json_set_bool(names, unpacking->found[i].path, true);
        }
    }
    return names;
}

/* Left out by its own name or, in a tar, by that of a folder above it. */
static bool is_excluded(struct json_object *names, const char *path, bool is_zip) {
    if (json_object_object_get_ex(names, path, NULL)) {
        return true;
    }
    for (const char *slash = strchr(path, '/'); slash != NULL && !is_zip;
         slash = strchr(slash + 1, '/')) {
        CLEANUP_FREE char *above = memory_string_n(path, (size_t)(slash - path));
        if (json_object_object_get_ex(names, above, NULL)) {
            return true;
        }
    }
    return false;
}

struct growing {
    struct unpacked *unpacked;
    struct json_object *places; /* path -> index */
    size_t limit;
};

/* The member of that path, made when it is new; NULL with *error when it is of the other kind. */
static struct unpacked_member *place(struct growing *growing, const char *path, bool is_directory,
                                     struct error **error) {
    struct unpacked *unpacked = growing->unpacked;
    struct json_object *known = NULL;
    if (json_object_object_get_ex(growing->places, path, &known)) {
        struct unpacked_member *member = &unpacked->members[json_object_get_int64(known)];
        if (member->is_directory != is_directory) {
            (void)error_set(error, ERROR_INPUT, "%.*s is a file and a directory", NAME_SHOWN, path);
            return NULL;
        }
        return member;
    }
    if (unpacked->count >= growing->limit) {
        (void)error_set(error, ERROR_LIMIT, "the archive has too many members");
        return NULL;
    }
    unpacked->members =
        memory_resize(unpacked->members, unpacked->count + 1, sizeof(*unpacked->members));
    struct unpacked_member *member = &unpacked->members[unpacked->count];
    *member = (struct unpacked_member){.path = memory_string(path), .is_directory = is_directory};
    json_set_int(growing->places, path, (int64_t)unpacked->count++);
    return member;
}

/* Puts a member and the folders above it into the tree; a later one of a name replaces a file. */
static bool grow(struct growing *growing, struct found *found, struct error **error) {
    for (const char *slash = strchr(found->path, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        CLEANUP_FREE char *above = memory_string_n(found->path, (size_t)(slash - found->path));
        struct unpacked_member *folder = place(growing, above, true, error);
        if (folder == NULL) {
            return false;
        }
        folder->has_children = true;
    }
    struct unpacked_member *member = place(growing, found->path, found->is_directory, error);
    if (member == NULL) {
        return false;
    }
    if (!found->is_directory) {
        free(member->bytes);
        member->length = found->bytes.length;
        member->bytes = buffer_take_string(&found->bytes);
        member->is_executable = found->is_executable;
    }
    return true;
}

/* Drops the top folder and its name in front of all others. */
static void strip(struct unpacked *unpacked, const char *top) {
    size_t kept = 0;
    for (size_t i = 0; i < unpacked->count; i++) {
        struct unpacked_member *member = &unpacked->members[i];
        char *path = member->path;
        size_t length = strlen(top);
        if (path[length] == '\0') {
            free(path);
            continue;
        }
        member->path = memory_string(path + length + 1);
        free(path);
        unpacked->members[kept++] = *member;
    }
    unpacked->count = kept;
}

static bool build(struct unpacking *unpacking, struct unpacked *unpacked, struct error **error) {
    CLEANUP_FREE char *top = unpacking->limits->keeps_top ? NULL : top_folder(unpacking);
    CLEANUP_JSON struct json_object *excluded = excluded_names(unpacking);
    CLEANUP_JSON struct json_object *places = json_object_new_object();
    struct growing growing = {unpacked, places, unpacking->limits->members};
    for (size_t i = 0; i < unpacking->count; i++) {
        struct found *found = &unpacking->found[i];
        if (found->path[0] == '\0' || is_excluded(excluded, found->path, unpacking->is_zip)) {
            continue;
        }
        if (!grow(&growing, found, error)) {
            return false;
        }
    }
    if (top != NULL) {
        strip(unpacked, top);
    }
    if (unpacked->count > 0) {
        qsort(unpacked->members, unpacked->count, sizeof(*unpacked->members), compare_members);
    }
    return true;
}

bool unpack_archive(const void *bytes, size_t length, const struct unpack_limits *limits,
                    struct unpacked *unpacked, struct error **error) {
    static const char zip_magic[] = {'P', 'K', 3, 4};
    *unpacked = (struct unpacked){0};
    CLEANUP_FREE struct unpacking *unpacking = memory_new(struct unpacking);
    *unpacking = (struct unpacking){
        .limits = limits,
        .archive = archive_read_new(),
        .is_zip = length >= sizeof(zip_magic) && memcmp(bytes, zip_magic, sizeof(zip_magic)) == 0,
    };
    /* Names are UTF-8 whatever this process was started with. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 == (locale_t)0 ? utf8 : uselocale(utf8);
    bool is_good =
        read_entries(unpacking, bytes, length, error) && build(unpacking, unpacked, error);
    if (utf8 != (locale_t)0) {
        (void)uselocale(before);
        freelocale(utf8);
    }
    (void)archive_read_free(unpacking->archive);
    for (size_t i = 0; i < unpacking->count; i++) {
        free(unpacking->found[i].path);
        buffer_free(&unpacking->found[i].bytes);
    }
    free(unpacking->found);
    if (!is_good) {
        unpacked_free(unpacked);
    }
    return is_good;
}

void unpacked_free(struct unpacked *unpacked) {
    for (size_t i = 0; i < unpacked->count; i++) {
        free(unpacked->members[i].path);
        free(unpacked->members[i].bytes);
    }
    free(unpacked->members);
    *unpacked = (struct unpacked){0};
}
