/*
 * The frames between the daemon and `hand`.
 *
 * One byte stream in each direction. A frame is a 4-byte big-endian length (of what follows) and
 * that many bytes of JSON: one object with a "type". Both sides treat the other as hostile: a
 * length of 0 or over the limit, malformed JSON, or an unknown type ends the connection.
 *
 * Daemon to hand:
 *   {"type":"configure","workdir":"/workspace","allowed_roots":[...],"read_only_roots":[...],
 *    "max_file_bytes":262144|null,"read_media":true,"env":{"NAME":"value",...}|null}
 *       First frame of every connection. `env` replaces the environment of bash; null keeps hand's
 *       own, less ANTHROPIC_* (any case).
 *   {"type":"call","id":"...","name":"bash","input":...,"deadline_ms":120000}
 *       Runs a tool. An id that is running or whose result is still kept is not run again: hand
 *       answers with the kept result, or does nothing until the running one ends.
 *       Names that begin with "holt." are the daemon's own operations (tools/operations.h).
 *   {"type":"cancel","id":"..."}   The call's processes are killed; its result still comes.
 *   {"type":"ack","id":"..."}      The result was posted: hand forgets it.
 *   {"type":"list"}                Asks for a "state" frame.
 *   {"type":"shutdown"}            Kill everything and exit 0.
 * Hand to daemon:
 *   {"type":"ready","version":"...","incarnation":"<random>","running":[ids],"finished":[ids]}
 *       Answer to configure. The incarnation is drawn when hand starts: a reply from a replaced
 *       sandbox can be told apart.
 *   {"type":"result","id":"...","is_error":false,"content":[blocks],"duration_us":N}
 *       Sent when a call ends and again for a call with a kept id; kept until acknowledged.
 *   {"type":"state","running":[ids],"finished":[ids]}
 *   {"type":"error","message":"..."}  The last frame was refused; the connection closes.
 *
 * A connection that ends loses nothing: calls go on, results are kept, the next one is told.
 */
#ifndef HOLT_HAND_FRAMES_H
#define HOLT_HAND_FRAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"

enum { FRAME_HEADER_SIZE = 4, FRAME_PAYLOAD_LIMIT = 48 * 1024 * 1024 };

/* Appends the frame of `message` to `out`. */
void frame_append(struct buffer *out, struct json_object *message);

enum frame_status { FRAME_COMPLETE, FRAME_INCOMPLETE, FRAME_INVALID };

/*
 * Takes the first frame off the front of `in`. FRAME_COMPLETE: *message is a JSON object, owned by
 * the caller. FRAME_INCOMPLETE: more bytes are needed. FRAME_INVALID: *error says why; the stream
 * is unusable from here.
 */
enum frame_status frame_take(struct buffer *in, struct json_object **message, struct error **error);

#endif
