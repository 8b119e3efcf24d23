#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "proxy/net/worker.h"

// An instance that refused or timed out gets no clients while another takes them. Whether it is back is tried
// by connects of the worker's own, so that no client waits for one that is lost.
namespace relayd::net {

// True while an instance of a route has failed.
bool Worker::probe_failed() {
  bool more = false;
  for (Index i = 0; i < probes_.size(); ++i) {
    if (probes_[i].socket && reached(now_, probes_[i].due)) end_probe(i, false);
  }
  for (Index i = 0; i < endpoints_.size(); ++i) {
    const EndpointTable::Entry& entry = endpoints_[i];
    if (entry.routes == 0 || !entry.has_failed) continue;
    more = true;
    if (!entry.probed && reached(now_, entry.retry_at)) start_probe(i);
  }
  return more;
}

void Worker::start_probe(Index endpoint) {
  EndpointTable::Entry& entry = endpoints_[endpoint];
  const SocketAddress& address = entry.endpoint.address;
  auto slot = std::ranges::find_if(probes_, [](const Probe& probe) { return !probe.socket; });
  if (slot == probes_.end()) slot = probes_.emplace(slot);
  *slot = Probe{Descriptor(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
                endpoint, entry.endpoint.load, now_ + services_[entry.service]->settings.connect_timeout};
  if (!slot->socket) return;  // no descriptor: the next tick tries again
  entry.probed = true;
  const auto index = static_cast<Index>(slot - probes_.begin());
  if (::connect(slot->socket.get(), address.get(), address.length()) == 0) {
    end_probe(index, true);
    return;
  }
  const bool under_way = errno == EINPROGRESS;
  epoll_event event{};
  event.events = EPOLLOUT | EPOLLET;
  event.data.u64 = kProbeKey | index;
  if (!under_way || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, slot->socket.get(), &event) != 0) {
    end_probe(index, false);
  }
}

void Worker::on_probe_event(Index slot, std::uint32_t events) {
  if (slot < probes_.size() && probes_[slot].socket) end_probe(slot, !(events & (EPOLLERR | EPOLLHUP)));
}

void Worker::end_probe(Index slot, bool succeeded) {
  const Probe probe = std::move(probes_[slot]);
  probes_[slot] = Probe{};
  EndpointTable::Entry& entry = endpoints_[probe.endpoint];
  if (entry.endpoint.load != probe.load) return;  // the instance has gone meanwhile
  if (succeeded && !connected_to_itself(probe.socket.get(), entry.endpoint.address)) {
    endpoints_.note_success(probe.endpoint);
  } else {
    endpoints_.note_failure(probe.endpoint, now_);
  }
}

}  // namespace relayd::net
