/*
 * The tree of a git commit, as a tar archive, by the program git.
 *
 * git runs as the daemon's unprivileged user in a new private directory: one commit is fetched into
 * a bare repository (no checkout, so no links, filters or hooks of the repository's act here) and
 * written out as an archive. No configuration but ours is read, only the protocols http, https and
 * file are known, redirects are not followed, nothing is asked on a terminal. The credential is
 * given in the environment. Time, memory and every file's size are bounded.
 */
#ifndef HOLT_ORCHESTRATOR_STAGE_GIT_H
#define HOLT_ORCHESTRATOR_STAGE_GIT_H

#include "base/loop.h"
#include "orchestrator/stage_plan.h"

struct stage_git;

/* A symbolic link of the tree, which the archive's reader leaves out. Its target is foreign text.
 */
struct stage_link {
    char *path; /* plain */
    char *target;
};

struct stage_git_result {
    const char *archive; /* tar */
    size_t length;
    const char *commit; /* its id */
    const struct stage_link *links;
    size_t link_count;
    const char *left_out; /* paths of submodules, and of links that are too many, a line each */
};

/* `done` is called once, later; the result is borrowed, NULL with an error. */
struct stage_git *stage_git_start(struct loop *loop, const struct stage_options *options,
                                  const struct stage_entry *entry,
                                  void (*done)(void *context, const struct stage_git_result *result,
                                               const struct error *error),
                                  void *context);
/* Kills what runs and removes its files. Only before `done`. NULL is fine. */
void stage_git_cancel(struct stage_git *take_git);

/* Makes the directory of the options, and removes what a daemon that died left in it. */
bool stage_git_prepare(const char *directory, struct error **error);

#endif
