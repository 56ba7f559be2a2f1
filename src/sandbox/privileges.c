/*
 * Two system calls, made directly: libcap-ng remembers the thread it was first used in and would
 * act on keeper from a process made with clone3.
 */
#include "sandbox/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

bool privileges_keep(const unsigned *capabilities, size_t count, struct error **error) {
    uint64_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        kept |= UINT64_C(1) << capabilities[i];
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return error_set_errno(error, errno, "cannot set no_new_privs");
    }
    /* The kernel says where the list ends: by EINVAL. */
    for (unsigned i = 0; i < 64 && prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++) {
        if ((kept >> i & 1) == 0 && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0) {
            return error_set_errno(error, errno, "cannot bound the capabilities");
        }
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct sets[2] = {
        {.effective = (uint32_t)kept, .permitted = (uint32_t)kept},
        {.effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32)},
    };
    if (syscall(SYS_capset, &header, sets) != 0) {
        return error_set_errno(error, errno, "cannot drop capabilities");
    }
    return true;
}
