/* The built-in search: a bounded walk in byte order with a descriptor for each open directory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tools/grep.h"
#include "tools/grep_regex.h"
#include "tools/utf16.h"
#include "tools/utf8.h"

enum {
    DEPTH_LIMIT = 40,
    ENTRIES_LIMIT = 50000,
    LINE_UNITS_LIMIT = 2000,
    /* No 2,000 units take more bytes than this in UTF-8. */
    LINE_BYTES_LIMIT = LINE_UNITS_LIMIT * 3,
    CHUNK_BYTES = 64 * 1024,
    TIME_LIMIT_S = 60,
};

struct search {
    const struct grep_regex *regex;
    struct buffer out;
    long budget; /* in units; what TOOLS_OUTPUT_LIMIT_UNITS leaves */
    unsigned hits;
    unsigned given_up; /* lines the pattern was too slow for */
    unsigned unreadable;
    int entries_left;
    struct timespec end;
    bool timed_out;
    bool stopped;
};

/* A directory on the way down. */
struct level {
    int fd;
    char **names;
    size_t count;
    size_t next;
    size_t path_length; /* of the path up to and with this directory */
};

/* The line being put together from chunks. */
struct line {
    char bytes[LINE_BYTES_LIMIT + 1];
    size_t length;
    bool is_too_long;
    bool after_return; /* a newline that comes next belongs to the break before */
    unsigned long number;
};

static bool is_over(struct search *search) {
    struct timespec now;
    if (!search->stopped && clock_gettime(CLOCK_MONOTONIC, &now) == 0 &&
        (now.tv_sec > search->end.tv_sec ||
         (now.tv_sec == search->end.tv_sec && now.tv_nsec >= search->end.tv_nsec))) {
        search->timed_out = true;
        search->stopped = true;
    }
    return search->stopped;
}

static void append_line(struct search *search, const char *text, size_t length) {
    if (search->out.length > 0) {
        buffer_append_char(&search->out, '\n');
    }
    buffer_append(&search->out, text, length);
}

static void append_note(struct search *search, const char *text) {
    append_line(search, text, strlen(text));
}

static void report(struct search *search, const char *path, const struct line *line) {
    CLEANUP_BUFFER struct buffer hit = BUFFER_EMPTY;
    buffer_append_format(&hit, "%s:%lu:", path, line->number);
    buffer_append(&hit, line->bytes, line->length);
    search->budget -= (long)utf8_units(hit.data, hit.length) + 1;
    search->hits++;
    if (search->budget < 0) {
        append_note(search, "[output truncated at 102400 bytes]");
        search->stopped = true;
    } else {
        append_line(search, hit.data, hit.length);
    }
}

static void end_line(struct search *search, const char *path, struct line *line) {
    uint16_t units[LINE_BYTES_LIMIT + 1];
    line->number++;
    size_t count = line->is_too_long ? 0 : utf16_decode(line->bytes, line->length, units);
    if (!line->is_too_long && count <= LINE_UNITS_LIMIT && !is_over(search)) {
        enum grep_match match = grep_regex_test(search->regex, units, count);
        search->given_up += match == GREP_MATCH_GAVE_UP;
        if (match == GREP_MATCH_YES) {
            report(search, path, line);
        }
    }
    line->length = 0;
    line->is_too_long = false;
}

static void add_bytes(struct line *line, const char *bytes, size_t length) {
    if (line->length + length > LINE_BYTES_LIMIT) {
        line->is_too_long = true;
        line->length = LINE_BYTES_LIMIT; /* something is there: the line has begun */
        return;
    }
    memcpy(line->bytes + line->length, bytes, length);
    line->length += length;
}

/* Lines end at "\n", "\r\n" or a lone "\r". */
static void add_chunk(struct search *search, const char *path, struct line *line, const char *chunk,
                      size_t length) {
    for (size_t at = 0; at < length && !search->stopped;) {
        if (line->after_return && chunk[at] == '\n') {
            at++;
        }
        line->after_return = false;
        size_t end = at;
        while (end < length && chunk[end] != '\n' && chunk[end] != '\r') {
            end++;
        }
        add_bytes(line, chunk + at, end - at);
        at = end;
        if (end < length) {
            line->after_return = chunk[end] == '\r';
            at++;
            end_line(search, path, line);
        }
    }
}

static void search_file(struct search *search, const char *path, int fd) {
    CLEANUP_FREE char *chunk = memory_zeroed(CHUNK_BYTES, 1);
    CLEANUP_FREE struct line *line = memory_new(struct line);
    while (!is_over(search)) {
        ssize_t got = read(fd, chunk, CHUNK_BYTES);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            if (line->length > 0) {
                end_line(search, path, line);
            }
            return;
        }
        add_chunk(search, path, line, chunk, (size_t)got);
        /* A binary file is read no further; what stands before the next break is dropped. */
        if (memchr(chunk, '\0', (size_t)got) != NULL) {
            return;
        }
    }
}

static int compare_names(const void *left, const void *right) {
    return strcmp(*(char *const *)left, *(char *const *)right);
}

static bool is_skipped(const char *name) {
    static const char *const names[] = {".", "..", ".git", "node_modules"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Takes the descriptor. An unreadable directory has no names. */
static void begin_level(struct level *level, int take_fd, size_t path_length) {
    *level = (struct level){.fd = take_fd, .path_length = path_length};
    int copy = fcntl(take_fd, F_DUPFD_CLOEXEC, 0);
    CLEANUP_DIR DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    size_t room = 0;
    if (directory == NULL && copy >= 0) {
        (void)close(copy);
    }
    for (struct dirent *entry = NULL; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (is_skipped(entry->d_name)) {
            continue;
        }
        if (level->count == room) {
            room = room * 2 + 16;
            level->names = memory_resize(level->names, room, sizeof level->names[0]);
        }
        level->names[level->count++] = memory_string(entry->d_name);
    }
    if (level->count > 0) {
        qsort(level->names, level->count, sizeof level->names[0], compare_names);
    }
}

static void end_level(struct level *level) {
    for (size_t i = 0; i < level->count; i++) {
        free(level->names[i]);
    }
    free(level->names);
    (void)close(level->fd);
}

/* Visits one entry: searches a file, or gives back a directory's descriptor to go down into. */
static int visit(struct search *search, const struct level *level, const char *name,
                 const char *path) {
    struct stat status;
    if (fstatat(level->fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))) {
        return -1;
    }
    /* Between the look and the opening the agent may swap the entry: nothing of that can block. */
    CLEANUP_CLOSE int fd =
        openat(level->fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        search->unreadable++;
        return -1;
    }
    if (S_ISDIR(status.st_mode)) {
        return STEAL_FD(fd);
    }
    if (S_ISREG(status.st_mode)) {
        search_file(search, path, fd);
    }
    return -1;
}

/* Takes root_fd. */
static void walk(struct search *search, const char *root, int take_root_fd) {
    struct level levels[DEPTH_LIMIT + 1];
    size_t depth = 1;
    CLEANUP_BUFFER struct buffer path = BUFFER_EMPTY;
    buffer_append_string(&path, strcmp(root, "/") == 0 ? "" : root);
    begin_level(&levels[0], take_root_fd, path.length);
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        if (level->next == level->count || is_over(search)) {
            end_level(level);
            depth--;
            continue;
        }
        if (search->entries_left-- <= 0) {
            search->stopped = true;
            continue;
        }
        const char *name = level->names[level->next++];
        buffer_truncate(&path, level->path_length);
        buffer_append_char(&path, '/');
        buffer_append_string(&path, name);
        int fd = visit(search, level, name, path.data);
        if (fd >= 0 && depth <= DEPTH_LIMIT) {
            begin_level(&levels[depth++], fd, path.length);
        } else if (fd >= 0) {
            (void)close(fd);
        }
    }
}

static void finish(struct search *search, struct tool_result *result) {
    if (search->timed_out && search->hits == 0) {
        tool_result_error(result, "grep: timed out after %ds", TIME_LIMIT_S);
        return;
    }
    if (search->timed_out) {
        append_note(search, "[the search was cut short after 60000 ms]");
    }
    if (search->hits == 0 && search->given_up == 0) {
        append_note(search, "no matches");
    }
    if (search->given_up > 0) {
        CLEANUP_FREE char *note = memory_format(
            "[%u line(s) not searched: the pattern backtracks too long on them]", search->given_up);
        append_note(search, note);
    }
    tool_result_text(result, false, buffer_string(&search->out), search->out.length);
}

void grep_walk_run(const char *pattern, size_t length, const struct grep_target *target,
                   struct tool_result *result) {
    const char *reason = NULL;
    CLEANUP_GREP_REGEX struct grep_regex *regex = grep_regex_new(pattern, length, &reason);
    if (regex == NULL) {
        CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
        buffer_append_string(&text, "grep: invalid regex: Invalid regular expression: /");
        buffer_append(&text, pattern, length);
        buffer_append_format(&text, "/: %s", reason);
        tool_result_text(result, true, text.data, text.length);
        return;
    }
    struct search search = {
        .regex = regex, .budget = TOOLS_OUTPUT_LIMIT_UNITS, .entries_left = ENTRIES_LIMIT};
    struct stat status;
    (void)clock_gettime(CLOCK_MONOTONIC, &search.end);
    search.end.tv_sec += TIME_LIMIT_S;
    if (target->fd >= 0 && fstat(target->fd, &status) == 0) {
        if (S_ISDIR(status.st_mode)) {
            int root_fd = fcntl(target->fd, F_DUPFD_CLOEXEC, 0);
            if (root_fd >= 0) {
                walk(&search, target->path, root_fd);
            }
        } else {
            search_file(&search, target->path, target->fd);
        }
    }
    finish(&search, result);
    buffer_free(&search.out);
}
