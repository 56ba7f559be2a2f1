/* A forked child that may compute and write to one pipe; the tree comes back as plain records. */
#include "base/unpack_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <locale.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <seccomp.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/json.h"
#include "base/memory.h"

enum {
    RESULT_FD = 3,
    PIPE_SIZE = 1024 * 1024,
    READ_SIZE = 256 * 1024,
    CPU_SECONDS = 20,
    PATIENCE_MS = 60000,
    MEMORY_BYTES = 1024 * 1024 * 1024, /* a dictionary of xz or zstd, and the tree itself */
    ERROR_TEXT_LIMIT = 4096,
    PATH_LIMIT = 4096,
};

/* What the child says: a record for each member, then its bytes; or one of kind 'e' with a text. */
struct record {
    char kind; /* 'd' directory, 'f' file, 'x' executable file, 'e' error, 'z' end */
    char error_code;
    uint32_t path_length;
    uint64_t length;
};

struct unpack_process {
    struct loop *loop;
    struct unpack_limits limits;
    pid_t pid;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct buffer said;
    unpack_done done;
    void *context;
    struct error *failure;
};

/* The child. */

static bool limit(__rlimit_resource_t resource, rlim_t value) {
    return setrlimit(resource, &(struct rlimit){value, value}) == 0;
}

/* Memory and the pipe: nothing is opened, nothing connected, nothing executed any more. */
static bool close_doors(void) {
    static const int allowed[] = {
        SCMP_SYS(read),        SCMP_SYS(write),         SCMP_SYS(mmap),
        SCMP_SYS(munmap),      SCMP_SYS(mremap),        SCMP_SYS(mprotect),
        SCMP_SYS(madvise),     SCMP_SYS(brk),           SCMP_SYS(futex),
        SCMP_SYS(exit),        SCMP_SYS(exit_group),    SCMP_SYS(rt_sigreturn),
        SCMP_SYS(getrandom),   SCMP_SYS(clock_gettime), SCMP_SYS(sched_yield),
#ifdef __SANITIZE_ADDRESS__ /* its runtime looks at the stacks before every _exit, and aborts */
        SCMP_SYS(sigaltstack), SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(getpid),      SCMP_SYS(gettid),        SCMP_SYS(tgkill),
#endif
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    bool is_good = filter != NULL;
    for (size_t i = 0; is_good && i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        is_good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0) == 0;
    }
    is_good = is_good && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_good;
}

static bool confine(void) {
#ifndef __SANITIZE_ADDRESS__
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, "/proc/self/statm", &text, ERROR_TEXT_LIMIT, NULL)) {
        buffer_append_string(&text, "0");
    }
    rlim_t pages = strtoull(buffer_string(&text), NULL, 10);
    if (!limit(RLIMIT_AS, pages * (rlim_t)sysconf(_SC_PAGESIZE) + MEMORY_BYTES)) {
        return false;
    }
#endif
    return limit(RLIMIT_CPU, CPU_SECONDS) && limit(RLIMIT_CORE, 0) && limit(RLIMIT_FSIZE, 0) &&
           prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && close_doors();
}

static bool tell(char kind, enum error_code code, const char *path, const char *bytes,
                 size_t length) {
    struct record record = {.kind = kind,
                            .error_code = (char)code,
                            .path_length = (uint32_t)strlen(path),
                            .length = length};
    return io_write_all(RESULT_FD, &record, sizeof(record), NULL) &&
           io_write_all(RESULT_FD, path, record.path_length, NULL) &&
           io_write_all(RESULT_FD, bytes, length, NULL);
}

static _Noreturn void run_child(int fd, const void *bytes, size_t length,
                                const struct unpack_limits *limits) {
    struct unpacked unpacked = {0};
    struct error *error = NULL;
    if (fd != RESULT_FD && dup2(fd, RESULT_FD) < 0) {
        _exit(EXIT_FAILURE);
    }
    (void)close_range(RESULT_FD + 1, ~0U, 0);
    (void)close_range(0, RESULT_FD - 1, 0);
    /* unpack_archive wants it, and could not read it any more. */
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    bool is_good = confine()
                       ? unpack_archive(bytes, length, limits, &unpacked, &error)
                       : error_set_errno(&error, errno, "cannot confine the unpacking process");
    for (size_t i = 0; is_good && i < unpacked.count; i++) {
        const struct unpacked_member *member = &unpacked.members[i];
        char kind = 'f';
        if (member->is_directory) {
            kind = 'd';
        } else if (member->is_executable) {
            kind = 'x';
        }
        if (!tell(kind, 0, member->path, member->bytes, member->length)) {
            _exit(EXIT_FAILURE);
        }
    }
    if (!is_good) {
        char *text = error_text(error);
        (void)tell('e', error->code, "", text, strlen(text));
    } else {
        (void)tell('z', 0, "", "", 0);
    }
    _exit(EXIT_SUCCESS); /* nothing of the parent's is run or flushed here */
}

/* The parent: what the child says is foreign. */

static bool nonsense(struct error **error) {
    return error_set(error, ERROR_INPUT, "the archive ended its unpacking process");
}

static const char *take(const char **at, size_t *left, size_t length) {
    const char *taken = *at;
    if (*left < length) {
        return NULL;
    }
    *at += length;
    *left -= length;
    return taken;
}

static bool add_member(struct unpack_process *process, struct unpacked *unpacked,
                       const struct record *record, const char *path, const char *bytes,
                       struct error **error) {
    CLEANUP_FREE char *name = memory_string_n(path, record->path_length);
    if (strlen(name) != record->path_length || !unpack_path_is_plain(name) ||
        unpacked->count >= process->limits.members || record->length > process->limits.file_bytes ||
        (record->kind == 'd' && record->length > 0)) {
        return nonsense(error);
    }
    if (unpacked->count > 0) {
        struct unpacked_member *last = &unpacked->members[unpacked->count - 1];
        if (strcmp(last->path, name) >= 0) {
            return nonsense(error);
        }
    }
    unpacked->members =
        memory_resize(unpacked->members, unpacked->count + 1, sizeof(*unpacked->members));
    unpacked->members[unpacked->count++] = (struct unpacked_member){
        .path = STEAL_PTR(name),
        .is_directory = record->kind == 'd',
        .is_executable = record->kind == 'x',
        .bytes = record->kind == 'd' ? NULL : memory_string_n(bytes, record->length),
        .length = record->length,
    };
    return true;
}

/* Which directories have something in them, found again: it is not taken on trust. */
static bool note_children(struct unpacked *unpacked, struct error **error) {
    CLEANUP_JSON struct json_object *folders = json_object_new_object();
    for (size_t i = 0; i < unpacked->count; i++) {
        struct unpacked_member *member = &unpacked->members[i];
        const char *slash = strrchr(member->path, '/');
        if (slash != NULL) {
            CLEANUP_FREE char *above =
                memory_string_n(member->path, (size_t)(slash - member->path));
            int64_t index = json_get_int(folders, above, -1);
            if (index < 0) {
                return nonsense(error);
            }
            unpacked->members[index].has_children = true;
        }
        if (member->is_directory) {
            json_set_int(folders, member->path, (int64_t)i);
        }
    }
    return true;
}

static bool parse(struct unpack_process *process, struct unpacked *unpacked, struct error **error) {
    const char *at = buffer_string(&process->said);
    size_t left = process->said.length;
    for (;;) {
        struct record record;
        const char *bytes = take(&at, &left, sizeof(record));
        if (bytes == NULL) {
            return nonsense(error);
        }
        memcpy(&record, bytes, sizeof(record));
        const char *path = take(&at, &left, record.path_length);
        bytes = take(&at, &left, record.length);
        if (path == NULL || bytes == NULL || record.path_length > PATH_LIMIT) {
            return nonsense(error);
        }
        switch (record.kind) {
        case 'd':
        case 'f':
        case 'x':
            if (!add_member(process, unpacked, &record, path, bytes, error)) {
                return false;
            }
            break;
        case 'e':
            return error_set(
                error, record.error_code == ERROR_LIMIT ? ERROR_LIMIT : ERROR_INPUT, "%.*s",
                record.length > ERROR_TEXT_LIMIT ? ERROR_TEXT_LIMIT : (int)record.length, bytes);
        case 'z':
            return left == 0 ? note_children(unpacked, error) : nonsense(error);
        default:
            return nonsense(error);
        }
    }
}

static void process_free(struct unpack_process *process) {
    loop_watch_free(process->watch);
    loop_timer_free(process->timer);
    if (process->fd >= 0) {
        (void)close(process->fd);
    }
    if (process->pid > 0) {
        (void)kill(process->pid, SIGKILL);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    buffer_free(&process->said);
    error_free(process->failure);
    free(process);
}

static void conclude(struct unpack_process *process) {
    CLEANUP_ERROR struct error *error = STEAL_PTR(process->failure);
    struct unpacked unpacked = {0};
    bool is_good = error == NULL && parse(process, &unpacked, &error);
    if (!is_good) {
        unpacked_free(&unpacked);
    }
    unpack_done done = process->done;
    void *context = process->context;
    process_free(process);
    done(context, is_good ? &unpacked : NULL, error);
    unpacked_free(&unpacked);
}

static void on_timer(void *context) {
    struct unpack_process *process = context;
    if (process->failure == NULL) {
        (void)error_set(&process->failure, ERROR_LIMIT, "the archive takes too long to unpack");
    }
    conclude(process);
}

static void on_bytes(void *context, unsigned events) {
    struct unpack_process *process = context;
    (void)events;
    char *space = buffer_reserve(&process->said, READ_SIZE);
    ssize_t length = read(process->fd, space, READ_SIZE);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (length <= 0) {
        conclude(process);
        return;
    }
    process->said.length += (size_t)length;
    process->said.data[process->said.length] = '\0';
    size_t overhead = (process->limits.members + 1) * (sizeof(struct record) + PATH_LIMIT);
    if (process->said.length > process->limits.total_bytes + overhead) {
        (void)error_set(&process->failure, ERROR_LIMIT, "the archive unpacks to too many bytes");
        conclude(process);
    }
}

/* Returns the descriptor to read from, or -1 with *error set. */
static int start_child(struct unpack_process *process, const void *bytes, size_t length,
                       struct error **error) {
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        (void)error_set_errno(error, errno, "cannot make a pipe");
        return -1;
    }
    process->pid = fork();
    if (process->pid == 0) {
        run_child(ends[1], bytes, length, &process->limits);
    }
    int saved = errno;
    (void)close(ends[1]);
    if (process->pid < 0) {
        (void)close(ends[0]);
        (void)error_set_errno(error, saved, "cannot start a process");
        return -1;
    }
    (void)fcntl(ends[0], F_SETPIPE_SZ, PIPE_SIZE);
    (void)io_set_nonblocking(ends[0], true, NULL);
    return ends[0];
}

struct unpack_process *unpack_process_start(struct loop *loop, const void *bytes, size_t length,
                                            const struct unpack_limits *limits, unpack_done done,
                                            void *context) {
    struct unpack_process *process = memory_new(struct unpack_process);
    process->loop = loop;
    process->limits = *limits;
    process->done = done;
    process->context = context;
    process->timer = loop_timer_new(loop, on_timer, process);
    process->fd = start_child(process, bytes, length, &process->failure);
    if (process->fd >= 0) {
        process->watch = loop_watch_new(loop, process->fd, LOOP_READ, on_bytes, process);
    }
    loop_timer_arm(process->timer, process->failure == NULL ? PATIENCE_MS : 0);
    return process;
}

void unpack_process_cancel(struct unpack_process *take_process) {
    if (take_process != NULL) {
        process_free(take_process);
    }
}
