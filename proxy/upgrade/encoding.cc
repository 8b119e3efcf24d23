#include <algorithm>
#include <map>
#include <set>

#include "proxy/rollover/machine.h"
#include "proxy/upgrade/fields_daemon.h"

namespace relayd::upgrade {
namespace {

constexpr std::string_view kMagic = "relayd state\n";

// Of one driver: what the machine, or the driver's tables, could not be in.
std::string fault_of(const rollover::DriverRecord& driver) {
  if (auto broken = rollover::broken_invariant(driver.state); !broken.empty()) return broken;
  const auto defined = [&driver](rollover::GenerationNumber number) {
    return std::ranges::any_of(driver.definitions, [number](const auto& d) { return d.number == number; });
  };
  for (std::size_t i = 0; i < driver.definitions.size(); ++i) {
    const auto& d = driver.definitions[i];
    const auto is_earlier = [&d](const auto& other) {
      return other.number == d.same_as && other.same_as == 0;
    };
    const auto end = driver.definitions.begin() + static_cast<std::ptrdiff_t>(i);
    if (d.number == 0 || (d.same_as != 0 && std::none_of(driver.definitions.begin(), end, is_earlier)))
      return "a definition is of no generation";
  }
  if (driver.next_number != 0 && !defined(driver.next_number)) return "the next generation has no definition";
  std::set<std::pair<rollover::GenerationNumber, rollover::InstanceIndex>> places;
  for (const rollover::SlotRecord& slot : driver.slots) {
    if (slot.instance && !defined(slot.generation)) return "an instance has no definition";
    if (slot.instance && slot.instance->process.has_value() == slot.instance->target.has_value())
      return "an instance is neither a process nor a target";
    if (!places.emplace(slot.generation, slot.index).second) return "two instances are in one place";
  }
  for (const rollover::RouteEntry& entry : driver.state.route) {
    if (!places.contains({entry.generation, entry.instance}) || !defined(entry.generation))
      return "the route names an instance that is not there";
  }
  for (const auto& [generation, index] : driver.deferred_ready) {
    if (!places.contains({generation, index})) return "an instance that is not there is ready";
  }
  return "";
}

std::string fault_of(const Record& record) {
  if (auto fault = net::fault_of(record.plane); !fault.empty()) return fault;
  std::set<net::ServiceId> ids;
  for (const HostedRecord& service : record.services) {
    if (!ids.insert(service.id).second) return "two services have one number";
    if (auto fault = fault_of(service.driver); !fault.empty())
      return "service " + service.name + ": " + fault;
  }
  for (const net::ServiceRecord& service : record.plane.services) {
    if (!ids.contains(service.id)) return "the data plane has a service that is not there";
  }
  if (record.plane.workers.empty()) return "the data plane has no threads";
  std::vector<int> all = descriptors_of(record);
  std::ranges::sort(all);
  if (std::ranges::adjacent_find(all) != all.end()) return "two things have one descriptor";
  return "";
}

}  // namespace

std::string encode(const Record& record, std::uint32_t version) {
  Writer writer(version);
  writer.bytes().assign(kMagic);
  writer(version);
  field(writer, const_cast<Record&>(record));  // a Writer changes nothing
  return std::move(writer.bytes());
}

Result<Record> decode(const std::string& bytes, std::uint32_t newest) {
  const std::string lead = "the state of the relayd that runs cannot be taken over: ";
  std::string_view rest = bytes;
  std::uint32_t version = 0;
  if (!rest.starts_with(kMagic) || rest.size() < kMagic.size() + sizeof version)
    return fail(lead + "it is none");
  rest.remove_prefix(kMagic.size());
  std::memcpy(&version, rest.data(), sizeof version);
  rest.remove_prefix(sizeof version);
  if (version < kOldestVersion || version > newest) {
    return fail(lead + "it has version " + std::to_string(version) + ", and this relayd reads " +
                (kOldestVersion == newest ? "" : std::to_string(kOldestVersion) + " to ") +
                std::to_string(newest) +
                (version > newest ? "; it is older than the one that runs" : "; upgrade in smaller steps"));
  }
  Reader reader(rest, version);
  Record record;
  field(reader, record);
  if (reader.fault().empty() && !reader.at_end()) reader.fail("it goes on behind its end");
  if (!reader.fault().empty()) return fail(lead + reader.fault());
  if (const std::string fault = fault_of(record); !fault.empty()) return fail(lead + fault);
  return record;
}

std::vector<int> descriptors_of(const Record& record) {
  DescriptorList list(kVersion);
  field(list, const_cast<Record&>(record));  // the list changes nothing
  return std::move(list.found);
}

void leave_out_what_shares_descriptors(Record& record) {
  std::map<int, int> times;
  for (const int fd : descriptors_of(record)) ++times[fd];
  const auto shares = [&times](net::ConnectionRecord& connection) {
    DescriptorList own(kVersion);
    field(own, connection);
    return std::ranges::any_of(own.found, [&times](int fd) { return times[fd] > 1; });
  };
  for (net::WorkerRecord& worker : record.plane.workers) std::erase_if(worker.connections, shares);
}

}  // namespace relayd::upgrade
