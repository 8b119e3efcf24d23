// The load of the benchmark. Each kind of work ends with one line of JSON (Report in sessions.h).
//   bench_load connect ADDRESS COUNT CONCURRENCY server|client    who closes first
//   bench_load roundtrip ADDRESS COUNT CONNECTIONS
//   bench_load request ADDRESS COUNT CONNECTIONS                  round trips as small HTTP ones look
//   bench_load http ADDRESS COUNT CONNECTIONS                     small HTTP requests on kept connections
//   bench_load bulk ADDRESS BYTES STREAMS                         BYTES in all
//   bench_load paced ADDRESS MILLISECONDS RATE CONNECTIONS        latencies (paced.h)
//   bench_load idle ADDRESS       reads "open N" (connects, and no more), "answer N" (asks the newest N for a
//                                 little) and "bulk BYTES" (on each connection), a line each, answers each by
//                                 a line of JSON, and ends with its input
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "bench/paced.h"
#include "bench/sessions.h"
#include "bench/work.h"

namespace relayd::bench {
namespace {

constexpr std::size_t kTripSize = 128;
constexpr std::uint64_t kIdleAtOnce = 16;

void connects(Load& load, std::uint64_t count, std::uint64_t concurrency, bool server_closes) {
  std::vector<Session> sessions(std::min(count, concurrency));
  std::uint64_t left = count;
  const auto next = [&](Session& session) {
    load.close(session);
    while (left > 0) {
      --left;
      if (!load.open(session)) continue;
      load.begin(session, text_request(server_closes ? kOnce : kEcho, kOnceSize), kOnceSize, server_closes);
      if (session.busy) return;
    }
  };
  load.done = next;
  const Report report;
  for (Session& session : sessions) next(session);
  load.run();
  report.print(load, load.units);
}

struct Trip {
  char kind;
  std::size_t request;
  std::size_t answer;
};
constexpr Trip kSmallTrip{.kind = kEcho, .request = kTripSize, .answer = kTripSize};
// Its request and answer have no agreed length.
constexpr Trip kHttpTrip{.kind = kHttp, .request = 0, .answer = UINT64_MAX};
constexpr Trip kPageTrip{.kind = kPage, .request = kPageRequest, .answer = kPageAnswer};

void round_trips(Load& load, std::uint64_t count, std::uint64_t connections, const Trip& trip) {
  std::vector<Session> sessions(connections);
  const auto ask = [&](Session& session) {
    session.until_mark = trip.kind == kHttp;
    load.begin(session,
               session.until_mark ? std::vector<char>(kHttpRequest.begin(), kHttpRequest.end())
                                  : text_request(trip.kind, trip.request),
               trip.answer);
  };
  load.done = [](Session&) {};
  for (Session& session : sessions) {
    if (load.open(session)) ask(session);
  }
  load.run();
  load.units = 0;
  std::uint64_t left = count;
  load.done = [&](Session& session) {
    if (left == 0) return;
    --left;
    ask(session);
  };
  const Report report;
  for (Session& session : sessions) {
    if (session.fd >= 0 && left > 0) {
      --left;
      ask(session);
    }
  }
  load.run();
  report.print(load, load.units);
}

void bulk(Load& load, std::uint64_t bytes, std::uint64_t streams) {
  std::vector<Session> sessions(streams);
  load.done = [](Session&) {};
  const Report report;
  for (Session& session : sessions) {
    if (load.open(session)) load.begin(session, bulk_request(bytes / streams), bytes / streams);
  }
  load.run();
  report.print(load, load.units * (bytes / streams));
}

// Calls `start` for each number below `count`, a few at a time.
void by_few(Load& load, std::uint64_t count, const std::function<void(std::uint64_t)>& start) {
  std::uint64_t next = 0;
  load.units = 0;
  load.done = [&](Session&) {
    if (next < count) start(next++);
  };
  const Report report;
  while (next < std::min(count, kIdleAtOnce)) start(next++);
  load.run();
  report.print(load, load.units);
}

void idle(Load& load) {
  std::vector<Session> sessions;
  sessions.reserve(20000);  // the load keeps their addresses
  char word[16];
  unsigned long long number = 0;
  while (std::scanf("%15s %llu", word, &number) == 2) {
    if (std::strcmp(word, "open") == 0) {
      const std::size_t before = sessions.size();
      sessions.resize(std::min<std::size_t>(before + number, sessions.capacity()));
      by_few(load, sessions.size() - before, [&](std::uint64_t i) {
        if (load.open(sessions[before + i])) load.begin(sessions[before + i], {}, 0);
      });
    } else if (std::strcmp(word, "answer") == 0) {
      const std::size_t first = sessions.size() - std::min<std::size_t>(number, sessions.size());
      by_few(load, sessions.size() - first, [&](std::uint64_t i) {
        if (sessions[first + i].fd >= 0) load.begin(sessions[first + i], bulk_request(kOnceSize), kOnceSize);
      });
    } else {
      by_few(load, sessions.size(), [&](std::uint64_t i) {
        if (sessions[i].fd >= 0) load.begin(sessions[i], bulk_request(number), number);
      });
    }
  }
}

}  // namespace
}  // namespace relayd::bench

int main(int argc, char** argv) {
  using namespace relayd;
  const auto number = [&](int i) { return argc > i ? std::strtoull(argv[i], nullptr, 10) : 0ULL; };
  const std::string work = argc > 2 ? argv[1] : "";
  const auto address = argc > 2 ? SocketAddress::parse(argv[2]) : Result<SocketAddress>(fail("no address"));
  if (!address) {
    std::fprintf(stderr, "bench_load: %s; the top of load.cc shows the usage\n",
                 address.error().message.c_str());
    return 2;
  }
  static bench::Load load(*address);
  if (work == "connect" && number(4) > 0) {
    bench::connects(load, number(3), number(4), argc < 6 || std::strcmp(argv[5], "client") != 0);
  } else if (work == "roundtrip" && number(4) > 0) {
    bench::round_trips(load, number(3), number(4), bench::kSmallTrip);
  } else if (work == "request" && number(4) > 0) {
    bench::round_trips(load, number(3), number(4), bench::kPageTrip);
  } else if (work == "http" && number(4) > 0) {
    bench::round_trips(load, number(3), number(4), bench::kHttpTrip);
  } else if (work == "bulk" && number(4) > 0) {
    bench::bulk(load, number(3), number(4));
  } else if (work == "paced" && number(4) > 0 && number(5) > 0) {
    bench::paced(load,
                 {.length = std::chrono::milliseconds(number(3)), .rate = number(4), .kept = number(5)});
  } else if (work == "idle") {
    bench::idle(load);
  } else {
    std::fprintf(stderr, "bench_load: unknown work '%s'; the top of load.cc shows the usage\n", work.c_str());
    return 2;
  }
  return 0;
}
