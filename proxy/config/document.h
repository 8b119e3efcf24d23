#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

// A YAML text as a tree that keeps what yaml-cpp's own nodes lose: duplicate keys, quotes, and the place of
// every key.
namespace relayd::config {

// Both count from 1; 0: unknown.
struct Mark {
  int line = 0;
  int column = 0;  // in bytes
  auto operator<=>(const Mark&) const = default;
};

struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry {
    const Node* key = nullptr;
    const Node* value = nullptr;
  };

  Kind kind = Kind::kNull;
  Mark mark;
  std::string text;                // scalar
  bool quoted = false;             // scalar
  std::vector<const Node*> items;  // list
  std::vector<Entry> entries;      // map, in the order of the file, duplicates kept
};

struct DocumentFault {
  Mark mark;
  std::string message;
};

// Owns its nodes. An alias is a second pointer to the node of its anchor, so the tree may have shared
// branches, and cycles: a reader must bound how many nodes it visits.
struct Document {
  std::deque<Node> nodes;
  const Node* root = nullptr;  // null where the text holds nothing but comments
  std::vector<DocumentFault> faults;
};

// Who wrote the text. What relayd wrote itself (writer.h) may be of any size and use kBytesTag, but no alias.
enum class Origin { kFile, kWritten };

// Marks a text that is not UTF-8: each of its characters, U+0000 to U+00FF, stands for one byte.
inline constexpr char kBytesTag[] = "!bytes";

// Parses one document. Never throws: syntax errors, text that is not UTF-8 or has control characters, more
// than one document, tags, and a tree too deep or too large are faults; after one the tree may be incomplete.
Document parse_document(std::string_view text, Origin origin);

}  // namespace relayd::config
