/* Runs the seeds of a fuzz target once each, as a unit test in TAP: for builds without libFuzzer.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/io.h"

enum { SEED_LIMIT = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    CLEANUP_DIR DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    if (directory == NULL) {
        (void)fprintf(stderr, "usage: %s SEED_DIRECTORY\n", argv[0]);
        return 2;
    }
    int count = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        CLEANUP_BUFFER struct buffer seed = BUFFER_EMPTY;
        if (!io_read_file(dirfd(directory), entry->d_name, &seed, SEED_LIMIT, NULL)) {
            return 1;
        }
        (void)LLVMFuzzerTestOneInput((const uint8_t *)buffer_string(&seed), seed.length);
        (void)printf("ok %d - %s\n", ++count, entry->d_name);
    }
    (void)printf("1..%d\n", count);
    return count > 0 ? 0 : 1;
}
