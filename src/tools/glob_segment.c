/* A small tree of sequences and extglobs, written out as a regular expression. */
#include "tools/glob_segment.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum {
    NESTING_LIMIT = 2,          /* minimatch's maxExtglobRecursion */
    ADOPTED_NESTING_LIMIT = 30, /* of kinds that fold into their parent, which it does not count */
    SOURCE_BYTES_LIMIT = 128 * 1024,
};

/* A run of text, a sequence, or an extglob whose children are the sequences of its alternatives. */
struct node {
    char type; /* one of "!?+*@"; 's' sequence; 't' text */
    size_t begin;
    size_t end; /* of text, in units */
    struct node **children;
    size_t count;
};

struct translation {
    const uint16_t *units;
    size_t count;
    struct buffer *source;
    bool is_magic;
    bool is_unicode;
    bool is_too_big;
};

/* What follows a node in each sequence around it. */
struct following {
    const struct node *sequence;
    size_t next;
    const struct following *outer;
};

/* Where a node stands, as the dot rule sees it. */
struct place {
    bool is_start;
    bool is_end;
    bool dots_allowed;
    bool in_negation; /* an alternative of !(...) */
    unsigned depth;
};

static struct node *new_node(char type) {
    struct node *node = memory_new(struct node);
    node->type = type;
    return node;
}

/* Bounded by the nesting limits. */
static void free_node(struct node *node) {
    for (size_t i = 0; i < node->count; i++) {
        free_node(node->children[i]);
    }
    free(node->children);
    free(node);
}

static void add_child(struct node *node, struct node *take_child) {
    node->children = memory_resize(node->children, node->count + 1, sizeof(struct node *));
    node->children[node->count++] = take_child;
}

static void add_text(struct node *sequence, size_t begin, size_t end) {
    if (end > begin) {
        struct node *text = new_node('t');
        text->begin = begin;
        text->end = end;
        add_child(sequence, text);
    }
}

static bool is_kind(uint16_t unit) {
    return unit != 0 && unit < 0x80 && strchr("!?+*@", unit) != NULL;
}

/* Whether an extglob of kind `parent` can take in a child of kind `child`: it is not deeper then.
 */
static bool adopts(char parent, uint16_t child) {
    static const struct {
        char parent;
        const char *children;
    } table[] = {{'!', "?@"}, {'?', "?@"}, {'@', "?@"}, {'*', "*+?@"}, {'+', "+@?*"}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].parent == parent) {
            return child < 0x80 && strchr(table[i].children, child) != NULL;
        }
    }
    return false;
}

/* The state of scanning a bracket class, inside of which nothing else is special. */
struct bracket {
    bool inside;
    size_t start;
    bool negated;
};

static bool in_bracket(struct bracket *bracket, uint16_t unit, size_t next) {
    if (bracket->inside) {
        if (next == bracket->start + 1) {
            bracket->negated = unit == '^' || unit == '!';
        } else if (unit == ']' && !(next == bracket->start + 2 && bracket->negated)) {
            bracket->inside = false;
        }
        return true;
    }
    if (unit == '[') {
        *bracket = (struct bracket){true, next, false};
        return true;
    }
    return false;
}

static bool opens(const struct translation *all, size_t at, char parent, unsigned depth,
                  unsigned nesting) {
    return at + 1 < all->count && is_kind(all->units[at]) && all->units[at + 1] == '(' &&
           nesting < ADOPTED_NESTING_LIMIT &&
           (depth <= NESTING_LIMIT || adopts(parent, all->units[at]));
}

/*
 * Reads an extglob at *at (its kind). One that never closes is the plain text of all that follows.
 * Recursion is bounded by ADOPTED_NESTING_LIMIT.
 */
static struct node *read_extglob(const struct translation *all, size_t *at, unsigned depth,
                                 unsigned nesting) {
    struct node *self = new_node((char)all->units[*at]);
    struct node *part = new_node('s');
    struct bracket bracket = {0};
    size_t begin = *at + 2;
    for (size_t i = begin; i < all->count; i++) {
        uint16_t unit = all->units[i];
        if (in_bracket(&bracket, unit, i + 1)) {
            continue;
        }
        if (opens(all, i, self->type, depth, nesting)) {
            add_text(part, begin, i);
            unsigned more = adopts(self->type, unit) ? 0 : 1;
            add_child(part, read_extglob(all, &i, depth + more, nesting + 1));
            begin = i;
            i--;
        } else if (unit == '|' || unit == ')') {
            add_text(part, begin, i);
            add_child(self, part);
            begin = i + 1;
            if (unit == ')') {
                *at = i + 1;
                return self;
            }
            part = new_node('s');
        }
    }
    free_node(part);
    free_node(self);
    struct node *text = new_node('s');
    add_text(text, *at, all->count);
    *at = all->count;
    return text;
}

static struct node *read_root(const struct translation *all) {
    struct node *root = new_node('s');
    struct bracket bracket = {0};
    size_t begin = 0;
    for (size_t i = 0; i < all->count; i++) {
        if (in_bracket(&bracket, all->units[i], i + 1)) {
            continue;
        }
        if (opens(all, i, '\0', 0, 0)) {
            add_text(root, begin, i);
            add_child(root, read_extglob(all, &i, 1, 1));
            begin = i;
            i--;
        }
    }
    add_text(root, begin, all->count);
    return root;
}

static void put_unit(struct translation *all, uint16_t unit) {
    if (all->source->length >= SOURCE_BYTES_LIMIT) {
        all->is_too_big = true;
        return;
    }
    buffer_append(all->source, &unit, sizeof unit);
}

static void put(struct translation *all, const char *text) {
    for (; *text != '\0'; text++) {
        put_unit(all, (uint16_t)*text);
    }
}

static void put_escaped(struct translation *all, uint16_t unit, const char *specials) {
    if (unit != 0 && unit < 0x80 && strchr(specials, unit) != NULL) {
        put_unit(all, '\\');
    }
    put_unit(all, unit);
}

static const char CLASS_SPECIALS[] = "[]\\-^";
static const char SPECIALS[] = "[]{}()*+?.\\^$|#-";

static const struct posix_class {
    const char *name;
    const char *members;
    bool is_unicode;
    bool is_negated;
} posix_classes[] = {
    {"[:alnum:]", "\\p{L}\\p{Nl}\\p{Nd}", true, false},
    {"[:alpha:]", "\\p{L}\\p{Nl}", true, false},
    {"[:ascii:]", "\\x00-\\x7f", false, false},
    {"[:blank:]", "\\p{Zs}\\t", true, false},
    {"[:cntrl:]", "\\p{Cc}", true, false},
    {"[:digit:]", "\\p{Nd}", true, false},
    {"[:graph:]", "\\p{Z}\\p{C}", true, true},
    {"[:lower:]", "\\p{Ll}", true, false},
    {"[:print:]", "\\p{C}", true, true},
    {"[:punct:]", "\\p{P}", true, false},
    {"[:space:]", "\\p{Z}\\t\\r\\n\\x0b\\f", true, false},
    {"[:upper:]", "\\p{Lu}", true, false},
    {"[:word:]", "\\p{L}\\p{Nl}\\p{Nd}\\p{Pc}", true, false},
    {"[:xdigit:]", "A-Fa-f0-9", false, false},
};

static const struct posix_class *posix_at(const struct translation *all, size_t at, size_t end) {
    for (size_t i = 0; i < sizeof posix_classes / sizeof posix_classes[0]; i++) {
        size_t length = strlen(posix_classes[i].name);
        size_t same = 0;
        while (same < length && at + same < end &&
               all->units[at + same] == (uint16_t)posix_classes[i].name[same]) {
            same++;
        }
        if (same == length) {
            return &posix_classes[i];
        }
    }
    return NULL;
}

/* A bracket class taken apart. */
struct class_text {
    struct buffer ranges; /* units, escaped */
    struct buffer negated_ranges;
    size_t members;
    size_t negated_members;
    uint16_t single; /* the member, when it is one plain unit */
    bool is_single;
    bool negate;
    bool is_unicode;
    bool is_never;
};

static void class_put(struct buffer *out, uint16_t unit) {
    const uint16_t backslash = '\\';
    if (unit != 0 && unit < 0x80 && strchr(CLASS_SPECIALS, unit) != NULL) {
        buffer_append(out, &backslash, sizeof backslash);
    }
    buffer_append(out, &unit, sizeof unit);
}

static void class_put_ascii(struct buffer *out, const char *text) {
    for (; *text != '\0'; text++) {
        uint16_t unit = (uint16_t)*text;
        buffer_append(out, &unit, sizeof unit);
    }
}

/* Where a range begins, while its end is awaited. */
struct range {
    uint16_t from;
    bool is_open;
};

static void class_unit(struct class_text *class, struct range *range, uint16_t unit) {
    if (!range->is_open) {
        class_put(&class->ranges, unit);
        class->is_single = class->members++ == 0;
        class->single = unit;
        return;
    }
    range->is_open = false;
    if (unit >= range->from) {
        class_put(&class->ranges, range->from);
        class->is_single = class->members++ == 0 && unit == range->from;
        class->single = unit;
    }
    if (unit > range->from) {
        class_put_ascii(&class->ranges, "-");
        class_put(&class->ranges, unit);
    }
}

/* The index after the ']', or 0 when the class is not closed and '[' is plain. */
static size_t read_class(const struct translation *all, size_t at, size_t end,
                         struct class_text *class) {
    struct range range = {0};
    size_t i = at + 1;
    bool saw_start = false;
    if (i < end && (all->units[i] == '!' || all->units[i] == '^')) {
        class->negate = true;
        i++;
    }
    for (; i < end; i++) {
        uint16_t unit = all->units[i];
        const struct posix_class *posix = unit == '[' ? posix_at(all, i, end) : NULL;
        if (unit == ']' && saw_start) {
            class->is_never = class->members == 0 && class->negated_members == 0;
            return i + 1;
        }
        saw_start = true;
        if (posix != NULL && range.is_open) {
            class->is_never = true;
            return end;
        }
        if (posix != NULL) {
            class_put_ascii(posix->is_negated ? &class->negated_ranges : &class->ranges,
                            posix->members);
            class->members += posix->is_negated ? 0 : 1;
            class->negated_members += posix->is_negated ? 1 : 0;
            class->is_single = false;
            class->is_unicode = class->is_unicode || posix->is_unicode;
            i += strlen(posix->name) - 1;
        } else if (!range.is_open && i + 2 < end && all->units[i + 1] == '-' &&
                   all->units[i + 2] == ']') {
            class_unit(class, &range, unit);
            class_put(&class->ranges, '-');
            class->is_single = false;
            i++;
        } else if (!range.is_open && i + 1 < end && all->units[i + 1] == '-') {
            range = (struct range){unit, true};
            i++;
        } else {
            class_unit(class, &range, unit);
        }
    }
    return 0;
}

static void put_units(struct translation *all, const struct buffer *units) {
    for (size_t i = 0; i < units->length; i += sizeof(uint16_t)) {
        uint16_t unit = 0;
        memcpy(&unit, units->data + i, sizeof unit);
        put_unit(all, unit);
    }
}

static void put_class_text(struct translation *all, const struct class_text *class) {
    if (class->is_never) {
        put(all, "(?!)");
        all->is_magic = true;
        return;
    }
    if (class->is_single && class->members == 1 && class->negated_members == 0 && !class->negate) {
        put_escaped(all, class->single, SPECIALS);
        return;
    }
    bool both = class->members > 0 && class->negated_members > 0;
    all->is_magic = true;
    all->is_unicode = all->is_unicode || class->is_unicode;
    put(all, both ? "(?:" : "");
    if (class->members > 0) {
        put(all, class->negate ? "[^" : "[");
        put_units(all, &class->ranges);
        put(all, "]");
    }
    put(all, both ? "|" : "");
    if (class->negated_members > 0) {
        put(all, class->negate ? "[" : "[^");
        put_units(all, &class->negated_ranges);
        put(all, "]");
    }
    put(all, both ? ")" : "");
}

/* Puts the class at `at`; the index after it, or 0. */
static size_t put_class(struct translation *all, size_t at, size_t end) {
    struct class_text class = {0};
    size_t after = read_class(all, at, end, &class);
    if (after > 0) {
        put_class_text(all, &class);
    }
    buffer_free(&class.ranges);
    buffer_free(&class.negated_ranges);
    return after;
}

static void put_text(struct translation *all, size_t begin, size_t end, bool not_empty) {
    bool only_stars = true;
    for (size_t i = begin; i < end; i++) {
        only_stars = only_stars && all->units[i] == '*';
    }
    for (size_t i = begin; i < end; i++) {
        uint16_t unit = all->units[i];
        size_t after = unit == '[' ? put_class(all, i, end) : 0;
        if (after > 0) {
            i = after - 1;
        } else if (unit == '*') {
            put(all, not_empty && only_stars ? "[^/]+?" : "[^/]*?");
            all->is_magic = true;
            while (i + 1 < end && all->units[i + 1] == '*') {
                i++;
            }
        } else if (unit == '?') {
            put(all, "[^/]");
            all->is_magic = true;
        } else {
            put_escaped(all, unit, SPECIALS);
        }
    }
}

static void put_extglob(struct translation *all, const struct node *node,
                        const struct following *following, struct place place);

/* Children `from` on. Recursion is bounded by the depth of the tree and the size of the source. */
static void put_children(struct translation *all, const struct node *sequence, size_t from,
                         const struct following *outer, struct place place) {
    bool is_start = place.is_start && from == 0;
    bool has_extglob = false;
    for (size_t i = 0; i < sequence->count; i++) {
        has_extglob = has_extglob || sequence->children[i]->type != 't';
    }
    for (size_t i = from; i < sequence->count && !all->is_too_big; i++) {
        const struct node *child = sequence->children[i];
        struct following following = {sequence, i + 1, outer};
        struct place inner = place;
        inner.is_start = is_start;
        inner.is_end = place.is_end && i + 1 == sequence->count;
        inner.in_negation = false;
        if (child->type == 't') {
            put_text(all, child->begin, child->end, place.is_start && place.is_end && !has_extglob);
        } else if (child->type == 's') {
            put_children(all, child, 0, &following, inner);
        } else {
            put_extglob(all, child, &following, inner);
        }
        is_start = is_start && child->type == '!';
    }
}

static uint16_t unit_at(const struct buffer *source, size_t offset) {
    uint16_t unit = 0;
    if (offset + sizeof unit <= source->length) {
        memcpy(&unit, source->data + offset, sizeof unit);
    }
    return unit;
}

/* A sequence with the rule that a leading dot is matched by a dot only. */
static void put_sequence(struct translation *all, const struct node *sequence,
                         const struct following *outer, struct place place) {
    size_t begin = all->source->length;
    put_children(all, sequence, 0, outer, place);
    bool starts_with_text = sequence->count > 0 && sequence->children[0]->type == 't';
    if (place.is_start && starts_with_text && !place.dots_allowed &&
        unit_at(all->source, begin) == '[') {
        CLEANUP_BUFFER struct buffer tail = BUFFER_EMPTY;
        buffer_append(&tail, all->source->data + begin, all->source->length - begin);
        buffer_truncate(all->source, begin);
        put(all, "(?!\\.)");
        put_units(all, &tail);
    }
}

static void put_alternatives(struct translation *all, const struct node *node,
                             const struct following *following, struct place place) {
    bool is_first = true;
    for (size_t i = 0; i < node->count && !all->is_too_big; i++) {
        if (node->children[i]->count == 0 && place.is_start && place.is_end) {
            continue;
        }
        put(all, is_first ? "" : "|");
        is_first = false;
        put_sequence(all, node->children[i], following, place);
        if (node->type != '!') {
            continue;
        }
        /* What !(...) refuses is the alternative with all that follows it in the segment. */
        struct place after = place;
        after.is_start = false;
        after.is_end = true;
        for (const struct following *next = following; next != NULL; next = next->outer) {
            if (next->sequence->type == 's') {
                put_children(all, next->sequence, next->next, next->outer, after);
            }
        }
        put(all, "(?:$|/)");
    }
}

static void put_extglob(struct translation *all, const struct node *node,
                        const struct following *following, struct place place) {
    bool repeats = node->type == '*' || node->type == '+';
    bool is_empty = node->count == 1 && node->children[0]->count == 0;
    const char *no_dot = place.is_start && !place.dots_allowed ? "(?!\\.)" : "";
    struct place inner = place;
    inner.depth++;
    all->is_magic = true;
    if (node->type == '!' && is_empty) {
        put(all, no_dot);
        put(all, "[^/]+?");
    } else if (node->type == '!') {
        inner.is_end = true;
        put(all, "(?:(?!(?:");
        put_alternatives(all, node, following, inner);
        put(all, "))");
        put(all, no_dot);
        put(all, "[^/]*?)");
    } else if (repeats && place.is_start && !place.dots_allowed) {
        /* The first round may not begin with a wildcard's dot, the later ones may. */
        put(all, "(?:(?:");
        put_alternatives(all, node, following, inner);
        put(all, ")(?:");
        inner.dots_allowed = true;
        put_alternatives(all, node, following, inner);
        put(all, node->type == '*' ? ")*?)?" : ")*?)");
    } else {
        char close[] = {')', node->type == '@' ? '\0' : node->type, '\0'};
        put(all, "(?:");
        put_alternatives(all, node, following, inner);
        put(all, close);
    }
}

/* The text of a segment without magic: one-unit classes stand for their unit. */
static void write_literal(const struct translation *all, struct buffer *literal) {
    for (size_t i = 0; i < all->count; i++) {
        bool is_class = all->units[i] == '[' && i + 2 < all->count && all->units[i + 2] == ']' &&
                        all->units[i + 1] != '!' && all->units[i + 1] != '^';
        i += is_class ? 1 : 0;
        buffer_append(literal, &all->units[i], sizeof all->units[i]);
        i += is_class ? 1 : 0;
    }
}

bool glob_segment_translate(const uint16_t *units, size_t count, struct buffer *source,
                            struct buffer *literal, bool *is_magic, bool *is_unicode) {
    struct translation all = {.units = units, .count = count, .source = source};
    struct node *root = read_root(&all);
    const struct place place = {.is_start = true, .is_end = true};
    put(&all, "^(?:");
    put_sequence(&all, root, NULL, place);
    put(&all, ")$");
    free_node(root);
    write_literal(&all, literal);
    *is_magic = all.is_magic;
    *is_unicode = all.is_unicode;
    return !all.is_too_big;
}
