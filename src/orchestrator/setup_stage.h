/*
 * The inputs that a session's metadata names, staged into its workspace: a part of session_setup.
 *
 * Entry by entry, in order: fetched by the daemon with its credentials, verified, unpacked in a
 * process of its own, put into the sandbox through hand. One that fails is told to the agent in
 * .holt/stage-errors.txt of the workspace and in the log; the session goes on. What was staged is
 * noted in .holt/staged.json there, so that it is not staged again over the agent's work.
 */
#ifndef HOLT_ORCHESTRATOR_SETUP_STAGE_H
#define HOLT_ORCHESTRATOR_SETUP_STAGE_H

#include "orchestrator/session_setup.h"

extern const struct session_setup_part setup_stage;

#endif
