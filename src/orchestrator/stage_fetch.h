/*
 * The bytes behind a staged URL: over HTTP, or from a directory of this host.
 *
 * Redirects are followed as far as what they lead to is allowed, each with the credential of its
 * own place and no other. A file is opened without following a link out of the directory that is
 * allowed, as the daemon's unprivileged user.
 */
#ifndef HOLT_ORCHESTRATOR_STAGE_FETCH_H
#define HOLT_ORCHESTRATOR_STAGE_FETCH_H

#include "base/loop.h"
#include "orchestrator/stage_plan.h"

struct stage_fetch;

/* `done` is called once, later; the bytes are borrowed, NULL with an error. */
struct stage_fetch *stage_fetch_start(struct loop *loop, const struct stage_options *options,
                                      const struct url *url,
                                      void (*done)(void *context, const char *bytes, size_t length,
                                                   const struct error *error),
                                      void *context);
/* Only before `done`. NULL is fine. */
void stage_fetch_cancel(struct stage_fetch *take_fetch);

/* The real path of an allowed file URL, with every link resolved and still below what is allowed;
 * the caller frees it. NULL with an error. */
char *stage_real_path(const struct stage_options *options, const struct url *url,
                      struct error **error);

#endif
