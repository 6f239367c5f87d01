#include "vision/pixels.h"

#include <cstring>
#include <limits>

namespace headroom::vision {
namespace {

bool HasChroma(PixelFormat format) {
  return format == PixelFormat::kNv21 || format == PixelFormat::kNv12;
}

uint32_t PixelBytes(PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb:
      return 3;
    case PixelFormat::kRgba:
    case PixelFormat::kBgra:
      return 4;
    default:
      return 1;
  }
}

Status CheckPlane(const char* name, const uint8_t* data, size_t row_bytes, uint64_t needed_bytes,
                  uint32_t rows) {
  if (data == nullptr) {
    return Status::Make(StatusCode::kInvalidArgument, "picture: no memory for its %s", name);
  }
  if (row_bytes < needed_bytes) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "picture: %s row of %zu bytes < %llu that its pixels take", name, row_bytes,
                        static_cast<unsigned long long>(needed_bytes));
  }
  const size_t limit = static_cast<size_t>(std::numeric_limits<ptrdiff_t>::max()) / rows;
  if (row_bytes > limit) {
    return Status::Make(StatusCode::kInvalidArgument, "picture: %s row of %zu bytes > limit %zu",
                        name, row_bytes, limit);
  }
  return Status();
}

// Where an upright row begins in the stored picture, and the step to its next pixel.
struct StoredLine {
  int64_t row, column, row_step, column_step;
};

StoredLine LineOf(const PixelView& view, uint32_t y, uint32_t first) {
  const int64_t x = view.mirrored ? int64_t{UprightWidth(view)} - 1 - first : int64_t{first};
  const int64_t step = view.mirrored ? -1 : 1;
  const int64_t last_row = int64_t{view.height} - 1, last_column = int64_t{view.width} - 1;
  switch (view.rotation) {
    case 90:
      return {last_row - x, y, -step, 0};
    case 180:
      return {last_row - y, last_column - x, 0, -step};
    case 270:
      return {x, last_column - y, step, 0};
    default:
      return {y, x, 0, step};
  }
}

uint8_t Clamp(int32_t value) {
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// The formula in the header, its factors times 2^16.
void ToRgb(int32_t luma, int32_t cb, int32_t cr, uint8_t* rgb) {
  constexpr int32_t kRedCr = 91881, kGreenCb = 22554, kGreenCr = 46802, kBlueCb = 116130;
  const int32_t base = (luma << 16) + (1 << 15);
  cb -= 128;
  cr -= 128;
  rgb[0] = Clamp((base + kRedCr * cr) >> 16);
  rgb[1] = Clamp((base - kGreenCb * cb - kGreenCr * cr) >> 16);
  rgb[2] = Clamp((base + kBlueCb * cb) >> 16);
}

void ReadChroma(const PixelView& view, StoredLine at, uint32_t count, uint8_t* rgb) {
  const uint32_t cr = view.format == PixelFormat::kNv21 ? 0 : 1, cb = 1 - cr;
  for (uint32_t i = 0; i < count; ++i, rgb += 3) {
    const size_t row = static_cast<size_t>(at.row), column = static_cast<size_t>(at.column);
    const uint8_t* pair = view.chroma + row / 2 * view.chroma_row_bytes + column / 2 * 2;
    ToRgb(view.data[row * view.row_bytes + column], pair[cb], pair[cr], rgb);
    at.row += at.row_step;
    at.column += at.column_step;
  }
}

// The bytes of a pixel that are red, green and blue.
template <uint32_t kRed, uint32_t kGreen, uint32_t kBlue>
void Gather(const uint8_t* from, ptrdiff_t step, uint32_t count, uint8_t* rgb) {
  for (uint32_t i = 0; i < count; ++i, rgb += 3) {
    const uint8_t* pixel = from + static_cast<ptrdiff_t>(i) * step;
    rgb[0] = pixel[kRed];
    rgb[1] = pixel[kGreen];
    rgb[2] = pixel[kBlue];
  }
}

void ReadPacked(const PixelView& view, StoredLine at, uint32_t count, uint8_t* rgb) {
  const ptrdiff_t pixel = PixelBytes(view.format), row = static_cast<ptrdiff_t>(view.row_bytes);
  const ptrdiff_t step = at.row_step * row + at.column_step * pixel;
  const uint8_t* from = view.data + at.row * row + at.column * pixel;
  switch (view.format) {
    case PixelFormat::kRgb:
      if (step == 3) {
        std::memcpy(rgb, from, size_t{3} * count);
      } else {
        Gather<0, 1, 2>(from, step, count, rgb);
      }
      break;
    case PixelFormat::kRgba:
      return Gather<0, 1, 2>(from, step, count, rgb);
    case PixelFormat::kBgra:
      return Gather<2, 1, 0>(from, step, count, rgb);
    default:
      return Gather<0, 0, 0>(from, step, count, rgb);
  }
}

bool Turned(const PixelView& view) { return view.rotation == 90 || view.rotation == 270; }

}  // namespace

Status CheckPixels(const PixelView& view) {
  if (view.format > PixelFormat::kNv12) {
    return Status::Make(StatusCode::kInvalidArgument, "picture: format %d > last known %d",
                        static_cast<int>(view.format), static_cast<int>(PixelFormat::kNv12));
  }
  if (view.width < 1 || view.width > kMaxSide || view.height < 1 || view.height > kMaxSide) {
    return Status::Make(StatusCode::kInvalidArgument, "picture: %u x %u, sides must be 1..%u",
                        view.width, view.height, kMaxSide);
  }
  if (view.rotation % 90 != 0 || view.rotation > 270) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "picture: rotation %u is none of 0, 90, 180, 270", view.rotation);
  }
  HR_RETURN_IF_ERROR(CheckPlane("pixel", view.data, view.row_bytes,
                                uint64_t{view.width} * PixelBytes(view.format), view.height));
  if (!HasChroma(view.format)) return Status();
  return CheckPlane("chroma", view.chroma, view.chroma_row_bytes,
                    (uint64_t{view.width} + 1) / 2 * 2, (view.height + 1) / 2);
}

uint32_t UprightWidth(const PixelView& view) { return Turned(view) ? view.height : view.width; }
uint32_t UprightHeight(const PixelView& view) { return Turned(view) ? view.width : view.height; }

void ReadUprightRow(const PixelView& view, uint32_t y, uint32_t first, uint32_t count,
                    uint8_t* rgb) {
  const StoredLine line = LineOf(view, y, first);
  if (HasChroma(view.format)) return ReadChroma(view, line, count, rgb);
  ReadPacked(view, line, count, rgb);
}

}  // namespace headroom::vision
