/* glob_pattern: minimatch's language, segment by segment, and bounds on what it may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tools/glob_pattern.h"

static bool matches(const char *text, const char *name) {
    const char *reason = NULL;
    CLEANUP_GLOB_PATTERN struct glob_pattern *pattern = glob_pattern_new(text, &reason);
    if (pattern == NULL) {
        fail_msg("%s: %s", text, reason);
    }
    for (size_t i = 0; i < pattern->count; i++) {
        if (pattern->alternatives[i].count == 1 &&
            glob_segment_matches(&pattern->alternatives[i].segments[0], name)) {
            return true;
        }
    }
    return false;
}

/* Each line was checked against minimatch with the options of Node's fs.glob. */
static void test_segments(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        const char *name;
        bool expected;
    } cases[] = {
        {"*", "a", true},
        {"*", ".a", false},
        {".*", ".a", true},
        {"?.ts", "a.ts", true},
        {"?", "\xf0\x9f\x8e\x89", false},
        {"??", "\xf0\x9f\x8e\x89", true},
        {"[ab].c", "a.c", true},
        {"[!a].c", "a.c", false},
        {"[^a]", ".", false},
        {"[.]x", ".x", true},
        {"[[:alpha:]]", "\xc3\xa9", true},
        {"[[:digit:]_]", "_", true},
        {"[x", "[x", true},
        {"[]", "[]", true},
        {"{a,b}", "b", true},
        {"{a}", "{a}", true},
        {"{01..3}", "02", true},
        {"x{a..c}y", "xby", true},
        {"{3..1}", "2", true},
        {"+(a|b).c", "abba.c", true},
        {"@(a|b)", "ab", false},
        {"?(x)a", "a", true},
        {"*(a|b)", "abab", true},
        {"!(a|b)", "a", false},
        {"!(a|b)", "c", true},
        {"!(a)b", "ab", false},
        {"!(a)b", "cb", true},
        {"!(x)", ".x", false},
        {"a|b", "a|b", true},
        {"(a)", "(a)", true},
        {"#a", "#a", true},
        {"!a", "!a", true},
        {"A", "a", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (matches(cases[i].pattern, cases[i].name) != cases[i].expected) {
            fail_msg("%s on %s", cases[i].pattern, cases[i].name);
        }
    }
}

/* Alternatives and backtracking explode in the pattern's length; neither may take the call along.
 */
static void test_bounded(void **state) {
    (void)state;
    const char *reason = NULL;
    assert_null(glob_pattern_new("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"
                                 "{a,b}{a,b}{a,b}{a,b}",
                                 &reason));
    assert_non_null(reason);
    assert_null(glob_pattern_new("{1..99999999999}", &reason));
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    for (int i = 0; i < 30; i++) {
        buffer_append_string(&text, "*(a|*a)");
    }
    buffer_append_char(&text, 'b');
    assert_false(matches(text.data, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    buffer_truncate(&text, 0);
    for (int i = 0; i < 40; i++) {
        buffer_append_string(&text, "!(a)");
    }
    CLEANUP_GLOB_PATTERN struct glob_pattern *pattern = glob_pattern_new(text.data, &reason);
    assert_null(pattern);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
