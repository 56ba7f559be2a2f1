/*
 * Fault points: named places where a test can make a process die or a call fail.
 *
 * The environment variable HOLT_FAULT lists them, comma separated, as NAME:ACTION[:COUNT]:
 *   kill    raise SIGKILL at the COUNT-th visit (default the first)
 *   hold    raise SIGSTOP at the COUNT-th visit, so that a test can act at exactly this moment
 *   fail    the guarded call reports failure from the COUNT-th visit on
 * Compiled in only when the build option `faults` is on (debug builds); otherwise FAULT_FAILS is
 * false and costs nothing.
 */
#ifndef HOLT_BASE_FAULT_H
#define HOLT_BASE_FAULT_H

#include <stdbool.h>

#ifdef HOLT_FAULTS
/* Visits the point: may not return; true when the caller must behave as if the call had failed. */
bool fault_point(const char *name);
#define FAULT_FAILS(name) fault_point(name)
#else
#define FAULT_FAILS(name) false
#endif

#endif
