/* Finds the parts of holt that are files of their own. */
#ifndef HOLT_CMD_LOCATE_H
#define HOLT_CMD_LOCATE_H

#include "base/error.h"

/*
 * The absolute path of the static `hand` executable: HOLT_HAND when set, else where the build or
 * the installation put it, seen from this executable. The caller frees it. ERROR_NOT_FOUND says
 * where it was looked for.
 */
char *locate_hand(struct error **error);

#endif
