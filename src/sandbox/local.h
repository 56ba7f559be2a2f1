/*
 * The `local` provider, private to this room: sandboxes from this kernel's own namespaces.
 *
 * Everything here runs in keeper. `struct local_host` is what all sandboxes share, prepared once;
 * `struct local_sandbox` is one live sandbox. Errors are for a person; nothing here logs but the
 * sweep.
 */
#ifndef HOLT_SANDBOX_LOCAL_H
#define HOLT_SANDBOX_LOCAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/error.h"
#include "sandbox/cgroup.h"
#include "sandbox/ids.h"
#include "sandbox/sandbox.h"
#include "sandbox/seccomp_filter.h"

/*
 * Keeper's own root file system: nothing but these. It pivots to it at start, so that it cannot
 * see the host's files any more and a sandbox starts from a mount namespace of five mounts.
 */
#define LOCAL_DEVICES "/devices" /* a tmpfs with the device nodes of every sandbox */
#define LOCAL_STATE   "/state"   /* the state directory */
#define LOCAL_BASE    "/base"    /* lower layer of the root: the skeleton, or --root */
#define LOCAL_USR     "/usr"     /* lower layer of /usr, when the root is the host's own */
#define LOCAL_HOLDER  "/holder"  /* --root only: the mount points that the image may lack */
/* Mount points for the layers while the overlays are made; used in each sandbox's namespace. */
#define LOCAL_PLACE_LAYER  "/place/layer"
#define LOCAL_PLACE_BASE   "/place/base"
#define LOCAL_PLACE_HOLDER "/place/holder"
#define LOCAL_PLACE_USR    "/place/usr"
#define LOCAL_PLACE_ROOT   "/place/root"

/* Uid and gid of the agent inside when it is unprivileged. */
enum { LOCAL_AGENT_ID = 1000 };

enum { LOCAL_NAME_SIZE = 40 };

/* Made and destroyed at start, to see whether this host can. */
#define LOCAL_PROBE_ID "keeper-probe"

struct local_sandbox {
    char id[SANDBOX_ID_LIMIT + 1];
    uint32_t ids_base;
    int pidfd;
    pid_t hand_pid;
    char skeleton[LOCAL_NAME_SIZE]; /* what its root lies on */
    int64_t created_us;
    LIST_ENTRY(local_sandbox) link;
};

struct local_host {
    struct keeper_options options; /* strings are keeper's copies of before the fork */
    bool has_own_usr;              /* the root is the host's own */
    int state_fd;
    int sandboxes_fd;
    int lock_fd;
    int hand_fd; /* sealed copy, executable and unreadable */
    char skeleton[LOCAL_NAME_SIZE];
    struct ids ids;
    struct cgroups cgroups;
    struct seccomp_filter *filter;
    LIST_HEAD(, local_sandbox) sandboxes;
};

/* Checks this host, sweeps, prepares everything shared, enters keeper's own root and drops what
 * keeper does not need. Only for a process of its own: there is no way back. */
bool local_host_open(struct local_host *out, const struct keeper_options *options,
                     struct error **error);
/* Destroys what lives and removes what is shared. */
void local_host_close(struct local_host *host);
/* Lets go of everything and ends nothing: the next keeper adopts it. */
void local_host_leave(struct local_host *host);

/* local_root.c: builds <state>/<name>, the lower layer of a sandbox's root. Each keeper builds its
 * own: adopted sandboxes still lie on the one of the keeper that made them. */
bool local_root_build(int state_fd, const char *name, bool has_own_usr, struct error **error);

/* local_create.c: *connection is a stream socket to the sandbox's hand. */
struct local_sandbox *local_create(struct local_host *host, const char *id, int *connection,
                                   struct error **error);
struct local_sandbox *local_find(const struct local_host *host, const char *id);
/* The sandbox with the least id that is greater than `after`, or NULL. */
struct local_sandbox *local_next(const struct local_host *host, const char *after);
/* A connection to its hand, or -1. */
int local_connect(const struct local_host *host, const struct local_sandbox *sandbox,
                  struct error **error);
/* A sandbox that an earlier keeper made and that lives, from its record; NULL: it does not. */
struct local_sandbox *local_adopt(struct local_host *host, const char *id);

/* local_inside.c: everything a new process does to become a sandbox's hand. */
struct local_inside {
    const struct local_host *host;
    const struct cgroup_entry *groups;
    int listen_fd;
    int sync_fd; /* receives the mounts below in this order; sends an error; closed by exec */
};
enum { LOCAL_MOUNT_LAYER, LOCAL_MOUNT_BASE, LOCAL_MOUNT_DEVICES, LOCAL_MOUNT_EXTRA, LOCAL_MOUNTS };
/* Does not return. */
void local_inside_run(const struct local_inside *inside) __attribute__((noreturn));

/* local_destroy.c */
bool local_destroy(struct local_host *host, struct local_sandbox *take_sandbox,
                   struct error **error);
/* Ends the processes and groups of a sandbox of a dead keeper, then removes its directory. */
bool local_destroy_remains(struct local_host *host, const char *id, struct error **error);

/* sweep.c: whether a live sandbox lies on that skeleton. */
bool local_skeleton_is_used(const struct local_host *host, const char *name);
/* sweep.c: adopts what earlier keepers of this state directory left, if that is wanted, and removes
 * the rest. */
bool local_sweep(struct local_host *host, struct error **error);

#endif
