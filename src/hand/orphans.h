/* The end of every process below this one. Private to hand. */
#ifndef HOLT_HAND_ORPHANS_H
#define HOLT_HAND_ORPHANS_H

/*
 * Kills and reaps children until there are none: as a subreaper this process inherits what its
 * children leave, whatever session or group they made for themselves. Bounded against a fork bomb.
 */
void orphans_end_all(void);

#endif
