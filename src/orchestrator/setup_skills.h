/*
 * The skills of a session's agent, in {workdir}/skills/<name>/ of its sandbox: a part of
 * session_setup. A skill that cannot be had is a warning, never the end of the session.
 */
#ifndef HOLT_ORCHESTRATOR_SETUP_SKILLS_H
#define HOLT_ORCHESTRATOR_SETUP_SKILLS_H

#include "orchestrator/session_setup.h"

extern const struct session_setup_part setup_skills;

#endif
