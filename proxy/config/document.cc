#include "proxy/config/document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <sstream>

#include "proxy/base/utf8.h"
#include "proxy/config/words.h"

namespace relayd::config {
namespace {

constexpr std::size_t kMostNodes = 100'000;  // some hundred services with every key need a tenth of it
constexpr std::size_t kDeepest = 32;         // the configuration itself is 6 deep

constexpr char kDocumentEnd[] = "\n...\n";

struct TooMuch {
  DocumentFault fault;
};

Mark mark_of(const YAML::Mark& mark) {
  return mark.line < 0 || mark.column < 0 ? Mark{} : Mark{mark.line + 1, mark.column + 1};
}

// Turns yaml-cpp's events into nodes.
class Builder : public YAML::EventHandler {
 public:
  Builder(Document& document, Origin origin) : document_(document), origin_(origin) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(make(Node::Kind::kNull, mark, anchor));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (origin_ == Origin::kWritten) throw TooMuch{{mark_of(mark), "an alias, which relayd never writes"}};
    add(*anchors_.at(anchor));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node& node = make(Node::Kind::kScalar, mark, anchor);
    node.text = value;
    node.quoted = tag != "?";
    if (origin_ == Origin::kWritten && tag == kBytesTag) {
      read_bytes(node);
    } else if (tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:str") {
      refuse_tag(node, tag);
    }
    add(node);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  Node& make(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (origin_ == Origin::kFile && document_.nodes.size() >= kMostNodes) {
      throw TooMuch{
          {mark_of(mark), "the file has more than " + std::to_string(kMostNodes) + " values: split it"}};
    }
    Node& node = document_.nodes.emplace_back();
    node.kind = kind;
    node.mark = mark_of(mark);
    if (anchor != 0) anchors_[anchor] = &node;
    return node;
  }

  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    if (open_.size() >= kDeepest) {
      throw TooMuch{{mark_of(mark), "nested more than " + std::to_string(kDeepest) +
                                        " deep: the configuration needs 6 levels at most"}};
    }
    Node& node = make(kind, mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(node, tag);
    add(node);
    open_.push_back(&node);
  }

  void refuse_tag(const Node& node, const std::string& tag) {
    document_.faults.push_back(
        {node.mark, "the tag " + in_quotes(tag) + " means nothing here: take it away"});
  }

  // Turns characters into the bytes that they stand for.
  void read_bytes(Node& node) {
    std::string bytes;
    for (std::size_t i = 0; i < node.text.size();) {
      const auto first = static_cast<unsigned char>(node.text[i]);
      const std::size_t length = utf8_length(std::string_view(node.text).substr(i));
      if (length == 0 || first > 0xC3) {
        document_.faults.push_back(
            {node.mark, "a character that is no byte under " + std::string(kBytesTag)});
        return;
      }
      // Two bytes, 110000xx 10xxxxxx, for those from 0x80.
      const auto last = static_cast<unsigned char>(node.text[i + length - 1]);
      bytes.push_back(static_cast<char>(length == 1 ? first : (first & 0x03U) << 6 | (last & 0x3FU)));
      i += length;
    }
    node.text = bytes;
  }

  // In a map, keys and values come in turn.
  void add(const Node& node) {
    if (open_.empty()) {
      if (document_.root == nullptr) document_.root = &node;
      return;
    }
    Node& parent = *open_.back();
    if (parent.kind == Node::Kind::kList) {
      parent.items.push_back(&node);
    } else if (parent.entries.empty() || parent.entries.back().value != nullptr) {
      parent.entries.push_back({&node, nullptr});
    } else {
      parent.entries.back().value = &node;
    }
  }

  Document& document_;
  Origin origin_;
  std::vector<Node*> open_;
  std::map<YAML::anchor_t, const Node*> anchors_;
};

// What YAML does not allow and yaml-cpp does not report: it takes a byte 4 for the end of the file, and
// everything after it would be ignored in silence.
bool refuse_bytes(std::string_view text, Document& document) {
  Mark mark{1, 1};
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      document.faults.push_back({mark, "not UTF-8: save the file in that encoding"});
      return true;
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7F) {
      document.faults.push_back(
          {mark, "a control character, " + in_quotes(text.substr(i, 1)) + ": remove it"});
      return true;
    }
    mark.column += static_cast<int>(length);
    if (byte == '\n') mark = {mark.line + 1, 1};
    i += length;
  }
  return false;
}

// The mark, or the end of the text where it lies in what was added.
Mark within(std::string_view text, Mark mark) {
  const std::string_view filled = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  const Mark end{static_cast<int>(std::ranges::count(filled, '\n')) + 1,
                 static_cast<int>(filled.size() - (filled.rfind('\n') + 1)) + 1};
  return std::min(mark, end);
}

// yaml-cpp's message, but where it would only tell about the "..." that was added.
std::string in_words(const std::string& message) {
  const bool open_quote =
      message == YAML::ErrorMsg::DOC_IN_SCALAR || message == YAML::ErrorMsg::EOF_IN_SCALAR;
  return open_quote ? "a quote is opened above and never closed" : message;
}

// YAML forbids tabs as indentation, and parsers answer with riddles.
std::string tab_hint(std::string_view text, int line) {
  int number = 1;
  for (std::size_t at = 0; at < text.size() && number <= line; ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view indent = text.substr(at, std::min(text.find_first_not_of(" \t", at), end) - at);
    if (number >= line - 1 && indent.find('\t') != std::string_view::npos) {
      return "; line " + std::to_string(number) +
             " is indented with a tab, which YAML does not allow: use spaces";
    }
    at = end + 1;
  }
  return "";
}

}  // namespace

Document parse_document(std::string_view text, Origin origin) {
  Document document;
  if (refuse_bytes(text, document)) return document;
  try {
    // yaml-cpp takes an open quote for closed where the text ends behind a line's end; not so in front of a
    // "...".
    std::istringstream stream(std::string(text) + kDocumentEnd);
    YAML::Parser parser(stream);
    Builder builder(document, origin);
    if (parser.HandleNextDocument(builder)) {
      Document second;
      Builder rest(second, origin);
      if (parser.HandleNextDocument(rest)) {
        const Mark mark = second.root != nullptr ? second.root->mark : Mark{};
        document.faults.push_back(
            {mark, "a second YAML document ('---'): only one is read; remove the others"});
      }
    }
  } catch (const YAML::Exception& e) {
    const Mark mark = within(text, mark_of(e.mark));
    document.faults.push_back({mark, "not valid YAML: " + in_words(e.msg) + tab_hint(text, mark.line)});
  } catch (const TooMuch& e) {
    document.faults.push_back(e.fault);
  } catch (const std::exception& e) {
    document.faults.push_back({{}, std::string("cannot read the YAML: ") + e.what()});
  }
  return document;
}

}  // namespace relayd::config
