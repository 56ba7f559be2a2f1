/* What a memory store and its folder do about every combination of base, server and folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "orchestrator/memory_sync.h"

#define PATH  "notes/a.md"
#define START 1000

/* One letter stands for a content; '-' for none. */
static const char *sha_of(char letter, memory_sha sha) {
    memset(sha, letter, sizeof(memory_sha) - 1);
    sha[sizeof(memory_sha) - 1] = '\0';
    return letter == '-' ? "" : sha;
}

static void add_remote(struct memory_sync *sync, const char *path, char letter) {
    memory_sha sha;
    if (letter != '-') {
        (void)memory_sync_remote(sync, path, "mem_1", sha_of(letter, sha));
    }
}

static void add_local(struct memory_sync *sync, const char *path, char letter) {
    memory_sha sha;
    if (letter != '-') {
        (void)memory_sync_local(sync, path, sha_of(letter, sha));
    }
}

static void settle(struct memory_sync *sync, struct memory_file *file, char letter) {
    memory_sha sha;
    memory_sync_settled(sync, file, sha_of(letter, sha));
}

/* A store whose paths have this base, from a pass in which both sides had it. */
static void give_base(struct memory_sync *sync, const char *path, char letter) {
    memory_sync_begin(sync);
    add_remote(sync, path, letter);
    add_local(sync, path, letter);
    assert_true(memory_sync_decide(sync, MEMORY_SYNC, START));
}

static char letter_of(const memory_sha sha) {
    return sha[0] == '\0' ? '-' : sha[0];
}

static const struct row {
    char base, remote, local;
    enum memory_step writable, read_only, flush;
    enum memory_note note; /* of a pass over a writable store */
    char base_after;       /* the same */
} rows[] = {
    /* Nowhere, or only in the base. */
    {'-', '-', '-', MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NO_NOTE, '-'},
    {'b', '-', '-', MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NO_NOTE, '-'},
    /* The same everywhere, or on both sides. */
    {'b', 'b', 'b', MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NO_NOTE, 'b'},
    {'-', 'r', 'r', MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NO_NOTE, 'r'},
    {'b', 'r', 'r', MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NO_NOTE, 'r'},
    /* Changed on the server only. */
    {'-', 'r', '-', MEMORY_PULL, MEMORY_PULL, MEMORY_NOTHING, MEMORY_NO_NOTE, '-'},
    {'b', 'r', 'b', MEMORY_PULL, MEMORY_PULL, MEMORY_NOTHING, MEMORY_NO_NOTE, 'b'},
    /* Changed in the folder only. */
    {'-', '-', 'l', MEMORY_CREATE, MEMORY_NOTHING, MEMORY_CREATE, MEMORY_NO_NOTE, '-'},
    {'b', 'b', 'l', MEMORY_UPDATE, MEMORY_NOTHING, MEMORY_UPDATE, MEMORY_NO_NOTE, 'b'},
    /* Changed on both sides. */
    {'-', 'r', 'l', MEMORY_PULL, MEMORY_PULL, MEMORY_NOTHING, MEMORY_BOTH_CHANGED, '-'},
    {'b', 'r', 'l', MEMORY_PULL, MEMORY_PULL, MEMORY_NOTHING, MEMORY_BOTH_CHANGED, 'b'},
    /* Deleted in the folder: not in the pass that notices. */
    {'b', 'b', '-', MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NOTHING, MEMORY_NO_NOTE, 'b'},
    {'b', 'r', '-', MEMORY_PULL, MEMORY_PULL, MEMORY_NOTHING, MEMORY_RESTORED, 'b'},
    /* Deleted on the server. */
    {'b', '-', 'b', MEMORY_REMOVE, MEMORY_REMOVE, MEMORY_NOTHING, MEMORY_NO_NOTE, 'b'},
    {'b', '-', 'l', MEMORY_CREATE, MEMORY_NOTHING, MEMORY_CREATE, MEMORY_RECREATED, '-'},
};

static enum memory_step decide_row(struct memory_sync *sync, const struct row *row,
                                   enum memory_mode mode) {
    enum memory_step step = MEMORY_NOTHING;
    if (row->base != '-') {
        give_base(sync, PATH, row->base);
    }
    memory_sync_begin(sync);
    add_remote(sync, PATH, row->remote);
    add_local(sync, PATH, row->local);
    assert_true(memory_sync_decide(sync, mode, START));
    struct memory_file *file = memory_sync_next(sync, &step);
    assert_null(file == NULL ? NULL : memory_sync_next(sync, &(enum memory_step){0}));
    return step;
}

static void test_every_combination(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct memory_sync *sync = memory_sync_new(false);
        assert_int_equal(decide_row(sync, row, MEMORY_SYNC), row->writable);
        struct memory_file *file = memory_sync_find(sync, PATH);
        assert_int_equal(file == NULL ? MEMORY_NO_NOTE : file->note, row->note);
        assert_int_equal(file == NULL ? '-' : letter_of(file->base), row->base_after);
        memory_sync_free(sync);
        sync = memory_sync_new(true);
        assert_int_equal(decide_row(sync, row, MEMORY_SYNC), row->read_only);
        memory_sync_free(sync);
        sync = memory_sync_new(false);
        assert_int_equal(decide_row(sync, row, MEMORY_FLUSH), row->flush);
        memory_sync_free(sync);
        sync = memory_sync_new(true);
        assert_int_equal(decide_row(sync, row, MEMORY_FLUSH), MEMORY_NOTHING);
        memory_sync_free(sync);
    }
}

/* The rows above are all there are: any other is one of them with other letters. */
static void test_table_is_complete(void **state) {
    (void)state;
    for (const char *base = "-b"; *base != '\0'; base++) {
        for (const char *remote = "-br"; *remote != '\0'; remote++) {
            for (const char *local = "-blr"; *local != '\0'; local++) {
                bool is_meant = (*base == 'b' || (*remote != 'b' && *local != 'b')) &&
                                (*remote == 'r' || *local != 'r');
                size_t found = 0;
                for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                    found += rows[i].base == *base && rows[i].remote == *remote &&
                                     rows[i].local == *local
                                 ? 1
                                 : 0;
                }
                assert_int_equal(found, is_meant ? 1 : 0);
            }
        }
    }
}

static enum memory_step missing_after(struct memory_sync *sync, enum memory_mode mode,
                                      int64_t now_ms) {
    enum memory_step step = MEMORY_NOTHING;
    memory_sync_begin(sync);
    add_remote(sync, PATH, 'b');
    assert_true(memory_sync_decide(sync, mode, now_ms));
    (void)memory_sync_next(sync, &step);
    return step;
}

static void test_deletion_waits(void **state) {
    (void)state;
    struct memory_sync *sync = memory_sync_new(false);
    give_base(sync, PATH, 'b');
    assert_int_equal(missing_after(sync, MEMORY_SYNC, START), MEMORY_NOTHING);
    assert_int_equal(missing_after(sync, MEMORY_SYNC, START + 29999), MEMORY_NOTHING);
    assert_int_equal(missing_after(sync, MEMORY_SYNC, START + 30000), MEMORY_DELETE);
    /* It failed: it is due again at once. Seen again in between: the wait starts anew. */
    assert_int_equal(missing_after(sync, MEMORY_SYNC, START + 30001), MEMORY_DELETE);
    memory_sync_reappeared(sync, memory_sync_find(sync, PATH));
    assert_int_equal(missing_after(sync, MEMORY_SYNC, START + 31000), MEMORY_NOTHING);
    give_base(sync, PATH, 'b');
    assert_int_equal(missing_after(sync, MEMORY_SYNC, START + 90000), MEMORY_NOTHING);
    /* At the end nobody waits. */
    assert_int_equal(missing_after(sync, MEMORY_FINAL, START + 90001), MEMORY_DELETE);
    memory_sync_gone(sync, memory_sync_find(sync, PATH));
    assert_int_equal(letter_of(memory_sync_find(sync, PATH)->base), '-');
    memory_sync_free(sync);
}

static void numbered_pass(struct memory_sync *sync, size_t count, size_t local_count,
                          enum memory_mode mode) {
    memory_sync_begin(sync);
    for (size_t i = 0; i < count; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "f%05zu", i);
        add_remote(sync, path, 'b');
        if (i < local_count) {
            add_local(sync, path, 'b');
        }
    }
    assert_true(memory_sync_decide(sync, mode, START));
}

static void test_deletions_are_bounded(void **state) {
    (void)state;
    static const struct {
        size_t count, allowed;
    } cases[] = {{4, 8}, {32, 8}, {40, 10}, {199, 49}, {200, 50}, {2000, 50}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memory_sync *sync = memory_sync_new(false);
        numbered_pass(sync, cases[i].count, cases[i].count, MEMORY_SYNC);
        numbered_pass(sync, cases[i].count, 1, MEMORY_FINAL);
        size_t due = 0;
        size_t allowed = 0;
        enum memory_step step = MEMORY_NOTHING;
        while (memory_sync_next(sync, &step) != NULL) {
            assert_int_equal(step, MEMORY_DELETE);
            due++;
            allowed += memory_sync_take_deletion(sync) ? 1 : 0;
        }
        size_t expected = due < cases[i].allowed ? due : cases[i].allowed;
        assert_int_equal(due, cases[i].count - 1);
        assert_int_equal(allowed, expected);
        assert_int_equal(memory_sync_held_deletions(sync), due - expected);
        memory_sync_free(sync);
    }
}

static void test_wiped_folder_is_no_deletion(void **state) {
    (void)state;
    struct memory_sync *sync = memory_sync_new(false);
    numbered_pass(sync, 2, 2, MEMORY_SYNC);
    memory_sync_begin(sync);
    add_remote(sync, "f00000", 'b');
    add_remote(sync, "f00001", 'b');
    assert_false(memory_sync_decide(sync, MEMORY_FINAL, START));
    assert_null(memory_sync_next(sync, &(enum memory_step){0}));
    /* The download sets the base anew. */
    memory_sync_reset(sync);
    struct memory_file *file = memory_sync_remote(sync, "f00000", "mem_1", "");
    settle(sync, file, 'b');
    CLEANUP_JSON struct json_object *base = memory_sync_save(sync);
    assert_int_equal(json_object_object_length(base), 1);
    memory_sync_free(sync);
    /* A single file that vanished is a deletion. */
    sync = memory_sync_new(false);
    numbered_pass(sync, 1, 1, MEMORY_SYNC);
    numbered_pass(sync, 1, 0, MEMORY_FINAL);
    enum memory_step step = MEMORY_NOTHING;
    assert_non_null(memory_sync_next(sync, &step));
    assert_int_equal(step, MEMORY_DELETE);
    memory_sync_free(sync);
}

static enum memory_step pass(struct memory_sync *sync, char remote, char local,
                             enum memory_mode mode) {
    enum memory_step step = MEMORY_NOTHING;
    memory_sync_begin(sync);
    add_remote(sync, PATH, remote);
    add_local(sync, PATH, local);
    assert_true(memory_sync_decide(sync, mode, START));
    (void)memory_sync_next(sync, &step);
    return step;
}

static void test_refused_until_changed(void **state) {
    (void)state;
    struct memory_sync *sync = memory_sync_new(false);
    assert_int_equal(pass(sync, '-', 'x', MEMORY_SYNC), MEMORY_CREATE);
    memory_sync_refused(sync, memory_sync_find(sync, PATH));
    assert_int_equal(pass(sync, '-', 'x', MEMORY_SYNC), MEMORY_NOTHING);
    assert_int_equal(pass(sync, '-', 'x', MEMORY_FLUSH), MEMORY_NOTHING);
    assert_false(memory_sync_is_dirty(sync));
    assert_int_equal(pass(sync, '-', 'y', MEMORY_SYNC), MEMORY_CREATE);
    settle(sync, memory_sync_find(sync, PATH), 'y');
    /* The same with a memory that exists: it stays, and the server's change still wins. */
    assert_int_equal(pass(sync, 'y', 'x', MEMORY_SYNC), MEMORY_UPDATE);
    memory_sync_refused(sync, memory_sync_find(sync, PATH));
    assert_int_equal(pass(sync, 'y', 'x', MEMORY_SYNC), MEMORY_NOTHING);
    assert_int_equal(letter_of(memory_sync_find(sync, PATH)->base), 'y');
    assert_int_equal(pass(sync, 'z', 'x', MEMORY_SYNC), MEMORY_PULL);
    assert_int_equal(memory_sync_find(sync, PATH)->note, MEMORY_BOTH_CHANGED);
    memory_sync_free(sync);
}

/* The answer to an upload got lost: what the server lists next tells whether it was saved. */
static void test_unheard_upload(void **state) {
    (void)state;
    memory_sha sha;
    struct memory_sync *sync = memory_sync_new(false);
    give_base(sync, PATH, 'b');
    assert_int_equal(pass(sync, 'b', 'l', MEMORY_SYNC), MEMORY_UPDATE);
    memory_sync_sending(sync, memory_sync_find(sync, PATH), sha_of('l', sha));
    assert_int_equal(pass(sync, 'l', 'm', MEMORY_SYNC), MEMORY_UPDATE); /* our own, not an edit */
    memory_sync_sending(sync, memory_sync_find(sync, PATH), sha_of('m', sha));
    assert_int_equal(pass(sync, 'l', 'm', MEMORY_SYNC), MEMORY_UPDATE); /* it was not saved */
    /* The record served once: the same content by another is another's. */
    assert_int_equal(pass(sync, 'm', 'n', MEMORY_SYNC), MEMORY_PULL);
    memory_sync_free(sync);
    /* A flush asks the server about it even when the file is as in the base. */
    sync = memory_sync_new(false);
    give_base(sync, PATH, 'b');
    assert_int_equal(pass(sync, 'b', 'l', MEMORY_SYNC), MEMORY_UPDATE);
    memory_sync_sending(sync, memory_sync_find(sync, PATH), sha_of('l', sha));
    memory_sync_begin(sync);
    add_local(sync, PATH, 'b');
    assert_true(memory_sync_is_dirty(sync));
    add_remote(sync, PATH, 'l');
    assert_true(memory_sync_decide(sync, MEMORY_FLUSH, START));
    enum memory_step step = MEMORY_NOTHING;
    assert_non_null(memory_sync_next(sync, &step));
    assert_int_equal(step, MEMORY_UPDATE);
    memory_sync_free(sync);
}

/* What turns out otherwise while it is done. */
static void test_surprises(void **state) {
    (void)state;
    memory_sha sha;
    enum memory_step step = MEMORY_NOTHING;
    struct memory_sync *sync = memory_sync_new(false);
    give_base(sync, PATH, 'b');
    assert_int_equal(pass(sync, '-', 'b', MEMORY_SYNC), MEMORY_REMOVE);
    memory_sync_edited(sync, memory_sync_find(sync, PATH), sha_of('l', sha));
    assert_int_equal(memory_sync_find(sync, PATH)->note, MEMORY_RECREATED);
    assert_non_null(memory_sync_next(sync, &step));
    assert_int_equal(step, MEMORY_CREATE);
    memory_sync_free(sync);

    sync = memory_sync_new(true);
    give_base(sync, PATH, 'b');
    assert_int_equal(pass(sync, '-', 'b', MEMORY_SYNC), MEMORY_REMOVE);
    memory_sync_edited(sync, memory_sync_find(sync, PATH), sha_of('l', sha));
    assert_int_equal(memory_sync_find(sync, PATH)->note, MEMORY_KEPT_READ_ONLY);
    assert_null(memory_sync_next(sync, &step));
    memory_sync_free(sync);

    sync = memory_sync_new(false);
    give_base(sync, PATH, 'b');
    assert_int_equal(pass(sync, 'b', 'l', MEMORY_SYNC), MEMORY_UPDATE);
    memory_sync_orphaned(sync, memory_sync_find(sync, PATH));
    assert_non_null(memory_sync_next(sync, &step));
    assert_int_equal(step, MEMORY_CREATE);
    memory_sync_free(sync);
}

static void test_order(void **state) {
    (void)state;
    struct memory_sync *sync = memory_sync_new(false);
    memory_sync_begin(sync);
    add_remote(sync, "a", 'r');
    add_local(sync, "c", 'l');
    add_local(sync, "b", 'l');
    add_remote(sync, "d", 'r');
    assert_true(memory_sync_decide(sync, MEMORY_SYNC, START));
    struct buffer order = BUFFER_EMPTY;
    enum memory_step step = MEMORY_NOTHING;
    for (struct memory_file *file = memory_sync_next(sync, &step); file != NULL;
         file = memory_sync_next(sync, &step)) {
        buffer_append_string(&order, file->path);
    }
    assert_string_equal(buffer_string(&order), "bcad");
    buffer_free(&order);
    memory_sync_free(sync);
}

static void test_base_outside(void **state) {
    (void)state;
    struct memory_sync *sync = memory_sync_new(false);
    assert_false(memory_sync_has_news(sync));
    give_base(sync, PATH, 'b');
    assert_true(memory_sync_has_news(sync));
    assert_false(memory_sync_has_news(sync));
    CLEANUP_JSON struct json_object *base = memory_sync_save(sync);
    memory_sync_free(sync);
    /* What the folder's neighbours may have put there. */
    json_set_string(base, "../up", json_get_string(base, PATH));
    json_set_string(base, "short", "abc");
    json_set_int(base, "number", 1);
    json_set(base, "null", NULL);
    sync = memory_sync_new(false);
    memory_sync_load(sync, base);
    assert_false(memory_sync_has_news(sync));
    CLEANUP_JSON struct json_object *again = memory_sync_save(sync);
    assert_int_equal(json_object_object_length(again), 1);
    assert_int_equal(pass(sync, '-', 'b', MEMORY_SYNC), MEMORY_REMOVE);
    memory_sync_free(sync);
}

static void test_item_read(void **state) {
    (void)state;
    static const struct {
        const char *path;
        bool is_good;
    } paths[] = {{"/a", true},    {"/a/b.md", true}, {"//a", true},    {"/", false},
                 {"", false},     {"/a//b", false},  {"/../a", false}, {"/a/..", false},
                 {"/./a", false}, {"/a/", false},    {"/..a/b", true}};
    memory_sha sha;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        CLEANUP_JSON struct json_object *json = json_object_new_object();
        struct memory_item item;
        json_set_string(json, "type", "memory");
        json_set_string(json, "id", "mem_1");
        json_set_string(json, "path", paths[i].path);
        json_set_string(json, "content_sha256", sha_of('a', sha));
        assert_int_equal(memory_item_read(json, &item), paths[i].is_good);
        json_set_string(json, "id", "mem/../1");
        assert_false(memory_item_read(json, &item));
        json_set_string(json, "id", "mem_1");
        json_set_string(json, "content_sha256", "A");
        assert_false(memory_item_read(json, &item));
    }
    memory_digest("abc", 3, sha);
    assert_string_equal(sha, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_deletion_waits),
        cmocka_unit_test(test_deletions_are_bounded),
        cmocka_unit_test(test_wiped_folder_is_no_deletion),
        cmocka_unit_test(test_refused_until_changed),
        cmocka_unit_test(test_unheard_upload),
        cmocka_unit_test(test_surprises),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_base_outside),
        cmocka_unit_test(test_item_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
