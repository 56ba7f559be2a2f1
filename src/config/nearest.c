/* The nearest known key: by edit distance, first in the same section, then by its name alone. */
#include "config/nearest.h"

#include <stdint.h>
#include <string.h>

#include "config/table.h"

enum {
    TEXT_LIMIT = 64,
    /* What it costs, in letters, to take a key of another section. */
    OTHER_SECTION_COST = 1,
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t distance_n(const char *one, size_t rows, const char *other, size_t columns) {
    size_t table[TEXT_LIMIT + 1][TEXT_LIMIT + 1];
    if (rows > TEXT_LIMIT || columns > TEXT_LIMIT) {
        return SIZE_MAX;
    }
    for (size_t row = 0; row <= rows; row++) {
        for (size_t column = 0; column <= columns; column++) {
            if (row == 0 || column == 0) {
                table[row][column] = row + column;
                continue;
            }
            size_t change = one[row - 1] == other[column - 1] ? 0 : 1;
            size_t best = least(table[row - 1][column], table[row][column - 1]) + 1;
            best = least(best, table[row - 1][column - 1] + change);
            if (row > 1 && column > 1 && one[row - 1] == other[column - 2] &&
                one[row - 2] == other[column - 1]) {
                best = least(best, table[row - 2][column - 2] + 1);
            }
            table[row][column] = best;
        }
    }
    return table[rows][columns];
}

size_t edit_distance(const char *one, const char *other) {
    return distance_n(one, strlen(one), other, strlen(other));
}

static const char *name_of(const char *key) {
    const char *dot = strrchr(key, '.');
    return dot == NULL ? key : dot + 1;
}

/* From "sandbox.memroy" to "sandbox.memory"; a name that only lacks its end is near too. */
static size_t distance_between(const char *key, const char *known, size_t known_length) {
    const char *name = name_of(key);
    size_t section = (size_t)(name - key);
    const char *known_name = memrchr(known, '.', known_length);
    known_name = known_name == NULL ? known : known_name + 1;
    size_t known_section = (size_t)(known_name - known);
    size_t name_length = known_length - known_section;
    size_t length = strlen(name);
    bool is_same_section = section == known_section && memcmp(key, known, section) == 0;
    size_t distance = distance_n(name, length, known_name, name_length);
    if (length >= 3 && length < name_length && memcmp(name, known_name, length) == 0) {
        distance = 1;
    }
    return distance == SIZE_MAX ? distance : distance + (is_same_section ? 0 : OTHER_SECTION_COST);
}

const char *nearest_key(const char *key, size_t *length) {
    const char *best = NULL;
    /* A third of the letters may be wrong: beyond that a guess is more confusing than none. */
    size_t best_distance = strlen(name_of(key)) / 3 + 2;
    for (size_t i = 0; i < setting_row_count; i++) {
        const char *known = setting_rows[i].key;
        /* The key itself, and the section it is in. */
        for (size_t end = known == NULL ? 0 : strlen(known); end > 0;) {
            size_t distance = distance_between(key, known, end);
            if (distance < best_distance) {
                best = known;
                best_distance = distance;
                *length = end;
            }
            const char *dot = memrchr(known, '.', end);
            end = dot == NULL ? 0 : (size_t)(dot - known);
        }
    }
    return best;
}
