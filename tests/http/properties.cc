#include "tests/http/properties.h"

#include <llhttp.h>

#include <algorithm>

#include "proxy/http/first_bytes.h"
#include "tests/http/follower.h"

namespace relayd::http {
namespace {

// The rules for a head said once more, in another way than the tracker's: searching, without a grammar.
std::string fault_of_accepted_head(std::string_view head) {
  const auto has = [head](std::string_view text) { return head.find(text) != std::string_view::npos; };
  if (!head.ends_with("\r\n\r\n") || head.find("\r\n\r\n") != head.size() - 4)
    return "more or less than one head";
  for (std::size_t at = 0; at < head.size(); ++at) {
    const auto byte = static_cast<unsigned char>(head[at]);
    const bool line_end =
        (byte == '\r' && head[at + 1] == '\n') || (byte == '\n' && at > 0 && head[at - 1] == '\r');
    if ((byte < 0x20 && byte != '\t' && !line_end) || byte == 0x7f) return "a control byte";
  }
  if (has("\n ") || has("\n\t")) return "obs-fold";
  if (has("\n:")) return "an empty name";
  std::string lower(head);
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  const auto lines = [&lower](const std::string& name) {
    int count = 0;
    for (std::size_t at = lower.find("\n" + name); at != std::string::npos;
         at = lower.find("\n" + name, at + 1)) {
      const std::size_t behind = at + 1 + name.size();
      count += lower[behind] == ':' || lower[behind] == ' ' || lower[behind] == '\t';
    }
    return count;
  };
  if (lines("content-length") + lines("transfer-encoding") > 1) return "two framings";
  if (lines("host") > 1) return "two Hosts";
  return {};
}

// llhttp must say the same of the whole head, of which the tracker shows it a part only.
template <typename Head>
std::string fault_by_llhttp(llhttp_type_t type, std::string_view head, const Head& ours) {
  llhttp_settings_t settings;
  llhttp_settings_init(&settings);
  settings.on_headers_complete = [](llhttp_t*) -> int { return HPE_PAUSED; };
  llhttp_t parser;
  llhttp_init(&parser, type, &settings);
  const llhttp_errno_t end = llhttp_execute(&parser, head.data(), head.size());
  const bool line_unknown =
      end == HPE_INVALID_METHOD || end == HPE_INVALID_CONSTANT || end == HPE_INVALID_URL;
  if (type == HTTP_REQUEST && line_unknown) return {};
  if (end != HPE_PAUSED)
    return std::string("llhttp refuses the whole head: ") + llhttp_get_error_reason(&parser);
  const bool chunked = (parser.flags & F_CHUNKED) != 0;
  const std::uint64_t length = ours.framing == Framing::kLength ? ours.length : 0;
  // A response without a body, or with a tunnel behind it, may name a length or a coding that means nothing.
  const bool means_nothing =
      type == HTTP_RESPONSE && (ours.framing == Framing::kNone || ours.framing == Framing::kUntilClose);
  const bool same_body = parser.content_length == length && chunked == (ours.framing == Framing::kChunked);
  const bool same =
      llhttp_get_error_pos(&parser) == head.data() + head.size() && parser.http_minor == ours.minor;
  return same && (same_body || means_nothing) ? "" : "llhttp reads the whole head otherwise";
}

struct Told {
  std::string text;
  std::string broken;
  std::vector<std::string> heads;
};

// Pieces of a size drawn anew for each from a small generator, or all at once for 0.
Told follow(Side side, RequestContext context, std::string_view bytes, unsigned split) {
  Follower follower(side, context, split % 2 == 1);
  for (unsigned state = split; !bytes.empty();) {
    state = state * 1664525U + 1013904223U;
    const std::size_t size = split == 0 ? bytes.size() : split == 1 ? 1 : 1 + (state >> 16U) % (split * 4);
    follower.feed(bytes.substr(0, size));
    bytes.remove_prefix(std::min(size, bytes.size()));
  }
  const std::string told = follower.told();
  const bool refused = follower.refused();
  follower.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  std::string broken = follower.broken();
  if (refused && follower.told() != told) broken = "what was refused went on";
  return {told, broken, follower.heads()};
}

std::string broken_guess(std::string_view bytes) {
  const Guess whole = looks_like_http1_request(bytes);
  Guess before = Guess::kMore;
  const std::size_t most = std::min<std::size_t>(bytes.size(), 300);
  for (std::size_t size = 0; size <= most; ++size) {
    const Guess now = looks_like_http1_request(bytes.substr(0, size));
    if (before != Guess::kMore && now != before) return "a guess was taken back";
    before = now;
  }
  return before != Guess::kMore && before != whole ? "a guess was taken back" : "";
}

template <typename Head>
bool is_same(const Verdict<Found<Head>>& at_once, const Verdict<std::size_t>& size,
             const Verdict<Head>& head) {
  const auto is = [&at_once](const Refusal& refusal) {
    return !at_once && at_once.error().status == refusal.status && at_once.error().reason == refusal.reason;
  };
  if (!size) return is(size.error());
  if (*size > 0 && !head) return is(head.error());
  return at_once && at_once->size == *size && (*size == 0 || at_once->head == *head);
}

// One pass and two find the same head, or the same fault.
std::string broken_find(Side side, RequestContext context, std::string_view bytes) {
  auto size = find_head_end(bytes, 0);
  const std::string_view head = bytes.substr(0, size.value_or(0));
  if (side == Side::kRequest) {
    const auto found = find_request_head(bytes, 0);
    return is_same(found, size, parse_request_head(head)) ? "" : "a request was found otherwise in one pass";
  }
  if (!size) size.error().status = 502;
  const auto found = find_response_head(bytes, context);
  return is_same(found, size, parse_response_head(head, context))
             ? ""
             : "a response was found otherwise in one pass";
}

// What is accepted is accepted again, and as the same, wherever it lies.
std::string broken_head(Side side, RequestContext context, const std::string& head) {
  if (std::string fault = fault_of_accepted_head(head); !fault.empty())
    return "accepted a head with " + fault;
  const std::string longer = head + "GET / HTTP/1.1\r\n\r\n";
  if (find_head_end(longer, 0).value_or(0) != head.size()) return "the end of a head moved";
  if (follow(side, context, head, 0).text != follow(side, context, longer.substr(0, head.size()), 2).text)
    return "a head was read in two ways";
  if (side == Side::kRequest) {
    const auto read = parse_request_head(head);
    if (!read || head.substr(read->fields_begin - 2, 2) != "\r\n") return "fields_begin is not behind a line";
    if (std::string fault = fault_by_llhttp(HTTP_REQUEST, head, *read); !fault.empty()) return fault;
    for (const Span span : {read->forwarded_for, read->forwarded_proto}) {
      if (span.begin + span.size > head.size()) return "a span outside the head";
    }
    const bool capitals =
        std::ranges::all_of(head.substr(0, head.find(' ')), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (capitals && head.find(' ') <= 32 && read->fields_begin < kMostFirstLine &&
        looks_like_http1_request(head) != Guess::kYes)
      return "an accepted request is not guessed";
    return {};
  }
  return fault_by_llhttp(HTTP_RESPONSE, head, parse_response_head(head, context).value_or(ResponseHead{}));
}

}  // namespace

std::string broken_property(std::string_view input) {
  if (input.empty()) return {};
  const auto choice = static_cast<unsigned char>(input.front());
  const std::string_view bytes = input.substr(1);
  const Side side = choice % 2 == 0 ? Side::kRequest : Side::kResponse;
  const RequestContext context{
      .head = (choice & 2) != 0, .connect = (choice & 4) != 0, .upgrade = (choice & 8) != 0};
  const Told whole = follow(side, context, bytes, 0);
  const unsigned first_split = bytes.size() < 1500 ? 1 : 97;  // byte by byte takes its time
  for (const unsigned split : {first_split, 2U, 3U + choice / 16U}) {
    const Told parts = follow(side, context, bytes, split);
    if (!parts.broken.empty()) return parts.broken;
    if (parts.text != whole.text) return "split: [" + parts.text + "] but whole: [" + whole.text + "]";
  }
  if (!whole.broken.empty()) return whole.broken;
  const std::size_t most = std::min<std::size_t>(bytes.size(), 400);
  for (std::size_t size = 0; size < most; size += 1 + size / 8) {
    if (std::string broken = broken_find(side, context, bytes.substr(0, size)); !broken.empty())
      return broken;
  }
  if (std::string broken = broken_find(side, context, bytes); !broken.empty()) return broken;
  for (const std::string& head : whole.heads) {
    if (std::string broken = broken_head(side, context, head); !broken.empty()) return broken;
  }
  return broken_guess(bytes);
}

}  // namespace relayd::http
