#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "proxy/config/emitter.h"
#include "proxy/config/names.h"
#include "proxy/config/reader.h"

// The tables of keys (sections.cc), by which documents are read into structs and structs are written:
// whatever a line of a table reads it writes as well.
namespace relayd::config {

// How a value of T gets from a document into a struct, and back. What equals its default is not written.
template <typename T>
struct Way {
  void (*read)(Reader&, const Node&, T&);
  void (*write)(Emitter&, std::string_view key, const T&);
};

// One line of a section's table.
template <typename T>
struct Key {
  std::string_view name;
  Way<T> way;
};

// The table of a struct that is a section of its own: specialised in sections.cc.
template <typename T>
inline constexpr bool kKeys = false;

// The format_* function whose text a parse_* function reads as the same value: specialised in sections.cc; a
// missing one fails to compile.
template <auto Parse>
inline constexpr bool kFormat = false;

template <typename T>
void read_section(Reader& reader, const Node& node, std::span<const Key<T>> keys, T& value) {
  std::vector<std::string_view> known;
  for (const Key<T>& key : keys) known.push_back(key.name);
  if (node.kind != Node::Kind::kMap) return reader.wrong_kind(node, "a map with the keys " + list_of(known));
  reader.each_key(node, [&](const Node& key, const Node& entry) {
    for (const Key<T>& candidate : keys) {
      if (candidate.name == key.text)
        return reader.inside(key, entry, [&] { candidate.way.read(reader, entry, value); });
    }
    reader.unknown_key(key, known);
  });
}

template <typename T>
void write_section(Emitter& emitter, std::span<const Key<T>> keys, const T& value) {
  for (const Key<T>& key : keys) key.way.write(emitter, key.name, value);
}

template <typename T>
requires std::is_class_v<T> &&
    (std::size(kKeys<T>) > 0) void read(Reader& reader, const Node& node, T& value) {
  read_section<T>(reader, node, kKeys<T>, value);
}

template <typename T>
requires std::is_class_v<T> &&
    (std::size(kKeys<T>) > 0) void write(Emitter& emitter, std::string_view key, const T& value) {
  emitter.section(key, [&] { write_section<T>(emitter, kKeys<T>, value); });
}

template <typename E>
requires std::is_enum_v<E>
void write(Emitter& emitter, std::string_view key, E value) { emitter.line(key, name_of(value)); }

template <typename T, typename M>
T struct_of(M T::*);
template <auto Member>
using StructOf = decltype(struct_of(Member));

template <auto Member>
bool is_default(const StructOf<Member>& value) {
  return value.*Member == StructOf<Member>{}.*Member;
}

// What a table names: the way of a member by its type …
template <auto Member>
inline constexpr Way<StructOf<Member>> into = {
    [](Reader& reader, const Node& node, StructOf<Member>& value) { read(reader, node, value.*Member); },
    [](Emitter& emitter, std::string_view key, const StructOf<Member>& value) {
      if (!is_default<Member>(value)) write(emitter, key, value.*Member);
    }};

template <auto Member, auto Parse>
void read_parsed(Reader& reader, const Node& node, StructOf<Member>& value) {
  const auto text = scalar(reader, node, "a single value");
  if (!text) return;
  if (const auto result = Parse(*text)) {
    value.*Member = *result;
  } else {
    reader.bad_value(node.mark, result.error().message);
  }
}

template <auto Member, auto Parse>
void write_formatted(Emitter& emitter, std::string_view key, const StructOf<Member>& value) {
  if (is_default<Member>(value)) return;
  if constexpr (requires { (value.*Member).has_value(); }) {
    if (value.*Member) emitter.line(key, kFormat<Parse>(*(value.*Member)));
  } else {
    emitter.line(key, kFormat<Parse>(value.*Member));
  }
}

// … of a member through a parse_* function of loader.h, which says itself what it expects …
template <auto Member, auto Parse>
inline constexpr Way<StructOf<Member>> parsed = {read_parsed<Member, Parse>, write_formatted<Member, Parse>};

// … of a number …
template <auto Member, auto Parse>
inline constexpr Way<StructOf<Member>> number = {
    [](Reader& reader, const Node& node, StructOf<Member>& value) {
      if (plain_scalar(reader, node, "a whole number")) read_parsed<Member, Parse>(reader, node, value);
    },
    write_formatted<Member, Parse>};

// … of a path or the like that may be null …
template <auto Member>
inline constexpr Way<StructOf<Member>> nullable = {
    [](Reader& reader, const Node& node, StructOf<Member>& value) {
      read_nullable(reader, node, value.*Member);
    },
    into<Member>.write};

// … and of a section whose keys are members of the struct around it.
template <typename T, const auto& Table>
inline constexpr Way<T> keys_of_same = {
    [](Reader& reader, const Node& node, T& value) { read_section<T>(reader, node, Table, value); },
    [](Emitter& emitter, std::string_view key, const T& value) {
      emitter.section_if_filled(key, [&] { write_section<T>(emitter, Table, value); });
    }};

}  // namespace relayd::config
