/* Puts a checked tree into a workspace, through hand, over what is there already. */
#ifndef HOLT_ORCHESTRATOR_STAGE_PLACE_H
#define HOLT_ORCHESTRATOR_STAGE_PLACE_H

#include "base/unpack.h"
#include "hand/client.h"

struct stage_place;

/*
 * The tree is moved out of *take_tree. `root` is absolute; `folder` is plain and beneath it, or ""
 * for the root itself. Directories get 0755, files 0644 or 0755. `done` is called once, later; on
 * an error a part of the tree may be there.
 */
struct stage_place *stage_place_start(struct hand_client *hand, const char *root,
                                      const char *folder, struct unpacked *take_tree,
                                      void (*done)(void *context, const struct error *error),
                                      void *context);
/* Ends it without `done`; before the hand client is freed. NULL is fine. */
void stage_place_cancel(struct stage_place *take_place);

/* Drops the first `count` components of every path, and what has no more than these. ERROR_INPUT
 * when two files get one name, or nothing is left. */
bool stage_strip(struct unpacked *tree, int64_t count, struct error **error);

#endif
