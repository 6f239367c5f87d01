// Where an encoder puts the ids it makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace headroom::text {

// Receives ids in order; counts all of them, also those beyond the caller's buffer.
struct TokenSink {
  std::span<int32_t> out;
  size_t count = 0;
  void Add(uint32_t id) {
    if (count < out.size()) out[count] = static_cast<int32_t>(id);
    ++count;
  }
};

}  // namespace headroom::text
