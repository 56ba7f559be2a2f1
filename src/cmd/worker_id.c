/* What a worker calls itself when nobody says. */
#include "cmd/worker_id.h"

#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/random.h"

char *worker_id_new(void) {
    char host[65] = "";
    (void)gethostname(host, sizeof(host) - 1);
    for (char *at = host; *at != '\0'; at++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", *at) ==
            NULL) {
            *at = '-';
        }
    }
    CLEANUP_FREE char *prefix = memory_format("%s-", *host == '\0' ? "holt" : host);
    return random_id(prefix);
}
