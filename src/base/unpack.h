/*
 * Archives from elsewhere: zip and tar (plain, gzip, bzip2, xz, zstd ...) into a checked tree in
 * memory. Nothing is written to disk.
 *
 * The rules are those of the official worker for skills: an absolute member or one with ".." makes
 * the whole archive refused; links, devices and fifos are left out with what lies under their name;
 * recorded owners are ignored, and of the modes only whether a file is executable is kept; when
 * everything lies in one top folder, that is stripped.
 */
#ifndef HOLT_BASE_UNPACK_H
#define HOLT_BASE_UNPACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct unpack_limits {
    size_t total_bytes; /* of all files together */
    size_t file_bytes;
    size_t members; /* files and directories, implied ones too */
    bool keeps_top; /* a single top folder is not stripped */
};

enum { UNPACK_DEPTH_LIMIT = 64 };

struct unpacked_member {
    char *path; /* relative, plain components, UTF-8 */
    bool is_directory;
    bool has_children; /* a directory with something in it */
    bool is_executable;
    char *bytes; /* of a file; never NULL */
    size_t length;
};

/* Sorted by path, every directory before what is in it. */
struct unpacked {
    struct unpacked_member *members;
    size_t count;
};

/* Runs as long as the archive makes it: see unpack_process.h for archives of strangers. */
bool unpack_archive(const void *bytes, size_t length, const struct unpack_limits *limits,
                    struct unpacked *unpacked, struct error **error);
/* Whether a path is what unpack_archive promises: for those who get one second-hand. */
bool unpack_path_is_plain(const char *path);
void unpacked_free(struct unpacked *unpacked);
#define CLEANUP_UNPACKED CLEANUP(unpacked_free)

#endif
