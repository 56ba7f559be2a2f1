/*
 * A small stand-in for hand in the tests of the sandbox: pid 1 that runs shell scripts.
 *
 * Over the one connection: a 4-byte length (host order) and a script; back: 4 bytes of wait status,
 * 4 bytes of length, the output of stdout and stderr together.
 */
#include <grp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SCRIPT_LIMIT = 65536, OUTPUT_LIMIT = 1 << 20 };

static int read_all(int fd, void *bytes, size_t length) {
    char *at = bytes;
    while (length > 0) {
        ssize_t got = read(fd, at, length);
        if (got <= 0) {
            return 0;
        }
        at += got;
        length -= (size_t)got;
    }
    return 1;
}

static void write_all(int fd, const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t put = write(fd, at, length);
        if (put <= 0) {
            _exit(3);
        }
        at += put;
        length -= (size_t)put;
    }
}

static long option(int argc, char **argv, const char *name, long fallback) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return strtol(argv[i + 1], NULL, 10);
        }
    }
    return fallback;
}

static void run(int out_fd, char *script, uid_t uid) {
    (void)dup2(out_fd, STDOUT_FILENO);
    (void)dup2(out_fd, STDERR_FILENO);
    (void)close_range(3, ~0U, 0);
    if (uid != 0 && (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 ||
                     setresuid(uid, uid, uid) != 0)) {
        _exit(126);
    }
    char shell[] = "bash";
    char flag[] = "-c";
    char *const arguments[] = {shell, flag, script, NULL};
    (void)execv("/bin/bash", arguments);
    _exit(127);
}

static void serve(int connection, uid_t uid) {
    static char script[SCRIPT_LIMIT + 1];
    static char output[OUTPUT_LIMIT];
    uint32_t length = 0;
    while (read_all(connection, &length, sizeof(length)) && length <= SCRIPT_LIMIT &&
           read_all(connection, script, length)) {
        script[length] = '\0';
        int pipe_fds[2];
        if (pipe(pipe_fds) != 0) {
            _exit(4);
        }
        pid_t pid = fork();
        if (pid == 0) {
            run(pipe_fds[1], script, uid);
        }
        (void)close(pipe_fds[1]);
        uint32_t used = 0;
        ssize_t got = 0;
        while (used < sizeof(output) &&
               (got = read(pipe_fds[0], output + used, sizeof(output) - used)) > 0) {
            used += (uint32_t)got;
        }
        (void)close(pipe_fds[0]);
        int status = 126 << 8;
        if (pid > 0) {
            (void)waitpid(pid, &status, 0);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        write_all(connection, &status, sizeof(status));
        write_all(connection, &used, sizeof(used));
        write_all(connection, output, used);
    }
}

int main(int argc, char **argv) {
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int listen_fd = (int)option(argc, argv, "--listen-fd", 3);
    uid_t uid = (uid_t)option(argc, argv, "--uid", 0);
    for (;;) {
        int connection = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) {
            return 2;
        }
        serve(connection, uid);
        (void)close(connection);
    }
}
