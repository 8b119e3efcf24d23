#pragma once

#include <netinet/in.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/time.h"
#include "proxy/config/config.h"
#include "proxy/config/writer.h"

// How records become bytes, and bytes records. Each record says once which fields it has, `fields(archive,
// record)`, and each of the three archives does something else with them: Writer writes them, Reader reads
// them, DescriptorList collects the descriptors among them. Numbers have their width and are little-endian
// (what relayd runs on); what has no fixed size follows its count. Nothing says what a field is: the version
// does.
namespace relayd::upgrade {

template <typename T>
concept Number = std::integral<T> && !std::same_as<T, bool>;

class Writer {
 public:
  explicit Writer(std::uint32_t version) : version_(version) {}
  std::uint32_t version() const { return version_; }
  std::string& bytes() { return bytes_; }

  template <Number T>
  void operator()(T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void operator()(bool& value) { bytes_.push_back(value ? '\1' : '\0'); }
  void operator()(std::string& value) {
    count(value.size());
    bytes_.append(value);
  }
  template <typename E>
  void choice(E& value, E) {
    auto number = static_cast<std::uint8_t>(value);
    (*this)(number);
  }
  void descriptor(int& fd) { (*this)(fd); }
  void raw(void* data, std::size_t size) { bytes_.append(static_cast<const char*>(data), size); }
  void count(std::size_t& value) {
    auto number = static_cast<std::uint32_t>(value);
    (*this)(number);
  }
  void count(std::size_t&& value) { count(value); }
  // Written once, however often the same one comes.
  void operator()(config::Service& service) { text_once(config::write_service(service)); }
  void operator()(config::Config& config) {
    std::string text = config::write_config(config);
    (*this)(text);
  }
  static constexpr bool kReads = false;

 private:
  void text_once(std::string text) {
    const auto [known, fresh] =
        texts_.try_emplace(std::move(text), static_cast<std::uint32_t>(texts_.size()));
    std::uint32_t number = known->second;
    (*this)(number);
    if (!fresh) return;
    std::string copy = known->first;
    (*this)(copy);
  }

  const std::uint32_t version_;
  std::string bytes_;
  std::map<std::string, std::uint32_t> texts_;
};

// Whatever the bytes are: a fault ends the reading, and what is read after it is empty.
class Reader {
 public:
  Reader(std::string_view bytes, std::uint32_t version) : version_(version), bytes_(bytes) {}
  std::uint32_t version() const { return version_; }
  const std::string& fault() const { return fault_; }
  bool at_end() const { return bytes_.empty(); }

  template <Number T>
  void operator()(T& value) {
    raw(&value, sizeof value);
  }
  void operator()(bool& value) {
    std::uint8_t byte = 0;
    (*this)(byte);
    if (byte > 1) fail("a truth value is neither true nor false");
    value = byte == 1;
  }
  void operator()(std::string& value) {
    std::size_t size = 0;
    count(size);
    value.assign(bytes_.substr(0, size));
    bytes_.remove_prefix(value.size());
  }
  template <typename E>
  void choice(E& value, E last) {
    std::uint8_t number = 0;
    (*this)(number);
    if (number > static_cast<std::uint8_t>(last)) return fail("a choice is unknown");
    value = static_cast<E>(number);
  }
  void descriptor(int& fd) { (*this)(fd); }
  void raw(void* data, std::size_t size) {
    if (bytes_.size() < size) {
      std::memset(data, 0, size);
      return fail("it ends too early");
    }
    std::memcpy(data, bytes_.data(), size);
    bytes_.remove_prefix(size);
  }
  // Of things that take at least a byte each.
  void count(std::size_t& value) {
    std::uint32_t number = 0;
    (*this)(number);
    if (number > bytes_.size()) {
      number = 0;
      fail("it ends too early");
    }
    value = number;
  }
  void operator()(config::Service& service) {
    std::uint32_t number = 0;
    (*this)(number);
    if (number < services_.size()) {
      service = services_[number];
      return;
    }
    if (number > services_.size()) return fail("a definition refers to none");
    std::string text;
    (*this)(text);
    if (!fault_.empty()) return;
    auto read = config::read_written_service(text);
    if (!read) return fail("the definition of a service cannot be read: " + read.error().message);
    service = services_.emplace_back(std::move(*read));
  }
  void operator()(config::Config& config) {
    std::string text;
    (*this)(text);
    if (!fault_.empty()) return;
    auto read = config::read_written(text);
    if (!read) return fail("the configuration cannot be read: " + read.error().message);
    config = std::move(*read);
  }
  void fail(std::string why) {
    if (!fault_.empty()) return;
    fault_ = std::move(why);
    bytes_ = {};
  }
  static constexpr bool kReads = true;

 private:
  const std::uint32_t version_;
  std::string_view bytes_;
  std::string fault_;
  std::vector<config::Service> services_;
};

class DescriptorList {
 public:
  explicit DescriptorList(std::uint32_t version) : version_(version) {}
  std::uint32_t version() const { return version_; }
  std::vector<int> found;

  template <Number T>
  void operator()(T&) {}
  void operator()(bool&) {}
  void operator()(std::string&) {}
  void operator()(config::Service&) {}
  void operator()(config::Config&) {}
  template <typename E>
  void choice(E&, E) {}
  void raw(void*, std::size_t) {}
  void count(std::size_t&) {}
  void descriptor(int& fd) {
    if (fd >= 0) found.push_back(fd);
  }
  static constexpr bool kReads = false;

 private:
  const std::uint32_t version_;
};

// ---- What all of them can do

template <typename A, typename T>
void field(A& archive, T& value);

template <typename A, typename... T>
void all(A& archive, T&... values) {
  (field(archive, values), ...);
}

template <typename A, typename T>
void field(A& archive, std::vector<T>& values) {
  std::size_t count = values.size();
  archive.count(count);
  if constexpr (A::kReads) {
    constexpr std::size_t kMostAtOnce = 1 << 14;  // whatever a damaged state says
    values.clear();
    values.reserve(std::min(count, kMostAtOnce));
    for (std::size_t i = 0; i < count && archive.fault().empty(); ++i) field(archive, values.emplace_back());
  } else {
    for (T& value : values) field(archive, value);
  }
}

template <typename A, typename T>
void field(A& archive, std::deque<T>& values) {
  std::vector<T> copy(values.begin(), values.end());
  field(archive, copy);
  if constexpr (A::kReads) values.assign(copy.begin(), copy.end());
}

template <typename A, typename T>
void field(A& archive, std::optional<T>& value) {
  bool there = value.has_value();
  archive(there);
  if constexpr (A::kReads) {
    value.reset();
    if (there) value = T{};
  }
  if (value) field(archive, *value);
}

template <typename A, typename T, typename U>
void field(A& archive, std::pair<T, U>& value) {
  all(archive, value.first, value.second);
}

template <typename A>
void field(A& archive, std::map<std::string, std::string>& values) {
  std::vector<std::pair<std::string, std::string>> list(values.begin(), values.end());
  field(archive, list);
  if constexpr (A::kReads) {
    values.clear();
    for (auto& entry : list) values.insert(std::move(entry));
  }
}

template <typename A>
void field(A& archive, TimePoint& value) {
  auto since = static_cast<std::int64_t>(value.time_since_epoch().count());
  archive(since);
  if constexpr (A::kReads) value = TimePoint(Duration(since));
}

template <typename A>
void field(A& archive, Duration& value) {
  auto count = static_cast<std::int64_t>(value.count());
  archive(count);
  if constexpr (A::kReads) value = Duration(count);
}

template <typename A>
void field(A& archive, SocketAddress& value) {
  if constexpr (requires { archive.address(value); }) return archive.address(value);  // a test's
  std::string bytes;
  if constexpr (!A::kReads) bytes.assign(reinterpret_cast<const char*>(value.get()), value.length());
  archive(bytes);
  if constexpr (A::kReads) {
    sockaddr_storage storage{};
    std::memcpy(&storage, bytes.data(), std::min(bytes.size(), sizeof storage));
    const auto family = storage.ss_family;
    const bool sound =
        bytes.empty() || (family == AF_INET && bytes.size() == sizeof(sockaddr_in)) ||
        (family == AF_INET6 && bytes.size() == sizeof(sockaddr_in6)) ||
        (family == AF_UNIX && bytes.size() >= sizeof(sa_family_t) && bytes.size() <= sizeof(sockaddr_un));
    if (!sound) return archive.fail("an address is none");
    value = SocketAddress(reinterpret_cast<const sockaddr*>(&storage), static_cast<socklen_t>(bytes.size()));
  }
}

template <typename A, typename T>
void field(A& archive, T& value) {
  if constexpr (requires { archive(value); }) {
    archive(value);
  } else {
    fields(archive, value);
  }
}

}  // namespace relayd::upgrade
