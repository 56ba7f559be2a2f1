/*
 * Skills of an agent: which ones a session names, and the download of one (protocol.md section 7).
 */
#ifndef HOLT_CMA_SKILLS_H
#define HOLT_CMA_SKILLS_H

#include "cma/api.h"

enum {
    SKILLS_LIMIT = 100, /* of one session; further ones are left out */
    SKILL_ARCHIVE_LIMIT = 32 * 1024 * 1024,
};

struct skill_reference {
    const char *skill_id; /* borrowed from the session */
    const char *version;  /* an id, or an alias: "latest" */
};

/* Fills `skills` with what session.agent.skills[] names; malformed entries are logged and left
 * out. Returns how many. */
size_t skills_of_session(struct json_object *session, struct skill_reference skills[SKILLS_LIMIT]);

struct skill_content {
    const char *directory;  /* the name as one safe path component; of a bad name the skill's id */
    const char *version_id; /* what an alias was resolved to */
    const char *bytes;      /* a zip or tar archive of whoever wrote the skill */
    size_t length;
};

struct skill_download;

/* `content` is borrowed; NULL with an error. Called once, from the loop. */
typedef void (*skill_downloaded)(void *context, const struct skill_content *content,
                                 const struct error *error);

struct skill_download *skill_download_start(struct api *api, const struct skill_reference *skill,
                                            skill_downloaded done, void *context);
/* Ends it without `done`. Only before `done`. NULL is fine. */
void skill_download_cancel(struct skill_download *take_download);

/*
 * A skill's name reduced to one path component, as the official worker does: white space around it
 * and everything up to the last slash is dropped; NULL when nothing usable is left. The caller
 * frees it.
 */
char *skill_directory_name(const char *name);

#endif
