/* PCRE2 over 16-bit units, with a callout standing in for what its lookbehind cannot do. */
#include "tools/grep_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 16
#include <pcre2.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "tools/grep_js.h"
#include "tools/utf16.h"

enum {
    PATTERN_BYTES_LIMIT = 1 << 20,
    NEST_LIMIT = 2500,
    STEPS_LIMIT = 10 * 1000 * 1000, /* of backtracking, a line: about a second at worst */
    DEPTH_LIMIT = 100 * 1000,
    HEAP_LIMIT_KIB = 64 * 1024,
    BEHINDS_LIMIT = 200,        /* callouts are numbered in one byte */
    BEHIND_RUNS_LIMIT = 20000,  /* a line */
    BEHIND_STEPS_LIMIT = 20000, /* a run */
    JIT_STACK_MIN = 32 * 1024,
    JIT_STACK_MAX = 4 * 1024 * 1024,
};

/* A lookbehind of variable length: its insides, anchored at the end of what stands before. */
struct behind {
    pcre2_code *code;
    pcre2_match_data *data;
    bool negated;
};

struct grep_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_compile_context *compile_context;
    pcre2_match_context *match_context;
    pcre2_match_context *behind_context;
    pcre2_jit_stack *jit_stack;
    struct behind behinds[BEHINDS_LIMIT];
    size_t behind_count;
    unsigned behind_runs;
};

static pcre2_code *compile(const struct grep_regex *regex, const char *text, size_t length,
                           int *code) {
    const uint32_t options =
        PCRE2_DOLLAR_ENDONLY | PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_UTF | PCRE2_NEVER_UCP;
    PCRE2_SIZE offset = 0;
    CLEANUP_FREE uint16_t *units = memory_zeroed(length + 1, sizeof *units);
    size_t count = utf16_decode(text, length, units);
    return pcre2_compile(units, count, options, code, &offset, regex->compile_context);
}

/* grep_js_lookbehind: keeps what PCRE2 takes, else puts a numbered callout in its place. */
static bool replace_lookbehind(void *context, struct buffer *out, size_t start) {
    struct grep_regex *regex = context;
    const size_t opening = strlen("(?<=");
    int code = 0;
    pcre2_code *alone = compile(regex, out->data + start, out->length - start, &code);
    pcre2_code_free(alone);
    /* A reference to a group outside is judged with the whole pattern. */
    if (alone != NULL || code == PCRE2_ERROR_BAD_SUBPATTERN_REFERENCE) {
        return true;
    }
    if (code != PCRE2_ERROR_LOOKBEHIND_NOT_FIXED_LENGTH || regex->behind_count == BEHINDS_LIMIT) {
        return false;
    }
    CLEANUP_BUFFER struct buffer insides = BUFFER_EMPTY;
    buffer_append_string(&insides, "(?:");
    buffer_append(&insides, out->data + start + opening, out->length - start - opening);
    buffer_append_string(&insides, "\\z");
    struct behind behind = {.negated = out->data[start + opening - 1] == '!'};
    behind.code = compile(regex, insides.data, insides.length, &code);
    if (behind.code == NULL) {
        return false;
    }
    behind.data = pcre2_match_data_create(1, NULL);
    regex->behinds[regex->behind_count++] = behind;
    /* The captures inside must stay counted; an empty alternative that never runs holds them. */
    uint32_t captures = 0;
    (void)pcre2_pattern_info(behind.code, PCRE2_INFO_CAPTURECOUNT, &captures);
    buffer_truncate(out, start);
    buffer_append_format(out, "(?C%zu)", regex->behind_count);
    if (captures > 0) {
        buffer_append_string(out, "(?:|");
        for (uint32_t i = 0; i < captures; i++) {
            buffer_append_string(out, "()");
        }
        buffer_append_char(out, ')');
    }
    return true;
}

static int on_callout(pcre2_callout_block *block, void *context) {
    struct grep_regex *regex = context;
    if (block->callout_number == 0 || block->callout_number > regex->behind_count) {
        return 0;
    }
    if (++regex->behind_runs > BEHIND_RUNS_LIMIT) {
        return PCRE2_ERROR_MATCHLIMIT;
    }
    const struct behind *behind = &regex->behinds[block->callout_number - 1];
    int matched = pcre2_match(behind->code, block->subject, block->current_position, 0, 0,
                              behind->data, regex->behind_context);
    if (matched < 0 && matched != PCRE2_ERROR_NOMATCH) {
        return PCRE2_ERROR_MATCHLIMIT;
    }
    return (matched >= 0) != behind->negated ? 0 : 1;
}

static pcre2_match_context *new_match_context(struct grep_regex *regex, uint32_t steps) {
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(context, steps);
    pcre2_set_depth_limit(context, DEPTH_LIMIT);
    pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
    pcre2_set_callout(context, on_callout, regex);
    return context;
}

static const char *compile_whole(struct grep_regex *regex, const char *pattern, size_t length) {
    if (length > PATTERN_BYTES_LIMIT) {
        return "Regular expression too large";
    }
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    CLEANUP_FREE uint16_t *units = memory_zeroed(length + 1, sizeof *units);
    size_t count = utf16_decode(pattern, length, units);
    const char *reason = grep_js_translate(units, count, replace_lookbehind, regex, &text);
    int code = 0;
    if (reason != NULL) {
        return reason;
    }
    regex->code = compile(regex, buffer_string(&text), text.length, &code);
    if (regex->code == NULL) {
        return code == PCRE2_ERROR_LOOKBEHIND_NOT_FIXED_LENGTH ? "Unsupported lookbehind"
                                                               : "Regular expression too large";
    }
    return NULL;
}

struct grep_regex *grep_regex_new(const char *pattern, size_t length, const char **reason) {
    CLEANUP_GREP_REGEX struct grep_regex *regex = memory_new(struct grep_regex);
    regex->compile_context = pcre2_compile_context_create(NULL);
    (void)pcre2_set_parens_nest_limit(regex->compile_context, NEST_LIMIT);
    *reason = compile_whole(regex, pattern, length);
    if (*reason != NULL) {
        return NULL;
    }
    regex->data = pcre2_match_data_create(1, NULL);
    regex->match_context = new_match_context(regex, STEPS_LIMIT);
    regex->behind_context = new_match_context(regex, BEHIND_STEPS_LIMIT);
    /* Where executable memory is forbidden this fails, and pcre2_match interprets. */
    if (pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0) {
        regex->jit_stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        pcre2_jit_stack_assign(regex->match_context, NULL, regex->jit_stack);
    }
    return STEAL_PTR(regex);
}

enum grep_match grep_regex_test(const struct grep_regex *regex, const uint16_t *units,
                                size_t count) {
    /* The callout's counter lives in the regex; a test changes nothing that a caller can see. */
    ((struct grep_regex *)(uintptr_t)regex)->behind_runs = 0;
    static const uint16_t nothing[1] = {0};
    int matched = pcre2_match(regex->code, count > 0 ? units : nothing, count, 0, 0, regex->data,
                              regex->match_context);
    if (matched >= 0) {
        return GREP_MATCH_YES;
    }
    return matched == PCRE2_ERROR_NOMATCH ? GREP_MATCH_NO : GREP_MATCH_GAVE_UP;
}

void grep_regex_free(struct grep_regex *take_regex) {
    if (take_regex == NULL) {
        return;
    }
    for (size_t i = 0; i < take_regex->behind_count; i++) {
        pcre2_code_free(take_regex->behinds[i].code);
        pcre2_match_data_free(take_regex->behinds[i].data);
    }
    pcre2_code_free(take_regex->code);
    pcre2_match_data_free(take_regex->data);
    pcre2_compile_context_free(take_regex->compile_context);
    pcre2_match_context_free(take_regex->match_context);
    pcre2_match_context_free(take_regex->behind_context);
    pcre2_jit_stack_free(take_regex->jit_stack);
    free(take_regex);
}
