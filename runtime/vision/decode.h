// Files of pictures (JPEG, PNG, BMP, GIF, binary PNM) become RGB, inside a stated number of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "vision/pixels.h"
#include "vision/stb_decoder.h"

namespace headroom::vision {

// Owns its pixels. Move-only.
struct DecodedImage {
  StbPixels rgb;  // [height, width, 3], as stored in the file
  uint32_t width = 0, height = 0;
  uint32_t rotation = 0;  // what makes it upright, as in PixelView; of a JPEG's Exif
  bool mirrored = false;
  uint64_t peak_bytes = 0;  // the most that decoding held at once

  PixelView View() const;
};

// Gray, palette, alpha and 16 bits become 8-bit RGB: alpha is dropped, of 16 bits the upper 8 stay.
// Of an animation the first frame. `limit_bytes` bounds all memory that decoding holds at once, the
// pixels included; measured bytes a pixel: JPEG 5 to 12, PNG of 8 bits 6 to 8, GIF 12, BMP and
// PNM 3. The extents are checked before anything as large as the picture is allocated.
//
// kCorrupt: broken or cut off, with the decoder's reason. kUnsupported: no such format, a side over
// kMaxSide, a variant that is not read. kOverBudget: limit_bytes is too little. kOutOfMemory.
// Reentrant; the memory is the C heap's, and is given back with the result on any thread.
Result<DecodedImage> Decode(std::span<const std::byte> file, uint64_t limit_bytes);

}  // namespace headroom::vision
