#pragma once

#include "proxy/net/record.h"
#include "proxy/upgrade/archive.h"

// Fields of what the data plane leaves. What is new goes to the end of its record, with its version.
namespace relayd::upgrade {

template <typename A>
void fields(A& a, http::Body& body) {
  a.raw(&body, sizeof body);  // its layout is its own promise (http/body.h)
}

template <typename A>
void fields(A& a, http::RequestContext& c) {
  all(a, c.head, c.connect, c.upgrade);
}

template <typename A>
void fields(A& a, net::Exchange& e) {
  all(a, e.request, e.response, e.request_end, e.searched, e.generation, e.head_since, e.answer, e.context);
  a.choice(e.stage, net::Stage::kAnswering);
  all(a, e.flags);
}

template <typename A>
void fields(A& a, net::ExchangeRecord& e) {
  all(a, e.exchange, e.partial);
}

template <typename A>
void fields(A& a, net::ParkedRecord& p) {
  a.choice(p.kind, net::ParkedRecord::Kind::kPipe);
  all(a, p.bytes, p.begin, p.in_pipe);
  a.descriptor(p.read);
  a.descriptor(p.write);
}

template <typename A>
void fields(A& a, net::Origin& o) {
  all(a, o.source, o.destination);
}

template <typename A>
void fields(A& a, net::Connection& c) {
  all(a, c.id, c.bytes_in, c.bytes_out);
  for (int& fd : c.fd) a.descriptor(fd);
  all(a, c.opened, c.active, c.due, c.held_since, c.service, c.route_epoch);
  a.choice(c.state, net::State::kClosed);
  for (const unsigned from : {net::kClient, net::kBackend}) {
    a.choice(c.flow[from], net::Flow::kDiscard);
    all(a, c.side[from], c.full_reads[from]);
  }
  all(a, c.flags, c.rescues, c.attempts);
}

template <typename A>
void fields(A& a, net::ConnectionRecord& c) {
  all(a, c.connection, c.endpoint, c.parked[net::kClient], c.parked[net::kBackend], c.origin, c.exchange);
  if (a.version() >= 3) all(a, c.index);
}

template <typename A>
void fields(A& a, ProxyVersion& version) {
  a.choice(version, ProxyVersion::kV2);
}

template <typename A>
void fields(A& a, net::EndpointRecord& e) {
  all(a, e.service, e.address, e.generation, e.instance, e.send_proxy, e.has_failed, e.failures, e.retry_at);
}

template <typename A>
void fields(A& a, net::SweepRecord& s) {
  a.choice(s.what, net::kLastSweepOfARecord);
  all(a, s.service, s.generation, s.instance);
  a.choice(s.kind, net::ConnectionKind::kTunnels);
}

template <typename A>
void fields(A& a, net::SpreadRecord& s) {
  all(a, s.service, s.generation);
  a.choice(s.kind, net::ConnectionKind::kTunnels);
  all(a, s.end);
}

template <typename A>
void fields(A& a, net::WorkerRecord& w) {
  all(a, w.arrivals, w.endpoints, w.connections, w.sweeps, w.spreads);
  if (a.version() >= 3) a.descriptor(w.epoll);
}

template <typename A>
void fields(A& a, net::ServiceRecord& s) {
  all(a, s.id, s.closing, s.next_release, s.totals);
}

template <typename A>
void fields(A& a, net::PlaneRecord& p) {
  all(a, p.began, p.services, p.workers, p.frozen);
}

}  // namespace relayd::upgrade
