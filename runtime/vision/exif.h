// The one thing we read of a JPEG's metadata: which way up it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace headroom::vision {

struct Upright {
  uint32_t rotation = 0;  // degrees clockwise, then
  bool mirrored = false;  // left and right change places
};

// The orientation (tag 0x0112 of the first image directory; CIPA DC-008 "Exif 2.32" section 4.6.4)
// of a JPEG's first Exif segment. Whatever is not understood, or any other file, is upright.
Upright ReadJpegOrientation(std::span<const std::byte> file);

}  // namespace headroom::vision
