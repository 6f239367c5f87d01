// A picture in the caller's memory, and its rows upright and as RGB, whatever its format and turn.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace headroom::vision {

// Bytes in the order they lie in memory. Alpha is ignored, not multiplied in.
enum class PixelFormat : uint8_t {
  kRgb,   // 3 bytes
  kRgba,  // 4 bytes
  kBgra,  // 4 bytes
  kGray,  // 1 byte, repeated
  kNv21,  // a plane of Y, then a plane of pairs Cr Cb, one for each 2 x 2 pixels
  kNv12,  // the same with pairs Cb Cr
};

constexpr uint32_t kMaxSide = 16384;

// Borrows its memory. Of NV21 and NV12 each pair colours its 2 x 2 pixels alike; the chroma plane
// of odd sides is rounded up.
struct PixelView {
  PixelFormat format = PixelFormat::kRgb;
  const uint8_t* data = nullptr;    // [height, row_bytes]
  const uint8_t* chroma = nullptr;  // [ceil(height / 2), chroma_row_bytes]; NV21 and NV12 only
  uint32_t width = 0, height = 0;   // of the stored picture, before it is turned
  size_t row_bytes = 0;             // from one row to the next; the last row may end sooner
  size_t chroma_row_bytes = 0;      // NV21 and NV12 only
  uint32_t rotation = 0;            // degrees clockwise that make it upright: 0, 90, 180, 270
  bool mirrored = false;            // after that turn left and right change places
};

// kInvalidArgument names the first fact that is wrong. Whether the memory is there cannot be seen.
Status CheckPixels(const PixelView& view);

// Extents of the upright picture.
uint32_t UprightWidth(const PixelView& view);
uint32_t UprightHeight(const PixelView& view);

// Pixels first..first+count-1 of upright row `y`: rgb [count, 3]. The view must pass CheckPixels.
//
// NV21 and NV12 are read as Y'CbCr of BT.601 in full range, as JPEG files and Android's cameras
// (data space JFIF) have it; ITU-T T.871 (05/2011) section 7:
//   R = Y + 1.402 (Cr - 128)
//   G = Y - (0.114 * 1.772 (Cb - 128) + 0.299 * 1.402 (Cr - 128)) / 0.587
//   B = Y + 1.772 (Cb - 128)
// here in integers with 16 bits behind the point, rounded to nearest and clamped to 0..255.
void ReadUprightRow(const PixelView& view, uint32_t y, uint32_t first, uint32_t count,
                    uint8_t* rgb);

}  // namespace headroom::vision
