#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "proxy/net/connection.h"

namespace relayd::net {

// The connections of one worker, addressed by index. Slots never move. Not thread-safe.
class Slab {
 public:
  // A fresh record in state kFree.
  Index allocate() {
    if (free_ == kNone) grow();
    const Index index = free_;
    Connection& slot = (*this)[index];
    free_ = slot.next;
    slot = Connection{};
    return index;
  }
  void release(Index index) {
    Connection& slot = (*this)[index];
    slot.state = State::kFree;
    slot.next = free_;
    free_ = index;
  }
  // A fresh record at a place of the caller's choice. Only into a slab from which nothing was allocated yet;
  // list_free() is due after the last.
  Connection& place(Index index) {
    while (index >= size()) grow();
    return (*this)[index];
  }
  void list_free() {
    free_ = kNone;
    for (Index index = size(); index-- > 0;) {
      if ((*this)[index].state == State::kFree) release(index);
    }
  }
  Connection& operator[](Index index) { return pages_[index / kPage][index % kPage]; }
  // Slots that exist, used or free.
  Index size() const { return static_cast<Index>(pages_.size()) * kPage; }

 private:
  static constexpr Index kPage = 512;

  void grow() {
    const Index first = size();
    pages_.push_back(std::make_unique<Connection[]>(kPage));
    for (Index i = kPage; i-- > 0;) release(first + i);
  }

  std::vector<std::unique_ptr<Connection[]>> pages_;
  Index free_ = kNone;
};

// A doubly linked list through Connection::previous and next, in order of insertion. A connection is in at
// most one.
class IndexList {
 public:
  bool empty() const { return head_ == kNone; }
  Index front() const { return head_; }
  Index back() const { return tail_; }
  std::size_t size() const { return size_; }

  void push_back(Slab& slab, Index index) { insert_after(slab, tail_, index); }
  // `where` kNone: at the front.
  void insert_after(Slab& slab, Index where, Index index) {
    Connection& connection = slab[index];
    connection.previous = where;
    connection.next = where == kNone ? head_ : slab[where].next;
    (connection.previous == kNone ? head_ : slab[connection.previous].next) = index;
    (connection.next == kNone ? tail_ : slab[connection.next].previous) = index;
    ++size_;
  }
  void remove(Slab& slab, Index index) {
    Connection& connection = slab[index];
    (connection.previous == kNone ? head_ : slab[connection.previous].next) = connection.next;
    (connection.next == kNone ? tail_ : slab[connection.next].previous) = connection.previous;
    connection.previous = connection.next = kNone;
    --size_;
  }

 private:
  Index head_ = kNone;
  Index tail_ = kNone;
  std::size_t size_ = 0;
};

}  // namespace relayd::net
