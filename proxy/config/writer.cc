#include "proxy/config/writer.h"

#include <algorithm>
#include <utility>

#include "proxy/config/document.h"
#include "proxy/config/loader.h"
#include "proxy/config/sections.h"

namespace relayd::config {
namespace {

constexpr char kName[] = "written configuration";  // in place of a file's name

std::unexpected<Error> fault_at(const Mark& mark, const std::string& message) {
  return fail(Fault{kName, mark.line, mark.column, message}.to_string());
}

}  // namespace

std::string write_config(const Config& config) {
  Emitter emitter;
  write_config(emitter, config);
  return std::move(emitter).text();
}

std::string write_service(const Service& service) {
  Config config;
  config.services.push_back(service);
  return write_config(config);
}

Result<Config> read_written(std::string_view text) {
  const Document document = parse_document(text, Origin::kWritten);
  if (!document.faults.empty()) return fault_at(document.faults[0].mark, document.faults[0].message);
  if (document.root == nullptr || document.root->kind == Node::Kind::kNull)
    return fail(std::string(kName) + ": it is empty");
  Reader reader(Origin::kWritten);
  Config config;
  read_config(reader, *document.root, config);
  if (reader.faults.empty()) return config;
  const PlacedFault& first = *std::ranges::min_element(reader.faults, {}, &PlacedFault::mark);
  return fault_at(first.mark, first.message);
}

Result<Service> read_written_service(std::string_view text) {
  auto config = read_written(text);
  if (!config) return std::unexpected(config.error());
  const std::vector<Service> services = std::exchange(config->services, {});
  if (services.size() != 1 || *config != Config{}) {
    return fail(std::string(kName) + ": expected one service and nothing else, not " +
                std::to_string(services.size()) + " services" + (*config != Config{} ? " and more" : ""));
  }
  return services[0];
}

}  // namespace relayd::config
