/* Round after round: kill all whose parent we are, reap, and their children become ours. */
#include "hand/orphans.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { ROUNDS_LIMIT = 1000 };

/* The parent of a process, or -1: the second word after the name's closing bracket. */
static long parent_of(long pid) {
    char path[64];
    char line[512] = "";
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    CLEANUP_FILE FILE *file = fopen(path, "re");
    if (file == NULL || fgets(line, sizeof(line), file) == NULL) {
        return -1;
    }
    const char *bracket = strrchr(line, ')');
    return bracket == NULL || strlen(bracket) < 5 ? -1 : strtol(bracket + 4, NULL, 10);
}

static void kill_children(void) {
    CLEANUP_DIR DIR *directory = opendir("/proc");
    if (directory == NULL) {
        return;
    }
    const struct dirent *entry = NULL;
    while ((entry = readdir(directory)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid > 1 && parent_of(pid) == (long)getpid()) {
            (void)kill((pid_t)pid, SIGKILL);
        }
    }
}

void orphans_end_all(void) {
    for (int round = 0; round < ROUNDS_LIMIT; round++) {
        kill_children();
        /* Waits for one, takes all that are there; ECHILD says that nobody is left. */
        if (waitpid(-1, NULL, 0) < 0) {
            return;
        }
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}
