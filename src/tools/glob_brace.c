/* Outermost pair first; the rest of the word and each alternative are expanded by the same rule. */
#include "tools/glob_brace.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/memory.h"

enum {
    DEPTH_LIMIT = 200,
    CLOSED = '\x01', /* a '}' that is literal: it took part in no expansion */
    OPENED = '\x02', /* a '{' likewise */
};

#define CLEANUP_WORDS CLEANUP(glob_words_free)

struct pair {
    const char *open;
    const char *close;
};

static bool expand(const char *text, bool is_top, unsigned depth, struct glob_words *out);

bool glob_words_add(struct glob_words *words, char *take_word) {
    size_t length = strlen(take_word);
    if (words->count >= GLOB_ALTERNATIVES_LIMIT ||
        words->bytes + length > GLOB_EXPANSION_BYTES_LIMIT) {
        free(take_word);
        return false;
    }
    words->list = memory_resize(words->list, words->count + 1, sizeof words->list[0]);
    words->list[words->count++] = take_word;
    words->bytes += length;
    return true;
}

void glob_words_free(struct glob_words *words) {
    for (size_t i = 0; i < words->count; i++) {
        free(words->list[i]);
    }
    free(words->list);
    *words = (struct glob_words){0};
}

/* The pair of npm's balanced-match: the first that closes the leftmost brace, else the innermost.
 */
static bool find_pair(const char *text, struct pair *pair) {
    size_t length = strlen(text);
    CLEANUP_FREE const char **open = memory_zeroed(length + 1, sizeof *open);
    size_t depth = 0;
    const char *left = NULL;
    const char *right = NULL;
    const char *first = strchr(text, '{');
    for (const char *at = first; at != NULL && *at != '\0'; at++) {
        if (*at == '{') {
            open[depth++] = at;
        } else if (*at == '}' && depth == 1) {
            *pair = (struct pair){open[0], at};
            return true;
        } else if (*at == '}' && depth > 1) {
            const char *begin = open[--depth];
            if (left == NULL || begin < left) {
                left = begin;
                right = at;
            }
        }
    }
    *pair = (struct pair){left, right};
    return left != NULL;
}

static bool read_number(const char **at) {
    const char *text = *at + (**at == '-');
    size_t digits = strspn(text, "0123456789");
    *at = text + digits;
    return digits > 0;
}

/* "1..9", "a..e", with an optional step. */
static bool is_sequence(const char *body, bool *alphabetic) {
    const char *at = body;
    *alphabetic = isalpha((unsigned char)body[0]) && strncmp(body + 1, "..", 2) == 0 &&
                  isalpha((unsigned char)body[3]);
    if (*alphabetic) {
        at = body + 4;
    } else if (!read_number(&at) || strncmp(at, "..", 2) != 0 || (at += 2, !read_number(&at))) {
        return false;
    }
    if (*at == '\0') {
        return true;
    }
    return strncmp(at, "..", 2) == 0 && (at += 2, read_number(&at)) && *at == '\0';
}

static bool is_padded(const char *number) {
    number += *number == '-';
    return number[0] == '0' && isdigit((unsigned char)number[1]);
}

static char *padded_number(long long value, size_t width) {
    char digits[32];
    (void)snprintf(digits, sizeof digits, "%lld", value < 0 ? -value : value);
    size_t used = strlen(digits) + (value < 0);
    return memory_format("%s%0*d%s", value < 0 ? "-" : "", (int)(width > used ? width - used : 0),
                         0, digits);
}

static bool expand_sequence(const char *body, bool alphabetic, struct glob_words *out) {
    const char *second = strstr(body + 1, "..") + 2;
    const char *third = strstr(second + 1, "..");
    const char *step_text = third != NULL ? third + 2 : "1";
    size_t first_width = (size_t)(second - 2 - body);
    size_t second_width = third != NULL ? (size_t)(third - second) : strlen(second);
    size_t width = first_width > second_width ? first_width : second_width;
    long long from = alphabetic ? body[0] : strtoll(body, NULL, 10);
    long long to = alphabetic ? second[0] : strtoll(second, NULL, 10);
    long long step = strtoll(step_text, NULL, 10);
    bool pad = is_padded(body) || is_padded(second) || (third != NULL && is_padded(step_text));
    const long long bound = 1LL << 53;
    if (from > bound || from < -bound || to > bound || to < -bound || step > bound ||
        step < -bound || step == 0 || width > 4096) {
        return false; /* the official one never ends, or answers nonsense */
    }
    step = step < 0 ? -step : step;
    step = to < from ? -step : step;
    for (long long i = from; step > 0 ? i <= to : i >= to; i += step) {
        char letter[2] = {(char)i, '\0'};
        char *word = NULL;
        if (alphabetic) {
            word = memory_string(i == '\\' ? "" : letter);
        } else if (pad && width > strlen("-") + 20) {
            word = padded_number(i, width);
        } else {
            char plain[64];
            (void)snprintf(plain, sizeof plain, "%lld", i);
            word = pad && strlen(plain) < width ? padded_number(i, width) : memory_string(plain);
        }
        if (!glob_words_add(out, word)) {
            return false;
        }
    }
    return true;
}

/* Splits at the commas outside of inner braces. */
static bool split_parts(const char *body, struct glob_words *out) {
    const char *begin = body;
    const char *at = body;
    struct pair pair;
    bool has_pair = find_pair(at, &pair);
    for (;; at++) {
        if (has_pair && at == pair.open) {
            at = pair.close;
            has_pair = find_pair(at + 1, &pair);
        } else if (*at == ',' || *at == '\0') {
            if (!glob_words_add(out, memory_string_n(begin, (size_t)(at - begin)))) {
                return false;
            }
            begin = at + 1;
            if (*at == '\0') {
                return true;
            }
        }
    }
}

static bool combine(const char *prefix, size_t prefix_length, const struct glob_words *middle,
                    const struct glob_words *rest, bool keep_empty, struct glob_words *out) {
    for (size_t i = 0; i < middle->count; i++) {
        for (size_t j = 0; j < rest->count; j++) {
            char *word = memory_format("%.*s%s%s", (int)prefix_length, prefix, middle->list[i],
                                       rest->list[j]);
            if (!keep_empty && *word == '\0') {
                free(word);
            } else if (!glob_words_add(out, word)) {
                return false;
            }
        }
    }
    return true;
}

/* {body}, when a lone alternative stays in its braces. */
static bool embrace(const struct glob_words *words, struct glob_words *out) {
    for (size_t i = 0; i < words->count; i++) {
        if (!glob_words_add(out, memory_format("{%s}", words->list[i]))) {
            return false;
        }
    }
    return true;
}

static bool expand_options(const char *body, unsigned depth, struct glob_words *middle,
                           bool *is_single) {
    CLEANUP_WORDS struct glob_words parts = {0};
    if (!split_parts(body, &parts)) {
        return false;
    }
    CLEANUP_WORDS struct glob_words inner = {0};
    for (size_t i = 0; i < parts.count; i++) {
        if (!expand(parts.list[i], false, depth + 1, &inner)) {
            return false;
        }
    }
    if (parts.count != 1) {
        *middle = inner;
        inner = (struct glob_words){0};
        return true;
    }
    CLEANUP_WORDS struct glob_words embraced = {0};
    if (!embrace(&inner, &embraced)) {
        return false;
    }
    if (embraced.count == 1) {
        *is_single = true;
        *middle = embraced;
        embraced = (struct glob_words){0};
        return true;
    }
    for (size_t i = 0; i < embraced.count; i++) {
        if (!expand(embraced.list[i], false, depth + 1, middle)) {
            return false;
        }
    }
    return true;
}

/* A comma that is not doubled, and a brace after it: then a literal pair may end further on. */
static bool may_close_later(const char *post) {
    for (const char *at = strchr(post, ','); at != NULL; at = strchr(at + 1, ',')) {
        if (at[1] != ',' && at[1] != '\0' && strchr(at + 1, '}') != NULL) {
            return true;
        }
    }
    return false;
}

/* A pair that is neither list nor sequence: its closing brace becomes literal, and once more. */
static bool expand_literal_pair(const char *text, const struct pair *pair, unsigned depth,
                                struct glob_words *out) {
    if (!may_close_later(pair->close + 1)) {
        return glob_words_add(out, memory_string(text));
    }
    CLEANUP_FREE char *copy = memory_string(text);
    copy[pair->close - text] = CLOSED;
    return expand(copy, true, depth + 1, out);
}

static bool expand(const char *text, bool is_top, unsigned depth, struct glob_words *out) {
    struct pair pair;
    bool alphabetic = false;
    bool is_single = false;
    if (depth > DEPTH_LIMIT) {
        return false;
    }
    if (!find_pair(text, &pair)) {
        return glob_words_add(out, memory_string(text));
    }
    CLEANUP_FREE char *body = memory_string_n(pair.open + 1, (size_t)(pair.close - pair.open - 1));
    bool sequence = is_sequence(body, &alphabetic);
    bool is_dollar = pair.open > text && pair.open[-1] == '$';
    size_t prefix = (size_t)(pair.open - text);
    if (!is_dollar && !sequence && strchr(body, ',') == NULL) {
        return expand_literal_pair(text, &pair, depth, out);
    }
    CLEANUP_WORDS struct glob_words rest = {0};
    if (!expand(pair.close + 1, false, depth + 1, &rest)) {
        return false;
    }
    CLEANUP_WORDS struct glob_words middle = {0};
    if (is_dollar) {
        return glob_words_add(&middle, memory_format("{%s}", body)) &&
               combine(text, prefix, &middle, &rest, true, out);
    }
    if (sequence ? !expand_sequence(body, alphabetic, &middle)
                 : !expand_options(body, depth, &middle, &is_single)) {
        return false;
    }
    return combine(text, prefix, &middle, &rest, !is_top || sequence || is_single, out);
}

bool glob_brace_expand(const char *text, struct glob_words *out) {
    CLEANUP_FREE char *copy = memory_string(text);
    if (strncmp(copy, "{}", 2) == 0) {
        copy[0] = OPENED;
        copy[1] = CLOSED;
    }
    size_t begin = out->count;
    if (!expand(copy, true, 0, out)) {
        return false;
    }
    for (size_t i = begin; i < out->count; i++) {
        for (char *at = out->list[i]; *at != '\0'; at++) {
            *at = *at == CLOSED ? '}' : *at == OPENED ? '{' : *at;
        }
    }
    return true;
}
