/* What the daemon's unprivileged process gives up: its user, its capabilities, its core dumps. */
#include "cmd/front.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NOBODY_ID = 65534 };

void front_identity(struct front_identity *out) {
    const struct passwd *user = getpwnam("holt");
    *out = (struct front_identity){.uid = user != NULL ? user->pw_uid : (uid_t)NOBODY_ID,
                                   .gid = user != NULL ? user->pw_gid : (gid_t)NOBODY_ID,
                                   .name = user != NULL ? "holt" : "nobody"};
}

static bool become_unprivileged_user(struct error **error) {
    struct front_identity user;
    front_identity(&user);
    if (setgroups(0, NULL) != 0 || setresgid(user.gid, user.gid, user.gid) != 0 ||
        setresuid(user.uid, user.uid, user.uid) != 0) {
        return error_set_errno(error, errno, "cannot become user %s", user.name);
    }
    if (setresuid(0, 0, 0) == 0) {
        return error_set(error, ERROR_INTERNAL, "root came back after it was given up");
    }
    return true;
}

bool front_drop_privileges(struct error **error) {
    const struct rlimit no_core = {0, 0};
    bool is_root = geteuid() == 0;
    capng_clear(CAPNG_SELECT_BOTH);
    if (is_root && capng_apply(CAPNG_SELECT_BOUNDS) != 0) {
        return error_set_errno(error, errno, "cannot bound the capabilities");
    }
    if (is_root && !become_unprivileged_user(error)) {
        return false;
    }
    capng_clear(CAPNG_SELECT_BOTH);
    if (capng_apply(CAPNG_SELECT_CAPS) != 0) {
        return error_set_errno(error, errno, "cannot drop the capabilities");
    }
    /* After the change of user, which sets it again. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        setrlimit(RLIMIT_CORE, &no_core) != 0) {
        return error_set_errno(error, errno, "cannot give up privileges");
    }
    return true;
}
