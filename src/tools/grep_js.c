/* A one-pass checker and emitter: groups are kept on a stack of our own, so depth costs heap only.
 */
#include "tools/grep_js.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum {
    END = -1,
    CAPTURES_LIMIT = 65535, /* V8's kMaxCaptures */
    GROUPS_LIMIT = 1000,    /* nesting; PCRE2 recurses when it compiles */
    REPEAT_LIMIT = 2001,    /* one more than the longest line that is searched */
    NAME_UNITS_LIMIT = 1024,
};

static const char TOO_LARGE[] = "Regular expression too large";
/* ECMA-262 WhiteSpace and LineTerminator, the class of \s. */
static const char SPACES[] = "\\x09-\\x0d\\x20\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
                             "\\x{202f}\\x{205f}\\x{3000}\\x{feff}";
static const char NOT_SPACES[] =
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x9f\\xa1-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}"
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{fefe}\\x{ff00}-\\x{ffff}";

enum group_kind { GROUP_PLAIN, GROUP_LOOKAHEAD, GROUP_LOOKBEHIND };

struct group {
    enum group_kind kind;
    size_t start;      /* where its text begins in out */
    bool is_duplicate; /* its name is taken: V8 complains when the group closes */
};

struct name {
    uint16_t *units;
    size_t count;
    unsigned index; /* of the capture; 0 in a reference */
};

struct names {
    struct name *list;
    size_t count;
};

struct parser {
    const uint16_t *units;
    size_t count;
    size_t at;
    struct buffer *out;
    struct group *groups;
    size_t depth;
    unsigned captures; /* begun so far */
    int total;         /* captures of the whole pattern; -1 not counted yet */
    bool named;        /* some group has a name: \k is strict */
    struct names names;
    struct names references; /* in order of their mark in out */
    size_t *reference_at;    /* where in out a named reference stands */
    grep_js_lookbehind lookbehind;
    void *context;
    const char *reason;
};

static int peek(const struct parser *parser, size_t ahead) {
    size_t at = parser->at + ahead;
    return at < parser->count ? parser->units[at] : END;
}

static bool fail(struct parser *parser, const char *reason) {
    parser->reason = reason;
    return false;
}

static void emit_unit(struct parser *parser, unsigned unit) {
    buffer_append_format(parser->out, "\\x{%x}", unit);
}

/* Counts the captures of the whole pattern and sees whether one has a name. */
static void scan_captures(struct parser *parser) {
    int total = 0;
    bool in_class = false;
    for (size_t at = 0; at < parser->count; at++) {
        uint16_t unit = parser->units[at];
        if (unit == '\\') {
            at++;
        } else if (in_class) {
            in_class = unit != ']';
        } else if (unit == '[') {
            in_class = true;
        } else if (unit == '(') {
            bool question = at + 1 < parser->count && parser->units[at + 1] == '?';
            bool name = question && at + 3 < parser->count && parser->units[at + 2] == '<' &&
                        parser->units[at + 3] != '=' && parser->units[at + 3] != '!';
            parser->named = parser->named || name;
            total += !question || name;
        }
    }
    parser->total = total;
}

static int hex_value(int unit) {
    if (unit >= '0' && unit <= '9') {
        return unit - '0';
    }
    if ((unit | 0x20) >= 'a' && (unit | 0x20) <= 'f' && unit > 0) {
        return (unit | 0x20) - 'a' + 10;
    }
    return -1;
}

/* Reads exactly `digits` hexadecimal digits at parser->at; -1 and no move when they are not. */
static int hex_digits(struct parser *parser, size_t digits) {
    int value = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_value(peek(parser, i));
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    parser->at += digits;
    return value;
}

static bool is_letter(int unit) {
    return (unit >= 'a' && unit <= 'z') || (unit >= 'A' && unit <= 'Z');
}

static bool is_digit(int unit) {
    return unit >= '0' && unit <= '9';
}

/* An escape that stands for one unit; parser->at is on the unit after the backslash. */
static int character_escape(struct parser *parser, bool in_class) {
    static const struct {
        char name;
        char unit;
    } controls[] = {{'f', '\f'}, {'n', '\n'}, {'r', '\r'}, {'t', '\t'}, {'v', '\v'}};
    int unit = peek(parser, 0);
    for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
        if (unit == controls[i].name) {
            parser->at++;
            return controls[i].unit;
        }
    }
    if (unit == 'c') {
        int letter = peek(parser, 1);
        if (is_letter(letter) || (in_class && (is_digit(letter) || letter == '_'))) {
            parser->at += 2;
            return letter & 0x1f;
        }
        return '\\'; /* Annex B: the backslash is a character, and c comes next */
    }
    if (unit >= '0' && unit <= '7') {
        int value = unit - '0';
        parser->at++;
        for (int i = 0; i < 2 && value < 32 && peek(parser, 0) >= '0' && peek(parser, 0) <= '7';
             i++) {
            value = value * 8 + peek(parser, 0) - '0';
            parser->at++;
        }
        return value;
    }
    parser->at++;
    if (unit == 'x' || unit == 'u') {
        int value = hex_digits(parser, unit == 'x' ? 2 : 4);
        return value >= 0 ? value : unit;
    }
    return unit;
}

/* The insides of a bracket for \d \D \s \S \w \W; NULL for another letter. */
static const char *class_escape(int unit) {
    switch (unit) {
    case 'd':
        return "0-9";
    case 'D':
        return "\\x00-\\x2f\\x3a-\\x{ffff}";
    case 's':
        return SPACES;
    case 'S':
        return NOT_SPACES;
    case 'w':
        return "0-9A-Z_a-z";
    case 'W':
        return "\\x00-\\x2f\\x3a-\\x40\\x5b-\\x5e\\x60\\x7b-\\x{ffff}";
    default:
        return NULL;
    }
}

/* One member of a class: a unit, or a class escape (*set non-NULL). */
static bool class_atom(struct parser *parser, int *unit, const char **set) {
    *set = NULL;
    *unit = peek(parser, 0);
    parser->at++;
    if (*unit != '\\') {
        return true;
    }
    int next = peek(parser, 0);
    if (next == END) {
        return fail(parser, "\\ at end of pattern");
    }
    *set = class_escape(next);
    if (*set != NULL) {
        parser->at++;
    } else if (next == 'b') {
        parser->at++;
        *unit = '\b';
    } else if (next == 'k' && parser->named) {
        return fail(parser, "Invalid escape");
    } else {
        *unit = character_escape(parser, true);
    }
    return true;
}

static void emit_member(struct parser *parser, int unit, const char *set) {
    if (set != NULL) {
        buffer_append_string(parser->out, set);
    } else {
        emit_unit(parser, (unsigned)unit);
    }
}

static bool class_members(struct parser *parser) {
    while (peek(parser, 0) != ']') {
        int from = 0;
        int to = 0;
        const char *from_set = NULL;
        const char *to_set = NULL;
        if (peek(parser, 0) == END) {
            return fail(parser, "Unterminated character class");
        }
        if (!class_atom(parser, &from, &from_set)) {
            return false;
        }
        if (peek(parser, 0) != '-' || peek(parser, 1) == ']' || peek(parser, 1) == END) {
            emit_member(parser, from, from_set);
            continue;
        }
        parser->at++;
        if (!class_atom(parser, &to, &to_set)) {
            return false;
        }
        if (from_set != NULL || to_set != NULL) {
            emit_member(parser, from, from_set);
            emit_unit(parser, '-');
            emit_member(parser, to, to_set);
        } else if (from > to) {
            return fail(parser, "Range out of order in character class");
        } else {
            emit_unit(parser, (unsigned)from);
            buffer_append_char(parser->out, '-');
            emit_unit(parser, (unsigned)to);
        }
    }
    parser->at++;
    return true;
}

static bool parse_class(struct parser *parser) {
    bool negated = peek(parser, 0) == '^';
    parser->at += negated;
    if (peek(parser, 0) == ']') {
        parser->at++;
        buffer_append_string(parser->out, negated ? "[\\x00-\\x{ffff}]" : "[^\\x00-\\x{ffff}]");
        return true;
    }
    buffer_append_string(parser->out, negated ? "[^" : "[");
    if (!class_members(parser)) {
        return false;
    }
    buffer_append_char(parser->out, ']');
    return true;
}

static bool is_name_unit(int unit, bool first) {
    /* Beyond ASCII every unit from U+00AA on is taken: which are letters matters to no search. */
    return is_letter(unit) || unit == '$' || unit == '_' || unit >= 0xaa ||
           (!first && is_digit(unit));
}

/* <name>, with parser->at after the '<'. */
static bool parse_name(struct parser *parser, struct name *name) {
    uint16_t units[NAME_UNITS_LIMIT];
    size_t count = 0;
    for (;;) {
        int unit = peek(parser, 0);
        parser->at++;
        if (unit == '\\') {
            if (peek(parser, 0) != 'u') {
                return false;
            }
            parser->at++;
            bool braced = peek(parser, 0) == '{';
            if (braced) {
                size_t digits = 0;
                parser->at++;
                while (digits < 4 && hex_value(peek(parser, digits)) >= 0) {
                    digits++;
                }
                unit = digits > 0 ? hex_digits(parser, digits) : -1;
                if (peek(parser, 0) != '}') {
                    return false;
                }
                parser->at++;
            } else {
                unit = hex_digits(parser, 4);
            }
        } else if (unit == '>' && count > 0) {
            break;
        }
        if (!is_name_unit(unit, count == 0) || count == NAME_UNITS_LIMIT) {
            return false;
        }
        units[count++] = (uint16_t)unit;
    }
    name->units = memory_zeroed(count, sizeof name->units[0]);
    memcpy(name->units, units, count * sizeof units[0]);
    name->count = count;
    return true;
}

static const struct name *find_name(const struct names *names, const struct name *wanted) {
    for (size_t i = 0; i < names->count; i++) {
        if (names->list[i].count == wanted->count &&
            memcmp(names->list[i].units, wanted->units, wanted->count * sizeof(uint16_t)) == 0) {
            return &names->list[i];
        }
    }
    return NULL;
}

static void add_name(struct names *names, const struct name *name) {
    names->list = memory_resize(names->list, names->count + 1, sizeof names->list[0]);
    names->list[names->count++] = *name;
}

static void free_names(struct names *names) {
    for (size_t i = 0; i < names->count; i++) {
        free(names->list[i].units);
    }
    free(names->list);
}

static bool begin_capture(struct parser *parser) {
    if (++parser->captures > CAPTURES_LIMIT) {
        return fail(parser, "Too many captures");
    }
    buffer_append_char(parser->out, '(');
    return true;
}

static bool begin_named(struct parser *parser) {
    struct name name = {.index = parser->captures + 1};
    if (!parse_name(parser, &name)) {
        return fail(parser, "Invalid capture group name");
    }
    parser->groups[parser->depth - 1].is_duplicate = find_name(&parser->names, &name) != NULL;
    add_name(&parser->names, &name);
    return begin_capture(parser);
}

/* After '(': emits the beginning of the group and pushes it. */
static bool begin_group(struct parser *parser) {
    struct group group = {GROUP_PLAIN, parser->out->length, false};
    if (parser->depth == GROUPS_LIMIT) {
        return fail(parser, TOO_LARGE);
    }
    if (peek(parser, 0) != '?') {
        parser->groups[parser->depth++] = group;
        return begin_capture(parser);
    }
    int kind = peek(parser, 1);
    bool behind = kind == '<' && (peek(parser, 2) == '=' || peek(parser, 2) == '!');
    parser->at += 2;
    if (kind == ':') {
        buffer_append_string(parser->out, "(?:");
    } else if (kind == '=' || kind == '!') {
        group.kind = GROUP_LOOKAHEAD;
        /* Wrapped, because a quantifier means less to PCRE2 on a bare assertion. */
        buffer_append_string(parser->out, kind == '=' ? "(?:(?=" : "(?:(?!");
    } else if (behind) {
        group.kind = GROUP_LOOKBEHIND;
        buffer_append_string(parser->out, peek(parser, 0) == '=' ? "(?<=" : "(?<!");
        parser->at++;
    } else if (kind != '<') {
        return fail(parser, "Invalid group");
    }
    parser->groups[parser->depth++] = group;
    return kind != '<' || behind || begin_named(parser);
}

/* {n}, {n,} or {n,m} at `ahead`: the length, or 0 when it is no quantifier. */
static size_t interval(const struct parser *parser, long *low, long *high) {
    size_t ahead = 1;
    long values[2] = {0, -1};
    for (int part = 0; part < 2; part++) {
        size_t begin = ahead;
        long value = 0;
        while (is_digit(peek(parser, ahead))) {
            /* Saturates far above any bound, where V8 saturates too. */
            value = value > 200000000 ? 2147483647 : value * 10 + peek(parser, ahead) - '0';
            ahead++;
        }
        if (ahead > begin) {
            values[part] = value;
        } else if (part == 0) {
            return 0;
        }
        if (part == 0 && peek(parser, ahead) == '}') {
            values[1] = values[0];
            break;
        }
        if (part == 0 && peek(parser, ahead++) != ',') {
            return 0;
        }
    }
    *low = values[0];
    *high = values[1];
    return peek(parser, ahead) == '}' ? ahead + 1 : 0;
}

static bool is_quantifier(const struct parser *parser) {
    long ignored = 0;
    int unit = peek(parser, 0);
    return unit == '*' || unit == '+' || unit == '?' ||
           (unit == '{' && interval(parser, &ignored, &ignored) > 0);
}

/* After ')'. *quantifiable says whether a quantifier may follow. */
static bool end_group(struct parser *parser, bool *quantifiable) {
    if (parser->depth == 0) {
        return fail(parser, "Unmatched ')'");
    }
    const struct group *group = &parser->groups[--parser->depth];
    if (group->is_duplicate) {
        return fail(parser, "Duplicate capture group name");
    }
    buffer_append_string(parser->out, group->kind == GROUP_LOOKAHEAD ? "))" : ")");
    *quantifiable = group->kind != GROUP_LOOKBEHIND;
    if (group->kind == GROUP_LOOKBEHIND &&
        !parser->lookbehind(parser->context, parser->out, group->start)) {
        return fail(parser, "Unsupported lookbehind");
    }
    if (group->kind == GROUP_LOOKBEHIND && is_quantifier(parser)) {
        return fail(parser, "Invalid quantifier");
    }
    return true;
}

/* \1 to \9...: a reference when the pattern has that many captures. */
static bool back_reference(struct parser *parser) {
    long value = 0;
    size_t digits = 0;
    while (is_digit(peek(parser, digits)) && value <= CAPTURES_LIMIT) {
        value = value * 10 + peek(parser, digits) - '0';
        digits++;
    }
    if (value > parser->total) {
        return false;
    }
    parser->at += digits;
    buffer_append_format(parser->out, "\\g{%ld}", value);
    return true;
}

static bool named_reference(struct parser *parser) {
    struct name name = {0};
    parser->at++;
    if (peek(parser, 0) != '<') {
        return fail(parser, "Invalid named reference");
    }
    parser->at++;
    if (!parse_name(parser, &name)) {
        return fail(parser, "Invalid named reference");
    }
    add_name(&parser->references, &name);
    /* Five digits are filled in at the end: the group may come later. */
    buffer_append_string(parser->out, "\\g{00000}");
    parser->reference_at = memory_resize(parser->reference_at, parser->references.count,
                                         sizeof parser->reference_at[0]);
    parser->reference_at[parser->references.count - 1] = parser->out->length - 6;
    return true;
}

/* After a backslash. */
static bool parse_escape(struct parser *parser, bool *quantifiable) {
    int unit = peek(parser, 0);
    const char *set = class_escape(unit);
    if (unit == END) {
        return fail(parser, "\\ at end of pattern");
    }
    if (set != NULL) {
        parser->at++;
        buffer_append_format(parser->out, "[%s]", set);
        return true;
    }
    if (unit == 'b' || unit == 'B') {
        parser->at++;
        *quantifiable = false;
        buffer_append_format(parser->out, "\\%c", unit);
        return true;
    }
    if (unit >= '1' && unit <= '9' && back_reference(parser)) {
        return true;
    }
    if (unit == 'k' && parser->named) {
        return named_reference(parser);
    }
    emit_unit(parser, (unsigned)character_escape(parser, false));
    return true;
}

static void emit_quantifier(struct parser *parser, long low, long high) {
    low = low > REPEAT_LIMIT ? REPEAT_LIMIT : low;
    if (high < 0 || high > REPEAT_LIMIT) {
        buffer_append_format(parser->out, "{%ld,}", low);
    } else {
        buffer_append_format(parser->out, "{%ld,%ld}", low, high);
    }
    if (peek(parser, 0) == '?') {
        parser->at++;
        buffer_append_char(parser->out, '?');
    }
}

/* The quantifier after an atom, if there is one. */
static bool parse_quantifier(struct parser *parser) {
    long low = 0;
    long high = -1;
    size_t length = 1;
    switch (peek(parser, 0)) {
    case '*':
        break;
    case '+':
        low = 1;
        break;
    case '?':
        high = 1;
        break;
    case '{':
        length = interval(parser, &low, &high);
        if (length == 0) {
            return true;
        }
        if (high >= 0 && high < low) {
            return fail(parser, "numbers out of order in {} quantifier");
        }
        break;
    default:
        return true;
    }
    parser->at += length;
    emit_quantifier(parser, low, high);
    return true;
}

/* One term without its quantifier. */
static bool parse_term(struct parser *parser, bool *quantifiable) {
    long ignored = 0;
    int unit = peek(parser, 0);
    parser->at++;
    *quantifiable = true;
    switch (unit) {
    case '|':
        *quantifiable = false;
        buffer_append_char(parser->out, '|');
        return true;
    case '^':
        *quantifiable = false;
        buffer_append_string(parser->out, "\\A");
        return true;
    case '$':
        *quantifiable = false;
        buffer_append_string(parser->out, "\\z");
        return true;
    case '(':
        *quantifiable = false;
        return begin_group(parser);
    case ')':
        return end_group(parser, quantifiable);
    case '*':
    case '+':
    case '?':
        return fail(parser, "Nothing to repeat");
    case '.':
        buffer_append_string(parser->out, "[^\\x0a\\x0d\\x{2028}\\x{2029}]");
        return true;
    case '[':
        return parse_class(parser);
    case '\\':
        return parse_escape(parser, quantifiable);
    case '{':
        parser->at--;
        if (interval(parser, &ignored, &ignored) > 0) {
            return fail(parser, "Nothing to repeat");
        }
        parser->at++;
        emit_unit(parser, '{');
        return true;
    default:
        emit_unit(parser, (unsigned)unit);
        return true;
    }
}

static bool resolve_references(struct parser *parser) {
    for (size_t i = 0; i < parser->references.count; i++) {
        const struct name *name = find_name(&parser->names, &parser->references.list[i]);
        if (name == NULL) {
            return fail(parser, "Invalid named capture referenced");
        }
        char digits[16] = "";
        (void)snprintf(digits, sizeof digits, "%05u", name->index);
        memcpy(parser->out->data + parser->reference_at[i], digits, 5);
    }
    return true;
}

static bool parse_pattern(struct parser *parser) {
    scan_captures(parser);
    while (parser->at < parser->count) {
        bool quantifiable = true;
        if (!parse_term(parser, &quantifiable) || (quantifiable && !parse_quantifier(parser))) {
            return false;
        }
    }
    if (parser->depth > 0) {
        return fail(parser, "Unterminated group");
    }
    return resolve_references(parser);
}

const char *grep_js_translate(const uint16_t *units, size_t count, grep_js_lookbehind lookbehind,
                              void *context, struct buffer *out) {
    struct parser parser = {
        .units = units,
        .count = count,
        .out = out,
        .groups = memory_zeroed(GROUPS_LIMIT, sizeof(struct group)),
        .lookbehind = lookbehind,
        .context = context,
    };
    (void)parse_pattern(&parser);
    free_names(&parser.names);
    free_names(&parser.references);
    free(parser.reference_at);
    free(parser.groups);
    return parser.reason;
}
