/* A few skills ahead are downloaded and unpacked; each is put into the sandbox in its turn. */
#include "orchestrator/setup_skills.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/unpack_process.h"
#include "cma/skills.h"
#include "hand/operations.h"
#include "orchestrator/place_tree.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum { TOTAL_BYTES = 64 * 1024 * 1024 }; /* of one skill */

static const struct unpack_limits limits = {
    .total_bytes = TOTAL_BYTES, .file_bytes = OPERATION_FILE_LIMIT, .members = 10000};

enum {
    AHEAD = 4, /* downloaded or unpacked at a time, and the memory that takes */
};

/* One skill; at most one of download, unpacking and placing is set. */
struct skill {
    struct skills *skills;
    struct skill_download *download;
    struct unpack_process *unpacking;
    struct place_tree *placing;
    struct unpacked tree; /* waits for its turn */
    char *folder;
    struct error *failure;
    bool is_ready; /* for its turn: there is a tree, or a failure */
};

struct skills {
    struct session_setup_context context;
    struct skill_reference wanted[SKILLS_LIMIT];
    struct skill each[SKILLS_LIMIT];
    size_t count;
    size_t started;
    size_t at; /* whose turn it is: later ones of a name replace earlier ones */
    /* What finish removes. */
    char *folders[SKILLS_LIMIT];
    size_t folder_count;
    struct hand_request *removal;
    struct loop_timer *end_timer; /* says that finish had nothing to do */
    session_setup_done done;
    void *owner;
};

static void go_on(struct skills *skills);

static void fail(struct skill *skill, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    (void)error_set(&skill->failure, error->code, "%s", text);
    skill->is_ready = true;
}

/* Its turn is over. */
static void conclude(struct skill *skill, const struct error *error) {
    struct skills *skills = skill->skills;
    const char *id = skills->wanted[skills->at].skill_id;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: skill %s is left out: %s", skills->context.session_id, id, text);
    } else {
        log_info("session %s: skill %s is in %s", skills->context.session_id, id, skill->folder);
    }
    skills->at++;
    go_on(skills);
}

static void on_placed(void *context, const struct error *error) {
    struct skill *skill = context;
    skill->placing = NULL;
    conclude(skill, error);
}

static void on_unpacked(void *context, struct unpacked *unpacked, const struct error *error) {
    struct skill *skill = context;
    skill->unpacking = NULL;
    if (error != NULL) {
        fail(skill, error);
    } else {
        skill->tree = *unpacked;
        *unpacked = (struct unpacked){0};
        skill->is_ready = true;
    }
    go_on(skill->skills);
}

static void on_downloaded(void *context, const struct skill_content *content,
                          const struct error *error) {
    struct skill *skill = context;
    skill->download = NULL;
    if (error != NULL) {
        fail(skill, error);
        go_on(skill->skills);
        return;
    }
    skill->folder = memory_format("skills/%s", content->directory);
    skill->unpacking = unpack_process_start(skill->skills->context.loop, content->bytes,
                                            content->length, &limits, on_unpacked, skill);
}

static void take_turn(struct skill *skill) {
    struct skills *skills = skill->skills;
    skill->is_ready = false;
    if (skill->failure != NULL) {
        conclude(skill, skill->failure);
        return;
    }
    skills->folders[skills->folder_count++] = memory_string(skill->folder);
    skill->placing = place_tree_start(skills->context.hand, skills->context.workdir, skill->folder,
                                      &skill->tree, on_placed, skill);
}

/* Starts downloads, and the turn of the next. Everything here ends through the loop: `at` grows by
 * at most the failures that are ready in a call. */
static void go_on(struct skills *skills) {
    while (skills->started < skills->count && skills->started < skills->at + AHEAD) {
        struct skill *skill = &skills->each[skills->started];
        skill->skills = skills;
        skill->download = skill_download_start(
            skills->context.api, &skills->wanted[skills->started++], on_downloaded, skill);
    }
    if (skills->at == skills->count) {
        skills->done(skills->owner, NULL);
    } else if (skills->each[skills->at].is_ready) {
        take_turn(&skills->each[skills->at]);
    }
}

static void on_end_timer(void *context);

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
    go_on(skills);
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
    for (size_t i = 0; i < skills->started; i++) {
        struct skill *skill = &skills->each[i];
        skill_download_cancel(skill->download);
        unpack_process_cancel(skill->unpacking);
        place_tree_cancel(skill->placing);
        unpacked_free(&skill->tree);
        error_free(skill->failure);
        free(skill->folder);
    }
    if (skills->removal != NULL) {
        hand_request_cancel(skills->removal);
        free(skills->folders[skills->folder_count]);
    }
    for (size_t i = 0; i < skills->folder_count; i++) {
        free(skills->folders[i]);
    }
    loop_timer_free(skills->end_timer);
    free(skills);
}

const struct session_setup_part setup_skills = {
    .name = "skills", .start = start, .finish = finish, .free = skills_free};
