/* A credential in pages that no forked child gets, taken out of where it came from. */
#include "config/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"

enum { FILE_LIMIT = 64 * 1024 };

struct credential {
    char *text;
    size_t mapped;
};

/* Copies the text into pages of its own. Like memory, it aborts when there is none. */
static struct credential *credential_new(const char *text, size_t length) {
    struct credential *credential = memory_new(struct credential);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    credential->mapped = (length / page + 1) * page;
    credential->text =
        mmap(NULL, credential->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (credential->text == MAP_FAILED ||
        madvise(credential->text, credential->mapped, MADV_DONTFORK) != 0) {
        (void)fputs("holt: no memory for a credential\n", stderr);
        abort();
    }
    (void)madvise(credential->text, credential->mapped, MADV_DONTDUMP);
    (void)mlock(credential->text, credential->mapped); /* never swapped, where the limit allows */
    memcpy(credential->text, text, length);
    return credential;
}

struct credential *credential_take_variable(const char *name) {
    char *value = getenv(name);
    struct credential *credential = NULL;
    if (value != NULL && *value != '\0') {
        credential = credential_take_argument(value);
    }
    (void)unsetenv(name);
    return credential;
}

struct credential *credential_take_argument(char *argument) {
    size_t length = strlen(argument);
    struct credential *credential = credential_new(argument, length);
    memory_wipe(argument, length);
    return credential;
}

struct credential *credential_read_file(const char *path, struct error **error) {
    static const char blanks[] = " \t\r\n";
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    struct credential *credential = NULL;
    /* Made large enough at once: growing would leave copies in freed memory. */
    (void)buffer_reserve(&text, FILE_LIMIT + 1);
    if (!io_read_file(AT_FDCWD, path, &text, FILE_LIMIT, error)) {
        (void)error_wrap(error, "cannot read the key file");
        return NULL;
    }
    const char *start = buffer_string(&text);
    start += strspn(start, blanks);
    size_t length = strcspn(start, blanks);
    if (length == 0) {
        (void)error_set(error, ERROR_INPUT, "the key file %s is empty", path);
    } else {
        credential = credential_new(start, length);
    }
    memory_wipe(text.data, text.capacity);
    return credential;
}

const char *credential_text(const struct credential *credential) {
    return credential->text;
}

bool credential_is_sendable(const struct credential *credential) {
    size_t length = strlen(credential->text);
    for (size_t i = 0; i < length; i++) {
        if (credential->text[i] <= ' ' || credential->text[i] > '~') {
            return false;
        }
    }
    return length > 0;
}

void credential_free(struct credential *take_credential) {
    if (take_credential == NULL) {
        return;
    }
    memory_wipe(take_credential->text, take_credential->mapped);
    (void)munmap(take_credential->text, take_credential->mapped);
    free(take_credential);
}
