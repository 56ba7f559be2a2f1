/* The durable state: rows survive a reopening, are sealed, and refuse what would run twice. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"
#include "state/sealed.h"
#include "state/state.h"

static char directory[] = "/tmp/holt-state-XXXXXX";
static char path[128];

static int make_directory(void **unused) {
    (void)unused;
    (void)snprintf(directory, sizeof(directory), "/tmp/holt-state-XXXXXX");
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/holt.db", directory);
    return 0;
}

static int remove_directory(void **unused) {
    static const char *const names[] = {"", "-wal", "-shm"};
    (void)unused;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CLEANUP_FREE char *name = memory_format("%s%s", path, names[i]);
        (void)unlink(name);
    }
    return rmdir(directory);
}

static struct state *reopen(struct state *state) {
    state_close(state);
    state = state_open(path, NULL);
    assert_non_null(state);
    return state;
}

static const struct state_item item = {.id = "work_1",
                                       .environment_id = "env_1",
                                       .session_id = "sesn_1",
                                       .bearer = "the-sessions-token",
                                       .api_base_url = "https://example.test"};

struct seen {
    size_t count;
    char bearer[64];
    char last_heartbeat[64];
    enum state_item_state state;
};

static void see(void *context, const struct state_item *found) {
    struct seen *seen = context;
    seen->count++;
    seen->state = found->state;
    (void)snprintf(seen->bearer, sizeof(seen->bearer), "%s",
                   found->bearer == NULL ? "" : found->bearer);
    (void)snprintf(seen->last_heartbeat, sizeof(seen->last_heartbeat), "%s",
                   found->last_heartbeat == NULL ? "" : found->last_heartbeat);
}

static void test_an_item_survives_and_is_sealed(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    assert_true(state_item_claim(state, &item, "key", NULL));
    assert_true(state_item_acknowledge(state, "work_1", "2026-01-01T00:00:00Z", NULL));
    assert_true(state_item_beat(state, "work_1", "2026-01-01T00:00:01Z", NULL));
    state = reopen(state);
    struct seen seen = {0};
    assert_true(state_items_each(state, "env_2", "key", see, &seen, NULL));
    assert_int_equal(seen.count, 0);
    assert_true(state_items_each(state, "env_1", "key", see, &seen, NULL));
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.state, STATE_ITEM_HELD);
    assert_string_equal(seen.bearer, "the-sessions-token");
    assert_string_equal(seen.last_heartbeat, "2026-01-01T00:00:01Z");
    state_close(state);
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    assert_true(io_read_file(AT_FDCWD, path, &bytes, 1 << 24, NULL));
    assert_null(memmem(bytes.data, bytes.length, "the-sessions-token", 18));
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_an_item_of_another_key_is_forgotten(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    assert_true(state_item_claim(state, &item, "key", NULL));
    struct seen seen = {0};
    assert_true(state_items_each(state, "env_1", "another key", see, &seen, NULL));
    assert_int_equal(seen.count, 0);
    assert_true(state_items_each(state, "env_1", "key", see, &seen, NULL));
    assert_int_equal(seen.count, 0);
    state_close(state);
}

static void test_a_new_claim_replaces_an_old_one(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    assert_true(state_item_claim(state, &item, "key", NULL));
    assert_true(state_item_stopping(state, "work_1", NULL));
    assert_true(state_item_claim(state, &item, "key", NULL));
    struct seen seen = {0};
    assert_true(state_items_each(state, "env_1", "key", see, &seen, NULL));
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.state, STATE_ITEM_CLAIMED);
    assert_string_equal(seen.last_heartbeat, "");
    assert_true(state_item_forget(state, "work_1", NULL));
    state_close(state);
}

static void test_a_delivery_is_new_once(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    bool is_new = false;
    assert_true(state_delivery_note(state, "msg_1", 1000, &is_new, NULL));
    assert_true(is_new);
    state = reopen(state);
    assert_true(state_delivery_note(state, "msg_1", 2000, &is_new, NULL));
    assert_false(is_new);
    assert_true(state_prune(state, 1000LL * 3600 * 24 * 30, NULL));
    assert_true(state_delivery_note(state, "msg_1", 2000, &is_new, NULL));
    assert_true(is_new);
    state_close(state);
}

static void test_a_sandbox_is_found_by_its_session(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    struct state_sandbox found;
    bool is_found = true;
    assert_true(state_sandbox_find(state, "sesn_1", &found, &is_found, NULL));
    assert_false(is_found);
    assert_true(state_sandbox_begin(state, "sb-1", "sesn_1", 1000, NULL));
    assert_true(state_sandbox_live(state, "sb-1", "incarnation", NULL));
    state = reopen(state);
    assert_true(state_sandbox_find(state, "sesn_1", &found, &is_found, NULL));
    assert_true(is_found);
    assert_string_equal(found.id, "sb-1");
    assert_string_equal(found.incarnation, "incarnation");
    assert_int_equal(found.state, STATE_SANDBOX_LIVE);
    assert_true(found.is_of_this_boot);
    assert_true(state_sandbox_ending(state, "sb-1", NULL));
    assert_true(state_sandbox_find(state, "sesn_1", &found, &is_found, NULL));
    assert_false(is_found);
    state_close(state);
}

static void test_a_sandbox_is_in_use_while_its_session_has_an_item(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    assert_true(state_sandbox_begin(state, "sb-old", "sesn_0", 1000, NULL));
    assert_true(state_sandbox_begin(state, "sb-1", "sesn_1", 2000, NULL));
    assert_true(state_item_claim(state, &item, "key", NULL));
    CLEANUP_FREE struct state_sandbox *rows = NULL;
    size_t count = 0;
    assert_true(state_sandboxes(state, &rows, &count, NULL));
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].id, "sb-old");
    assert_false(rows[0].is_in_use);
    assert_true(rows[1].is_in_use);
    bool is_retired = true;
    assert_true(state_sandbox_retire(state, "sb-1", &is_retired, NULL));
    assert_false(is_retired);
    assert_true(state_sandbox_retire(state, "sb-old", &is_retired, NULL));
    assert_true(is_retired);
    assert_true(state_sandbox_retire(state, "sb-unknown", &is_retired, NULL));
    assert_true(is_retired);
    assert_true(state_sandbox_forget(state, "sb-old", NULL));
    assert_true(state_sandbox_forget(state, "sb-1", NULL));
    state_close(state);
}

static void test_a_call_never_goes_back(void **unused) {
    (void)unused;
    struct state *state = reopen(NULL);
    struct state_call call;
    bool is_found = true;
    assert_true(state_call_find(state, "sesn_1", "sevt_1", &call, &is_found, NULL));
    assert_false(is_found);
    assert_true(state_call_handed(state, "sesn_1", "sevt_1", "bash", "hand-1", 1000, NULL));
    assert_true(state_call_ended(state, "sesn_1", "sevt_1", false, "[]", 2, 10, NULL));
    assert_true(state_call_posted(state, "sesn_1", "sevt_1", 2000, NULL));
    assert_true(state_call_handed(state, "sesn_1", "sevt_1", "bash", "hand-2", 3000, NULL));
    assert_true(state_call_ended(state, "sesn_1", "sevt_1", false, "[]", 2, 10, NULL));
    state = reopen(state);
    assert_true(state_call_find(state, "sesn_1", "sevt_1", &call, &is_found, NULL));
    assert_true(is_found);
    assert_int_equal(call.state, STATE_CALL_POSTED);
    assert_string_equal(call.incarnation, "hand-1");
    assert_true(state_call_find(state, "sesn_2", "sevt_1", &call, &is_found, NULL));
    assert_false(is_found);
    assert_true(state_calls_forget(state, "sesn_1", NULL));
    assert_true(state_call_find(state, "sesn_1", "sevt_1", &call, &is_found, NULL));
    assert_false(is_found);
    state_close(state);
}

static void test_a_foreign_file_is_refused(void **unused) {
    (void)unused;
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    char noise[4096];
    memset(noise, 'x', sizeof(noise));
    assert_true(io_write_all(fd, noise, sizeof(noise), NULL));
    CLEANUP_ERROR struct error *error = NULL;
    assert_null(state_open(path, &error));
    assert_non_null(error);
}

static void test_a_sealed_text_opens_only_in_its_place(void **unused) {
    (void)unused;
    CLEANUP_BUFFER struct buffer sealed = BUFFER_EMPTY;
    assert_true(sealed_write(&sealed, "key", "work_1", "token", NULL));
    CLEANUP_FREE char *text = sealed_read(sealed.data, sealed.length, "key", "work_1");
    assert_string_equal(text, "token");
    assert_null(sealed_read(sealed.data, sealed.length, "key", "work_2"));
    assert_null(sealed_read(sealed.data, sealed.length, "yek", "work_1"));
    assert_null(sealed_read(sealed.data, sealed.length - 1, "key", "work_1"));
    assert_null(sealed_read(sealed.data, 3, "key", "work_1"));
    sealed.data[sealed.length / 2] = (char)(sealed.data[sealed.length / 2] ^ 1);
    assert_null(sealed_read(sealed.data, sealed.length, "key", "work_1"));
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        TEST(test_an_item_survives_and_is_sealed),
        TEST(test_an_item_of_another_key_is_forgotten),
        TEST(test_a_new_claim_replaces_an_old_one),
        TEST(test_a_delivery_is_new_once),
        TEST(test_a_sandbox_is_found_by_its_session),
        TEST(test_a_sandbox_is_in_use_while_its_session_has_an_item),
        TEST(test_a_call_never_goes_back),
        TEST(test_a_foreign_file_is_refused),
        cmocka_unit_test(test_a_sealed_text_opens_only_in_its_place),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
