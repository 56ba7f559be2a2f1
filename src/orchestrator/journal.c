/* The journal: one JSON object a line, appended with one write each. */
#include "orchestrator/journal.h"

#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

struct journal {
    int fd;
    bool has_failed;
};

struct journal *journal_open(const char *path, struct error **error) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0) {
        (void)error_set_errno(error, errno, "cannot open the journal %s", path);
        return NULL;
    }
    struct journal *journal = memory_new(struct journal);
    journal->fd = fd;
    return journal;
}

struct json_object *journal_record(const char *event) {
    char time[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(clock_wall_ms(), time);
    struct json_object *record = json_object_new_object();
    json_set_string(record, "time", time);
    json_set_string(record, "event", event);
    return record;
}

void journal_write(struct journal *journal, struct json_object *take_record) {
    CLEANUP_JSON struct json_object *record = take_record;
    if (journal == NULL) {
        return;
    }
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_BUFFER struct buffer line = BUFFER_EMPTY;
    buffer_append_string(&line, json_text(record, NULL));
    buffer_append_char(&line, '\n');
    if (!io_write_all(journal->fd, line.data, line.length, &error) && !journal->has_failed) {
        CLEANUP_FREE char *text = error_text(error);
        journal->has_failed = true;
        log_warn("the journal is incomplete from here: %s", text);
    }
}

void journal_close(struct journal *take_journal) {
    if (take_journal != NULL) {
        (void)close(take_journal->fd);
        free(take_journal);
    }
}
