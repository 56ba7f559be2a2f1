/*
 * The identity of the agent's processes, and what a forked child does before it acts for the agent.
 *
 * Private to the rooms tools/ and hand/.
 */
#ifndef HOLT_TOOLS_AGENT_H
#define HOLT_TOOLS_AGENT_H

#include <stdbool.h>
#include <sys/types.h>

/* Whom the agent's processes run as; with is_set false they stay what hand is. */
struct agent_identity {
    bool is_set;
    uid_t uid;
    gid_t gid;
};

/*
 * In a forked child: default signal handlers, an empty signal mask, and for good the agent's
 * credentials without supplementary groups. False with errno set.
 */
bool agent_become(const struct agent_identity *identity);

#endif
