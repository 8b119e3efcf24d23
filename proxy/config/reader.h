#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/error.h"
#include "proxy/config/config.h"
#include "proxy/config/document.h"
#include "proxy/config/names.h"
#include "proxy/config/words.h"

// Reads a document into structs by tables of keys (sections.cc), and collects every fault on the way.
namespace relayd::config {

struct PlacedFault {
  Mark mark;
  std::string message;  // with the path of the key in front
};

class Reader {
 public:
  // The path of the value being read, "services.web.listen[1]"; empty at the root.
  const std::string& path() const { return path_; }

  // A fault of the value being read, in front of which stands its path.
  void fault(const Mark& mark, const std::string& message);
  // As fault(), and check() will be believed less: what it says about this value is a consequence.
  void bad_value(const Mark& mark, const std::string& message);
  // "expected <what>, not a list".
  void wrong_kind(const Node& node, const std::string& expected);
  // Faults a key that no table has, with the key meant among `known`, or the section it belongs to.
  void unknown_key(const Node& key, const std::vector<std::string_view>& known);

  // Each key of the map once, with its name; a key that is no name, or is given twice, is a fault.
  template <typename Visit>
  void each_key(const Node& map, Visit visit) {
    std::map<std::string_view, int> lines;
    for (const Node::Entry& entry : map.entries) {
      if (entry.value == nullptr || !count_visit(*entry.value) || !key_is_a_name(*entry.key)) continue;
      const auto [seen, first] = lines.emplace(entry.key->text, entry.key->mark.line);
      if (!first) {
        fault(entry.key->mark, "duplicate key " + in_quotes(entry.key->text) + ": already given in line " +
                                   std::to_string(seen->second) + "; keep one of them");
        continue;
      }
      visit(*entry.key, *entry.value);
    }
  }

  // Calls `read` with the path extended by "key" (a map's) or "[index]" (a list's).
  template <typename Read>
  void inside(const Node& key, const Node& value, Read read) {
    const std::size_t length = path_.size();
    path_.append(length == 0 ? "" : ".").append(key.text.substr(0, 64));
    const bool leaf = value.kind == Node::Kind::kScalar || value.kind == Node::Kind::kList;
    places_[path_] = leaf ? value.mark : key.mark;
    read();
    path_.resize(length);
  }
  template <typename Read>
  void inside(std::size_t index, const Node& item, Read read) {
    if (!count_visit(item)) return;
    const std::size_t length = path_.size();
    path_.append("[").append(std::to_string(index)).append("]");
    places_[path_] = item.mark;
    read();
    path_.resize(length);
  }

  // The place of a key by its path, or of the nearest section around it.
  Mark place_of(std::string key) const;
  // True where the value at this path, or one around it, was not read.
  bool is_bad(std::string key) const;

  std::vector<PlacedFault> faults;

 private:
  bool count_visit(const Node& node);
  bool key_is_a_name(const Node& key);

  std::string path_;
  std::map<std::string, Mark> places_;
  std::set<std::string> bad_;
  std::size_t visits_ = 0;
};

// One line of a section's table: the name of a key, and what reads its value.
template <typename T>
struct Key {
  std::string_view name;
  void (*read)(Reader&, const Node&, T&);
};

// The table of a struct that is a section of its own: specialised in sections.cc.
template <typename T>
inline constexpr bool kKeys = false;

// Where else a key of this name belongs, "services.NAME.rollover"; empty: nowhere.
std::string sections_with(std::string_view key);

void read(Reader& reader, const Node& node, std::string& value);
void read(Reader& reader, const Node& node, bool& value);
void read(Reader& reader, const Node& node, std::vector<std::string>& value);
void read(Reader& reader, const Node& node, std::map<std::string, std::string>& value);
// Text or null.
void read_nullable(Reader& reader, const Node& node, std::string& value);

// The text of a plain or quoted value, or empty after a fault.
std::optional<std::string_view> scalar(Reader& reader, const Node& node, const std::string& expected);
// As scalar(), without quotes: numbers and truth values.
std::optional<std::string_view> plain_scalar(Reader& reader, const Node& node, const std::string& expected);

template <typename E>
requires std::is_enum_v<E>
void read(Reader& reader, const Node& node, E& value) {
  const auto known = names_of<E>();
  const auto text = scalar(reader, node, list_of(known));
  if (!text) return;
  if (const auto named = value_of<E>(*text)) {
    value = *named;
  } else {
    reader.bad_value(node.mark, "expected one of" + expected_one_of(*text, known));
  }
}

template <typename T>
void read_section(Reader& reader, const Node& node, std::span<const Key<T>> keys, T& value) {
  std::vector<std::string_view> known;
  for (const Key<T>& key : keys) known.push_back(key.name);
  if (node.kind != Node::Kind::kMap) return reader.wrong_kind(node, "a map with the keys " + list_of(known));
  reader.each_key(node, [&](const Node& key, const Node& entry) {
    for (const Key<T>& candidate : keys) {
      if (candidate.name == key.text)
        return reader.inside(key, entry, [&] { candidate.read(reader, entry, value); });
    }
    reader.unknown_key(key, known);
  });
}

template <typename T>
requires std::is_class_v<T> &&
    (std::size(kKeys<T>) > 0) void read(Reader& reader, const Node& node, T& value) {
  read_section<T>(reader, node, kKeys<T>, value);
}

// What a table names: the reader of a member by its type …
template <auto Member, typename T>
void into(Reader& reader, const Node& node, T& value) {
  read(reader, node, value.*Member);
}
// … of a member through a parse_* function of loader.h, which says itself what it expects …
template <auto Member, auto Parse, typename T>
void parsed(Reader& reader, const Node& node, T& value) {
  const auto text = scalar(reader, node, "a single value");
  if (!text) return;
  if (const auto result = Parse(*text)) {
    value.*Member = *result;
  } else {
    reader.bad_value(node.mark, result.error().message);
  }
}
// … of a number …
template <auto Member, auto Parse, typename T>
void number(Reader& reader, const Node& node, T& value) {
  if (plain_scalar(reader, node, "a whole number")) parsed<Member, Parse>(reader, node, value);
}
// … of a path or the like that may be null …
template <auto Member, typename T>
void nullable(Reader& reader, const Node& node, T& value) {
  read_nullable(reader, node, value.*Member);
}
// … and of a section whose keys are members of the struct around it.
template <const auto& Table, typename T>
void keys_of_same(Reader& reader, const Node& node, T& value) {
  read_section<T>(reader, node, Table, value);
}

}  // namespace relayd::config
