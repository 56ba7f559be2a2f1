/* TOML to JSON: toml++ parses, this copies what it found. Everything that judges it is C. */
#include "config/toml.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include <json-c/json.h>

/* With the dots of a line, this bounds how deep the recursion of the library can go. */
#define TOML_MAX_NESTED_VALUES          8
#define TOML_ENABLE_UNRELEASED_FEATURES 0
#include <toml++/toml.h>

namespace {

constexpr int LINE_DOTS_LIMIT = 128;
constexpr int TREE_DEPTH_LIMIT = 16;

void say(toml_error *error, int line, int column, std::string_view message) {
    error->line = line;
    error->column = column;
    const size_t length = std::min(message.size(), sizeof(error->message) - 1);
    std::memcpy(error->message, message.data(), length);
    error->message[length] = '\0';
}

/* The first line with so many dots that its keys nest deeper than anybody means; 0: none. */
int line_with_many_dots(std::string_view text) {
    int line = 1;
    int dots = 0;
    for (const char byte : text) {
        dots += byte == '.' ? 1 : 0;
        if (dots > LINE_DOTS_LIMIT) {
            return line;
        }
        if (byte == '\n') {
            line++;
            dots = 0;
        }
    }
    return 0;
}

class Copier {
  public:
    explicit Copier(json_object *lines) : lines_(lines) {
    }

    /* A new JSON value; NULL for what JSON lacks, and for what is too deep (see is_too_deep). */
    json_object *copy(const toml::node &node, const std::string &path, int depth) {
        json_object_object_add(lines_, path.c_str(),
                               json_object_new_int(static_cast<int>(node.source().begin.line)));
        if (depth > TREE_DEPTH_LIMIT) {
            is_too_deep = true;
            return nullptr;
        }
        if (const auto *table = node.as_table()) {
            return copy_table(*table, path, depth);
        }
        if (const auto *array = node.as_array()) {
            return copy_array(*array, path, depth);
        }
        if (const auto *text = node.as_string()) {
            return json_object_new_string_len(text->get().data(),
                                              static_cast<int>(text->get().size()));
        }
        if (const auto *integer = node.as_integer()) {
            return json_object_new_int64(integer->get());
        }
        if (const auto *number = node.as_floating_point()) {
            return json_object_new_double(number->get());
        }
        if (const auto *truth = node.as_boolean()) {
            return json_object_new_boolean(truth->get() ? 1 : 0);
        }
        return nullptr;
    }

    bool is_too_deep = false;

  private:
    json_object *copy_table(const toml::table &table, const std::string &path, int depth) {
        json_object *object = json_object_new_object();
        for (const auto &[key, value] : table) {
            const std::string name(key.str());
            const std::string below = path.empty() ? name : path + "." + name;
            json_object_object_add(object, name.c_str(), copy(value, below, depth + 1));
        }
        return object;
    }

    json_object *copy_array(const toml::array &array, const std::string &path, int depth) {
        json_object *list = json_object_new_array();
        size_t index = 0;
        for (const auto &value : array) {
            const std::string below = path + "[" + std::to_string(index++) + "]";
            json_object_array_add(list, copy(value, below, depth + 1));
        }
        return list;
    }

    json_object *lines_;
};

} // namespace

extern "C" bool toml_parse(const char *text, size_t length, json_object **tree, json_object **lines,
                           toml_error *error) {
    *tree = nullptr;
    *lines = nullptr;
    const std::string_view view(text, length);
    if (length > TOML_TEXT_LIMIT) {
        say(error, 0, 0, "more than 1 MiB");
        return false;
    }
    if (const int line = line_with_many_dots(view); line != 0) {
        say(error, line, 1, "more than 128 dots in a line");
        return false;
    }
    if (view.find('\0') != std::string_view::npos) {
        say(error, 0, 0, "a NUL byte: this is no text");
        return false;
    }
    try {
        const toml::table table = toml::parse(view);
        *lines = json_object_new_object();
        Copier copier(*lines);
        *tree = copier.copy(table, "", 0);
        if (!copier.is_too_deep) {
            return true;
        }
        say(error, 0, 0, "tables are nested too deep");
    } catch (const toml::parse_error &failure) {
        say(error, static_cast<int>(failure.source().begin.line),
            static_cast<int>(failure.source().begin.column), failure.description());
    } catch (const std::bad_alloc &) {
        std::abort();
    } catch (const std::exception &failure) {
        say(error, 0, 0, failure.what());
    }
    json_object_put(*tree);
    json_object_put(*lines);
    *tree = nullptr;
    *lines = nullptr;
    return false;
}
