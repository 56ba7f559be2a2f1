/* Finds the hierarchies by reading what the kernel says is mounted, not by looking at paths. */
#include "sandbox/cgroup.h"

#include <string.h>

#include "base/memory.h"

enum { MOUNTINFO_ROOT = 3, MOUNTINFO_TARGET = 4, FIELD_LIMIT = 32 };

static const char *const controller_names[CGROUP_CONTROLLER_COUNT] = {"memory", "pids", "cpu"};

static bool has_word(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length) {
        bool begins = at == list || at[-1] == ',';
        if (begins && (at[length] == ',' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

/* The path of our group in the v1 hierarchy of `controller`, from lines "4:memory:/path". */
static char *own_group(const char *own_groups, const char *controller) {
    CLEANUP_FREE char *copy = memory_string(own_groups);
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *fields = line;
        (void)strsep(&fields, ":");
        const char *names = strsep(&fields, ":");
        if (names != NULL && fields != NULL && has_word(names, controller)) {
            return memory_string(fields);
        }
    }
    return memory_string("/");
}

/* Our group as a directory: the part of its path below what is mounted, below the mount point. */
static char *group_directory(const char *target, const char *mounted_root, const char *group) {
    size_t length = strcmp(mounted_root, "/") == 0 ? 0 : strlen(mounted_root);
    bool is_below = strncmp(group, mounted_root, length) == 0;
    const char *relative = is_below ? group + length : "";
    return memory_format("%s%s", target, strcmp(relative, "/") == 0 ? "" : relative);
}

static void read_mount(struct cgroup_layout *out, char **fields, size_t count, size_t separator,
                       const char *own_groups) {
    if (separator + 3 >= count || strchr(fields[MOUNTINFO_TARGET], '\\') != NULL) {
        return;
    }
    const char *type = fields[separator + 1];
    const char *super_options = fields[separator + 3];
    if (strcmp(type, "cgroup2") == 0 && out->v2_directory == NULL) {
        out->v2_directory = memory_string(fields[MOUNTINFO_TARGET]);
    }
    for (size_t i = 0; strcmp(type, "cgroup") == 0 && i < CGROUP_CONTROLLER_COUNT; i++) {
        if (out->v1_directories[i] == NULL && has_word(super_options, controller_names[i])) {
            CLEANUP_FREE char *group = own_group(own_groups, controller_names[i]);
            out->v1_directories[i] =
                group_directory(fields[MOUNTINFO_TARGET], fields[MOUNTINFO_ROOT], group);
        }
    }
}

void cgroup_layout_detect(struct cgroup_layout *out, const char *mountinfo,
                          const char *own_groups) {
    *out = (struct cgroup_layout){0};
    CLEANUP_FREE char *copy = memory_string(mountinfo);
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *fields[FIELD_LIMIT];
        size_t count = 0;
        size_t separator = FIELD_LIMIT;
        for (char *word = strsep(&line, " "); word != NULL && count < FIELD_LIMIT;
             word = strsep(&line, " ")) {
            if (strcmp(word, "-") == 0 && separator == FIELD_LIMIT && count > MOUNTINFO_TARGET) {
                separator = count;
            }
            fields[count++] = word;
        }
        read_mount(out, fields, count, separator, own_groups);
    }
}

void cgroup_layout_free(struct cgroup_layout *layout) {
    free(layout->v2_directory);
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        free(layout->v1_directories[i]);
    }
    *layout = (struct cgroup_layout){0};
}
