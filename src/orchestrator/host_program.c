/* A process of base with a pipe on each of its three ends, bounded. */
#include "orchestrator/host_program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/utf8.h"

enum {
    READ_SIZE = 64 * 1024,
    OUTPUT_LIMIT = OPERATION_OUTPUT_LIMIT, /* as in a sandbox */
    ENDS = 3,
};

/* The last OUTPUT_LIMIT bytes of a stream. */
struct stream {
    int fd; /* -1: closed */
    struct loop_watch *watch;
    struct buffer kept;
    bool is_cut;
};

struct host_program {
    struct loop *loop;
    struct process *process; /* NULL: it did not start */
    struct loop_timer *timer;
    struct stream out, err;
    int input_fd;
    struct loop_watch *input_watch;
    char *input;
    size_t input_length, input_sent;
    struct error *failure;
    host_program_done done;
    void *context;
};

static void close_stream(struct stream *stream) {
    loop_watch_free(stream->watch);
    stream->watch = NULL;
    cleanup_close_fd(&stream->fd);
    stream->fd = -1;
}

static void close_input(struct host_program *program) {
    loop_watch_free(program->input_watch);
    program->input_watch = NULL;
    cleanup_close_fd(&program->input_fd);
    program->input_fd = -1;
}

static void trim(struct stream *stream) {
    if (stream->kept.length > OUTPUT_LIMIT) {
        buffer_consume(&stream->kept, stream->kept.length - OUTPUT_LIMIT);
        stream->is_cut = true;
    }
}

/* One read; false when there is nothing more now. */
static bool read_stream(struct stream *stream) {
    if (stream->fd < 0) {
        return false;
    }
    char *space = buffer_reserve(&stream->kept, READ_SIZE);
    ssize_t length = read(stream->fd, space, READ_SIZE);
    if (length <= 0) {
        if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
            close_stream(stream);
        }
        return false;
    }
    stream->kept.length += (size_t)length;
    stream->kept.data[stream->kept.length] = '\0';
    if (stream->kept.length > 4 * (size_t)OUTPUT_LIMIT) {
        trim(stream);
    }
    return true;
}

static void on_stream(void *context, unsigned events) {
    (void)events;
    (void)read_stream(context);
}

static void on_input(void *context, unsigned events) {
    (void)events;
    struct host_program *program = context;
    ssize_t length = write(program->input_fd, program->input + program->input_sent,
                           program->input_length - program->input_sent);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    program->input_sent += length > 0 ? (size_t)length : 0;
    if (length < 0 || program->input_sent == program->input_length) {
        close_input(program);
    }
}

static void program_free(struct host_program *program) {
    process_free(program->process);
    loop_timer_free(program->timer);
    close_input(program);
    close_stream(&program->out);
    close_stream(&program->err);
    buffer_free(&program->out.kept);
    buffer_free(&program->err.kept);
    error_free(program->failure);
    free(program->input);
    free(program);
}

/* What is not UTF-8 becomes U+FFFD. */
static void append_lossy(struct buffer *text, const char *bytes, size_t length) {
    while (length > 0) {
        size_t good = utf8_valid_prefix(bytes, length);
        buffer_append(text, bytes, good);
        bytes += good;
        length -= good;
        if (length > 0) {
            int32_t code = 0;
            size_t bad = utf8_decode(bytes, length, &code);
            buffer_append_string(text, "\xef\xbf\xbd");
            bytes += bad;
            length -= bad;
        }
    }
}

/* Text from the first whole character on. */
static void take_text(struct stream *stream, struct buffer *text) {
    const size_t burst = 16; /* what a pipe can still hold, several times over */
    for (size_t i = 0; i < burst && read_stream(stream); i++) {
    }
    trim(stream);
    const char *bytes = buffer_string(&stream->kept);
    size_t skip = 0;
    while (stream->is_cut && skip < stream->kept.length && skip < 4 &&
           ((unsigned char)bytes[skip] & 0xc0) == 0x80) {
        skip++;
    }
    append_lossy(text, bytes + skip, stream->kept.length - skip);
}

static void conclude(struct host_program *program, int status, bool timed_out) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer err = BUFFER_EMPTY;
    take_text(&program->out, &out);
    take_text(&program->err, &err);
    struct hand_exec_result result = {
        .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .timed_out = timed_out,
        .stdout_text = buffer_string(&out),
        .stdout_length = out.length,
        .is_stdout_cut = program->out.is_cut,
        .stderr_text = buffer_string(&err),
        .stderr_length = err.length,
        .is_stderr_cut = program->err.is_cut,
    };
    host_program_done done = program->done;
    void *context = program->context;
    program_free(program);
    done(context, &result, NULL);
}

static void on_ended(void *context, int wait_status) {
    conclude(context, wait_status, false);
}

/* Its time is over; or it never started. */
static void on_timer(void *context) {
    struct host_program *program = context;
    if (program->failure == NULL) {
        process_free(STEAL_PTR(program->process)); /* with its whole group */
        conclude(program, SIGKILL, true);
        return;
    }
    CLEANUP_ERROR struct error *failure = STEAL_PTR(program->failure);
    host_program_done done = program->done;
    void *owner = program->context;
    program_free(program);
    done(owner, NULL, failure);
}

/* Starting. */

static bool start(struct host_program *program, const struct host_program_options *options,
                  struct error **error) {
    int pipes[ENDS][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    int failure = 0;
    for (int i = 0; i < ENDS && failure == 0; i++) {
        failure = pipe2(pipes[i], O_CLOEXEC) == 0 ? 0 : errno;
    }
    const int ends[ENDS] = {pipes[0][0], pipes[1][1], pipes[2][1]};
    program->input_fd = pipes[0][1];
    program->out.fd = pipes[1][0];
    program->err.fd = pipes[2][0];
    if (failure == 0) {
        program->process =
            process_start(program->loop,
                          &(struct process_options){.arguments = options->argv,
                                                    .environment = options->environment,
                                                    .directory = "/",
                                                    .input_fd = ends[0],
                                                    .output_fd = ends[1],
                                                    .error_fd = ends[2],
                                                    .ends_group = true,
                                                    .ended = on_ended,
                                                    .context = program},
                          error);
    } else {
        (void)error_set_errno(error, failure, "cannot make a pipe");
    }
    for (int i = 0; i < ENDS; i++) {
        cleanup_close_fd(&ends[i]);
    }
    return program->process != NULL && io_set_nonblocking(program->input_fd, true, error) &&
           io_set_nonblocking(program->out.fd, true, error) &&
           io_set_nonblocking(program->err.fd, true, error);
}

static void watch(struct host_program *program) {
    program->out.watch =
        loop_watch_new(program->loop, program->out.fd, LOOP_READ, on_stream, &program->out);
    program->err.watch =
        loop_watch_new(program->loop, program->err.fd, LOOP_READ, on_stream, &program->err);
    program->input_watch =
        loop_watch_new(program->loop, program->input_fd, LOOP_WRITE, on_input, program);
}

struct host_program *host_program_start(struct loop *loop,
                                        const struct host_program_options *options,
                                        host_program_done done, void *context) {
    struct host_program *program = memory_new(struct host_program);
    program->loop = loop;
    program->input = memory_string(options->input);
    program->input_length = strlen(options->input);
    program->done = done;
    program->context = context;
    program->timer = loop_timer_new(loop, on_timer, program);
    if (start(program, options, &program->failure)) {
        watch(program);
        loop_timer_arm(program->timer, options->timeout_ms);
    } else {
        loop_timer_arm(program->timer, 0);
    }
    return program;
}

void host_program_cancel(struct host_program *take_program) {
    if (take_program != NULL) {
        program_free(take_program);
    }
}
