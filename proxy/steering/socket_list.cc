#include "proxy/steering/socket_list.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace relayd::steering {
namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;  // the kernel fills at most 32 KiB a read

struct Request {
  nlmsghdr header{};
  inet_diag_req_v2 body{};
};

std::string_view bytes(const void* from, std::size_t count) {
  return {static_cast<const char*>(from), count};
}

SocketAddress address(int family, const std::uint32_t (&words)[4], std::uint16_t port) {
  constexpr std::string_view kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  if (family == AF_INET) return SocketAddress::from_ip_bytes(bytes(words, 4), ntohs(port));
  const std::string_view ip = bytes(words, sizeof words);
  if (ip.starts_with(kMapped)) return SocketAddress::from_ip_bytes(ip.substr(kMapped.size()), ntohs(port));
  return SocketAddress::from_ip_bytes(ip, ntohs(port));
}

}  // namespace

SocketAddress local_of(const inet_diag_msg& socket) {
  return address(socket.idiag_family, socket.id.idiag_src, socket.id.idiag_sport);
}
SocketAddress peer_of(const inet_diag_msg& socket) {
  return address(socket.idiag_family, socket.id.idiag_dst, socket.id.idiag_dport);
}

Result<SocketList> SocketList::open() {
  Descriptor netlink(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return fail_errno("cannot open sock_diag(7), by which steered connections are counted");
  return SocketList(std::move(netlink));
}

SocketList::SocketList(Descriptor netlink) : netlink_(std::move(netlink)), buffer_(kBufferBytes) {}

Result<void> SocketList::each(std::uint16_t local_port, std::uint32_t states,
                              const std::function<void(const inet_diag_msg&)>& found) {
  for (const int family : {AF_INET, AF_INET6}) {
    auto listed = each_of_family(family, local_port, states, found);
    if (!listed) return listed;
  }
  return {};
}

Result<void> SocketList::each_of_family(int family, std::uint16_t local_port, std::uint32_t states,
                                        const std::function<void(const inet_diag_msg&)>& found) {
  Request request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = ++sequence_;
  request.body.sdiag_family = static_cast<__u8>(family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = states;
  request.body.id.idiag_sport = htons(local_port);
  if (::send(netlink_.get(), &request, sizeof request, 0) != sizeof request)
    return fail_errno("cannot ask sock_diag(7) for the sockets of port " + std::to_string(local_port));
  while (true) {
    auto done = read_some(found);
    if (!done) return std::unexpected(done.error());
    if (*done) return {};
  }
}

Result<bool> SocketList::read_some(const std::function<void(const inet_diag_msg&)>& found) {
  ssize_t length = 0;
  do length = ::recv(netlink_.get(), buffer_.data(), buffer_.size(), 0);
  while (length < 0 && errno == EINTR);
  if (length < 0) return fail_errno("cannot read the sockets that sock_diag(7) lists");
  auto left = static_cast<std::size_t>(length);
  const char* at = buffer_.data();
  while (left >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    std::memcpy(&header, at, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > left) break;
    const char* const body = at + sizeof header;
    if (header.nlmsg_seq == sequence_) {  // else: of a list that was given up
      if (header.nlmsg_type == NLMSG_DONE) return true;
      if (header.nlmsg_type == NLMSG_ERROR) {
        nlmsgerr error{};
        std::memcpy(&error, body, std::min(sizeof error, header.nlmsg_len - sizeof header));
        return std::unexpected(
            errno_error("sock_diag(7) does not list TCP sockets (CONFIG_INET_DIAG)", -error.error));
      }
      inet_diag_msg socket;
      if (header.nlmsg_len >= sizeof header + sizeof socket) {
        std::memcpy(&socket, body, sizeof socket);
        found(socket);
      }
    }
    const std::size_t step = std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), left);
    at += step;
    left -= step;
  }
  return false;
}

}  // namespace relayd::steering
