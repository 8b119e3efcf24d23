#include "proxy/config/reader.h"

#include "proxy/config/loader.h"

namespace relayd::config {
namespace {

// Values read: more than any honest file has. Aliases of aliases can make a small file endless.
constexpr std::size_t kMostVisits = 200'000;
// Faults with a suggestion, which takes time to find; the loader shows fewer.
constexpr std::size_t kMostSuggestions = 200;

const char* describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "a single value";
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMap:
      return "a map";
  }
  return "something else";
}

// The path one level further out.
void shorten(std::string& path) {
  const std::size_t end = path.find_last_of(".[");
  path.resize(end == std::string::npos ? 0 : end);
}

}  // namespace

void Reader::fault(const Mark& mark, const std::string& message) {
  faults.push_back({mark, path_.empty() ? message : path_ + ": " + message});
}

void Reader::bad_value(const Mark& mark, const std::string& message) {
  bad_.insert(path_);
  fault(mark, message);
}

void Reader::wrong_kind(const Node& node, const std::string& expected) {
  // The place of an empty value is of no use; its key's is known.
  const Mark mark = node.kind == Node::Kind::kNull ? place_of(path_) : node.mark;
  std::string message = "expected " + expected + ", not " + describe(node);
  if (node.kind == Node::Kind::kNull) message += "; give it, or leave the key out";
  if (node.kind == Node::Kind::kMap && node.entries.size() == 1 &&
      node.entries[0].key->kind == Node::Kind::kScalar) {
    message += "; if a template is meant, put it in quotes, as in \"{address}\"";
  }
  bad_value(mark, message);
}

void Reader::unknown_key(const Node& key, const std::vector<std::string_view>& known) {
  std::string message = "unknown key " + in_quotes(key.text);
  if (faults.size() > kMostSuggestions) return fault(key.mark, message);
  const std::string elsewhere = sections_with(key.text);
  if (key.text == "<<") {
    message += ": merge keys are not read; write the keys out";
  } else if (const std::string meant = elsewhere.empty() ? nearest(key.text, known) : ""; !meant.empty()) {
    message += "; did you mean '" + meant + "'?";
    bad_.insert(path_.empty() ? meant : path_ + "." + meant);  // or it would be missed as well
  } else if (!elsewhere.empty()) {
    message += "; it belongs in " + elsewhere;
  } else {
    message += "; there are " + list_of(known);
  }
  fault(key.mark, message);
}

Mark Reader::place_of(std::string key) const {
  for (; !key.empty(); shorten(key)) {
    if (const auto found = places_.find(key); found != places_.end()) return found->second;
  }
  return {1, 1};
}

bool Reader::is_bad(std::string key) const {
  for (; !key.empty(); shorten(key)) {
    if (bad_.contains(key)) return true;
  }
  return bad_.contains("");
}

bool Reader::count_visit(const Node& node) {
  if (origin_ == Origin::kWritten) return true;  // it has no aliases
  if (visits_ >= kMostVisits) return false;
  visits_ += 1 + node.text.size() / 64;  // a long text, too, can be copied by a short alias
  if (visits_ >= kMostVisits) faults.push_back({node.mark, "aliases make the file too large: write fewer"});
  return visits_ < kMostVisits;
}

bool Reader::key_is_a_name(const Node& key) {
  if (key.kind == Node::Kind::kScalar && !key.text.empty() && key.text.find('\0') == std::string::npos)
    return true;
  fault(key.mark, key.kind == Node::Kind::kScalar
                      ? std::string("expected a name as the key, not an empty text")
                      : std::string("expected a name as the key, not ") + describe(key));
  return false;
}

std::optional<std::string_view> scalar(Reader& reader, const Node& node, const std::string& expected) {
  if (node.kind != Node::Kind::kScalar) {
    reader.wrong_kind(node, expected);
    return std::nullopt;
  }
  if (node.text.find('\0') != std::string::npos) {
    reader.bad_value(node.mark, "the text has a zero byte, which no program can be given: remove it");
    return std::nullopt;
  }
  return node.text;
}

std::optional<std::string_view> plain_scalar(Reader& reader, const Node& node, const std::string& expected) {
  const auto text = scalar(reader, node, expected);
  if (text && node.quoted) {
    reader.bad_value(node.mark, "expected " + expected + " without quotes, not the text " + in_quotes(*text));
    return std::nullopt;
  }
  return text;
}

void read(Reader& reader, const Node& node, std::string& value) {
  const auto text = scalar(reader, node, "text");
  if (!text) return;
  if (text->empty())
    return reader.bad_value(node.mark, "the text is empty: give a value, or leave the key out");
  value = *text;
}

void read_nullable(Reader& reader, const Node& node, std::string& value) {
  if (node.kind == Node::Kind::kNull) {
    value.clear();
  } else {
    read(reader, node, value);
  }
}

void read(Reader& reader, const Node& node, bool& value) {
  const auto text = plain_scalar(reader, node, "true or false");
  if (!text) return;
  if (*text == "true" || *text == "false") {
    value = *text == "true";
  } else {
    reader.bad_value(node.mark, "expected true or false, not " + in_quotes(*text));
  }
}

void read(Reader& reader, const Node& node, std::vector<std::string>& value) {
  if (node.kind == Node::Kind::kScalar) {
    return reader.bad_value(
        node.mark,
        "expected a list, as in [\"first\", \"second\"], not the single value " + in_quotes(node.text));
  }
  if (node.kind != Node::Kind::kList) return reader.wrong_kind(node, "a list, as in [\"first\", \"second\"]");
  value.clear();
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const Node& item = *node.items[i];
    value.emplace_back();
    reader.inside(i, item, [&] {
      if (const auto text = scalar(reader, item, "text")) value.back() = *text;
    });
  }
}

void read(Reader& reader, const Node& node, std::map<std::string, std::string>& value) {
  if (node.kind != Node::Kind::kMap)
    return reader.wrong_kind(node, "a map of names to values, as in {NAME: value}");
  value.clear();
  reader.each_key(node, [&](const Node& key, const Node& entry) {
    reader.inside(key, entry, [&] {
      const auto text = scalar(reader, entry, "text (\"\" for an empty one)");
      if (text) value[key.text] = *text;
    });
  });
}

}  // namespace relayd::config
