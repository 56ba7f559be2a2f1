/* Unit tests of the settings of the daemon: a value that is lost or misread is an operator misled.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/table.h"

static const char *const variables[] = {"ANTHROPIC_ENVIRONMENT_ID", "ANTHROPIC_ENVIRONMENT_KEY",
                                        "ANTHROPIC_BASE_URL", "ANTHROPIC_WORKER_ID"};

static int forget_variables(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        assert_int_equal(unsetenv(variables[i]), 0);
    }
    return 0;
}

enum { WORDS_LIMIT = 16 };

/* Loads a command line of words between blanks. */
static bool load(struct settings *settings, const char *line, struct error **error) {
    CLEANUP_FREE char *copy = memory_string(line);
    char *words[WORDS_LIMIT] = {NULL};
    int count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_true(count < WORDS_LIMIT - 1);
        words[count++] = word;
    }
    return settings_load(settings, count, words, error);
}

static void test_table(void **state) {
    (void)state;
    struct settings settings;
    (void)load(&settings, "serve", NULL); /* aborts when a default of the table is wrong */
    settings_free(&settings);
    for (size_t i = 0; i < setting_row_count; i++) {
        const struct setting *row = &setting_rows[i];
        assert_non_null(row->help);
        assert_true(row->option == NULL || row->word != NULL);
        assert_true(row->kind != SETTING_SECRET || row->key == NULL);
        assert_true(row->kind != SETTING_CHOICE || row->choices != NULL);
        assert_true(row->kind != SETTING_INTEGER || row->highest > row->lowest);
        for (size_t j = 0; j < i; j++) {
            const struct setting *other = &setting_rows[j];
            assert_true(row->key == NULL || other->key == NULL ||
                        strcmp(row->key, other->key) != 0);
            assert_true(row->option == NULL || other->option == NULL ||
                        strcmp(row->option, other->option) != 0);
        }
    }
}

static void test_defaults(void **state) {
    (void)state;
    struct settings settings;
    assert_true(load(&settings, "serve --environment-id env_1 --environment-key-file /k", NULL));
    assert_int_equal(settings.environment_count, 1);
    assert_string_equal(settings.environments[0].id, "env_1");
    assert_string_equal(settings.environments[0].key_file, "/k");
    assert_null(settings.environments[0].key);
    assert_null(settings.environments[0].worker_id);
    assert_string_equal(settings.environments[0].base_url, "https://api.anthropic.com");
    assert_string_equal(settings.state_directory, "/var/lib/holt");
    assert_string_equal(settings.user, "root");
    assert_null(settings.root_directory);
    assert_int_equal(settings.max_sessions, 64);
    assert_int_equal(settings.max_idle_ms, 60000);
    assert_int_equal(settings.poll_interval_ms, SETTING_UNSET);
    assert_int_equal(settings.drain_ms, 30000);
    assert_int_equal(settings.memory_limit_bytes, (int64_t)4 << 30);
    assert_int_equal(settings.pids_limit, 1024);
    assert_int_equal(settings.cpu_limit_percent, 0);
    assert_true(settings.reads_media);
    settings_free(&settings);
}

static void test_precedence(void **state) {
    (void)state;
    char assignment[] = "ANTHROPIC_ENVIRONMENT_KEY=sk-variable";
    assert_int_equal(putenv(assignment), 0);
    assert_int_equal(setenv("ANTHROPIC_ENVIRONMENT_ID", "env_variable", 1), 0);
    assert_int_equal(setenv("ANTHROPIC_BASE_URL", "http://variable", 1), 0);
    struct settings settings;
    assert_true(
        load(&settings, "serve --environment-id env_line --cpus 1.5 --read-media off", NULL));
    assert_string_equal(settings.environments[0].id, "env_line");
    assert_string_equal(settings.environments[0].base_url, "http://variable");
    assert_string_equal(credential_text(settings.environments[0].key), "sk-variable");
    assert_int_equal(settings.cpu_limit_percent, 150);
    assert_false(settings.reads_media);
    assert_null(strstr(assignment, "sk-variable")); /* wiped where it was */
    settings_free(&settings);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *part; /* of the message */
    } cases[] = {
        {"serve", "no environment"},
        {"serve --environment-id a/b --environment-key-file k", "--environment-id: \"a/b\""},
        {"serve --environment-id e", "no key"},
        {"serve --environment-id e --environment-key-file k --nosuch", "--nosuch"},
        {"serve --environment-id e --environment-key-file k extra", "\"extra\""},
        {"serve --environment-id e --environment-key-file k --state-dir here", "--state-dir"},
        {"serve --environment-id e --environment-key-file k --max-sessions 4097", "4096"},
        {"serve --environment-id e --environment-key-file k --user nobody", "root|agent"},
        {"serve --environment-id e --environment-key-file k --cpus nan", "--cpus"},
        {"serve --environment-id e --environment-key-file k --log-level loud", "loud"},
        {"serve --environment-id e --environment-key-file k --base-url ftp://x", "ftp://x"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_ERROR struct error *error = NULL;
        struct settings settings;
        assert_false(load(&settings, cases[i].line, &error));
        CLEANUP_FREE char *text = error_text(error);
        assert_int_equal(error->code, ERROR_INPUT);
        assert_non_null(strstr(text, cases[i].part));
        settings_free(&settings);
    }
}

static void test_help(void **state) {
    (void)state;
    CLEANUP_FREE char *help = settings_help();
    for (size_t i = 0; i < setting_row_count; i++) {
        CLEANUP_FREE char *option = memory_format("  --%s ", setting_rows[i].option);
        assert_true(setting_rows[i].option == NULL || strstr(help, option) != NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test_setup(test_defaults, forget_variables),
        cmocka_unit_test_setup_teardown(test_precedence, forget_variables, forget_variables),
        cmocka_unit_test_setup(test_refusals, forget_variables),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
