// The picture decoder stb_image behind three functions, with every byte it takes counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace headroom::vision {

struct ReleaseStbPixels {
  void operator()(uint8_t* pixels) const;
};
using StbPixels = std::unique_ptr<uint8_t[], ReleaseStbPixels>;

struct StbOutcome {
  bool ok = false;
  bool over_budget = false;  // an allocation would have passed the limit
  bool refused = false;      // the heap had none within the limit
  bool ended_early = false;  // bytes beyond the end of the file were asked for
  const char* reason = "";   // of a failure; a literal
  uint32_t width = 0, height = 0;
  StbPixels rgb;            // [height, width, 3]; only of StbDecode
  uint64_t peak_bytes = 0;  // the most that was held at once, pixels included
};

// Extents by the header alone.
StbOutcome StbReadHeader(std::span<const std::byte> file, uint64_t limit_bytes);

// The picture as RGB of 8 bits; of an animation its first frame.
StbOutcome StbDecode(std::span<const std::byte> file, uint64_t limit_bytes);

}  // namespace headroom::vision
