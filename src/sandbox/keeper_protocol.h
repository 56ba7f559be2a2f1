/*
 * The frames between front and keeper, over a SOCK_SEQPACKET socket pair: one struct a message.
 *
 * Requests and replies have one fixed size each and no pointers, lengths or paths in them. A frame
 * of another size, with another magic number, an unknown type, or a malformed id is
 * no frame: keeper treats it as proof that front is broken or taken over, and ends. The first
 * message that keeper sends is a reply with serial 0: whether it could start.
 */
#ifndef HOLT_SANDBOX_KEEPER_PROTOCOL_H
#define HOLT_SANDBOX_KEEPER_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "sandbox/sandbox.h"

enum {
    KEEPER_MAGIC = 0x686f6c74, /* "holt" */
    KEEPER_ID_SIZE = 56,       /* SANDBOX_ID_LIMIT, a NUL, and zeroes up to a multiple of 8 */
    KEEPER_MESSAGE_SIZE = 512,
};

enum keeper_request_type {
    KEEPER_CREATE = 1,
    KEEPER_DESTROY,
    KEEPER_MEASURE,
    KEEPER_ATTACH, /* a new connection to the hand of a sandbox that exists */
    KEEPER_NEXT,   /* the sandbox that follows an id in order; KEEPER_FIRST begins */
    KEEPER_TYPE_END
};

/* No id: sorts before every one. */
#define KEEPER_FIRST "-"

struct keeper_request {
    uint32_t magic;
    uint32_t type;
    uint64_t serial; /* not 0; the reply carries it back */
    char id[KEEPER_ID_SIZE];
};

struct keeper_reply {
    uint32_t magic;
    uint32_t is_error;
    uint64_t serial;
    int32_t error_code; /* enum error_code */
    int32_t errno_value;
    int64_t created_us; /* KEEPER_CREATE */
    int64_t hand_pid;
    int64_t memory_bytes; /* KEEPER_MEASURE */
    int64_t process_count;
    int64_t cpu_us;
    char id[KEEPER_ID_SIZE]; /* KEEPER_NEXT; "" after the last */
    char message[KEEPER_MESSAGE_SIZE];
};

_Static_assert(sizeof(struct keeper_request) == 16 + KEEPER_ID_SIZE, "no padding on the wire");
_Static_assert(sizeof(struct keeper_reply) == 64 + KEEPER_ID_SIZE + KEEPER_MESSAGE_SIZE,
               "no padding on the wire");

/* True for [0-9a-z-]{1,48} that does not begin with a hyphen. */
bool keeper_id_is_valid(const char *id);
/* Fills a request; the id must be valid. */
void keeper_request_fill(struct keeper_request *out, enum keeper_request_type type, uint64_t serial,
                         const char *id);
/* Checks a received frame; fails with ERROR_PROTOCOL. Everything in *out is then safe to use. */
bool keeper_request_parse(const void *bytes, size_t length, struct keeper_request *out,
                          struct error **error);

/* An empty success, and a failure that carries the chain of `error`. */
void keeper_reply_fill(struct keeper_reply *out, uint64_t serial);
void keeper_reply_fill_error(struct keeper_reply *out, uint64_t serial, const struct error *error);
bool keeper_reply_parse(const void *bytes, size_t length, struct keeper_reply *out,
                        struct error **error);
/* Sets *error to what a failure reply says; nothing happens for a success. */
void keeper_reply_error(const struct keeper_reply *reply, struct error **error);

#endif
