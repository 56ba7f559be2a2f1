/* One result on its way to the control plane, tried for as long as the lease may live. */
#include "orchestrator/result_post.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum { WAIT_FIRST_MS = 1000, WAIT_LIMIT_MS = 30000 };

struct result_post {
    struct api *api;
    char *path;
    struct json_object *body;
    int64_t deadline_ms;
    int64_t wait_ms;
    struct api_call *call;
    struct loop_timer *timer;
    void (*done)(void *context, const struct error *error);
    void *context;
};

static void post_try(void *context);

static void on_answer(void *context, const struct api_answer *answer) {
    struct result_post *post = context;
    post->call = NULL;
    int64_t wait_ms = post->wait_ms - random_below((uint32_t)(post->wait_ms / 4 + 1));
    wait_ms = wait_ms < answer->retry_after_ms ? answer->retry_after_ms : wait_ms;
    bool is_pointless = answer->error == NULL || !answer->is_retryable ||
                        clock_monotonic_ms() + wait_ms > post->deadline_ms;
    if (is_pointless) {
        post->done(post->context, answer->error);
        result_post_cancel(post);
        return;
    }
    CLEANUP_FREE char *text = error_text(answer->error);
    log_info("a result is posted again in %lld ms: %s", (long long)wait_ms, text);
    post->wait_ms = post->wait_ms * 2 > WAIT_LIMIT_MS ? (int64_t)WAIT_LIMIT_MS : post->wait_ms * 2;
    loop_timer_arm(post->timer, wait_ms);
}

static void post_try(void *context) {
    struct result_post *post = context;
    post->call = api_call_start(post->api, &(struct api_request){.method = "POST",
                                                                 .path = post->path,
                                                                 .body = post->body,
                                                                 .done = on_answer,
                                                                 .context = post});
}

struct result_post *result_post_start(struct api *api, const char *session_id,
                                      struct json_object *event, int64_t give_up_after_ms,
                                      void (*done)(void *context, const struct error *error),
                                      void *context) {
    struct result_post *post = memory_new(struct result_post);
    struct json_object *events = json_object_new_array();
    (void)json_object_array_add(events, json_object_get(event));
    post->body = json_object_new_object();
    json_set(post->body, "events", events);
    post->api = api;
    post->path = memory_format("/v1/sessions/%s/events", session_id);
    post->deadline_ms = clock_monotonic_ms() + give_up_after_ms;
    post->wait_ms = WAIT_FIRST_MS;
    post->done = done;
    post->context = context;
    post->timer = loop_timer_new(api_loop(api), post_try, post);
    post_try(post);
    return post;
}

void result_post_cancel(struct result_post *take_post) {
    if (take_post == NULL) {
        return;
    }
    api_call_cancel(take_post->call);
    loop_timer_free(take_post->timer);
    json_object_put(take_post->body);
    free(take_post->path);
    free(take_post);
}
