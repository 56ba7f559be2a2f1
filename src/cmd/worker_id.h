/* What a worker calls itself when nobody says. */
#ifndef HOLT_CMD_WORKER_ID_H
#define HOLT_CMD_WORKER_ID_H

/* This host's name, made fit for an id, and a random part; the caller frees it. */
char *worker_id_new(void);

#endif
