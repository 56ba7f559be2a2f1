/* Starting an on-work script: its environment, its standard input. */
#include "orchestrator/script_launch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"

static bool has_name(const char *variable, const char *name) {
    size_t length = strlen(name);
    return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

char **script_environment(const char *const *base, const struct script_options *script,
                          const struct work_item *item) {
    const struct {
        const char *name;
        const char *value; /* NULL: not to be there, not even an inherited one */
    } given[] = {
        {"ANTHROPIC_WORK_ID", item->id},
        {"ANTHROPIC_ENVIRONMENT_ID", item->environment_id},
        {"ANTHROPIC_SESSION_ID", item->session_id},
        {"ANTHROPIC_BASE_URL", script->base_url},
        {"ANTHROPIC_ENVIRONMENT_KEY", script->environment_key},
        {"ANTHROPIC_WORK_SECRET", item->secret},
    };
    const size_t given_count = sizeof(given) / sizeof(given[0]);
    size_t base_count = 0;
    while (base[base_count] != NULL) {
        base_count++;
    }
    char **environment = memory_zeroed(base_count + given_count + 1, sizeof(char *));
    size_t count = 0;
    for (size_t i = 0; i < base_count; i++) {
        bool is_given = false;
        for (size_t j = 0; j < given_count && !is_given; j++) {
            is_given = has_name(base[i], given[j].name);
        }
        if (!is_given) {
            environment[count++] = memory_string(base[i]);
        }
    }
    for (size_t i = 0; i < given_count; i++) {
        if (given[i].value != NULL) {
            environment[count++] = memory_format("%s=%s", given[i].name, given[i].value);
        }
    }
    return environment;
}

void script_environment_free(char **take_environment) {
    for (size_t i = 0; take_environment[i] != NULL; i++) {
        memory_wipe(take_environment[i], strlen(take_environment[i]));
        free(take_environment[i]);
    }
    free(take_environment);
}

/* A file in memory with the item's JSON, to be read from its beginning; -1 on failure. */
static int open_input(const struct work_item *item, struct error **error) {
    CLEANUP_CLOSE int fd = memfd_create("work-item", MFD_CLOEXEC);
    if (fd < 0) {
        (void)error_set_errno(error, errno, "memfd_create");
        return -1;
    }
    const char *text = item->text == NULL ? "" : item->text;
    if (!io_write_all(fd, text, strlen(text), error)) {
        return -1;
    }
    if (lseek(fd, 0, SEEK_SET) != 0) {
        (void)error_set_errno(error, errno, "lseek");
        return -1;
    }
    return STEAL_FD(fd);
}

struct process *script_launch(struct loop *loop, const struct script_options *script,
                              const struct work_item *item,
                              void (*ended)(void *context, int wait_status), void *context,
                              struct error **error) {
    CLEANUP_CLOSE int input_fd = open_input(item, error);
    if (input_fd < 0) {
        return NULL;
    }
    char **environment = script_environment((const char *const *)environ, script, item);
    const char *arguments[] = {script->path, NULL};
    struct process *process = process_start(loop,
                                            &(struct process_options){
                                                .arguments = arguments,
                                                .environment = (const char *const *)environment,
                                                .input_fd = input_fd,
                                                .output_fd = STDERR_FILENO,
                                                .error_fd = STDERR_FILENO,
                                                .ended = ended,
                                                .context = context,
                                            },
                                            error);
    script_environment_free(environment);
    return process;
}
