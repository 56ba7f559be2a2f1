/* Fuzzes the frames between front and keeper: what is accepted is safe to use as it is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/keeper_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct keeper_request request;
    if (keeper_request_parse(data, size, &request, NULL) &&
        (memchr(request.id, '\0', sizeof(request.id)) == NULL || strchr(request.id, '/') != NULL ||
         strchr(request.id, '.') != NULL || request.id[0] == '\0' || request.serial == 0 ||
         request.type >= KEEPER_TYPE_END)) {
        abort();
    }
    struct keeper_reply reply;
    CLEANUP_ERROR struct error *error = NULL;
    if (keeper_reply_parse(data, size, &reply, NULL)) {
        keeper_reply_error(&reply, &error);
        if ((reply.is_error != 0) != (error != NULL)) {
            abort();
        }
    }
    return 0;
}
