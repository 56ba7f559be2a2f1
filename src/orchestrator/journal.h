/*
 * The journal: what the daemon did, as one JSON object a line, for programs.
 *
 * Appended to a file that the operator names (`holt serve --journal FILE`); `holt demo` reads it.
 * Each line has "time" (RFC 3339) and "event", and what the event is about:
 *   session_claimed    session_id, work_id
 *   session_resumed    session_id, work_id: of a daemon before this one
 *   sandbox_created    session_id, sandbox_id, provider, created_us
 *   sandbox_resumed    session_id, sandbox_id, provider: the session's own, as it was left
 *   call_ended         session_id, tool_use_id, name, is_error, duration_us
 *   turn_ended         session_id, sandbox_id, memory_bytes, process_count
 *   session_ended      session_id, work_id, reason
 * Never input, output, keys or tokens. A journal that cannot be written is said once in the log;
 * the daemon goes on.
 */
#ifndef HOLT_ORCHESTRATOR_JOURNAL_H
#define HOLT_ORCHESTRATOR_JOURNAL_H

#include "base/error.h"
#include "base/json.h"

struct journal;

/* Opens for appending, mode 0600. */
struct journal *journal_open(const char *path, struct error **error);
/* A record to fill: an object with "time" and "event". */
struct json_object *journal_record(const char *event);
/* Writes the record as a line and releases it. `journal` may be NULL: then it is only released. */
void journal_write(struct journal *journal, struct json_object *take_record);
void journal_close(struct journal *take_journal); /* NULL is fine */

#endif
