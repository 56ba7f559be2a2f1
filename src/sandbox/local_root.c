/*
 * The skeleton: the directories and the generated /etc that, with the host's /usr, make a root.
 *
 * Nothing of the host's /etc is copied but what programs in /usr cannot run without: the linker's
 * cache, the alternatives, public certificates and the time zone. For --root only the mount points
 * are made.
 */
#include "sandbox/local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/memory.h"
#include "sandbox/remove_tree.h"

static const struct {
    const char *path;
    mode_t mode;
    uid_t owner;
    bool is_mount_point; /* needed with --root also */
} directories[] = {
    {"dev", 0755, 0, true},
    {"proc", 0755, 0, true},
    {"tmp", 01777, 0, true},
    {"sys", 0555, 0, true},
    {"usr", 0755, 0, false},
    {"etc", 0755, 0, false},
    {"etc/alternatives", 0755, 0, false},
    {"etc/ssl", 0755, 0, false},
    {"etc/ssl/certs", 0755, 0, false},
    {"etc/ld.so.conf.d", 0755, 0, false},
    {"root", 0700, 0, false},
    {"home", 0755, 0, false},
    {"home/agent", 0755, LOCAL_AGENT_ID, false},
    {"mnt", 0755, 0, false},
    {"opt", 0755, 0, false},
    {"srv", 0755, 0, false},
    {"run", 0755, 0, false},
    {"run/lock", 01777, 0, false},
    {"var", 0755, 0, false},
    {"var/cache", 0755, 0, false},
    {"var/lib", 0755, 0, false},
    {"var/log", 0755, 0, false},
    {"var/spool", 0755, 0, false},
    {"var/tmp", 01777, 0, false},
};

static const struct {
    const char *path;
    const char *target;
} links[] = {
    {"bin", "usr/bin"},
    {"sbin", "usr/sbin"},
    {"lib", "usr/lib"},
    {"lib32", "usr/lib32"},
    {"lib64", "usr/lib64"},
    {"libx32", "usr/libx32"},
    {"var/run", "/run"},
    {"var/lock", "/run/lock"},
    {"etc/mtab", "/proc/mounts"},
    {"etc/os-release", "../usr/lib/os-release"},
    {"etc/localtime", "/usr/share/zoneinfo/Etc/UTC"},
};

static const struct {
    const char *path;
    const char *text;
} files[] = {
    {"etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"
                   "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
                   "bin:x:2:2:bin:/bin:/usr/sbin/nologin\n"
                   "sys:x:3:3:sys:/dev:/usr/sbin/nologin\n"
                   "man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n"
                   "mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n"
                   "www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n"
                   "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
                   "agent:x:1000:1000:agent:/home/agent:/bin/bash\n"
                   "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
    {"etc/group", "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n"
                  "man:x:12:\nmail:x:8:\nkmem:x:15:\nwww-data:x:33:\nshadow:x:42:\nutmp:x:43:\n"
                  "staff:x:50:\nusers:x:100:\nagent:x:1000:\nnogroup:x:65534:\n"},
    {"etc/hosts", "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
    {"etc/hostname", "sandbox\n"},
    {"etc/resolv.conf", ""},
    {"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"
                          "networks: files\nprotocols: files\nservices: files\n"},
    {"etc/host.conf", "multi on\n"},
    {"etc/shells", "/bin/sh\n/bin/bash\n/usr/bin/sh\n/usr/bin/bash\n"},
    {"etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"},
    {"etc/timezone", "Etc/UTC\n"},
};

/* Copied from the host when there: all public, none of them says anything about its users. */
static const char *const copied[] = {
    "etc/ld.so.cache", "etc/debian_version",  "etc/protocols",
    "etc/services",    "etc/ssl/openssl.cnf", "etc/ssl/certs/ca-certificates.crt",
    "etc/bash.bashrc", "etc/profile",         "etc/inputrc",
    "etc/mime.types",  "etc/magic",           "etc/localtime",
};
static const char *const copied_directories[] = {"etc/alternatives", "etc/ssl/certs",
                                                 "etc/ld.so.conf.d"};

enum { COPY_LIMIT = 16 * 1024 * 1024 };

static bool make_directory(int root_fd, const char *path, mode_t mode, uid_t owner,
                           struct error **error) {
    /* fchmodat after mkdirat: the umask must not have a say. */
    if ((mkdirat(root_fd, path, mode) != 0 && errno != EEXIST) ||
        fchownat(root_fd, path, owner, owner, AT_SYMLINK_NOFOLLOW) != 0 ||
        fchmodat(root_fd, path, mode, 0) != 0) {
        return error_set_errno(error, errno, "cannot make the directory %s of the skeleton", path);
    }
    return true;
}

static bool write_text(int root_fd, const char *path, const char *text, size_t length,
                       struct error **error) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    CLEANUP_CLOSE int fd = openat(root_fd, path, flags, 0644);
    if (fd < 0 && errno == EEXIST && unlinkat(root_fd, path, 0) == 0) {
        fd = openat(root_fd, path, flags, 0644);
    }
    if (fd < 0 || fchmod(fd, 0644) != 0) {
        return error_set_errno(error, errno, "cannot write %s of the skeleton", path);
    }
    return io_write_all(fd, text, length, error);
}

/* Copies a file or a link of the host; what is absent or unreadable is left out. */
static bool copy_entry(int root_fd, const char *path, struct error **error) {
    CLEANUP_FREE char *source = memory_format("/%s", path);
    struct stat status;
    if (lstat(source, &status) != 0) {
        return true;
    }
    if (S_ISLNK(status.st_mode)) {
        char target[4096];
        ssize_t length = readlink(source, target, sizeof(target) - 1);
        if (length < 0) {
            return true;
        }
        target[length] = '\0';
        /* Hundreds of these are made at each start: one call each, where nothing is in the way. */
        return symlinkat(target, root_fd, path) == 0 ||
               (errno == EEXIST && unlinkat(root_fd, path, 0) == 0 &&
                symlinkat(target, root_fd, path) == 0) ||
               error_set_errno(error, errno, "cannot make the link %s of the skeleton", path);
    }
    CLEANUP_BUFFER struct buffer contents = BUFFER_EMPTY;
    if (!S_ISREG(status.st_mode) || (status.st_mode & S_IROTH) == 0 ||
        !io_read_file(AT_FDCWD, source, &contents, COPY_LIMIT, NULL)) {
        return true;
    }
    return write_text(root_fd, path, buffer_string(&contents), contents.length, error);
}

static bool copy_directory(int root_fd, const char *path, struct error **error) {
    CLEANUP_FREE char *source = memory_format("/%s", path);
    CLEANUP_DIR DIR *directory = opendir(source);
    struct dirent *entry = NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        CLEANUP_FREE char *name = memory_format("%s/%s", path, entry->d_name);
        bool is_wanted = entry->d_type == DT_LNK || entry->d_type == DT_REG;
        if (is_wanted && !copy_entry(root_fd, name, error)) {
            return false;
        }
    }
    return true;
}

static bool make_links(int root_fd, struct error **error) {
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        struct stat status;
        /* A link into /usr only where the host has the directory (lib32 mostly is not). */
        CLEANUP_FREE char *target = memory_format("/%s", links[i].target);
        bool leads_to_usr = strncmp(links[i].target, "usr/", 4) == 0;
        if (leads_to_usr && stat(target, &status) != 0) {
            continue;
        }
        if (symlinkat(links[i].target, root_fd, links[i].path) != 0) {
            return error_set_errno(error, errno, "cannot make the link %s of the skeleton",
                                   links[i].path);
        }
    }
    return true;
}

static bool fill_own_root(int root_fd, struct error **error) {
    if (!make_links(root_fd, error)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (!write_text(root_fd, files[i].path, files[i].text, strlen(files[i].text), error)) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]); i++) {
        if (!copy_entry(root_fd, copied[i], error)) {
            return false;
        }
    }
    for (size_t i = 0; i < sizeof(copied_directories) / sizeof(copied_directories[0]); i++) {
        if (!copy_directory(root_fd, copied_directories[i], error)) {
            return false;
        }
    }
    return true;
}

bool local_root_build(int state_fd, const char *name, bool has_own_usr, struct error **error) {
    if (!make_directory(state_fd, name, 0755, 0, error)) {
        return false;
    }
    CLEANUP_CLOSE int root_fd = openat(state_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        return error_set_errno(error, errno, "cannot open the skeleton");
    }
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
        if ((has_own_usr || directories[i].is_mount_point) &&
            !make_directory(root_fd, directories[i].path, directories[i].mode, directories[i].owner,
                            error)) {
            return false;
        }
    }
    return !has_own_usr || fill_own_root(root_fd, error);
}
