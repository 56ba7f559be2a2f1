/* One skill after another: download, unpack in a process of its own, put into the sandbox. */
#include "orchestrator/setup_skills.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/unpack_process.h"
#include "cma/skills.h"
#include "hand/operations.h"
#include "orchestrator/place_tree.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

static const struct unpack_limits limits = {
    .total_bytes = 64 * 1024 * 1024, .file_bytes = OPERATION_FILE_LIMIT, .members = 10000};

struct skills {
    struct session_setup_context context;
    struct skill_reference wanted[SKILLS_LIMIT];
    size_t count;
    size_t at;
    /* Of the skill that is under way; at most one of these is set. */
    struct skill_download *download;
    struct unpack_process *unpacking;
    struct place_tree *placing;
    char *folder;
    /* What finish removes. */
    char *folders[SKILLS_LIMIT];
    size_t folder_count;
    struct hand_request *removal;
    struct loop_timer *end_timer; /* says that finish had nothing to do */
    session_setup_done done;
    void *owner;
};

static void skill_start(struct skills *skills);
static void on_end_timer(void *context);

/* The skill under way is in place, or is given up. */
static void skill_end(struct skills *skills, const struct error *error) {
    const char *id = skills->wanted[skills->at].skill_id;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: skill %s is left out: %s", skills->context.session_id, id, text);
    } else {
        log_info("session %s: skill %s is in %s", skills->context.session_id, id, skills->folder);
    }
    free(skills->folder);
    skills->folder = NULL;
    skills->at++;
    skill_start(skills);
}

static void on_placed(void *context, const struct error *error) {
    struct skills *skills = context;
    skills->placing = NULL;
    skill_end(skills, error);
}

static void on_unpacked(void *context, struct unpacked *unpacked, const struct error *error) {
    struct skills *skills = context;
    skills->unpacking = NULL;
    if (error != NULL) {
        skill_end(skills, error);
        return;
    }
    skills->folders[skills->folder_count++] = memory_string(skills->folder);
    skills->placing = place_tree_start(skills->context.hand, skills->context.workdir,
                                       skills->folder, unpacked, on_placed, skills);
}

static void on_downloaded(void *context, const struct skill_content *content,
                          const struct error *error) {
    struct skills *skills = context;
    skills->download = NULL;
    if (error != NULL) {
        skill_end(skills, error);
        return;
    }
    skills->folder = memory_format("skills/%s", content->directory);
    skills->unpacking = unpack_process_start(skills->context.loop, content->bytes, content->length,
                                             &limits, on_unpacked, skills);
}

static void skill_start(struct skills *skills) {
    if (skills->at == skills->count) {
        skills->done(skills->owner, NULL);
        return;
    }
    skills->download = skill_download_start(skills->context.api, &skills->wanted[skills->at],
                                            on_downloaded, skills);
}

static void *start(const struct session_setup_context *context, session_setup_done done,
                   void *owner) {
    struct skills *skills = memory_new(struct skills);
    skills->context = *context;
    skills->count = skills_of_session(context->session, skills->wanted);
    skills->done = done;
    skills->owner = owner;
    if (skills->count == 0) {
        free(skills);
        return NULL;
    }
    skills->end_timer = loop_timer_new(context->loop, on_end_timer, skills);
    skill_start(skills);
    return skills;
}

/* The end: what was put there is removed, whatever the agent has made of it. */

static void remove_next(struct skills *skills);

static void on_removed(void *context, bool changed, const struct error *error) {
    struct skills *skills = context;
    (void)changed;
    skills->removal = NULL;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: %s is not removed: %s", skills->context.session_id,
                 skills->folders[skills->folder_count], text);
    }
    free(skills->folders[skills->folder_count]);
    remove_next(skills);
}

static void remove_next(struct skills *skills) {
    if (skills->folder_count == 0) {
        skills->done(skills->owner, NULL);
        return;
    }
    const char *folder = skills->folders[--skills->folder_count];
    skills->removal = hand_remove(skills->context.hand, skills->context.workdir, folder, true,
                                  on_removed, skills);
}

static void on_end_timer(void *context) {
    remove_next(context);
}

static void finish(void *part, session_setup_done done, void *owner) {
    struct skills *skills = part;
    skills->done = done;
    skills->owner = owner;
    if (skills->folder_count == 0) {
        loop_timer_arm(skills->end_timer, 0);
    } else {
        remove_next(skills);
    }
}

static void skills_free(void *take_part) {
    struct skills *skills = take_part;
    skill_download_cancel(skills->download);
    unpack_process_cancel(skills->unpacking);
    place_tree_cancel(skills->placing);
    if (skills->removal != NULL) {
        hand_request_cancel(skills->removal);
        free(skills->folders[skills->folder_count]);
    }
    for (size_t i = 0; i < skills->folder_count; i++) {
        free(skills->folders[i]);
    }
    loop_timer_free(skills->end_timer);
    free(skills->folder);
    free(skills);
}

const struct session_setup_part setup_skills = {
    .name = "skills", .start = start, .finish = finish, .free = skills_free};
