/* Unit test of the manual pages and the example file against the table of settings: a setting that
 * is not described is not there for its users, one that is only described is a lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/memory.h"
#include "config/load.h"
#include "config/table.h"

enum { PAGE_LIMIT = 1 << 20, NAME_LIMIT = 64 };

static char *read_source(const char *path) {
    const char *root = getenv("SOURCE_ROOT");
    assert_non_null(root);
    CLEANUP_FREE char *full = memory_format("%s/%s", root, path);
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    assert_true(io_read_file(AT_FDCWD, full, &text, PAGE_LIMIT, NULL));
    return buffer_take_string(&text);
}

/* The entry of a list that begins with `.It ` and has `mark` in its first line, up to the next. */
static char *entry_of(const char *page, const char *mark) {
    for (const char *at = strstr(page, "\n.It "); at != NULL; at = strstr(at + 1, "\n.It ")) {
        size_t width = strcspn(at + 1, "\n");
        CLEANUP_FREE char *line = memory_string_n(at + 1, width);
        CLEANUP_FREE char *ended = memory_format("%s ", line);
        if (strstr(ended, mark) == NULL) {
            continue;
        }
        const char *end = strstr(at + 1 + width, "\n.It ");
        const char *list_end = strstr(at + 1 + width, "\n.El");
        assert_non_null(list_end);
        end = end == NULL || end > list_end ? list_end : end;
        return memory_string_n(at + 1, (size_t)(end - at - 1));
    }
    print_error("no entry with \"%s\"\n", mark);
    fail();
    return NULL;
}

static void expect_part(const char *entry, const char *part) {
    if (part != NULL && strstr(entry, part) == NULL) {
        print_error("\"%s\" is not in:\n%s\n", part, entry);
        fail();
    }
}

static void test_keys(void **state) {
    (void)state;
    CLEANUP_FREE char *page = read_source("docs/man/holt.toml.5");
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->key == NULL) {
            continue;
        }
        CLEANUP_FREE char *mark = memory_format(".It Ic %s ", row->key);
        CLEANUP_FREE char *entry = entry_of(page, mark);
        CLEANUP_FREE char *option =
            row->option == NULL ? NULL : memory_format("Fl -%s ", row->option);
        expect_part(entry, row->fallback);
        expect_part(entry, row->variable);
        expect_part(entry, option);
        expect_part(entry, row->is_live ? "live" : NULL);
    }
}

static void test_options(void **state) {
    (void)state;
    CLEANUP_FREE char *page = read_source("docs/man/holt-serve.1");
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        if (row->option == NULL) {
            continue;
        }
        CLEANUP_FREE char *mark = memory_format("Fl -%s ", row->option);
        CLEANUP_FREE char *entry = entry_of(page, mark);
        expect_part(entry, row->variable);
    }
}

/* The name after each `mark` of an .It line is one of the table. */
static void expect_known(const char *page, const char *mark, bool is_option) {
    for (const char *at = strstr(page, "\n.It "); at != NULL; at = strstr(at + 1, "\n.It ")) {
        CLEANUP_FREE char *line = memory_string_n(at + 1, strcspn(at + 1, "\n"));
        for (char *found = strstr(line, mark); found != NULL; found = strstr(found + 1, mark)) {
            CLEANUP_FREE char *name =
                memory_string_n(found + strlen(mark), strcspn(found + strlen(mark), " "));
            bool is_known = false;
            for (size_t i = 0; i < setting_row_count && !is_known; i++) {
                const char *known = is_option ? setting_rows[i].option : setting_rows[i].key;
                is_known = known != NULL && strcmp(known, name) == 0;
            }
            if (!is_known) {
                print_error("%s is described and does not exist\n", name);
                fail();
            }
        }
    }
}

static void test_nothing_else(void **state) {
    (void)state;
    CLEANUP_FREE char *keys = read_source("docs/man/holt.toml.5");
    CLEANUP_FREE char *options = read_source("docs/man/holt-serve.1");
    expect_known(keys, "Ic ", false);
    expect_known(options, "Fl -", true);
}

/* The example as it is, and with every line in use, has no mistake and names every key. */
static void test_example(void **state) {
    (void)state;
    CLEANUP_FREE char *text = read_source("packaging/holt.toml");
    CLEANUP_BUFFER struct buffer used = BUFFER_EMPTY;
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        bool is_used = *line == '#' && length > 1 && strchr(" ", line[1]) == NULL;
        buffer_append(&used, line + (is_used ? 1 : 0), length - (is_used ? 1 : 0));
        buffer_append_char(&used, '\n');
        line += length + (line[length] == '\n');
    }
    const char *const texts[] = {text, buffer_string(&used)};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct settings settings;
        struct problems problems = {.file = "packaging/holt.toml"};
        assign_defaults(&settings);
        load_text(&settings, texts[i], strlen(texts[i]), &problems);
        check_environments(&settings, false, &problems);
        for (size_t j = 0; j < problems.count; j++) {
            CLEANUP_FREE char *problem = problem_text(&problems, j);
            print_error("%s\n", problem);
        }
        assert_int_equal(problems.count, 0);
        for (size_t j = 0; j < setting_row_count && i == 1; j++) {
            const struct setting *row = &setting_rows[j];
            if (row->owner == OF_DAEMON && row->key != NULL && settings.sources[j] != FROM_FILE) {
                print_error("%s is not in packaging/holt.toml\n", row->key);
                fail();
            }
        }
        settings_free(&settings);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_nothing_else),
        cmocka_unit_test(test_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
