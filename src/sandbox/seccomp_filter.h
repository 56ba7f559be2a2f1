/*
 * The system calls of a sandbox: an allow-list, compiled once to BPF and loaded by every sandbox
 * (seccomp(2)). A denied call gets EPERM; one that the list does not know gets ENOSYS, so that a C
 * library newer than this list falls back.
 */
#ifndef HOLT_SANDBOX_SECCOMP_FILTER_H
#define HOLT_SANDBOX_SECCOMP_FILTER_H

#include <stdbool.h>

#include "base/error.h"

struct seccomp_filter;

struct seccomp_filter *seccomp_filter_new(struct error **error);
/* Puts the calling process under the filter, for good. no_new_privs must be set. */
bool seccomp_filter_load(const struct seccomp_filter *filter, struct error **error);
void seccomp_filter_free(struct seccomp_filter *take_filter);

#endif
