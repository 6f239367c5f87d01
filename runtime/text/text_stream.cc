#include "text/text_stream.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace headroom::text {
namespace {
constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
}  // namespace

Status TextStream::Start(std::span<const std::string_view> stops) {
  if (stops.size() > kMaxStops) {
    return Status::Make(StatusCode::kInvalidArgument, "%zu stop sequences > %zu", stops.size(),
                        kMaxStops);
  }
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty() || stops[i].size() > kMaxStopBytes) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "stop sequence %zu has %zu bytes, must be 1 to %zu", i, stops[i].size(),
                          kMaxStopBytes);
    }
  }
  for (size_t i = 0; i < stops.size(); ++i) {
    std::memcpy(stops_[i].data(), stops[i].data(), stops[i].size());
    stop_bytes_[i] = static_cast<uint16_t>(stops[i].size());
  }
  stop_count_ = stops.size();
  pending_bytes_ = 0;
  return {};
}

// Length of the longest stop sequence that ends at `end` of the pending bytes; 0 when none does.
size_t TextStream::StopEndingAt(size_t end) const {
  const std::string_view text(pending_.data(), end);
  size_t longest = 0;
  for (size_t i = 0; i < stop_count_; ++i) {
    if (stop_bytes_[i] > longest && text.ends_with(stop(i))) longest = stop_bytes_[i];
  }
  return longest;
}

// Where the longest ending of the pending bytes begins that is a beginning of a stop sequence.
size_t TextStream::PossibleStopStart() const {
  size_t start = pending_bytes_ - std::min(pending_bytes_, kMaxStopBytes - 1);
  for (; start < pending_bytes_; ++start) {
    const std::string_view ending(pending_.data() + start, pending_bytes_ - start);
    for (size_t i = 0; i < stop_count_; ++i) {
      if (stop(i).starts_with(ending)) return start;
    }
  }
  return start;
}

// Delivers the characters wholly inside the first `bytes` of what is pending (with `last` also an
// unfinished one) and keeps the others.
bool TextStream::Deliver(size_t bytes, bool last, const TextSink& sink) {
  std::array<char, kBufferBytes * 3> text;
  size_t text_bytes = 0, done = 0;
  while (done < bytes) {
    const std::string_view rest(pending_.data() + done, bytes - done);
    const Utf8Scan scan = ScanUtf8(rest);
    if (scan.kind == Utf8::kIncomplete && !last) break;
    const std::string_view shown =
        scan.kind == Utf8::kWhole ? rest.substr(0, scan.bytes) : kReplacement;
    std::memcpy(text.data() + text_bytes, shown.data(), shown.size());
    text_bytes += shown.size();
    done += scan.bytes;
  }
  std::memmove(pending_.data(), pending_.data() + done, pending_bytes_ - done);
  pending_bytes_ -= done;
  return text_bytes == 0 || !sink.write || sink.write(sink.user_data, text.data(), text_bytes);
}

TextStream::Outcome TextStream::Push(std::string_view bytes, const TextSink& sink) {
  while (!bytes.empty()) {
    const size_t taken = std::min(bytes.size(), kBufferBytes - pending_bytes_);
    std::memcpy(pending_.data() + pending_bytes_, bytes.data(), taken);
    bytes.remove_prefix(taken);
    const size_t end = pending_bytes_ + taken;
    while (pending_bytes_ < end) {
      ++pending_bytes_;
      const size_t stop = StopEndingAt(pending_bytes_);
      if (stop == 0) continue;
      const bool accepted = Deliver(pending_bytes_ - stop, true, sink);
      pending_bytes_ = 0;
      return accepted ? Outcome::kStopSequence : Outcome::kRefused;
    }
    if (!Deliver(PossibleStopStart(), false, sink)) return Outcome::kRefused;
  }
  return Outcome::kContinue;
}

TextStream::Outcome TextStream::Finish(const TextSink& sink) {
  return Deliver(pending_bytes_, true, sink) ? Outcome::kContinue : Outcome::kRefused;
}

}  // namespace headroom::text
