#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/error.h"
#include "proxy/config/config.h"
#include "proxy/config/document.h"
#include "proxy/config/names.h"
#include "proxy/config/words.h"

// Reads values of a document, and collects every fault on the way. The keys are those of tables (keys.h).
namespace relayd::config {

struct PlacedFault {
  Mark mark;
  std::string message;  // with the path of the key in front
};

class Reader {
 public:
  explicit Reader(Origin origin) : origin_(origin) {}

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

  Origin origin_;
  std::string path_;
  std::map<std::string, Mark> places_;
  std::set<std::string> bad_;
  std::size_t visits_ = 0;
};

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

}  // namespace relayd::config
