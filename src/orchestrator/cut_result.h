/*
 * A result that was too large for the control plane: what of it is posted instead (tools.md,
 * "What holt does").
 */
#ifndef HOLT_ORCHESTRATOR_CUT_RESULT_H
#define HOLT_ORCHESTRATOR_CUT_RESULT_H

#include "base/buffer.h"
#include "base/json.h"

enum { CUT_RESULT_BYTES = 64 * 1024 };

/* The text of a result's blocks, one after another; of what is no text, that it was there. */
void cut_result_whole(struct json_object *content, struct buffer *out);
/*
 * Content blocks, owned by the caller: the beginning of `whole`, at most CUT_RESULT_BYTES and never
 * half a character, and a last line that says how much there was and where all of it lies in the
 * sandbox (`path` NULL: nowhere).
 */
struct json_object *cut_result(const struct buffer *whole, const char *path);

#endif
