/* Frames as whole structs: checked once on arrival, trusted after that. */
#include "sandbox/keeper_protocol.h"

#include <string.h>

#include "base/memory.h"

_Static_assert((int)SANDBOX_ID_LIMIT < (int)KEEPER_ID_SIZE, "an id and its NUL fit");

bool keeper_id_is_valid(const char *id) {
    size_t length = strspn(id, "0123456789abcdefghijklmnopqrstuvwxyz-");
    return length >= 1 && length <= SANDBOX_ID_LIMIT && id[length] == '\0' && id[0] != '-';
}

void keeper_request_fill(struct keeper_request *out, enum keeper_request_type type, uint64_t serial,
                         const char *id) {
    *out = (struct keeper_request){.magic = KEEPER_MAGIC, .type = (uint32_t)type, .serial = serial};
    memcpy(out->id, id, strlen(id));
}

bool keeper_request_parse(const void *bytes, size_t length, struct keeper_request *out,
                          struct error **error) {
    if (length != sizeof(*out)) {
        return error_set(error, ERROR_PROTOCOL, "request of %zu bytes instead of %zu", length,
                         sizeof(*out));
    }
    memcpy(out, bytes, sizeof(*out));
    if (out->magic != KEEPER_MAGIC) {
        return error_set(error, ERROR_PROTOCOL, "request without the magic number");
    }
    if (out->type < KEEPER_CREATE || out->type >= KEEPER_TYPE_END) {
        return error_set(error, ERROR_PROTOCOL, "request of unknown type %u", out->type);
    }
    if (out->serial == 0) {
        return error_set(error, ERROR_PROTOCOL, "request without a serial number");
    }
    bool is_terminated = out->id[KEEPER_ID_SIZE - 1] == '\0';
    bool is_first = is_terminated && out->type == KEEPER_NEXT && strcmp(out->id, KEEPER_FIRST) == 0;
    if (!is_terminated || (!is_first && !keeper_id_is_valid(out->id))) {
        return error_set(error, ERROR_PROTOCOL, "request with a malformed sandbox id");
    }
    return true;
}

void keeper_reply_fill(struct keeper_reply *out, uint64_t serial) {
    *out = (struct keeper_reply){.magic = KEEPER_MAGIC,
                                 .serial = serial,
                                 .memory_bytes = -1,
                                 .process_count = -1,
                                 .cpu_us = -1};
}

void keeper_reply_fill_error(struct keeper_reply *out, uint64_t serial, const struct error *error) {
    keeper_reply_fill(out, serial);
    out->is_error = 1;
    out->error_code = (int32_t)ERROR_INTERNAL;
    size_t used = 0;
    for (const struct error *link = error; link != NULL; link = link->cause) {
        out->error_code = (int32_t)link->code;
        out->errno_value = link->errno_value;
        const char *parts[] = {link == error ? "" : ": ", link->message};
        for (size_t i = 0; i < 2; i++) {
            size_t length = strlen(parts[i]);
            size_t room = sizeof(out->message) - 1 - used;
            length = length < room ? length : room;
            memcpy(out->message + used, parts[i], length);
            used += length;
        }
    }
}

bool keeper_reply_parse(const void *bytes, size_t length, struct keeper_reply *out,
                        struct error **error) {
    if (length != sizeof(*out)) {
        return error_set(error, ERROR_PROTOCOL, "keeper's reply has %zu bytes instead of %zu",
                         length, sizeof(*out));
    }
    memcpy(out, bytes, sizeof(*out));
    if (out->magic != KEEPER_MAGIC || out->id[KEEPER_ID_SIZE - 1] != '\0' ||
        out->message[KEEPER_MESSAGE_SIZE - 1] != '\0' || out->error_code < 0 ||
        out->error_code > (int32_t)ERROR_INTERNAL) {
        return error_set(error, ERROR_PROTOCOL, "keeper's reply is malformed");
    }
    return true;
}

void keeper_reply_error(const struct keeper_reply *reply, struct error **error) {
    if (reply->is_error == 0) {
        return;
    }
    (void)error_set(error, (enum error_code)reply->error_code, "%s", reply->message);
    if (error != NULL) {
        (*error)->errno_value = reply->errno_value;
    }
}
