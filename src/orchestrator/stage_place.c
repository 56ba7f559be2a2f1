/* Directories first, one after another; then files, a few at a time. */
#include "orchestrator/stage_place.h"

#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/memory.h"
#include "hand/operations.h"

enum { IN_FLIGHT = 8, DIRECTORY_MODE = 0755, FILE_MODE = 0644, EXECUTABLE_MODE = 0755 };

struct slot {
    struct stage_place *place;
    struct hand_request *request; /* NULL: free */
};

struct stage_place {
    struct hand_client *hand;
    char *root;
    char *folder;
    struct unpacked tree;
    size_t next;
    size_t busy;
    bool is_making; /* directories: what is beneath one waits for it */
    struct slot slots[IN_FLIGHT];
    void (*done)(void *context, const struct error *error);
    void *context;
};

static void place_free(struct stage_place *place) {
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        hand_request_cancel(place->slots[i].request);
    }
    unpacked_free(&place->tree);
    free(place->root);
    free(place->folder);
    free(place);
}

static void conclude(struct stage_place *place, const struct error *error) {
    void (*done)(void *context, const struct error *error) = place->done;
    void *context = place->context;
    place_free(place);
    done(context, error);
}

static void go_on(struct stage_place *place);

static void on_placed(struct slot *slot, const struct error *error) {
    struct stage_place *place = slot->place;
    slot->request = NULL;
    place->busy--;
    if (error != NULL) {
        conclude(place, error);
        return;
    }
    go_on(place);
}

static void on_put(void *context, const struct hand_file_status *status,
                   const struct error *error) {
    (void)status;
    on_placed(context, error);
}

static void on_made(void *context, bool changed, const struct error *error) {
    (void)changed;
    on_placed(context, error);
}

static char *path_in(const struct stage_place *place, const char *path) {
    return *place->folder == '\0' ? memory_string(path)
           : *path == '\0'        ? memory_string(place->folder)
                                  : memory_format("%s/%s", place->folder, path);
}

static struct slot *take_slot(struct stage_place *place) {
    struct slot *slot = place->slots;
    while (slot->request != NULL) {
        slot++;
    }
    place->busy++;
    return slot;
}

static void put(struct stage_place *place, const struct unpacked_member *member) {
    CLEANUP_FREE char *path = path_in(place, member->path);
    struct slot *slot = take_slot(place);
    unsigned mode = member->is_executable ? EXECUTABLE_MODE : FILE_MODE;
    slot->request = member->is_directory
                        ? hand_make(place->hand, place->root, path, DIRECTORY_MODE, on_made, slot)
                        : hand_put(place->hand, place->root, path, mode, member->bytes,
                                   member->length, on_put, slot);
}

static void go_on(struct stage_place *place) {
    size_t most = place->is_making ? 1 : IN_FLIGHT;
    for (; place->next < place->tree.count && place->busy < most; place->next++) {
        const struct unpacked_member *member = &place->tree.members[place->next];
        if (member->is_directory == place->is_making) {
            put(place, member);
        }
    }
    if (place->busy > 0) {
        return;
    }
    if (place->is_making) {
        place->is_making = false;
        place->next = 0;
        go_on(place);
        return;
    }
    conclude(place, NULL);
}

static void on_begun(void *context, bool changed, const struct error *error) {
    on_made(context, changed, error);
}

struct stage_place *stage_place_start(struct hand_client *hand, const char *root,
                                      const char *folder, struct unpacked *take_tree,
                                      void (*done)(void *context, const struct error *error),
                                      void *context) {
    struct stage_place *place = memory_new(struct stage_place);
    place->hand = hand;
    place->root = memory_string(root);
    place->folder = memory_string(folder);
    place->tree = *take_tree;
    *take_tree = (struct unpacked){0};
    place->done = done;
    place->context = context;
    place->is_making = true;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        place->slots[i].place = place;
    }
    struct slot *slot = take_slot(place);
    slot->request =
        hand_make(hand, root, *folder == '\0' ? NULL : folder, DIRECTORY_MODE, on_begun, slot);
    return place;
}

void stage_place_cancel(struct stage_place *take_place) {
    if (take_place != NULL) {
        place_free(take_place);
    }
}

/* Stripping. */

static int compare_members(const void *a, const void *b) {
    return strcmp(((const struct unpacked_member *)a)->path,
                  ((const struct unpacked_member *)b)->path);
}

static const char *without_first(const char *path, int64_t count) {
    for (; count > 0 && path != NULL; count--) {
        path = strchr(path, '/');
        path = path == NULL ? NULL : path + 1;
    }
    return path;
}

static void free_member(struct unpacked_member *member) {
    free(member->path);
    free(member->bytes);
}

bool stage_strip(struct unpacked *tree, int64_t count, struct error **error) {
    size_t kept = 0;
    for (size_t i = 0; i < tree->count; i++) {
        struct unpacked_member member = tree->members[i];
        const char *rest = without_first(member.path, count);
        if (rest == NULL) {
            free_member(&member);
            continue;
        }
        char *path = memory_string(rest);
        free(member.path);
        member.path = path;
        tree->members[kept++] = member;
    }
    tree->count = kept;
    if (kept == 0) {
        return error_set(error, ERROR_INPUT, "nothing is left of it");
    }
    qsort(tree->members, kept, sizeof(*tree->members), compare_members);
    for (size_t i = 1; i < kept; i++) {
        const struct unpacked_member *before = &tree->members[i - 1];
        const struct unpacked_member *member = &tree->members[i];
        if (strcmp(before->path, member->path) == 0 &&
            !(before->is_directory && member->is_directory)) {
            return error_set(error, ERROR_INPUT, "two of its files would be %s", member->path);
        }
    }
    return true;
}
