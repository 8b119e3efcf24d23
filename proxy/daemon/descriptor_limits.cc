#include "proxy/daemon/descriptor_limits.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>

namespace relayd {

DescriptorLimits raise_descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  DescriptorLimits limits{limit.rlim_cur, limit.rlim_max, limit.rlim_cur};
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) limits.now = limit.rlim_cur;
  return limits;
}

std::uint64_t descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

std::uint64_t descriptors_for_clients(std::uint64_t limit, const config::Config& config, unsigned threads) {
  constexpr std::uint64_t kOwn = 16;  // standard streams, log, main loop, keeper, pid file, control socket
  constexpr std::uint64_t kPerThread = 5;  // epoll sets, wake-up, timer
  constexpr std::uint64_t kControl = 4;    // relayctl at work
  constexpr std::uint64_t kPerInstance =
      5;  // pidfd, standard error, notify socket, a check, the spawn's pipe
  std::uint64_t kept = kOwn + kControl + kPerThread * threads;
  for (const config::Service& service : config.services) {
    kept += 2 * service.listen.size();
    // Handed over, the listeners are kept open by each generation's definition, and by the next one's.
    if (service.backend.address == config::AddressKind::kHandoff)
      kept += 2 * service.listen.size() * (2 + std::uint64_t{service.rollover.max_old_generations});
    const std::uint64_t listening = service.backend.address == config::AddressKind::kActivation ? 1 : 0;
    // The serving generation and the next one; old ones that drain have the pidfd and the pipe only.
    const std::size_t instances =
        std::max<std::size_t>(service.backend.instances, service.backend.targets.size());
    kept += instances * (2 * (kPerInstance + listening) +
                         (3 + listening) * std::uint64_t{service.rollover.max_old_generations});
  }
  const std::uint64_t floor = std::max<std::uint64_t>(limit / 4, 4);
  return limit > kept + floor ? limit - kept : floor;
}

unsigned threads_of(const config::Config& config) {
  if (config.threads != 0) return config.threads;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
}

}  // namespace relayd
