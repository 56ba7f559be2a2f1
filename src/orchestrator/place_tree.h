/*
 * Puts a tree that was unpacked in front into a sandbox, through hand.
 *
 * The folder is made anew: what was there is removed first. Directories get 0700, files 0644 or
 * 0755. Only a tree that is there already, file by file with the same size and mode, is left
 * alone: then a restarted daemon prepares a session again, and a call may be at work there.
 */
#ifndef HOLT_ORCHESTRATOR_PLACE_TREE_H
#define HOLT_ORCHESTRATOR_PLACE_TREE_H

#include "base/loop.h"
#include "base/unpack.h"
#include "hand/client.h"

struct place_tree;

/* The tree is moved out of *take_tree. `root` is absolute, `folder` plain and beneath it. `done` is
 * called once, later; on an error a part of the tree may be there. */
struct place_tree *place_tree_start(struct hand_client *hand, const char *root, const char *folder,
                                    struct unpacked *take_tree,
                                    void (*done)(void *context, const struct error *error),
                                    void *context);
/* Ends it without `done`; before the hand client is freed. NULL is fine. */
void place_tree_cancel(struct place_tree *take_tree);

#endif
