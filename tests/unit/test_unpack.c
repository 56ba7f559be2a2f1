/*
 * Archives of strangers. The vectors are what the official worker made of the same archives: a
 * skill that comes out otherwise here works on one of the two only. The rest are attacks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/io.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/unpack.h"
#include "base/unpack_process.h"

enum { VECTORS_LIMIT = 4 * 1024 * 1024, VECTORS = 37 };

static const struct unpack_limits limits = {
    .total_bytes = 1 << 20, .file_bytes = 1 << 19, .members = 100};

/* A tree as the vectors have it. */
static struct json_object *describe(const struct unpacked *unpacked) {
    struct json_object *tree = json_object_new_array();
    for (size_t i = 0; i < unpacked->count; i++) {
        const struct unpacked_member *member = &unpacked->members[i];
        struct json_object *entry = json_object_new_object();
        json_set_string(entry, "path", member->path);
        if (member->is_directory) {
            json_set_bool(entry, "dir", true);
            json_set_string(entry, "mode", "0700");
        } else {
            json_set_string(entry, "mode", member->is_executable ? "0755" : "0644");
            json_set_bool(entry, "uid_is_self", true);
            json_set_string_n(entry, "content", member->bytes, member->length);
        }
        (void)json_object_array_add(tree, entry);
    }
    return tree;
}

/* "" when a result is as expected; else what differs. */
static char *compare(struct json_object *expected, const struct unpacked *unpacked,
                     const struct error *error) {
    const char *refusal = json_get_string(expected, "error");
    CLEANUP_FREE char *said = error == NULL ? memory_string("") : error_text(error);
    if (refusal != NULL) {
        /* Its own words, where they are its own and not those of tar or unzip. */
        bool has_words = strncmp(refusal, "refusing", strlen("refusing")) == 0;
        return error == NULL || (has_words && strcmp(said, refusal) != 0)
                   ? memory_format("expected \"%s\", got \"%s\"", refusal, said)
                   : memory_string("");
    }
    if (unpacked == NULL) {
        return memory_format("refused: %s", said);
    }
    CLEANUP_JSON struct json_object *tree = describe(unpacked);
    return json_object_equal(tree, json_get(expected, "tree"))
               ? memory_string("")
               : memory_format("expected %s, got %s", json_text(json_get(expected, "tree"), NULL),
                               json_text(tree, NULL));
}

struct outcome {
    struct loop *loop;
    struct json_object *expected;
    char *difference;
};

static void on_unpacked(void *context, struct unpacked *unpacked, const struct error *error) {
    struct outcome *outcome = context;
    outcome->difference = compare(outcome->expected, unpacked, error);
    loop_stop(outcome->loop);
}

static void test_vectors_of_the_official_worker(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    CLEANUP_JSON struct json_object *vectors = NULL;
    assert_true(io_read_file(AT_FDCWD, getenv("SKILL_VECTORS"), &text, VECTORS_LIMIT, NULL));
    assert_true(json_parse(text.data, text.length, &vectors, NULL));
    assert_int_equal(json_object_array_length(vectors), VECTORS);
    struct loop *loop = loop_new(NULL);
    size_t bad = 0;
    for (size_t i = 0; i < VECTORS; i++) {
        struct json_object *vector = json_object_array_get_idx(vectors, i);
        const char *encoded = json_get_string(vector, "archive_base64");
        CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
        assert_true(base64_decode(&bytes, encoded, strlen(encoded)));
        CLEANUP_UNPACKED struct unpacked unpacked;
        CLEANUP_ERROR struct error *error = NULL;
        bool is_good = unpack_archive(bytes.data, bytes.length, &limits, &unpacked, &error);
        CLEANUP_FREE char *difference =
            compare(json_get(vector, "expected"), is_good ? &unpacked : NULL, error);
        struct outcome outcome = {loop, json_get(vector, "expected"), NULL};
        (void)unpack_process_start(loop, bytes.data, bytes.length, &limits, on_unpacked, &outcome);
        loop_run(loop);
        if (difference[0] != '\0' || outcome.difference[0] != '\0') {
            print_error("%s: %s | in a process: %s\n", json_get_string(vector, "id"), difference,
                        outcome.difference);
            bad++;
        }
        free(outcome.difference);
    }
    loop_free(loop);
    assert_int_equal(bad, 0);
}

/* Archives made here. */

static struct archive *begin(struct buffer *bytes, bool is_zip) {
    struct archive *archive = archive_write_new();
    if (is_zip) {
        assert_int_equal(archive_write_set_format_zip(archive), ARCHIVE_OK);
    } else {
        assert_int_equal(archive_write_set_format_pax_restricted(archive), ARCHIVE_OK);
        assert_int_equal(archive_write_add_filter_gzip(archive), ARCHIVE_OK);
    }
    size_t room = 4 << 20;
    (void)buffer_reserve(bytes, room);
    assert_int_equal(archive_write_open_memory(archive, bytes->data, room, &bytes->length),
                     ARCHIVE_OK);
    return archive;
}

static void add(struct archive *archive, const char *path, const char *content, size_t length) {
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)length);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(archive, content, length), (la_ssize_t)length);
    archive_entry_free(entry);
}

static void end(struct archive *archive) {
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    (void)archive_write_free(archive);
}

static enum error_code refusal(const struct buffer *bytes, const struct unpack_limits *bounds) {
    CLEANUP_UNPACKED struct unpacked unpacked;
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(unpack_archive(bytes->data, bytes->length, bounds, &unpacked, &error));
    assert_int_equal(unpacked.count, 0);
    return error->code;
}

static void test_what_is_too_large_is_refused(void **state) {
    (void)state;
    CLEANUP_FREE char *zeros = memory_zeroed(limits.total_bytes + 1, 1);
    for (int is_zip = 0; is_zip < 2; is_zip++) {
        CLEANUP_BUFFER struct buffer file = BUFFER_EMPTY;
        struct archive *archive = begin(&file, is_zip != 0);
        add(archive, "a", zeros, limits.file_bytes + 1);
        end(archive);
        assert_int_equal(refusal(&file, &limits), ERROR_LIMIT);
        CLEANUP_BUFFER struct buffer sum = BUFFER_EMPTY;
        archive = begin(&sum, is_zip != 0);
        add(archive, "a", zeros, limits.file_bytes);
        add(archive, "b", zeros, limits.file_bytes);
        add(archive, "c", zeros, 1);
        end(archive);
        assert_int_equal(refusal(&sum, &limits), ERROR_LIMIT);
        CLEANUP_BUFFER struct buffer many = BUFFER_EMPTY;
        archive = begin(&many, is_zip != 0);
        for (size_t i = 0; i <= limits.members; i++) {
            CLEANUP_FREE char *name = memory_format("f%zu", i);
            add(archive, name, "", 0);
        }
        end(archive);
        assert_int_equal(refusal(&many, &limits), ERROR_LIMIT);
    }
}

static void test_what_is_too_deep_or_long_is_refused(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer path = BUFFER_EMPTY;
    for (int i = 0; i <= UNPACK_DEPTH_LIMIT; i++) {
        buffer_append_string(&path, i == 0 ? "d" : "/d");
    }
    CLEANUP_BUFFER struct buffer deep = BUFFER_EMPTY;
    struct archive *archive = begin(&deep, false);
    add(archive, path.data, "", 0);
    end(archive);
    assert_int_equal(refusal(&deep, &limits), ERROR_LIMIT);
    char name[300];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    CLEANUP_BUFFER struct buffer wide = BUFFER_EMPTY;
    archive = begin(&wide, true);
    add(archive, name, "", 0);
    end(archive);
    assert_int_equal(refusal(&wide, &limits), ERROR_LIMIT);
}

static void test_every_prefix_of_an_archive_is_refused_or_read(void **state) {
    (void)state;
    for (int is_zip = 0; is_zip < 2; is_zip++) {
        CLEANUP_BUFFER struct buffer whole = BUFFER_EMPTY;
        struct archive *archive = begin(&whole, is_zip != 0);
        add(archive, "top/SKILL.md", "text", 4);
        add(archive, "top/more/x", "more", 4);
        end(archive);
        for (size_t length = 0; length < whole.length; length += 7) {
            CLEANUP_UNPACKED struct unpacked unpacked;
            CLEANUP_FREE char *copy = memory_string_n(whole.data, length);
            (void)unpack_archive(copy, length, &limits, &unpacked, NULL);
        }
        CLEANUP_UNPACKED struct unpacked unpacked;
        assert_true(unpack_archive(whole.data, whole.length, &limits, &unpacked, NULL));
        assert_int_equal(unpacked.count, 3);
        assert_string_equal(unpacked.members[1].path, "more");
        assert_true(unpacked.members[1].has_children);
    }
}

static void test_the_process_says_limits_and_can_be_cancelled(void **state) {
    (void)state;
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    CLEANUP_FREE char *zeros = memory_zeroed(limits.file_bytes + 1, 1);
    struct archive *archive = begin(&bytes, true);
    add(archive, "p/a", zeros, limits.file_bytes + 1);
    end(archive);
    struct loop *loop = loop_new(NULL);
    CLEANUP_JSON struct json_object *expected = json_object_new_object();
    json_set_string(expected, "error", "refusing is not what it says");
    struct outcome outcome = {loop, expected, NULL};
    (void)unpack_process_start(loop, bytes.data, bytes.length, &limits, on_unpacked, &outcome);
    loop_run(loop);
    assert_non_null(strstr(outcome.difference, "too many bytes"));
    free(outcome.difference);
    unpack_process_cancel(
        unpack_process_start(loop, bytes.data, bytes.length, &limits, on_unpacked, &outcome));
    unpack_process_cancel(NULL);
    loop_run(loop); /* nothing is left to wait for */
    loop_free(loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_of_the_official_worker),
        cmocka_unit_test(test_what_is_too_large_is_refused),
        cmocka_unit_test(test_what_is_too_deep_or_long_is_refused),
        cmocka_unit_test(test_every_prefix_of_an_archive_is_refused_or_read),
        cmocka_unit_test(test_the_process_says_limits_and_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
