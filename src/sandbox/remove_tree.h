/* Removal of a directory tree that an agent has filled: nothing in it is trusted. */
#ifndef HOLT_SANDBOX_REMOVE_TREE_H
#define HOLT_SANDBOX_REMOVE_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * Removes the directory `name` in `parent_fd` and everything below it; that it is absent already is
 * fine. Follows no symbolic link, does not recurse, and uses four descriptors at any depth. After
 * `budget` removed entries (negative: no bound) it stops with *is_complete false; call it again to
 * go on.
 */
bool remove_tree(int parent_fd, const char *name, int64_t budget, bool *is_complete,
                 struct error **error);

#endif
