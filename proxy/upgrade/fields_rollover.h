#pragma once

#include "proxy/rollover/record.h"
#include "proxy/upgrade/archive.h"

// Fields of what the drivers and their instances leave. What is new goes to the end of its record, with its
// version.
namespace relayd::upgrade {

// ---- backend

template <typename A>
void fields(A& a, backend::HealthState& h) {
  a.choice(h.standing, backend::HealthState::Standing::kUnwell);
  all(a, h.believed, h.failures, h.tries, h.last_error);
}

template <typename A>
void fields(A& a, backend::ProcessState::User& u) {
  all(a, u.uid, u.gid, u.groups, u.name, u.home);
}

template <typename A>
void fields(A& a, backend::ProcessState& p) {
  all(a, p.pid);
  a.descriptor(p.pidfd);
  all(a, p.address, p.port, p.folder);
  a.descriptor(p.folder_lock);
  a.descriptor(p.notify);
  all(a, p.notify_address);
  a.descriptor(p.stderr_pipe);
  all(a, p.stderr_tail, p.stderr_pending, p.status_text, p.last_check_error, p.health, p.user);
}

template <typename A>
void fields(A& a, backend::TargetState::Place& p) {
  all(a, p.address, p.error, p.well, p.tried, p.leaving, p.health);
}

template <typename A>
void fields(A& a, backend::TargetState& t) {
  all(a, t.places, t.serving, t.first, t.was_ready, t.ended, t.final_error, t.unresolved);
}

template <typename A>
void fields(A& a, backend::InstanceRecord& i) {
  all(a, i.process, i.target);
}

template <typename A>
void fields(A& a, backend::KeeperRecord& k) {
  all(a, k.pid);
  a.descriptor(k.channel);
  a.descriptor(k.pidfd);
}

// ---- the machine's state

template <typename A>
void fields(A& a, config::RestartDelay& d) {
  all(a, d.min, d.max);
}

template <typename A>
void fields(A& a, config::Amount& amount) {
  all(a, amount.value, amount.percent);
}

template <typename A>
void fields(A& a, rollover::Launch& l) {
  all(a, l.instances, l.ready_timeout, l.kill_timeout, l.restart_delay);
  a.choice(l.stop, config::StopWhen::kAtOnce);
  all(a, l.owns_clients);
}

template <typename A>
void fields(A& a, rollover::Policy& p) {
  all(a, p.graceful_timeout, p.max_old_generations, p.close_spread, p.tunnel_timeout, p.surge);
}

template <typename A>
void fields(A& a, rollover::Instance& i) {
  a.choice(i.state, rollover::InstanceState::kGone);
  all(a, i.due, i.since, i.next_delay, i.restarts, i.drain, i.sooner_due);
  a.choice(i.sooner_kind, net::ConnectionKind::kTunnels);
}

template <typename A>
void fields(A& a, rollover::Generation& g) {
  all(a, g.number);
  a.choice(g.state, rollover::GenerationState::kStopping);
  all(a, g.launch, g.whole, g.began, g.due, g.spread_due, g.sooner_due, g.sooner_spread_due);
  a.choice(g.sooner_kind, net::ConnectionKind::kTunnels);
  all(a, g.was_ready, g.drain, g.instances);
}

template <typename A>
void fields(A& a, rollover::RolloverInProgress& r) {
  a.choice(r.mode, config::Mode::kRestart);
  all(a, r.from, r.from_paused, r.to, r.began);
  a.choice(r.outcome, rollover::Outcome::kAborted);
  all(a, r.reason);
}

template <typename A>
void fields(A& a, rollover::Pending& p) {
  all(a, p.copy_of, p.launch);
}

template <typename A>
void fields(A& a, rollover::RouteEntry& r) {
  all(a, r.generation, r.instance);
}

template <typename A>
void fields(A& a, rollover::State& s) {
  a.choice(s.phase, rollover::Phase::kStopped);
  a.choice(s.accepting, rollover::Accepting::kNo);
  all(a, s.policy, s.generations, s.last_number, s.last_served, s.last_launch, s.rollover, s.pending, s.again,
      s.stop_by, s.route, s.last_drain);
}

// ---- the driver

template <typename A>
void fields(A& a, rollover::Report& r) {
  a.choice(r.mode, config::Mode::kRestart);
  a.choice(r.outcome, rollover::Outcome::kAborted);
  all(a, r.reason, r.from, r.to, r.duration, r.ended_unix_ms, r.drained);
}

template <typename A>
void fields(A& a, rollover::DefinitionRecord::Socket& s) {
  all(a, s.name, s.address);
  a.descriptor(s.fd);
}

template <typename A>
void fields(A& a, rollover::DefinitionRecord& d) {
  all(a, d.service, d.env, d.sockets);
}

template <typename A>
void fields(A& a, rollover::DriverRecord::Definition& d) {
  all(a, d.number, d.same_as);
  if (d.same_as == 0) all(a, d.definition);
}

template <typename A>
void fields(A& a, rollover::LoadRecord& l) {
  all(a, l.address, l.connections, l.connect_failures, l.requests);
}

template <typename A>
void fields(A& a, rollover::SlotRecord& s) {
  all(a, s.generation, s.index, s.instance, s.loads, s.past_connections, s.past_requests, s.last_end,
      s.refusal);
  a.descriptor(s.listening);
}

template <typename A>
void fields(A& a, rollover::RolloverWaiterRecord& w) {
  all(a, w.ticket, w.until_drained, w.drains, w.report);
}

template <typename A>
void fields(A& a, rollover::DriverRecord& d) {
  all(a, d.service, d.scaled, d.state, d.definitions, d.next_number, d.next_definition, d.slots,
      d.deferred_ready, d.drains, d.waiters, d.last_report);
}

}  // namespace relayd::upgrade
