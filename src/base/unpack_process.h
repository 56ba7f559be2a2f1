/*
 * Unpacks an archive of a stranger in a process of its own, with bounds on its time and memory and
 * nearly no system calls: an archive that takes over or ties up the decompressor gains nothing.
 */
#ifndef HOLT_BASE_UNPACK_PROCESS_H
#define HOLT_BASE_UNPACK_PROCESS_H

#include "base/loop.h"
#include "base/unpack.h"

struct unpack_process;

/* `unpacked` is NULL when it failed; else it is the callee's to change and to free. */
typedef void (*unpack_done)(void *context, struct unpacked *unpacked, const struct error *error);

/*
 * `bytes` must last until this returns. `done` is called once, later, from the loop; what a child
 * process says is checked as any foreign input.
 */
struct unpack_process *unpack_process_start(struct loop *loop, const void *bytes, size_t length,
                                            const struct unpack_limits *limits, unpack_done done,
                                            void *context);
/* Ends it without `done`. Only before `done`. NULL is fine. */
void unpack_process_cancel(struct unpack_process *take_process);

#endif
