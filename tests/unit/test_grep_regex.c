/* grep_regex: JavaScript's dialect, V8's error texts, and patterns that must not hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/memory.h"
#include "tools/grep_regex.h"
#include "tools/utf16.h"

static enum grep_match try_match(const char *pattern, const char *text) {
    const char *reason = NULL;
    CLEANUP_GREP_REGEX struct grep_regex *regex = grep_regex_new(pattern, strlen(pattern), &reason);
    CLEANUP_FREE uint16_t *units = memory_zeroed(strlen(text) + 1, sizeof *units);
    if (regex == NULL) {
        fail_msg("%s: %s", pattern, reason);
    }
    return grep_regex_test(regex, units, utf16_decode(text, strlen(text), units));
}

/* Each line was checked against node's RegExp. */
static void test_dialect(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        const char *text;
        enum grep_match expected;
    } cases[] = {
        {"^a.c$", "abc", GREP_MATCH_YES},
        {"^.$", "\xf0\x9f\x98\x80", GREP_MATCH_NO},
        {"^..$", "\xf0\x9f\x98\x80", GREP_MATCH_YES},
        {"a{1", "a{1", GREP_MATCH_YES},
        {"^{x", "{x", GREP_MATCH_YES},
        {"\\p{L}", "p{L}", GREP_MATCH_YES},
        {"[[:digit:]]", "5", GREP_MATCH_NO},
        {"[[:digit:]]", ":]", GREP_MATCH_YES},
        {"\\Qa\\E", "QaE", GREP_MATCH_YES},
        {"(a)?\\1b", "b", GREP_MATCH_YES},
        {"\\2(a)",
         "\x02"
         "a",
         GREP_MATCH_YES},
        {"\\8", "8", GREP_MATCH_YES},
        {"[]", "a", GREP_MATCH_NO},
        {"[^]", "\n", GREP_MATCH_YES},
        {"(?<w>a)\\k<w>", "aa", GREP_MATCH_YES},
        {"\\k<w>", "k<w>", GREP_MATCH_YES},
        {"(?<=a+)b", "aab", GREP_MATCH_YES},
        {"(?<!a+)b", "aab", GREP_MATCH_NO},
        {"\\s", "\xef\xbb\xbf", GREP_MATCH_YES},
        {"\\w", "\xc3\xa9", GREP_MATCH_NO},
        {"(?=a)*b", "b", GREP_MATCH_YES},
        {"a$", "a\n", GREP_MATCH_NO},
        {"", "", GREP_MATCH_YES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (try_match(cases[i].pattern, cases[i].text) != cases[i].expected) {
            fail_msg("/%s/ on \"%s\"", cases[i].pattern, cases[i].text);
        }
    }
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *pattern;
        const char *reason;
    } cases[] = {
        {"(", "Unterminated group"},
        {")", "Unmatched ')'"},
        {"[", "Unterminated character class"},
        {"[z-a]", "Range out of order in character class"},
        {"a{2,1}", "numbers out of order in {} quantifier"},
        {"*a", "Nothing to repeat"},
        {"{1}", "Nothing to repeat"},
        {"a**", "Nothing to repeat"},
        {"^*", "Nothing to repeat"},
        {"(?<=a)*", "Invalid quantifier"},
        {"\\", "\\ at end of pattern"},
        {"(?<n", "Invalid capture group name"},
        {"(?P<x>a)", "Invalid group"},
        {"(?i)a", "Invalid group"},
        {"(?<n>a)\\k", "Invalid named reference"},
        {"(?<n>a)\\k<m>", "Invalid named capture referenced"},
        {"(?<n>a)(?<n>b)", "Duplicate capture group name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *reason = NULL;
        struct grep_regex *regex =
            grep_regex_new(cases[i].pattern, strlen(cases[i].pattern), &reason);
        assert_null(regex);
        assert_string_equal(reason, cases[i].reason);
    }
}

/* A pattern that backtracks without end gives up instead of holding the call. */
static void test_bounded(void **state) {
    (void)state;
    char text[201];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(try_match("^(a+)+b(?!x)\\1$", text), GREP_MATCH_NO);
    assert_int_equal(try_match("^(?:(a|a)+)+$(?<=z)", text), GREP_MATCH_GAVE_UP);
}

/* Nesting without end is refused or compiled, and never overflows the stack. */
static void test_deep(void **state) {
    (void)state;
    const char *reason = NULL;
    char pattern[20001];
    memset(pattern, '(', sizeof pattern - 1);
    pattern[sizeof pattern - 1] = '\0';
    assert_null(grep_regex_new(pattern, sizeof pattern - 1, &reason));
    assert_string_equal(reason, "Regular expression too large");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialect),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
