/* List, remove, make, then a few members at a time: every step is one answer of hand. */
#include "orchestrator/place_tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "hand/operations.h"

enum {
    IN_FLIGHT = 8,
    DIRECTORY_MODE = 0700,
    FILE_MODE = 0644,
    EXECUTABLE_MODE = 0755,
};

/* One operation under way. */
struct slot {
    struct place_tree *tree;
    struct hand_request *request; /* NULL: free */
};

struct place_tree {
    struct hand_client *hand;
    char *root;
    char *folder;
    struct unpacked members;
    size_t next;
    size_t busy;
    struct slot slots[IN_FLIGHT];
    void (*done)(void *context, const struct error *error);
    void *context;
};

static void tree_free(struct place_tree *tree) {
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        hand_request_cancel(tree->slots[i].request);
    }
    unpacked_free(&tree->members);
    free(tree->root);
    free(tree->folder);
    free(tree);
}

/* Everything still under way is given up. */
static void conclude(struct place_tree *tree, const struct error *error) {
    void (*done)(void *context, const struct error *error) = tree->done;
    void *context = tree->context;
    tree_free(tree);
    done(context, error);
}

static struct slot *take_slot(struct place_tree *tree) {
    struct slot *slot = tree->slots;
    while (slot->request != NULL) {
        slot++;
    }
    tree->busy++;
    return slot;
}

static struct place_tree *free_slot(struct slot *slot) {
    slot->request = NULL;
    slot->tree->busy--;
    return slot->tree;
}

static unsigned mode_of(const struct unpacked_member *member) {
    return member->is_executable ? EXECUTABLE_MODE : FILE_MODE;
}

/* The members. */

static void put_members(struct place_tree *tree);

static void on_member(struct slot *slot, const struct error *error) {
    struct place_tree *tree = free_slot(slot);
    if (error != NULL) {
        conclude(tree, error);
        return;
    }
    put_members(tree);
}

static void on_put(void *context, const struct hand_file_status *status,
                   const struct error *error) {
    (void)status;
    on_member(context, error);
}

static void on_made(void *context, bool changed, const struct error *error) {
    (void)changed;
    on_member(context, error);
}

static void put_member(struct place_tree *tree, const struct unpacked_member *member) {
    CLEANUP_FREE char *path = memory_format("%s/%s", tree->folder, member->path);
    struct slot *slot = take_slot(tree);
    slot->request = member->is_directory
                        ? hand_make(tree->hand, tree->root, path, DIRECTORY_MODE, on_made, slot)
                        : hand_put(tree->hand, tree->root, path, mode_of(member), member->bytes,
                                   member->length, on_put, slot);
}

static void put_members(struct place_tree *tree) {
    while (tree->next < tree->members.count && tree->busy < IN_FLIGHT) {
        const struct unpacked_member *member = &tree->members.members[tree->next++];
        if (!member->has_children) { /* others are made by what is in them */
            put_member(tree, member);
        }
    }
    if (tree->busy == 0) {
        conclude(tree, NULL);
    }
}

/* The folder. */

static void on_folder_made(void *context, bool changed, const struct error *error) {
    (void)changed;
    struct place_tree *tree = free_slot(context);
    if (error != NULL) {
        conclude(tree, error);
        return;
    }
    put_members(tree);
}

static void on_folder_removed(void *context, bool changed, const struct error *error) {
    (void)changed;
    struct place_tree *tree = free_slot(context);
    if (error != NULL) {
        conclude(tree, error);
        return;
    }
    struct slot *slot = take_slot(tree);
    slot->request =
        hand_make(tree->hand, tree->root, tree->folder, DIRECTORY_MODE, on_folder_made, slot);
}

static int compare_listed(const void *a, const void *b) {
    return strcmp(((const struct hand_listed_file *)a)->path,
                  ((const struct hand_listed_file *)b)->path);
}

static bool is_there(const struct place_tree *tree, const struct hand_listed_file *files,
                     size_t count) {
    CLEANUP_FREE struct hand_listed_file *sorted = memory_zeroed(count + 1, sizeof(*sorted));
    for (size_t i = 0; i < count; i++) {
        sorted[i] = files[i];
    }
    qsort(sorted, count, sizeof(*sorted), compare_listed);
    size_t at = 0;
    for (size_t i = 0; i < tree->members.count; i++) {
        const struct unpacked_member *member = &tree->members.members[i];
        if (member->is_directory) {
            continue;
        }
        if (at == count || strcmp(sorted[at].path, member->path) != 0 ||
            sorted[at].status.size != (int64_t)member->length ||
            sorted[at].status.mode != mode_of(member)) {
            return false;
        }
        at++;
    }
    return at == count && count > 0;
}

static void on_listed(void *context, const struct hand_listed_file *files, size_t count,
                      size_t dropped, const struct error *error) {
    struct place_tree *tree = free_slot(context);
    if (error == NULL && dropped == 0 && is_there(tree, files, count)) {
        conclude(tree, NULL);
        return;
    }
    struct slot *slot = take_slot(tree);
    slot->request =
        hand_remove(tree->hand, tree->root, tree->folder, true, on_folder_removed, slot);
}

struct place_tree *place_tree_start(struct hand_client *hand, const char *root, const char *folder,
                                    struct unpacked *take_tree,
                                    void (*done)(void *context, const struct error *error),
                                    void *context) {
    struct place_tree *tree = memory_new(struct place_tree);
    tree->hand = hand;
    tree->root = memory_string(root);
    tree->folder = memory_string(folder);
    tree->members = *take_tree;
    *take_tree = (struct unpacked){0};
    tree->done = done;
    tree->context = context;
    for (size_t i = 0; i < IN_FLIGHT; i++) {
        tree->slots[i].tree = tree;
    }
    CLEANUP_FREE char *place = memory_format("%s/%s", root, folder);
    struct slot *slot = take_slot(tree);
    slot->request = hand_list(hand, place, tree->members.count + 1, on_listed, slot);
    return tree;
}

void place_tree_cancel(struct place_tree *take_tree) {
    if (take_tree != NULL) {
        tree_free(take_tree);
    }
}
