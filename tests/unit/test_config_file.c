/* Unit tests of the configuration file: a mistake in it must be found, named with its line, and
 * never be read as something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/memory.h"
#include "config/load.h"
#include "config/nearest.h"
#include "config/table.h"

struct fixture {
    char directory[32];
    char path[64];
};

static int set_up(void **state) {
    struct fixture *fixture = memory_new(struct fixture);
    memcpy(fixture->directory, "/tmp/holt-config-XXXXXX", sizeof("/tmp/holt-config-XXXXXX"));
    assert_non_null(mkdtemp(fixture->directory));
    CLEANUP_FREE char *path = memory_format("%s/holt.toml", fixture->directory);
    memcpy(fixture->path, path, strlen(path) + 1);
    static const char *const variables[] = {"ANTHROPIC_ENVIRONMENT_ID", "ANTHROPIC_ENVIRONMENT_KEY",
                                            "ANTHROPIC_BASE_URL", "ANTHROPIC_WORKER_ID"};
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        assert_int_equal(unsetenv(variables[i]), 0);
    }
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    (void)unlink(fixture->path);
    assert_int_equal(rmdir(fixture->directory), 0);
    free(fixture);
    return 0;
}

static void write_file(const struct fixture *fixture, const char *text) {
    (void)unlink(fixture->path);
    CLEANUP_CLOSE int fd = open(fixture->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_true(io_write_all(fd, text, strlen(text), NULL));
}

/* Loads with the file and one more option ("--max-idle 5s"), or none when it is NULL. */
static bool load(struct fixture *fixture, struct settings *settings, const char *option,
                 const char *value, struct error **error) {
    char name[] = "serve";
    char config[] = "--config";
    CLEANUP_FREE char *option_copy = memory_string(option == NULL ? "" : option);
    CLEANUP_FREE char *value_copy = memory_string(value == NULL ? "" : value);
    char *words[] = {name, config, fixture->path, option_copy, value_copy, NULL};
    return settings_load(settings, option == NULL ? 3 : 5, words, error);
}

static const char two_environments[] = "max_sessions = 10\n"
                                       "max_idle = \"2m\"\n"
                                       "drain = 7\n"
                                       "[sandbox]\n"
                                       "cpus = 1.5\n"
                                       "memory = \"512M\"\n"
                                       "[[environments]]\n"
                                       "id = \"env_1\"\n"
                                       "key_file = \"/etc/key\"\n"
                                       "max_sessions = 4\n"
                                       "[[environments]]\n"
                                       "id = \"env_2\"\n"
                                       "key_variable = \"HOLT_TEST_KEY\"\n"
                                       "base_url = \"http://127.0.0.1:1\"\n"
                                       "max_idle = \"5s\"\n"
                                       "max_sessions = 40\n";

static void test_environments(void **state) {
    struct settings settings;
    assert_int_equal(setenv("HOLT_TEST_KEY", "sk-2", 1), 0);
    write_file(*state, two_environments);
    assert_true(load(*state, &settings, NULL, NULL, NULL));
    assert_int_equal(settings.environment_count, 2);
    assert_int_equal(settings.max_sessions, 10);
    assert_int_equal(settings.drain_ms, 7000);
    assert_int_equal(settings.cpu_limit_percent, 150);
    assert_int_equal(settings.memory_limit_bytes, 512 << 20);
    const struct environment_settings *first = &settings.environments[0];
    const struct environment_settings *second = &settings.environments[1];
    assert_string_equal(first->id, "env_1");
    assert_string_equal(first->key_file, "/etc/key");
    assert_string_equal(first->base_url, "https://api.anthropic.com");
    assert_int_equal(first->max_sessions, 4);
    assert_int_equal(first->max_idle_ms, 120000);
    assert_int_equal(first->poll_interval_ms, SETTING_UNSET);
    assert_string_equal(credential_text(second->key), "sk-2");
    assert_null(getenv("HOLT_TEST_KEY"));
    assert_int_equal(second->max_sessions, 10); /* the daemon's bound is lower */
    assert_int_equal(second->max_idle_ms, 5000);
    settings_free(&settings);
}

static void test_precedence(void **state) {
    struct settings settings;
    write_file(*state, two_environments);
    assert_int_equal(setenv("HOLT_TEST_KEY", "sk-2", 1), 0);
    assert_true(load(*state, &settings, "--max-idle", "1s", NULL));
    assert_int_equal(settings.environments[0].max_idle_ms, 1000);
    assert_int_equal(settings.environments[1].max_idle_ms, 1000); /* said for all, last */
    settings_free(&settings);
    assert_true(load(*state, &settings, "--environment-id", "env_1", NULL));
    assert_int_equal(settings.environment_count, 1); /* that one, with what the file has of it */
    assert_string_equal(settings.environments[0].key_file, "/etc/key");
    settings_free(&settings);
    CLEANUP_ERROR struct error *error = NULL;
    assert_false(load(*state, &settings, "--environment-key-file", "/k", &error));
    assert_non_null(strstr(error->message, "--environment-key-file"));
    settings_free(&settings);
}

static void test_given_over_file(void **state) {
    struct settings settings;
    char assignment[] = "ANTHROPIC_ENVIRONMENT_KEY=sk-variable";
    assert_int_equal(setenv("ANTHROPIC_BASE_URL", "http://variable", 1), 0);
    assert_int_equal(putenv(assignment), 0);
    write_file(*state, "[[environments]]\nid = \"env_1\"\nkey_file = \"/k\"\n"
                       "base_url = \"http://file\"\n");
    assert_true(load(*state, &settings, "--base-url", "http://line", NULL));
    assert_string_equal(settings.environments[0].base_url, "http://line");
    assert_string_equal(credential_text(settings.environments[0].key), "sk-variable");
    assert_null(settings.environments[0].key_file); /* the variable comes before the file */
    settings_free(&settings);
    assert_true(load(*state, &settings, "--environment-key-file", "/line", NULL));
    assert_string_equal(settings.environments[0].key_file, "/line");
    assert_string_equal(settings.environments[0].base_url, "http://variable");
    settings_free(&settings);
}

static void test_problems(void **state) {
    static const struct {
        const char *text;
        const char *problem; /* after the file's name */
    } cases[] = {
        {"max_sesions = 4", ":1: unknown key \"max_sesions\": did you mean \"max_sessions\"?"},
        {"\nmemory = 1", ":2: unknown key \"memory\": did you mean \"sandbox.memory\"?"},
        {"[sandbox]\nmemroy = 1",
         ":2: unknown key \"sandbox.memroy\": did you mean \"sandbox.memory\"?"},
        {"[sandbx]\npids = 1", ":1: unknown key \"sandbx\": did you mean \"sandbox\"?"},
        {"zzzzzzzzzz = 1", ":1: unknown key \"zzzzzzzzzz\""},
        {"\"sandbox.memory\" = 1",
         ":1: unknown key \"sandbox.memory\": did you mean \"sandbox.memory\"?"},
        {"max_sessions = 0", ":1: max_sessions takes a whole number from 1 to 4096, not 0"},
        {"max_sessions = \"4\"", ":1: max_sessions takes a whole number from 1 to 4096, not \"4\""},
        {"max_sessions = 4.0", ":1: max_sessions takes a whole number from 1 to 4096, not 4.0"},
        {"max_sessions = 1979-05-27",
         ":1: max_sessions takes a whole number from 1 to 4096, not a date"},
        {"max_idle = \"soon\"",
         ":1: max_idle takes a duration such as \"500ms\", \"60s\" or \"2m\", not \"soon\""},
        {"max_idle = -1",
         ":1: max_idle takes a duration such as \"500ms\", \"60s\" or \"2m\", not -1"},
        {"read_media = \"on\"", ":1: read_media takes true or false, not \"on\""},
        {"state_dir = \"here\"", ":1: state_dir takes an absolute path, not this string"},
        {"sandbox = 5", ":1: sandbox is a table: write [sandbox]"},
        {"[sandbox]\nuser = \"me\"", ":2: sandbox.user takes \"root\" or \"agent\", not \"me\""},
        {"[environments]\nid = \"a\"",
         ":1: write each environment as [[environments]], at most 256 of them"},
        {"[[environments]]\nid = \"a/b\"\nkey_file = \"/k\"",
         ":2: environments[0].id takes an id of letters, digits, _ and -, not \"a/b\""},
        {"[[environments]]\nid = \"a\"\nkey_file = \"/k\"\nkey = \"sk-ant-x\"",
         ":4: unknown key \"environments.key\": did you mean \"environments.key_file\"?"},
        {"[[environments]]\nid = \"a\"\nkey_file = \"/k\"\nkey_variable = \"K\"",
         ":1: a has both key_file and key_variable"},
        {"[[environments]]\nid = \"a\"\nkey_file = \"/k\"\n[[environments]]\nid = \"a\"\n"
         "key_file = \"/k\"",
         ":4: environment a is there twice"},
        {"[[environments]]\nkey_file = \"/k\"", ":1: an environment has no id"},
        {"webhook.secret_files = [\"/a\", \"b\"]",
         ":1: webhook.secret_files takes an array of absolute paths, not an array"},
        {"tools = 5", ":1: write each tool as [tools.NAME], at most 64 of them"},
        {"[tools.\"a b\"]\ncommand = [\"x\"]",
         ":1: a tool's name is of letters, digits, _ and -, not \"a b\""},
        {"[tools.a]\ntimeout = \"1s\"", ":1: the tool a has no command"},
        {"[tools.a]\ncommand = []",
         ":2: tools.a.command takes an array of strings, not an empty one"},
        {"[tools.a]\ncommand = \"x\"", ":2: tools.a.command takes an array of strings, not \"x\""},
        {"[tools.a]\ncommand = [\"x\", 5]",
         ":2: tools.a.command takes an array of strings, not an array"},
        {"[tools.a]\ncommand = [\"x\"]\ntimeout = \"2h\"",
         ":3: tools.a.timeout takes a duration such as \"500ms\", \"60s\" or \"2m\" from \"100ms\" to "
         "\"1h\", not \"2h\""},
        {"[tools.a]\ncomand = [\"x\"]\ncommand = [\"x\"]",
         ":2: unknown key \"tools.comand\": did you mean \"tools.command\"?"},
        {"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r = 1", ": tables are nested too deep"},
    };
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct setting_list problems;
        CLEANUP_FREE char *summary = NULL;
        CLEANUP_FREE char *expected = memory_format("%s%s", fixture->path, cases[i].problem);
        write_file(fixture, cases[i].text);
        settings_check(fixture->path, &problems, &summary);
        assert_true(problems.count > 0);
        assert_string_equal(problems.items[0], expected);
        setting_list_free(&problems);
    }
}

static void test_tools(void **state) {
    struct settings settings;
    write_file(*state, "[tools.look_up]\ncommand = [\"/bin/look\", \"-x\"]\nwhere = \"host\"\n"
                       "[tools.other]\ncommand = [\"other\"]\nschema = \"/s.json\"\ntimeout = 5\n");
    assert_true(load(*state, &settings, "--environment-id", "e", NULL) ||
                settings.tool_count == 2); /* without a key: loaded, and refused after it */
    assert_int_equal(settings.tool_count, 2);
    const struct tool_settings *first = &settings.tools[0];
    const struct tool_settings *second = &settings.tools[1];
    assert_string_equal(first->name, "look_up");
    assert_int_equal(first->command.count, 2);
    assert_string_equal(first->command.items[1], "-x");
    assert_string_equal(first->where, "host");
    assert_null(first->schema_path);
    assert_int_equal(first->timeout_ms, 120000);
    assert_string_equal(second->where, "sandbox");
    assert_string_equal(second->schema_path, "/s.json");
    assert_int_equal(second->timeout_ms, 5000);
    settings_free(&settings);
}

/* What TOML itself refuses has a line and a column; all mistakes are told, in their order. */
static void test_many_problems(void **state) {
    struct fixture *fixture = *state;
    struct setting_list problems;
    struct settings settings;
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_FREE char *summary = NULL;
    write_file(fixture, "state_dir = \"/x\"\nmax_sessions = = 4\n");
    settings_check(fixture->path, &problems, &summary);
    assert_int_equal(problems.count, 1);
    assert_non_null(strstr(problems.items[0], "holt.toml:2: column 16: "));
    setting_list_free(&problems);
    free(STEAL_PTR(summary));
    write_file(fixture, "zeta = 1\nalpha = 2\n[log]\nlevel = 5\n");
    settings_check(fixture->path, &problems, &summary);
    assert_int_equal(problems.count, 3);
    assert_non_null(strstr(problems.items[0], ":1: unknown key \"zeta\""));
    assert_non_null(strstr(problems.items[1], ":2: unknown key \"alpha\""));
    assert_non_null(strstr(problems.items[2], ":4: log.level"));
    setting_list_free(&problems);
    assert_false(load(fixture, &settings, NULL, NULL, &error));
    assert_int_equal(error->code, ERROR_INPUT);
    assert_non_null(strstr(error->message, "zeta"));
    assert_non_null(strstr(error->message, "and 2 more: see holt config check"));
    settings_free(&settings);
}

static void test_bad_files(void **state) {
    struct fixture *fixture = *state;
    static const char *const parts[] = {"No such file", "written by everybody", "regular file"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct setting_list problems;
        CLEANUP_FREE char *summary = NULL;
        if (i == 1) {
            write_file(fixture, "");
            assert_int_equal(chmod(fixture->path, 0646), 0);
        } else if (i == 2) {
            assert_int_equal(unlink(fixture->path), 0);
            assert_int_equal(mkfifo(fixture->path, 0600), 0);
        }
        settings_check(fixture->path, &problems, &summary);
        assert_int_equal(problems.count, 1);
        assert_non_null(strstr(problems.items[0], parts[i]));
        setting_list_free(&problems);
    }
}

/* What is shown, read again, shows the same; and a key is not in it. */
static void test_show(void **state) {
    struct fixture *fixture = *state;
    char assignment[] = "ANTHROPIC_ENVIRONMENT_KEY=sk-variable";
    assert_int_equal(putenv(assignment), 0);
    write_file(fixture, "max_idle = \"90s\"\nmax_starting = 3\njournal = \"/a \\\"b\\\"\"\n"
                        "[sandbox]\nmemory = 1536\ncpus = 2\n"
                        "[[environments]]\nid = \"env_1\"\n");
    CLEANUP_FREE char *text = NULL;
    CLEANUP_FREE char *again = NULL;
    assert_true(settings_show(fixture->path, &text, NULL));
    assert_null(strstr(text, "sk-variable"));
    assert_non_null(strstr(text, "# key: (set)"));
    assert_non_null(strstr(text, "max_idle = \"90s\" "));
    assert_non_null(strstr(text, "sandbox.memory = 1536 "));
    assert_non_null(strstr(text, "journal = \"/a \\\"b\\\"\" "));
    write_file(fixture, text);
    assert_int_equal(setenv("ANTHROPIC_ENVIRONMENT_KEY", "sk-variable", 1), 0);
    assert_true(settings_show(fixture->path, &again, NULL));
    assert_non_null(strstr(again, "max_starting = 3 "));
    assert_non_null(strstr(again, "journal = \"/a \\\"b\\\"\" "));
}

static void test_distance(void **state) {
    (void)state;
    assert_int_equal(edit_distance("", ""), 0);
    assert_int_equal(edit_distance("abc", ""), 3);
    assert_int_equal(edit_distance("memroy", "memory"), 1); /* swapped neighbours */
    assert_int_equal(edit_distance("kitten", "sitting"), 3);
    char longer[100];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(edit_distance(longer, "x"), SIZE_MAX);
    size_t length = 0;
    assert_null(nearest_key(longer, &length));
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_environments), CASE(test_precedence), CASE(test_given_over_file),
        CASE(test_tools),        CASE(test_problems),   CASE(test_many_problems),
        CASE(test_bad_files),    CASE(test_show),       cmocka_unit_test(test_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
