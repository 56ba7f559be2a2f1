/* Braces, then slashes, then one compiled matcher a segment. */
#include "tools/glob_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 16
#include <json-c/linkhash.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tools/glob_brace.h"
#include "tools/glob_segment.h"
#include "tools/utf16.h"

enum {
    PATTERN_BYTES_LIMIT = 64 * 1024,
    SEGMENTS_LIMIT = 200,
    SEGMENTS_TOTAL_LIMIT = 50 * 1000,
    STEPS_LIMIT = 200 * 1000, /* of backtracking, for one name */
    DEPTH_LIMIT = 20 * 1000,
    NAME_UNITS = 256, /* NAME_MAX and one */
    TABLE_SIZE = 64,  /* at first */
};

/* Numbers suffixes, so that the walk can tell which states of which alternatives are the same. */
struct suffixes {
    struct lh_table *ids; /* text, owned -> number */
    uintptr_t count;
};

static bool compile_magic(struct glob_segment *segment, const struct buffer *source,
                          bool is_unicode) {
    const uint32_t options = PCRE2_DOLLAR_ENDONLY | (is_unicode ? PCRE2_UTF : PCRE2_NEVER_UTF);
    int code = 0;
    PCRE2_SIZE offset = 0;
    CLEANUP_FREE uint16_t *units = memory_zeroed(source->length / 2 + 1, sizeof *units);
    memcpy(units, source->data, source->length);
    segment->kind = GLOB_MAGIC;
    segment->compiled = pcre2_compile(units, source->length / 2, options, &code, &offset, NULL);
    return segment->compiled != NULL;
}

/* A literal's units back as UTF-8. Only halves of a pair can have been torn, and those match
 * nothing: they are written as U+FFFD would be. */
static char *to_utf8(const struct buffer *units) {
    CLEANUP_BUFFER struct buffer out = BUFFER_EMPTY;
    for (size_t i = 0; i < units->length; i += 2) {
        uint16_t unit = 0;
        uint16_t low = 0;
        memcpy(&unit, units->data + i, 2);
        if (i + 2 < units->length) {
            memcpy(&low, units->data + i + 2, 2);
        }
        uint32_t point = unit;
        if (unit >= 0xd800 && unit < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
            point = 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (low - 0xdc00u);
            i += 2;
        }
        if (point < 0x80) {
            buffer_append_char(&out, (char)point);
        } else if (point < 0x800) {
            buffer_append_char(&out, (char)(0xc0 | (point >> 6)));
            buffer_append_char(&out, (char)(0x80 | (point & 0x3f)));
        } else {
            if (point < 0x10000) {
                buffer_append_char(&out, (char)(0xe0 | (point >> 12)));
            } else {
                buffer_append_char(&out, (char)(0xf0 | (point >> 18)));
                buffer_append_char(&out, (char)(0x80 | ((point >> 12) & 0x3f)));
            }
            buffer_append_char(&out, (char)(0x80 | ((point >> 6) & 0x3f)));
            buffer_append_char(&out, (char)(0x80 | (point & 0x3f)));
        }
    }
    return buffer_take_string(&out);
}

static bool compile_segment(struct glob_segment *segment) {
    size_t length = strlen(segment->text);
    CLEANUP_FREE uint16_t *units = memory_zeroed(length + 1, sizeof *units);
    CLEANUP_BUFFER struct buffer source = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer literal = BUFFER_EMPTY;
    bool is_magic = false;
    bool is_unicode = false;
    if (strcmp(segment->text, "**") == 0) {
        segment->kind = GLOB_STARSTAR;
        return true;
    }
    size_t count = utf16_decode(segment->text, length, units);
    if (!glob_segment_translate(units, count, &source, &literal, &is_magic, &is_unicode)) {
        return false;
    }
    if (is_magic) {
        return compile_magic(segment, &source, is_unicode);
    }
    segment->kind = GLOB_LITERAL;
    segment->name = to_utf8(&literal);
    return true;
}

static void drop_segment(struct glob_words *parts, size_t at) {
    free(parts->list[at]);
    parts->count--;
    memmove(&parts->list[at], &parts->list[at + 1], (parts->count - at) * sizeof parts->list[0]);
}

/* Runs of slashes split; "." and empty segments inside vanish, and doubled "**" are one. */
static bool split_segments(const char *text, struct glob_words *parts) {
    for (const char *at = text;;) {
        size_t length = strcspn(at, "/");
        if (parts->count == SEGMENTS_LIMIT || !glob_words_add(parts, memory_string_n(at, length))) {
            return false;
        }
        at += length;
        if (*at == '\0') {
            break;
        }
        at += strspn(at, "/");
    }
    for (size_t i = 1; i < parts->count; i++) {
        bool is_dot = strcmp(parts->list[i], ".") == 0 || *parts->list[i] == '\0';
        bool is_double = strcmp(parts->list[i], "**") == 0 && strcmp(parts->list[i - 1], "**") == 0;
        if (is_double || (is_dot && i + 1 < parts->count)) {
            drop_segment(parts, i--);
        }
    }
    if (parts->count == 2 && strcmp(parts->list[0], ".") == 0 &&
        (strcmp(parts->list[1], ".") == 0 || *parts->list[1] == '\0')) {
        drop_segment(parts, 1);
    }
    return true;
}

static unsigned suffix_id(struct suffixes *suffixes, const char *text) {
    if (*text == '\0') {
        return 0;
    }
    void *found = NULL;
    if (lh_table_lookup_ex(suffixes->ids, text, &found)) {
        return (unsigned)(uintptr_t)found;
    }
    uintptr_t id = ++suffixes->count;
    if (lh_table_insert(suffixes->ids, memory_string(text), (void *)id) != 0) {
        abort();
    }
    return (unsigned)id;
}

static void number_suffixes(struct glob_alternative *alternative, struct suffixes *suffixes) {
    CLEANUP_FREE char *joined = memory_string("");
    for (size_t i = alternative->count; i > 0; i--) {
        struct glob_segment *segment = &alternative->segments[i - 1];
        char *longer = i == alternative->count ? memory_string(segment->text)
                                               : memory_format("%s/%s", segment->text, joined);
        free(joined);
        joined = longer;
        segment->suffix_id = suffix_id(suffixes, joined);
    }
}

/* False when a segment cannot be compiled. An alternative that leaves the root is left out. */
static bool add_alternative(struct glob_pattern *pattern, const char *text, size_t *total) {
    struct glob_words parts = {0};
    bool is_inside = *text != '/' && *text != '\0';
    bool is_good = split_segments(text, &parts);
    for (size_t i = 0; i < parts.count; i++) {
        is_inside = is_inside && strcmp(parts.list[i], "..") != 0;
    }
    *total += parts.count;
    if (!is_good || !is_inside || *total > SEGMENTS_TOTAL_LIMIT) {
        glob_words_free(&parts);
        return is_good && *total <= SEGMENTS_TOTAL_LIMIT;
    }
    struct glob_alternative *alternative = &pattern->alternatives[pattern->count++];
    alternative->segments = memory_zeroed(parts.count, sizeof(struct glob_segment));
    alternative->count = parts.count;
    for (size_t i = 0; i < parts.count; i++) {
        alternative->segments[i].text = memory_string(parts.list[i]);
        is_good = is_good && compile_segment(&alternative->segments[i]);
    }
    glob_words_free(&parts);
    return is_good;
}

/* Whether the word was here before; remembers it. */
static bool is_repeated(struct lh_table *seen, const char *word) {
    if (lh_table_lookup_ex(seen, word, NULL)) {
        return true;
    }
    if (lh_table_insert(seen, word, NULL) != 0) {
        abort();
    }
    return false;
}

static void free_key(struct lh_entry *entry) {
    free(lh_entry_k(entry));
}

/* With thousands of alternatives a list would take minutes. */
static struct lh_table *new_table(lh_entry_free_fn *free_entry) {
    struct lh_table *table = lh_kchar_table_new(TABLE_SIZE, free_entry);
    if (table == NULL) {
        abort();
    }
    return table;
}

static const char *compile_words(struct glob_pattern *pattern, const struct glob_words *words) {
    size_t total = 0;
    struct suffixes suffixes = {.ids = new_table(free_key)};
    struct lh_table *seen = new_table(NULL);
    const char *reason = NULL;
    pattern->alternatives = memory_zeroed(words->count + 1, sizeof(struct glob_alternative));
    for (size_t i = 0; i < words->count && reason == NULL; i++) {
        size_t before = pattern->count;
        if (is_repeated(seen, words->list[i])) {
            continue;
        }
        if (!add_alternative(pattern, words->list[i], &total)) {
            reason = "pattern is too complex";
        } else if (pattern->count > before) {
            number_suffixes(&pattern->alternatives[before], &suffixes);
        }
    }
    pattern->suffix_count = (unsigned)suffixes.count + 1;
    lh_table_free(suffixes.ids);
    lh_table_free(seen);
    return reason;
}

struct glob_pattern *glob_pattern_new(const char *text, const char **reason) {
    *reason = "pattern is too long";
    if (strlen(text) > PATTERN_BYTES_LIMIT) {
        return NULL;
    }
    CLEANUP_FREE char *copy = memory_string(text);
    for (char *at = copy; *at != '\0'; at++) {
        *at = *at == '\\' ? '/' : *at;
    }
    CLEANUP_GLOB_PATTERN struct glob_pattern *pattern = memory_new(struct glob_pattern);
    struct glob_words words = {0};
    *reason = glob_brace_expand(copy, &words) ? compile_words(pattern, &words)
                                              : "pattern has too many alternatives";
    glob_words_free(&words);
    return *reason == NULL ? STEAL_PTR(pattern) : NULL;
}

bool glob_segment_matches(const struct glob_segment *segment, const char *name) {
    if (segment->kind != GLOB_MAGIC) {
        return segment->kind == GLOB_STARSTAR || strcmp(segment->name, name) == 0;
    }
    uint16_t units[NAME_UNITS];
    size_t length = strlen(name);
    if (length >= NAME_UNITS) {
        return false;
    }
    size_t count = utf16_decode(name, length, units);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    (void)pcre2_set_match_limit(context, STEPS_LIMIT);
    (void)pcre2_set_depth_limit(context, DEPTH_LIMIT);
    int matched = pcre2_match(segment->compiled, units, count, 0, 0, data, context);
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return matched >= 0;
}

void glob_pattern_free(struct glob_pattern *take_pattern) {
    if (take_pattern == NULL) {
        return;
    }
    for (size_t i = 0; i < take_pattern->count; i++) {
        struct glob_alternative *alternative = &take_pattern->alternatives[i];
        for (size_t j = 0; j < alternative->count; j++) {
            free(alternative->segments[j].text);
            free(alternative->segments[j].name);
            pcre2_code_free(alternative->segments[j].compiled);
        }
        free(alternative->segments);
    }
    free(take_pattern->alternatives);
    free(take_pattern);
}
