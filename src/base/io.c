/* Whole reads and writes, and descriptors over unix sockets. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

bool io_write_all(int fd, const void *bytes, size_t length, struct error **error) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(fd, at, length);
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            return error_set_errno(error, errno, "cannot write");
        }
        at += written;
        length -= (size_t)written;
    }
    return true;
}

bool io_read_exact(int fd, void *bytes, size_t length, struct error **error) {
    char *at = bytes;
    while (length > 0) {
        ssize_t got = read(fd, at, length);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return error_set_errno(error, errno, "cannot read");
        }
        if (got == 0) {
            return error_set(error, ERROR_PROTOCOL, "unexpected end of file");
        }
        at += got;
        length -= (size_t)got;
    }
    return true;
}

bool io_read_to_end(int fd, struct buffer *out, size_t limit, struct error **error) {
    enum { CHUNK = 65536 };
    size_t total = 0;
    for (;;) {
        char *end = buffer_reserve(out, CHUNK);
        ssize_t got = read(fd, end, CHUNK);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return error_set_errno(error, errno, "cannot read");
        }
        if (got == 0) {
            return true;
        }
        total += (size_t)got;
        if (total > limit) {
            return error_set(error, ERROR_LIMIT, "more than %zu bytes", limit);
        }
        out->length += (size_t)got;
        out->data[out->length] = '\0';
    }
}

bool io_read_file(int dir_fd, const char *path, struct buffer *out, size_t limit,
                  struct error **error) {
    CLEANUP_CLOSE int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot open %s", path);
    }
    if (!io_read_to_end(fd, out, limit, error)) {
        return error_wrap(error, "%s", path);
    }
    return true;
}

bool io_set_nonblocking(int fd, bool nonblocking, struct error **error) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return error_set_errno(error, errno, "fcntl");
    }
    int wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (wanted != flags && fcntl(fd, F_SETFL, wanted) < 0) {
        return error_set_errno(error, errno, "fcntl");
    }
    return true;
}

size_t io_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    rlim_t soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    return (size_t)(setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_max : soft);
}

union control_space {
    char bytes[CMSG_SPACE(sizeof(int) * IO_FDS_LIMIT)];
    struct cmsghdr align;
};

bool io_send_with_fds(int socket_fd, const void *bytes, size_t length, const int *fds,
                      size_t fd_count, struct error **error) {
    union control_space control = {{0}};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fd_count > IO_FDS_LIMIT) {
        return error_set(error, ERROR_INTERNAL, "%zu descriptors in one message", fd_count);
    }
    if (fd_count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    ssize_t sent = 0;
    do {
        sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return error_set_errno(error, errno, "cannot send");
    }
    if ((size_t)sent < length) {
        return io_write_all(socket_fd, (const char *)bytes + sent, length - (size_t)sent, error);
    }
    return true;
}

ssize_t io_receive_with_fds(int socket_fd, void *bytes, size_t size, int fds[IO_FDS_LIMIT],
                            size_t *fd_count, struct error **error) {
    union control_space control = {{0}};
    struct iovec vector = {.iov_base = bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t got = 0;
    *fd_count = 0;
    do {
        got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        (void)error_set_errno(error, errno, "cannot receive");
        return -1;
    }
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && *fd_count < IO_FDS_LIMIT; i++) {
            memcpy(&fds[*fd_count], CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            (*fd_count)++;
        }
    }
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        for (size_t i = 0; i < *fd_count; i++) {
            (void)close(fds[i]);
        }
        *fd_count = 0;
        (void)error_set(error, ERROR_PROTOCOL, "message too large");
        return -1;
    }
    return got;
}
