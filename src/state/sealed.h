/*
 * A short secret at rest: AES-256-GCM under a key derived from another secret (HKDF-SHA256, RFC
 * 5869). The file alone reveals nothing; who has the environment key may read it anyway. Private to
 * src/state.
 */
#ifndef HOLT_STATE_SEALED_H
#define HOLT_STATE_SEALED_H

#include "base/buffer.h"
#include "base/error.h"

/* Appends nonce, ciphertext and tag. `context` binds the result to its place: an id. */
bool sealed_write(struct buffer *out, const char *key, const char *context, const char *text,
                  struct error **error);
/* The text, owned by the caller and to be wiped; NULL when key, context or bytes do not match. */
char *sealed_read(const void *bytes, size_t length, const char *key, const char *context);

#endif
