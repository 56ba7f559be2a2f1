/* What `holt serve` stages: the settings, checked, with the credentials read. */
#ifndef HOLT_CMD_SERVE_STAGE_H
#define HOLT_CMD_SERVE_STAGE_H

#include "config/settings.h"
#include "orchestrator/stage_plan.h"

struct serve_stage;

/* Reads the credentials; before privileges are dropped and after
 * keeper was forked. ERROR_INPUT names the setting. */
struct serve_stage *serve_stage_open(const struct settings *settings, struct error **error);
/* What hands are to know; as long as the stage lives. */
const struct stage_options *serve_stage_options(struct serve_stage *stage,
                                                struct http_client *client);
void serve_stage_free(struct serve_stage *take_stage); /* NULL is fine */

#endif
