// Turns the byte strings of generated tokens into text that may be shown: whole UTF-8 characters
// only, nothing that belongs to a stop sequence or may still turn out to. Fixed size, no
// allocation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"

namespace headroom::text {

// Receives text; false stops the stream.
struct TextSink {
  bool (*write)(void* user_data, const char* text,
                size_t bytes) = nullptr;  // null: text is dropped
  void* user_data = nullptr;
};

class TextStream {
 public:
  static constexpr size_t kMaxStops = 16;
  static constexpr size_t kMaxStopBytes = 256;

  enum class Outcome : uint8_t {
    kContinue,
    kStopSequence,  // one is complete; what came before it was delivered, it and the rest never are
    kRefused,       // the sink returned false
  };

  // Forgets everything and takes new stop sequences (copied). kInvalidArgument: more than 16, an
  // empty one, or one longer than 256 bytes.
  Status Start(std::span<const std::string_view> stops);

  // The bytes of the next token, any number. Delivers at most one piece of text per 1,024 bytes.
  // Among several stop sequences the one completed first counts, and the longest of those completed
  // together. How the bytes are cut into tokens makes no difference. Bytes that cannot be UTF-8
  // become U+FFFD. After kStopSequence or kRefused only Start may follow.
  Outcome Push(std::string_view bytes, const TextSink& sink);

  // The end of generation: delivers what was held back; an unfinished character becomes U+FFFD.
  Outcome Finish(const TextSink& sink);

  // Bytes held back now.
  size_t held_bytes() const { return pending_bytes_; }

 private:
  static constexpr size_t kBufferBytes = 1024 + kMaxStopBytes + 4;

  std::string_view stop(size_t i) const { return {stops_[i].data(), stop_bytes_[i]}; }
  size_t StopEndingAt(size_t end) const;
  size_t PossibleStopStart() const;
  bool Deliver(size_t bytes, bool last, const TextSink& sink);

  std::array<std::array<char, kMaxStopBytes>, kMaxStops> stops_;
  std::array<uint16_t, kMaxStops> stop_bytes_ = {};
  size_t stop_count_ = 0;
  std::array<char, kBufferBytes> pending_;
  size_t pending_bytes_ = 0;
};

}  // namespace headroom::text
