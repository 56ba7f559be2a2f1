/*
 * The emulator: a local Claude Managed Agents control plane with a scripted brain.
 *
 * Owns environments, agents, sessions, their events and the work queues, and serves them over HTTP
 * on the loop. Uses base/ and net/ only and never src/cma: a misreading of the protocol must not be
 * made twice. Runs no tool and calls no model.
 */
#ifndef HOLT_EMULATOR_EMULATOR_H
#define HOLT_EMULATOR_EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct emulator;

struct emulator_options {
    const char *address;
    uint16_t port;
    const char *script_text; /* NULL: the built-in script */
    size_t script_length;
    const char *data_directory;          /* NULL: state in memory only */
    const char *skills_directory;        /* NULL: there are no skills */
    const char *api_key;                 /* NULL: any x-api-key is taken */
    const char *const *environment_keys; /* each opens every environment */
    size_t environment_key_count;
    int64_t lease_ttl_ms;
    const char *webhook_url;    /* NULL: none */
    const char *webhook_secret; /* "whsec_..." */
};

/* Borrows nothing of the options after it returns. Listens at once. */
struct emulator *emulator_new(struct loop *loop, const struct emulator_options *options,
                              struct error **error);
uint16_t emulator_port(const struct emulator *emulator);
/* Closes every connection; what was persisted stays. */
void emulator_free(struct emulator *take_emulator);

#endif
