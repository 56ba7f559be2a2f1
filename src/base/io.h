/* Whole reads and writes on descriptors, and descriptors sent over unix sockets. */
#ifndef HOLT_BASE_IO_H
#define HOLT_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/error.h"

/* Writes all bytes to a blocking descriptor, through EINTR and short writes. */
bool io_write_all(int fd, const void *bytes, size_t length, struct error **error);
/* Reads exactly `length` bytes from a blocking descriptor; an early end is ERROR_PROTOCOL. */
bool io_read_exact(int fd, void *bytes, size_t length, struct error **error);
/* Appends everything up to the end of file to `out`; more than `limit` bytes is ERROR_LIMIT. */
bool io_read_to_end(int fd, struct buffer *out, size_t limit, struct error **error);
/* Reads a whole file (path relative to `dir_fd`, may be AT_FDCWD), bounded by `limit`. */
bool io_read_file(int dir_fd, const char *path, struct buffer *out, size_t limit,
                  struct error **error);
/* O_NONBLOCK on or off. */
bool io_set_nonblocking(int fd, bool nonblocking, struct error **error);

/* Raises the soft limit of open descriptors to the hard one (getrlimit(2)); returns what holds now.
 */
size_t io_raise_descriptor_limit(void);

enum { IO_FDS_LIMIT = 8 };

/*
 * Sends `length` bytes (at least one) with `fd_count` descriptors (at most IO_FDS_LIMIT) as one
 * message over a SOCK_SEQPACKET or SOCK_STREAM unix socket (unix(7), SCM_RIGHTS). The caller keeps
 * its descriptors.
 */
bool io_send_with_fds(int socket_fd, const void *bytes, size_t length, const int *fds,
                      size_t fd_count, struct error **error);
/*
 * Receives one message of up to `size` bytes; returns its length, 0 at end of file, -1 on error
 * (errno EAGAIN is reported as ERROR_SYSTEM with errno_value EAGAIN). Descriptors that came with it
 * are stored in `fds` (O_CLOEXEC, owned by the caller), their number in *fd_count. A truncated
 * message or control part is ERROR_PROTOCOL and closes every descriptor that came with it.
 */
ssize_t io_receive_with_fds(int socket_fd, void *bytes, size_t size, int fds[IO_FDS_LIMIT],
                            size_t *fd_count, struct error **error);

#endif
