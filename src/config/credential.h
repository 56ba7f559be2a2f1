/*
 * A credential given to a command: taken out of where others could read it.
 *
 * It is kept in pages of its own that a forked child does not get (MADV_DONTFORK) and a core dump
 * leaves out, and the bytes it came from are overwritten: /proc/PID/environ and /proc/PID/cmdline
 * show the memory that the process was started with. Not for concurrent use with getenv.
 */
#ifndef HOLT_CONFIG_CREDENTIAL_H
#define HOLT_CONFIG_CREDENTIAL_H

#include "base/error.h"

struct credential;

/* From an environment variable, which is then unset; NULL when it is unset or empty. */
struct credential *credential_take_variable(const char *name);
/* From a word of argv, which is then overwritten. */
struct credential *credential_take_argument(char *argument);
/* From a file: its first line, without white space around it. ERROR_INPUT when there is none. */
struct credential *credential_read_file(const char *path, struct error **error);
/* The text, as long as the credential lives. */
const char *credential_text(const struct credential *credential);
/* Whether it can be sent in a header: printable ASCII without blanks. */
bool credential_is_sendable(const struct credential *credential);
void credential_free(struct credential *take_credential); /* wipes; NULL is fine */

#endif
