#include "tests/load/client/options.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

namespace relayd::load {

bool read_options(int argc, char** argv, Options& options, int& status) {
  const std::map<std::string, Protocol> protocols = {
      {"http", Protocol::kHttp}, {"redis", Protocol::kRedis}, {"line", Protocol::kLine}};
  const std::map<std::string, Checking> checkings = {{"status", Checking::kStatus},
                                                     {"id", Checking::kId},
                                                     {"length", Checking::kLength},
                                                     {"crc", Checking::kCrc}};
  const std::map<std::string, ProxyVersion> versions = {{"v1", ProxyVersion::kV1}, {"v2", ProxyVersion::kV2}};
  const std::map<std::string, ClientCheck> client_checks = {{"address", ClientCheck::kAddress},
                                                            {"port", ClientCheck::kPort}};
  std::string server;
  double duration = 0;
  double timeout = 20;
  unsigned think = 0;
  CLI::App cli(
      "A closed-loop load client that believes nothing: every answer is compared with its request. Runs "
      "until its "
      "count, its duration, or TERM or INT; then prints one JSON report. Exits 0 where nothing was lost, 1 "
      "where "
      "something was, 3 where the client itself could not do its work.");
  cli.add_option("server", server, "host:port, [v6]:port or unix:/path")->required();
  cli.add_option("-c,--clients", options.clients, "clients at once")->check(CLI::Range(1, 10000));
  cli.add_option("--protocol", options.protocol, "http, redis (PING id) or line (an echo server)")
      ->transform(CLI::CheckedTransformer(protocols));
  cli.add_option("--check", options.checking, "what is compared in http answers: status, id, length or crc")
      ->transform(CLI::CheckedTransformer(checkings));
  cli.add_flag("-k,--keep-alive", options.keep_alive, "many requests on a connection");
  cli.add_option("--post", options.post_percent, "percent of requests that carry a body")
      ->check(CLI::Range(0, 100));
  cli.add_option("--body", options.body_bytes, "bytes of such a body");
  cli.add_option("--path", options.path, "path of the requests");
  cli.add_option("-n,--count", options.count, "requests in all");
  cli.add_option("-d,--duration", duration, "seconds to run");
  cli.add_option("--timeout", timeout, "seconds after which a request counts as timed out");
  cli.add_option("--think", think, "milliseconds between a client's requests");
  cli.add_flag("--order", options.check_order,
               "count answers out of arrival order (X-Accepted); one accepting thread");
  cli.add_option("--proxy-protocol", options.proxy_protocol,
                 "v1 or v2: begin each connection with a PROXY header that names a client of its own")
      ->transform(CLI::CheckedTransformer(versions));
  cli.add_option("--check-client", options.client_check,
                 "http: X-Client of each answer must be the client's address, or (port) address:port; the "
                 "client is who the PROXY header names, or this program")
      ->transform(CLI::CheckedTransformer(client_checks));
  cli.add_flag("--progress", options.progress, "a line a second on standard error");
  try {
    cli.parse(argc, argv);
  } catch (const CLI::ParseError& end) {
    status = cli.exit(end) == 0 ? 0 : 2;
    return false;
  }
  auto address = SocketAddress::parse(server);
  if (!address) {
    std::fprintf(stderr, "relay_load: %s\n", address.error().message.c_str());
    status = 2;
    return false;
  }
  options.server = *address;
  options.duration = std::chrono::milliseconds(static_cast<std::int64_t>(duration * 1000));
  options.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(timeout * 1000));
  options.think = std::chrono::milliseconds(think);
  return true;
}

}  // namespace relayd::load
