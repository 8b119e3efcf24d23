#pragma once

#include "proxy/upgrade/archive.h"
#include "proxy/upgrade/fields_net.h"
#include "proxy/upgrade/fields_rollover.h"
#include "proxy/upgrade/record.h"

// Fields of what belongs to relayd as a whole. What is new goes to the end of its record, with its version.
namespace relayd::upgrade {

// ---- steering

template <typename A>
void fields(A& a, steering::SocketRow& r) {
  all(a, r.base, r.ipv4_only, r.both, r.ipv6_only);
}

template <typename A>
void fields(A& a, steering::AddressKey& k) {
  all(a, k.family, k.port);
  a.raw(k.address, sizeof k.address);
}

template <typename A>
void fields(A& a, steering::SwitchRecord& s) {
  all(a, s.layout);
  for (int* fd : {&s.addresses, &s.services, &s.sockets, &s.link}) a.descriptor(*fd);
  all(a, s.rows, s.next_place, s.known);
}

template <typename A>
void fields(A& a, steering::ListenerRecord& l) {
  a.descriptor(l.socket);
  all(a, l.address, l.family, l.inode, l.pid, l.fd);
}

template <typename A>
void fields(A& a, SteeredRecord::Process& p) {
  all(a, p.key, p.group, p.address, p.listeners);
}

template <typename A>
void fields(A& a, SteeredRecord::Orphan& o) {
  all(a, o.address, o.sockets, o.until);
}

template <typename A>
void fields(A& a, SteeredRecord& s) {
  all(a, s.addresses, s.ports, s.service, s.processes, s.route, s.asked, s.steered, s.stopped, s.why_not,
      s.warned_of, s.orphans);
}

// ---- services

template <typename A>
void fields(A& a, FileIdentity& f) {
  all(a, f.path, f.device, f.inode);
}

template <typename A>
void fields(A& a, ListenerRecord& l) {
  all(a, l.name, l.address);
  a.descriptor(l.socket);
  all(a, l.file, l.shared);
}

template <typename A>
void fields(A& a, HostedRecord& h) {
  all(a, h.name, h.id, h.listeners, h.leaving_listeners, h.steering, h.driver, h.rolling_to, h.has_served,
      h.launch_failure, h.leaving, h.handed_over);
}

// ---- the control socket

template <typename A>
void fields(A& a, control::RequestRecord& r) {
  all(a, r.token, r.line);
}

template <typename A>
void fields(A& a, control::ClientRecord& c) {
  all(a, c.id);
  a.descriptor(c.fd);
  all(a, c.input, c.output, c.next_token, c.requests, c.following, c.skipping, c.input_ended, c.ending);
}

template <typename A>
void fields(A& a, control::ServerRecord& s) {
  a.descriptor(s.fd);
  all(a, s.file, s.next_client, s.clients, s.group);
}

template <typename A>
void fields(A& a, control::Event& e) {
  all(a, e.sequence, e.unix_ms, e.service, e.type, e.generation, e.instance, e.message, e.details);
}

// ---- relayd

template <typename A>
void fields(A& a, ReloadRecord& r) {
  all(a, r.id, r.ticket, r.add, r.remove, r.roll_over, r.scale, r.adjust, r.unchanged, r.needs_restart,
      r.failures, r.rolling, r.starting);
}

template <typename A>
void fields(A& a, RequestedUpgrade& r) {
  all(a, r.ticket, r.binary);
}

template <typename A>
void fields(A& a, UpgradeRecord& u) {
  all(a, u.request, u.from_version, u.binary, u.executable);
  a.descriptor(u.image);
  a.descriptor(u.former);
  all(a, u.silent_since_ns, u.count);
}

template <typename A>
void fields(A& a, PassedSocketRecord& p) {
  all(a, p.name);
  a.descriptor(p.socket);
}

// What can be refused, the configuration, comes before what is long.
template <typename A>
void fields(A& a, Record& r) {
  all(a, r.upgrade, r.further, r.config, r.config_file, r.control_override, r.pid_file_override,
      r.control_path, r.runtime_directory, r.pid_file, r.nofile_soft, r.nofile_hard, r.started, r.next_id,
      r.told_ready, r.passed, r.why_none_passed, r.keeper, r.strays, r.plane, r.steering, r.services,
      r.events, r.last_event, r.reloads, r.last_reload, r.control, r.pid, r.capabilities);
}

}  // namespace relayd::upgrade
