/*
 * The glob tool: the walk of Node's fs.glob, a stack of directories each with the states of the
 * alternatives that are alive in it, over descriptors that cannot leave the search root.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tools/glob_pattern.h"
#include "tools/js.h"
#include "tools/path_text.h"
#include "tools/paths.h"
#include "tools/tools.h"

enum {
    RESULTS_LIMIT = 200,
    MATCHES_LIMIT = 50000,
    STATES_LIMIT = 4 * 1000 * 1000, /* directory states: a bound on memory and time */
};

/* A set of strings or numbers with open addressing; values are indexes that the caller gives. */
struct table {
    uint64_t *keys; /* 0 is an empty place */
    size_t size;    /* a power of two */
    size_t count;
};

/* Indexes of segments in the order they were added, as JavaScript's Set keeps them. */
struct indexes {
    unsigned *list;
    size_t count;
};

struct state {
    const struct glob_alternative *alternative;
    struct indexes indexes;
    struct indexes symlinks; /* those reached through a link under a "**" */
};

struct place {
    char *path; /* relative to the root, "." for the root */
    uint64_t hash;
    struct state *states;
    size_t count;
};

struct match {
    char *path;
    double mtime_ms;
    size_t order;
};

struct walk {
    const char *root; /* as shown */
    char *real_root;
    int root_fd;
    int workdir_fd; /* for the pruning rule; see is_pruned */
    struct glob_pattern *pattern;
    struct place *queue;
    size_t queued;
    struct place *next; /* places found while one is handled, in order of discovery */
    size_t next_count;
    struct table next_paths; /* of `next`: most places are new, and found so at once */
    struct table seen;       /* (path, suffix) */
    struct table results;    /* path */
    struct match *matches;
    size_t match_count;
    size_t looked_at;
    size_t states;
    bool stopped;
    char *open_path; /* of open_fd */
    int open_fd;     /* O_PATH of the directory looked at last */
};

struct entry {
    char *name;
    mode_t type; /* S_IFMT bits */
};

/* FNV-1a over a path, 64 bits: two paths of one walk that collide are not to be expected. */
static uint64_t hash_path(const char *path) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *path != '\0'; path++) {
        hash = (hash ^ (unsigned char)*path) * 0x100000001b3u;
    }
    return hash;
}

static uint64_t mix(uint64_t hash, unsigned suffix) {
    uint64_t key = (hash ^ ((uint64_t)suffix * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    key ^= key >> 32;
    return key == 0 ? 1 : key;
}

static bool table_has(const struct table *table, uint64_t key) {
    for (size_t i = key; table->size > 0; i++) {
        uint64_t found = table->keys[i & (table->size - 1)];
        if (found == key || found == 0) {
            return found == key;
        }
    }
    return false;
}

/* True when the key is new. */
static bool table_add(struct table *table, uint64_t key) {
    if (table_has(table, key)) {
        return false;
    }
    if ((table->count + 1) * 2 > table->size) {
        struct table larger = {.size = table->size > 0 ? table->size * 2 : 256};
        larger.keys = memory_zeroed(larger.size, sizeof larger.keys[0]);
        for (size_t i = 0; i < table->size; i++) {
            if (table->keys[i] != 0) {
                (void)table_add(&larger, table->keys[i]);
            }
        }
        free(table->keys);
        *table = larger;
    }
    size_t at = key & (table->size - 1);
    while (table->keys[at] != 0) {
        at = (at + 1) & (table->size - 1);
    }
    table->keys[at] = key;
    table->count++;
    return true;
}

static bool indexes_have(const struct indexes *indexes, size_t index) {
    for (size_t i = 0; i < indexes->count; i++) {
        if (indexes->list[i] == index) {
            return true;
        }
    }
    return false;
}

static void indexes_add(struct indexes *indexes, size_t index) {
    if (!indexes_have(indexes, index)) {
        indexes->list = memory_resize(indexes->list, indexes->count + 1, sizeof indexes->list[0]);
        indexes->list[indexes->count++] = (unsigned)index;
    }
}

static const struct glob_segment *segment_at(const struct state *state, size_t index) {
    return index < state->alternative->count ? &state->alternative->segments[index] : NULL;
}

static bool is_kind(const struct glob_segment *segment, enum glob_segment_kind kind) {
    return segment != NULL && segment->kind == kind;
}

static bool is_text(const struct glob_segment *segment, const char *text) {
    return is_kind(segment, GLOB_LITERAL) && strcmp(segment->name, text) == 0;
}

static bool tests(const struct state *state, size_t index, const char *name) {
    const struct glob_segment *segment = segment_at(state, index);
    return segment != NULL && glob_segment_matches(segment, name);
}

static unsigned suffix_at(const struct state *state, size_t index) {
    const struct glob_segment *segment = segment_at(state, index);
    return segment != NULL ? segment->suffix_id : 0;
}

static char *join(const char *path, const char *name) {
    if (*name == '\0' || strcmp(name, ".") == 0) {
        return memory_string(path);
    }
    return strcmp(path, ".") == 0 ? memory_string(name) : memory_format("%s/%s", path, name);
}

static int open_confined(const struct walk *walk, const char *path, int flags) {
    struct open_how how = {.flags = (unsigned)(flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    if (flags & O_PATH) {
        how.flags = (unsigned)(flags | O_CLOEXEC);
    }
    return (int)syscall(SYS_openat2, walk->root_fd, path, &how, sizeof how);
}

/* A directory below the root, -1 when it is none or lies outside. Links may lead about inside. */
static int open_directory(const struct walk *walk, const char *path, int flags) {
    int fd = open_confined(walk, path, flags | O_DIRECTORY);
    if (fd >= 0 || errno != EXDEV) {
        return fd;
    }
    /* An absolute link, or one that leaves and comes back: by the path it really leads to. */
    CLEANUP_FREE char *full = memory_format("%s/%s", walk->real_root, path);
    CLEANUP_FREE char *real = realpath(full, NULL);
    size_t length = strcmp(walk->real_root, "/") == 0 ? 0 : strlen(walk->real_root);
    if (real == NULL || strncmp(real, walk->real_root, length) != 0 ||
        (real[length] != '/' && real[length] != '\0')) {
        return -1;
    }
    return open_confined(walk, real[length] == '\0' ? "." : real + length + 1, flags | O_DIRECTORY);
}

/* O_PATH of a directory, kept for the next question about the same one. */
static int directory_of(struct walk *walk, const char *path) {
    if (walk->open_path == NULL || strcmp(walk->open_path, path) != 0) {
        free(walk->open_path);
        if (walk->open_fd >= 0) {
            (void)close(walk->open_fd);
        }
        walk->open_path = memory_string(path);
        walk->open_fd = open_directory(walk, path, O_PATH);
    }
    return walk->open_fd;
}

/* lstat of a path below the root; false when it is not there or not inside. */
static bool look(struct walk *walk, const char *path, struct stat *status) {
    if (strcmp(path, ".") == 0) {
        return walk->root_fd >= 0 && fstat(walk->root_fd, status) == 0;
    }
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *parent =
        slash != NULL ? memory_string_n(path, (size_t)(slash - path)) : memory_string(".");
    int fd = directory_of(walk, parent);
    return fd >= 0 &&
           fstatat(fd, slash != NULL ? slash + 1 : path, status, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A match of the pattern: counted once, kept when it is a regular file. */
static void add_result(struct walk *walk, const char *path) {
    struct stat status;
    if (walk->stopped || !table_add(&walk->results, mix(hash_path(path), 0))) {
        return;
    }
    if (walk->looked_at++ >= MATCHES_LIMIT) {
        walk->stopped = true;
        return;
    }
    if (!look(walk, path, &status) || !S_ISREG(status.st_mode)) {
        return;
    }
    const char *separator = strcmp(walk->root, "/") == 0 ? "" : "/";
    walk->matches = memory_resize(walk->matches, walk->match_count + 1, sizeof walk->matches[0]);
    walk->matches[walk->match_count] = (struct match){
        .path = strcmp(path, ".") == 0 ? memory_string(walk->root)
                                       : memory_format("%s%s%s", walk->root, separator, path),
        .mtime_ms =
            (double)status.st_mtim.tv_sec * 1000.0 + (double)status.st_mtim.tv_nsec / 1000000.0,
        .order = walk->match_count,
    };
    walk->match_count++;
}

static bool is_noise(const char *name) {
    return strcmp(name, ".git") == 0 || strcmp(name, "node_modules") == 0;
}

/*
 * The official worker asks its own directory, which is the workdir, whether the relative path
 * exists: without `path` that is always so.
 */
static bool is_pruned(const struct walk *walk, const char *path) {
    const char *slash = strrchr(path, '/');
    struct stat status;
    return is_noise(slash != NULL ? slash + 1 : path) &&
           (walk->workdir_fd < 0 ||
            fstatat(walk->workdir_fd, path, &status, AT_SYMLINK_NOFOLLOW) == 0);
}

static void free_state(struct state *state) {
    free(state->indexes.list);
    free(state->symlinks.list);
}

static void free_place(struct place *place) {
    for (size_t i = 0; i < place->count; i++) {
        free_state(&place->states[i]);
    }
    free(place->states);
    free(place->path);
}

/* Takes the state. */
static void enter_later(struct walk *walk, const char *path, struct state take_state) {
    uint64_t hash = hash_path(path);
    if (is_pruned(walk, path) || walk->states++ >= STATES_LIMIT) {
        free_state(&take_state);
        return;
    }
    bool is_new = table_add(&walk->next_paths, mix(hash, 0));
    size_t at = is_new ? 0 : walk->next_count;
    while (at > 0 &&
           (walk->next[at - 1].hash != hash || strcmp(walk->next[at - 1].path, path) != 0)) {
        at--;
    }
    if (at == 0) {
        walk->next = memory_resize(walk->next, walk->next_count + 1, sizeof walk->next[0]);
        walk->next[walk->next_count++] = (struct place){.path = memory_string(path), .hash = hash};
        at = walk->next_count;
    }
    struct place *place = &walk->next[at - 1];
    place->states = memory_resize(place->states, place->count + 1, sizeof place->states[0]);
    place->states[place->count++] = take_state;
}

/* What one entry adds: the states to enter it with. */
struct step {
    struct indexes enter;
    struct indexes symlinks;
};

static void step_starstar(struct walk *walk, const struct state *state, size_t index,
                          const struct entry *entry, const char *path, bool is_last,
                          struct step *step) {
    size_t last = state->alternative->count - 1;
    size_t beyond = index + 1;
    bool from_symlink = indexes_have(&state->symlinks, index);
    bool is_directory = S_ISDIR(entry->type);
    while (is_kind(segment_at(state, beyond), GLOB_STARSTAR)) {
        beyond++;
    }
    if ((entry->name[0] == '.' && !tests(state, beyond, entry->name)) || is_noise(entry->name)) {
        return;
    }
    bool next_matches = tests(state, index + 1, entry->name);
    if (!from_symlink && is_directory) {
        indexes_add(&step->enter, index);
    } else if (!from_symlink && index == last) {
        add_result(walk, path);
    }
    if (next_matches && index + 1 == last && !is_last) {
        add_result(walk, path);
    } else if (next_matches && is_directory) {
        indexes_add(&step->enter, index + 2);
    }
    if ((next_matches || is_text(segment_at(state, 0), ".")) &&
        (is_directory || S_ISLNK(entry->type)) && !from_symlink) {
        indexes_add(&step->enter, index + 1);
    }
    if (S_ISLNK(entry->type)) {
        indexes_add(&step->symlinks, index);
    }
}

static void step_literal(struct walk *walk, const struct state *state, size_t index,
                         const struct entry *entry, const char *path, struct step *step) {
    size_t last = state->alternative->count - 1;
    if (tests(state, index, entry->name) && index != last) {
        indexes_add(&step->enter, index + 1);
    } else if (is_text(segment_at(state, index), ".") && tests(state, index + 1, entry->name)) {
        if (index + 1 == last) {
            add_result(walk, path);
        } else {
            indexes_add(&step->enter, index + 2);
        }
    }
}

/* One entry of a directory for one state; false ends the directory for this state. */
static bool step_entry(struct walk *walk, const char *directory, const struct state *state,
                       bool is_last, const struct entry *entry) {
    CLEANUP_FREE char *path = join(directory, entry->name);
    uint64_t hash = hash_path(path);
    struct step step = {0};
    bool goes_on = true;
    for (size_t i = 0; i < state->indexes.count && goes_on; i++) {
        size_t index = state->indexes.list[i];
        const struct glob_segment *segment = segment_at(state, index);
        if (table_has(&walk->seen, mix(hash, suffix_at(state, index))) ||
            table_has(&walk->seen, mix(hash, suffix_at(state, index + 1)))) {
            goes_on = false;
        } else if (is_kind(segment, GLOB_STARSTAR)) {
            step_starstar(walk, state, index, entry, path, is_last, &step);
        } else if (is_kind(segment, GLOB_LITERAL)) {
            step_literal(walk, state, index, entry, path, &step);
        } else if (is_kind(segment, GLOB_MAGIC) && tests(state, index, entry->name)) {
            if (index + 1 == state->alternative->count) {
                add_result(walk, path);
            } else if (S_ISDIR(entry->type)) {
                indexes_add(&step.enter, index + 1);
            }
        }
    }
    struct state child = {state->alternative, step.enter, step.symlinks};
    if (goes_on && step.enter.count > 0) {
        enter_later(walk, path, child);
    } else {
        free_state(&child);
    }
    return goes_on;
}

static int compare_entries(const void *left, const void *right) {
    return strcmp(((const struct entry *)left)->name, ((const struct entry *)right)->name);
}

static mode_t type_of(int fd, const struct dirent *entry) {
    struct stat status;
    if (entry->d_type != DT_UNKNOWN) {
        return (mode_t)DTTOIF(entry->d_type);
    }
    return fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_mode & S_IFMT
                                                                         : 0;
}

/* The entries in byte order; none when the directory cannot be read. */
static struct entry *read_entries(const struct walk *walk, const char *path, size_t *count) {
    CLEANUP_CLOSE int fd = open_directory(walk, path, O_RDONLY);
    CLEANUP_DIR DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    struct entry *entries = NULL;
    size_t room = 0;
    *count = 0;
    if (directory == NULL) {
        return NULL;
    }
    (void)STEAL_FD(fd); /* the directory has it now */
    for (struct dirent *next = NULL; (next = readdir(directory)) != NULL;) {
        if (strcmp(next->d_name, ".") == 0 || strcmp(next->d_name, "..") == 0) {
            continue;
        }
        if (*count == room) {
            room = room * 2 + 16;
            entries = memory_resize(entries, room, sizeof entries[0]);
        }
        entries[(*count)++] =
            (struct entry){memory_string(next->d_name), type_of(dirfd(directory), next)};
    }
    if (*count > 0) {
        qsort(entries, *count, sizeof entries[0], compare_entries);
    }
    return entries;
}

static void step_children(struct walk *walk, const char *path, const struct state *state,
                          bool is_last) {
    const struct glob_segment *only =
        state->indexes.count == 1 ? segment_at(state, state->indexes.list[0]) : NULL;
    if (is_kind(only, GLOB_LITERAL)) {
        CLEANUP_FREE char *child = join(path, only->name);
        struct stat status;
        if (look(walk, child, &status)) {
            const struct entry entry = {only->name, status.st_mode & S_IFMT};
            (void)step_entry(walk, path, state, is_last, &entry);
        }
        return;
    }
    size_t count = 0;
    struct entry *entries = read_entries(walk, path, &count);
    bool goes_on = true;
    for (size_t i = 0; i < count; i++) {
        goes_on = goes_on && !walk->stopped && step_entry(walk, path, state, is_last, &entries[i]);
        free(entries[i].name);
    }
    free(entries);
}

/* True when every state of this kind was here before. */
static bool mark_seen(struct walk *walk, uint64_t hash, const struct state *state) {
    bool is_new = false;
    for (size_t i = 0; i < state->indexes.count; i++) {
        uint64_t key = mix(hash, suffix_at(state, state->indexes.list[i]));
        is_new = table_add(&walk->seen, key) || is_new;
    }
    return !is_new;
}

/* The end of a pattern reached in this directory; false when nothing below it is wanted. */
static bool step_last(struct walk *walk, const char *path, const struct state *state,
                      const struct glob_segment *final, bool is_directory, bool exists) {
    size_t last = state->alternative->count - 1;
    if (is_kind(final, GLOB_LITERAL)) {
        CLEANUP_FREE char *child = join(path, final->name);
        struct stat status;
        if (look(walk, child, &status) && (*final->name != '\0' || is_directory)) {
            add_result(walk, child);
        }
        return !(state->indexes.count == 1 && state->indexes.list[0] == last);
    }
    if (is_kind(final, GLOB_STARSTAR) &&
        (strcmp(path, ".") != 0 || is_text(segment_at(state, 0), ".") || (last == 0 && exists))) {
        add_result(walk, path);
    }
    return true;
}

static bool has_seen_symlinks(const struct state *state) {
    for (size_t i = 0; i < state->indexes.count; i++) {
        if (!indexes_have(&state->symlinks, state->indexes.list[i])) {
            return true;
        }
    }
    return false;
}

static void handle_state(struct walk *walk, const struct place *place, const struct state *state) {
    size_t last = state->alternative->count - 1;
    const struct glob_segment *final = segment_at(state, last);
    struct stat status = {0};
    if (mark_seen(walk, place->hash, state)) {
        return;
    }
    bool exists = look(walk, place->path, &status);
    bool is_directory = exists && (S_ISDIR(status.st_mode) ||
                                   (S_ISLNK(status.st_mode) && has_seen_symlinks(state)));
    bool is_last = indexes_have(&state->indexes, last) ||
                   (is_text(final, "") && is_directory && last > 0 &&
                    indexes_have(&state->indexes, last - 1) &&
                    is_kind(segment_at(state, last - 1), GLOB_STARSTAR));
    if (indexes_have(&state->indexes, 0) && is_text(segment_at(state, 0), ".")) {
        struct state child = {.alternative = state->alternative};
        indexes_add(&child.indexes, 1);
        enter_later(walk, ".", child);
        return;
    }
    bool goes_on = !is_last || step_last(walk, place->path, state, final, is_directory, exists);
    if (goes_on && is_directory && !walk->stopped) {
        step_children(walk, place->path, state, is_last);
    }
}

static void run(struct walk *walk) {
    for (size_t i = 0; i < walk->pattern->count; i++) {
        struct state state = {.alternative = &walk->pattern->alternatives[i]};
        indexes_add(&state.indexes, 0);
        enter_later(walk, ".", state);
    }
    while (walk->next_count > 0 || walk->queued > 0) {
        walk->queue =
            memory_resize(walk->queue, walk->queued + walk->next_count, sizeof walk->queue[0]);
        for (size_t i = 0; i < walk->next_count; i++) {
            walk->queue[walk->queued++] = walk->next[i];
        }
        walk->next_count = 0;
        free(walk->next_paths.keys);
        walk->next_paths = (struct table){0};
        struct place place = walk->queue[--walk->queued];
        for (size_t i = 0; i < place.count && !walk->stopped; i++) {
            handle_state(walk, &place, &place.states[i]);
        }
        free_place(&place);
    }
}

static int compare_matches(const void *left, const void *right) {
    const struct match *a = left;
    const struct match *b = right;
    if (a->mtime_ms > b->mtime_ms || a->mtime_ms < b->mtime_ms) {
        return a->mtime_ms > b->mtime_ms ? -1 : 1;
    }
    return (a->order > b->order) - (a->order < b->order);
}

static void answer(struct walk *walk, struct tool_result *result) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (walk->match_count > 0) {
        qsort(walk->matches, walk->match_count, sizeof walk->matches[0], compare_matches);
    }
    for (size_t i = 0; i < walk->match_count && i < RESULTS_LIMIT; i++) {
        buffer_append_string(&text, i > 0 ? "\n" : "");
        buffer_append_string(&text, walk->matches[i].path);
    }
    if (walk->match_count == 0) {
        buffer_append_string(&text, "no matches");
    }
    tool_result_text(result, false, text.data, text.length);
}

static void free_walk(struct walk *walk) {
    for (size_t i = 0; i < walk->match_count; i++) {
        free(walk->matches[i].path);
    }
    free(walk->matches);
    free(walk->queue);
    free(walk->next);
    free(walk->seen.keys);
    free(walk->next_paths.keys);
    free(walk->results.keys);
    free(walk->open_path);
    free(walk->real_root);
    if (walk->open_fd >= 0) {
        (void)close(walk->open_fd);
    }
    if (walk->workdir_fd >= 0) {
        (void)close(walk->workdir_fd);
    }
    glob_pattern_free(walk->pattern);
}

static bool can_ascend(const char *pattern) {
    while (true) {
        size_t length = strcspn(pattern, "\\/{},");
        if (length == 2 && memcmp(pattern, "..", 2) == 0) {
            return true;
        }
        if (pattern[length] == '\0') {
            return false;
        }
        pattern += length + 1;
    }
}

/* The official checks of `pattern`; false when the answer is given. */
static bool check_pattern(struct json_object *value, struct tool_result *result) {
    enum json_type type = json_object_get_type(value);
    if (!js_is_truthy(value)) {
        tool_result_error(result, "glob: pattern is required");
        return false;
    }
    if (type != json_type_string) {
        CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
        js_append_string(&text, value);
        CLEANUP_FREE char *received =
            type == json_type_array ? memory_string("an instance of Array")
            : type == json_type_object
                ? memory_string("an instance of Object")
                : memory_format("type %s (%s)", type == json_type_boolean ? "boolean" : "number",
                                buffer_string(&text));
        tool_result_error(
            result, "Error: The \"path\" argument must be of type string. Received %s", received);
        return false;
    }
    const char *pattern = json_object_get_string(value);
    if (*pattern == '/') {
        tool_result_error(result, "glob: absolute pattern not permitted; pass a relative pattern "
                                  "(and optionally path)");
        return false;
    }
    if (can_ascend(pattern)) {
        tool_result_error(result, "glob: \"..\" is not permitted in the pattern");
        return false;
    }
    return true;
}

static void search(const struct tool_context *context, const struct tool_path *confined,
                   const char *pattern, struct tool_result *result) {
    const char *reason = NULL;
    CLEANUP_FREE char *workdir = path_text_normalize(context->workdir);
    CLEANUP_CLOSE int root_fd =
        confined != NULL ? tool_path_open(confined, O_PATH, 0) : open(workdir, O_PATH | O_CLOEXEC);
    struct walk walk = {.root = confined != NULL ? confined->target : workdir,
                        .root_fd = root_fd,
                        .workdir_fd = -1,
                        .open_fd = -1};
    if (confined != NULL) {
        walk.workdir_fd = open(workdir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    walk.real_root = realpath(walk.root, NULL);
    walk.pattern = glob_pattern_new(pattern, &reason);
    if (walk.pattern == NULL) {
        tool_result_error(result, "glob: %s", reason);
    } else {
        if (root_fd >= 0 && walk.real_root != NULL) {
            run(&walk);
        }
        answer(&walk, result);
    }
    free_walk(&walk);
}

void tool_glob(const struct tool_context *context, struct json_object *input,
               struct tool_result *result) {
    struct json_object *pattern = json_get(input, "pattern");
    struct json_object *path = json_get(input, "path");
    bool has_path = js_is_truthy(path);
    CLEANUP_TOOL_PATH struct tool_path confined = {.root_fd = -1};
    if (!check_pattern(pattern, result) ||
        (has_path && !tool_path_resolve(context, path, &confined, result))) {
        return;
    }
    search(context, has_path ? &confined : NULL, json_object_get_string(pattern), result);
}
