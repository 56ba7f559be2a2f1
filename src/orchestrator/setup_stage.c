/* The inputs of a session: one entry after another, each fetched, opened and put in its place. */
#include "orchestrator/setup_stage.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/buffer.h"
#include "base/unpack_process.h"
#include "hand/operations.h"
#include "orchestrator/stage_fetch.h"
#include "orchestrator/stage_git.h"
#include "orchestrator/stage_place.h"
#include "orchestrator/stage_plan.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

#define NOTE_PATH   ".holt/staged.json"
#define ERRORS_PATH ".holt/stage-errors.txt"

enum {
    MEMBERS_LIMIT = 10000,
    NOTE_LIMIT = 64 * 1024,
    FILE_MODE = 0644,
    LINK_TIMEOUT_MS = 10000,
};

enum stage_state {
    STAGE_NOTING, /* reading what was staged before */
    STAGE_FETCHING,
    STAGE_OPENING,
    STAGE_PLACING,
    STAGE_LINKING, /* the symbolic links of a git tree */
    STAGE_TELLING, /* writing the errors, then the note */
    STAGE_DONE,
};

struct stage {
    enum stage_state state;
    struct session_setup_context context;
    struct stage_plan plan;
    size_t at;                /* the entry that is under way */
    struct json_object *note; /* digests of what is staged */
    struct buffer complaints; /* for the agent */
    bool has_old_complaints;
    /* Of the entry under way; at most one of these is set. */
    struct stage_fetch *fetch;
    struct stage_git *git;
    struct unpack_process *unpacking;
    struct stage_place *placing;
    struct hand_request *request;
    struct stage_link *links; /* to be made when the entry's files are placed */
    size_t link_count;
    size_t link_at;
    struct loop_timer *step_timer;
    struct loop_timer *late_timer;
    bool is_late;
    session_setup_done done;
    void *owner;
};

static void stage_step(void *context);

static void go_on(struct stage *stage) {
    loop_timer_arm(stage->step_timer, 0);
}

/* Outcomes. */

static void complain(struct stage *stage, const char *label, const char *text) {
    log_warn("session %s: staging %s: %s", stage->context.session_id, label, text);
    buffer_append_format(&stage->complaints, "%s: %s\n", label, text);
}

static void forget_links(struct stage *stage) {
    for (size_t i = 0; i < stage->link_count; i++) {
        free(stage->links[i].path);
        free(stage->links[i].target);
    }
    free(stage->links);
    stage->links = NULL;
    stage->link_count = 0;
}

static void next_entry(struct stage *stage) {
    forget_links(stage);
    stage->at++;
    stage->state = STAGE_FETCHING;
    go_on(stage);
}

static void entry_failed(struct stage *stage, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    complain(stage, stage->plan.entries[stage->at].label, text);
    next_entry(stage);
}

static void entry_staged(struct stage *stage) {
    const struct stage_entry *entry = &stage->plan.entries[stage->at];
    (void)json_object_array_add(stage->note, json_object_new_string(entry->digest));
    log_info("session %s: staged %s", stage->context.session_id, entry->label);
    next_entry(stage);
}

static bool is_staged(const struct stage *stage, const struct stage_entry *entry) {
    for (size_t i = 0; i < json_object_array_length(stage->note); i++) {
        const char *digest = json_object_get_string(json_object_array_get_idx(stage->note, i));
        if (digest != NULL && strcmp(digest, entry->digest) == 0) {
            return true;
        }
    }
    return false;
}

/* The steps of an entry, from its end to its beginning. */

static void make_link(struct stage *stage);

static void on_linked(void *context, const struct hand_exec_result *result,
                      const struct error *error) {
    struct stage *stage = context;
    stage->request = NULL;
    if (error == NULL && result->exit_code == 0) {
        stage->link_at++;
        make_link(stage);
        return;
    }
    CLEANUP_FREE char *why = error != NULL
                                 ? error_text(error)
                                 : memory_string_n(result->stderr_text, result->stderr_length);
    CLEANUP_FREE char *text = memory_format("its symbolic links from %s on are missing: %s",
                                            stage->links[stage->link_at].path, why);
    complain(stage, stage->plan.entries[stage->at].label, text);
    entry_staged(stage);
}

/* By the agent's own ln, as the agent: a link says nothing to anybody but whoever follows it. */
static void make_link(struct stage *stage) {
    if (stage->link_at == stage->link_count) {
        entry_staged(stage);
        return;
    }
    const char *path = stage->plan.entries[stage->at].path;
    const struct stage_link *link = &stage->links[stage->link_at];
    const char *arguments[] = {"ln", "-sfn", "--", link->target, link->path, NULL};
    CLEANUP_FREE char *folder = memory_format("%s/%s", stage->context.workdir, path);
    stage->state = STAGE_LINKING;
    stage->request =
        hand_exec(stage->context.hand,
                  &(struct hand_exec_options){
                      .argv = arguments, .workdir = folder, .timeout_ms = LINK_TIMEOUT_MS},
                  on_linked, stage);
}

static void on_placed(void *context, const struct error *error) {
    struct stage *stage = context;
    stage->placing = NULL;
    if (error != NULL) {
        entry_failed(stage, error);
    } else {
        stage->link_at = 0;
        make_link(stage);
    }
}

static void place(struct stage *stage, const char *folder, struct unpacked *take_tree) {
    stage->state = STAGE_PLACING;
    stage->placing = stage_place_start(stage->context.hand, stage->context.workdir, folder,
                                       take_tree, on_placed, stage);
}

static void place_file(struct stage *stage, const char *bytes, size_t length) {
    const char *path = stage->plan.entries[stage->at].path;
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *folder =
        slash == NULL ? memory_string("") : memory_string_n(path, (size_t)(slash - path));
    CLEANUP_UNPACKED struct unpacked tree = {.members = memory_new(struct unpacked_member),
                                             .count = 1};
    tree.members[0] = (struct unpacked_member){
        .path = memory_string(slash == NULL ? path : slash + 1),
        .bytes = memory_string_n(bytes, length),
        .length = length,
    };
    place(stage, folder, &tree);
}

static void on_unpacked(void *context, struct unpacked *unpacked, const struct error *error) {
    struct stage *stage = context;
    const struct stage_entry *entry = &stage->plan.entries[stage->at];
    CLEANUP_ERROR struct error *problem = NULL;
    stage->unpacking = NULL;
    if (error != NULL) {
        entry_failed(stage, error);
        return;
    }
    if (entry->strip > 0 && !stage_strip(unpacked, entry->strip, &problem)) {
        unpacked_free(unpacked);
        entry_failed(stage, problem);
        return;
    }
    place(stage, entry->path, unpacked);
}

static void open_archive(struct stage *stage, const char *bytes, size_t length) {
    const struct unpack_limits limits = {.total_bytes = (size_t)stage->context.stage->entry_bytes,
                                         .file_bytes = OPERATION_FILE_LIMIT,
                                         .members = MEMBERS_LIMIT,
                                         .keeps_top = true};
    stage->state = STAGE_OPENING;
    stage->unpacking =
        unpack_process_start(stage->context.loop, bytes, length, &limits, on_unpacked, stage);
}

static bool check_content(const struct stage_entry *entry, const char *bytes, size_t length,
                          struct error **error) {
    char digest[STAGE_DIGEST_SIZE];
    stage_digest(bytes, length, digest);
    if (entry->sha256 != NULL && strcmp(digest, entry->sha256) != 0) {
        return error_set(error, ERROR_DENIED, "its sha256 is %s, not the one that is given",
                         digest);
    }
    if (entry->kind == STAGE_FILE && length > OPERATION_FILE_LIMIT) {
        return error_set(error, ERROR_LIMIT, "a file of more than %d bytes", OPERATION_FILE_LIMIT);
    }
    return true;
}

static void on_fetched(void *context, const char *bytes, size_t length, const struct error *error) {
    struct stage *stage = context;
    const struct stage_entry *entry = &stage->plan.entries[stage->at];
    CLEANUP_ERROR struct error *problem = NULL;
    stage->fetch = NULL;
    if (error != NULL) {
        entry_failed(stage, error);
    } else if (!check_content(entry, bytes, length, &problem)) {
        entry_failed(stage, problem);
    } else if (entry->kind == STAGE_FILE) {
        place_file(stage, bytes, length);
    } else {
        open_archive(stage, bytes, length);
    }
}

static void on_git(void *context, const struct stage_git_result *result,
                   const struct error *error) {
    struct stage *stage = context;
    stage->git = NULL;
    if (error != NULL) {
        entry_failed(stage, error);
        return;
    }
    const char *label = stage->plan.entries[stage->at].label;
    log_info("session %s: %s is at %s", stage->context.session_id, label, result->commit);
    if (*result->left_out != '\0') {
        CLEANUP_FREE char *text = memory_format(
            "left out, as they are submodules or too many links:\n%s", result->left_out);
        complain(stage, label, text);
    }
    stage->links = memory_zeroed(result->link_count + 1, sizeof(*stage->links));
    for (; stage->link_count < result->link_count; stage->link_count++) {
        const struct stage_link *link = &result->links[stage->link_count];
        stage->links[stage->link_count] = (struct stage_link){
            .path = memory_string(link->path), .target = memory_string(link->target)};
    }
    open_archive(stage, result->archive, result->length);
}

static void start_entry(struct stage *stage, const struct stage_entry *entry) {
    stage->state = STAGE_FETCHING;
    if (entry->kind == STAGE_GIT) {
        stage->git =
            stage_git_start(stage->context.loop, stage->context.stage, entry, on_git, stage);
    } else {
        stage->fetch = stage_fetch_start(stage->context.loop, stage->context.stage, &entry->url,
                                         on_fetched, stage);
    }
}

static void cancel_entry(struct stage *stage) {
    stage_fetch_cancel(STEAL_PTR(stage->fetch));
    stage_git_cancel(STEAL_PTR(stage->git));
    unpack_process_cancel(STEAL_PTR(stage->unpacking));
    stage_place_cancel(STEAL_PTR(stage->placing));
    hand_request_cancel(STEAL_PTR(stage->request));
    forget_links(stage);
}

static void on_late(void *context) {
    struct stage *stage = context;
    bool is_under_way = stage->fetch != NULL || stage->git != NULL || stage->unpacking != NULL ||
                        stage->placing != NULL || stage->state == STAGE_LINKING;
    stage->is_late = true;
    if (is_under_way) {
        CLEANUP_ERROR struct error *error = NULL;
        cancel_entry(stage);
        (void)error_set(&error, ERROR_TIMEOUT, "it took too long");
        entry_failed(stage, error);
    }
}

/* The files of ours in the workspace. */

static void read_note(struct stage *stage, const char *bytes, size_t length) {
    CLEANUP_JSON struct json_object *note = NULL;
    struct json_object *staged = NULL;
    if (json_parse(bytes, length, &note, NULL) &&
        (staged = json_get_array(note, "staged")) != NULL) {
        json_object_put(stage->note);
        stage->note = json_object_get(staged);
    }
    stage->has_old_complaints = json_get_bool(note, "has_errors", false);
}

static void on_note(void *context, const struct hand_file_status *status, const char *bytes,
                    size_t length, const struct error *error) {
    struct stage *stage = context;
    (void)status;
    stage->request = NULL;
    if (error == NULL) {
        read_note(stage, bytes, length);
    }
    stage->state = STAGE_FETCHING;
    go_on(stage);
}

static void on_noted(void *context, const struct hand_file_status *status,
                     const struct error *error) {
    struct stage *stage = context;
    (void)status;
    stage->request = NULL;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: what was staged could not be noted: %s", stage->context.session_id,
                 text);
    }
    stage->state = STAGE_DONE;
    go_on(stage);
}

static void write_note(struct stage *stage) {
    CLEANUP_JSON struct json_object *note = json_object_new_object();
    json_set(note, "staged", json_object_get(stage->note));
    json_set_bool(note, "has_errors", stage->complaints.length > 0);
    size_t length = 0;
    const char *text = json_text(note, &length);
    stage->request = hand_put(stage->context.hand, stage->context.workdir, NOTE_PATH, FILE_MODE,
                              text, length, on_noted, stage);
}

static void on_told(void *context, const struct hand_file_status *status,
                    const struct error *error) {
    struct stage *stage = context;
    (void)status;
    stage->request = NULL;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: the agent could not be told what was not staged: %s",
                 stage->context.session_id, text);
    }
    write_note(stage);
}

static void on_untold(void *context, bool changed, const struct error *error) {
    (void)changed;
    on_told(context, NULL, error);
}

/* What went wrong; or nothing, over what went wrong the last time. */
static void tell(struct stage *stage) {
    stage->state = STAGE_TELLING;
    if (stage->complaints.length > 0) {
        stage->request =
            hand_put(stage->context.hand, stage->context.workdir, ERRORS_PATH, FILE_MODE,
                     stage->complaints.data, stage->complaints.length, on_told, stage);
    } else if (stage->has_old_complaints) {
        stage->request = hand_remove(stage->context.hand, stage->context.workdir, ERRORS_PATH,
                                     false, on_untold, stage);
    } else {
        write_note(stage);
    }
}

/* From beginning to end. */

static void consider_entries(struct stage *stage) {
    CLEANUP_ERROR struct error *late = NULL;
    for (; stage->at < stage->plan.count; stage->at++) {
        const struct stage_entry *entry = &stage->plan.entries[stage->at];
        if (entry->problem == NULL && is_staged(stage, entry)) {
            continue;
        }
        if (entry->problem == NULL && !stage->is_late) {
            start_entry(stage, entry);
            return;
        }
        if (entry->problem == NULL && late == NULL) {
            (void)error_set(&late, ERROR_TIMEOUT, "there was no time left for it");
        }
        CLEANUP_FREE char *text = error_text(entry->problem == NULL ? late : entry->problem);
        complain(stage, entry->label, text);
    }
    loop_timer_disarm(stage->late_timer);
    tell(stage);
}

static void stage_step(void *context) {
    struct stage *stage = context;
    switch (stage->state) {
    case STAGE_NOTING:
        stage->request = hand_get(stage->context.hand, stage->context.workdir, NOTE_PATH,
                                  NOTE_LIMIT, on_note, stage);
        break;
    case STAGE_FETCHING:
        consider_entries(stage);
        break;
    case STAGE_DONE:
        stage->done(stage->owner, NULL);
        break;
    case STAGE_OPENING:
    case STAGE_PLACING:
    case STAGE_LINKING:
    case STAGE_TELLING:
        break;
    }
}

static void stage_free(void *take_part) {
    struct stage *stage = take_part;
    cancel_entry(stage);
    loop_timer_free(stage->step_timer);
    loop_timer_free(stage->late_timer);
    stage_plan_free(&stage->plan);
    json_object_put(stage->note);
    buffer_free(&stage->complaints);
    free(stage);
}

static void *start(const struct session_setup_context *context, session_setup_done done,
                   void *owner) {
    struct stage_plan plan;
    if (!stage_plan_read(&plan, json_get_object(context->session, "metadata"), context->stage)) {
        return NULL;
    }
    struct stage *stage = memory_new(struct stage);
    stage->context = *context;
    stage->plan = plan;
    stage->note = json_object_new_array();
    stage->done = done;
    stage->owner = owner;
    stage->step_timer = loop_timer_new(context->loop, stage_step, stage);
    stage->late_timer = loop_timer_new(context->loop, on_late, stage);
    if (context->stage != NULL) {
        loop_timer_arm(stage->late_timer, context->stage->timeout_ms);
    }
    go_on(stage);
    return stage;
}

const struct session_setup_part setup_stage = {
    .name = "staged inputs", .start = start, .finish = NULL, .free = stage_free};
