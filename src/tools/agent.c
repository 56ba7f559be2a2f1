/* From hand's forked copy to the agent: signals first, then groups, group and user. */
#include "tools/agent.h"

#include <grp.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

bool agent_become(const struct agent_identity *identity) {
    for (int number = 1; number < NSIG; number++) {
        (void)signal(number, SIG_DFL);
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (!identity->is_set) {
        return true;
    }
    /* Already that user, without the right to change: nothing to drop. */
    if (geteuid() != 0 && geteuid() == identity->uid && getegid() == identity->gid) {
        return true;
    }
    return setgroups(0, NULL) == 0 && setresgid(identity->gid, identity->gid, identity->gid) == 0 &&
           setresuid(identity->uid, identity->uid, identity->uid) == 0;
}
