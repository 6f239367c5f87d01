// Formats, turns and strides of pictures in memory.
#include "vision/pixels.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "tests/support/guarded_memory.h"
#include "tests/support/tolerance.h"
#include "tests/vision/scene.h"

namespace headroom {
namespace {

using vision::PixelFormat;
using vision::PixelView;

// A picture whose planes end where forbidden pages begin; rows are longer than their pixels, and
// what lies between is 0xee.
struct Stored {
  test::GuardedMemory pixels, chroma;
  PixelView view;
};

Stored Store(PixelFormat format, uint32_t height, uint32_t width, uint32_t pixel_bytes,
             size_t gap) {
  Stored stored;
  PixelView& view = stored.view;
  view.format = format;
  view.width = width;
  view.height = height;
  const auto plane = [](size_t rows, size_t row, size_t stride, uint32_t seed) {
    test::GuardedMemory memory((rows - 1) * stride + row);
    std::fill_n(memory.data(), memory.bytes(), std::byte{0xee});
    for (size_t y = 0; y < rows; ++y) {
      for (size_t i = 0; i < row; ++i) {
        seed = seed * 1664525 + 1013904223;
        memory.data()[y * stride + i] = static_cast<std::byte>(seed >> 24);
      }
    }
    return memory;
  };
  const size_t row = size_t{width} * pixel_bytes;
  view.row_bytes = row + gap;
  stored.pixels = plane(height, row, view.row_bytes, 1);
  view.data = stored.pixels.as<const uint8_t>();
  if (format == PixelFormat::kNv21 || format == PixelFormat::kNv12) {
    const size_t chroma_row = (size_t{width} + 1) / 2 * 2;
    view.chroma_row_bytes = chroma_row + gap;
    stored.chroma = plane((height + 1) / 2, chroma_row, view.chroma_row_bytes, 2);
    view.chroma = stored.chroma.as<const uint8_t>();
  }
  return stored;
}

constexpr std::pair<PixelFormat, uint32_t> kFormats[] = {
    {PixelFormat::kRgb, 3},  {PixelFormat::kRgba, 4}, {PixelFormat::kBgra, 4},
    {PixelFormat::kGray, 1}, {PixelFormat::kNv21, 1}, {PixelFormat::kNv12, 1}};

double Clamped(double value) { return std::clamp(value, 0.0, 255.0); }

// The exact colour of a stored pixel: written down apart from the product, in double.
void ExactColour(const PixelView& view, uint32_t row, uint32_t column, double rgb[3]) {
  const uint8_t* line = view.data + row * view.row_bytes;
  switch (view.format) {
    case PixelFormat::kRgb:
      for (int i = 0; i < 3; ++i) rgb[i] = line[column * 3 + i];
      return;
    case PixelFormat::kRgba:
      for (int i = 0; i < 3; ++i) rgb[i] = line[column * 4 + i];
      return;
    case PixelFormat::kBgra:
      for (int i = 0; i < 3; ++i) rgb[i] = line[column * 4 + 2 - i];
      return;
    case PixelFormat::kGray:
      for (int i = 0; i < 3; ++i) rgb[i] = line[column];
      return;
    default:
      break;
  }
  const uint8_t* pair = view.chroma + row / 2 * view.chroma_row_bytes + column / 2 * 2;
  const bool cr_first = view.format == PixelFormat::kNv21;
  const double luma = line[column], cr = pair[cr_first ? 0 : 1] - 128.0,
               cb = pair[cr_first ? 1 : 0] - 128.0;
  rgb[0] = Clamped(luma + 1.402 * cr);
  rgb[1] = Clamped(luma - (0.114 * 1.772 * cb + 0.299 * 1.402 * cr) / 0.587);
  rgb[2] = Clamped(luma + 1.772 * cb);
}

// Where upright pixel (x, y) is stored: by turning the picture back, quarter by quarter.
void StoredPlace(const PixelView& view, uint32_t x, uint32_t y, uint32_t* row, uint32_t* column) {
  uint32_t width = vision::UprightWidth(view), height = vision::UprightHeight(view);
  if (view.mirrored) x = width - 1 - x;
  for (uint32_t turned = 0; turned < view.rotation; turned += 90) {
    // A quarter turn clockwise put the pixel at (x, y) there from (y, width - 1 - x).
    const uint32_t from_x = y, from_y = width - 1 - x;
    x = from_x;
    y = from_y;
    std::swap(width, height);
  }
  *row = y;
  *column = x;
}

size_t CountWrong(const PixelView& view) {
  const std::vector<uint8_t> made = test::ReadUpright(view);
  size_t wrong = 0, at = 0;
  for (uint32_t y = 0; y < vision::UprightHeight(view); ++y) {
    for (uint32_t x = 0; x < vision::UprightWidth(view); ++x) {
      uint32_t row = 0, column = 0;
      double exact[3];
      StoredPlace(view, x, y, &row, &column);
      ExactColour(view, row, column, exact);
      for (const double value : exact) {
        if (std::abs(made[at++] - value) > test::kRoundedLevel) ++wrong;
      }
    }
  }
  return wrong;
}

TEST_CASE("every format comes upright as RGB, between guards", "[vision][pixels]") {
  for (const auto& [format, pixel_bytes] : kFormats) {
    for (const auto& [height, width] :
         {std::pair{1u, 1u}, std::pair{5u, 8u}, std::pair{6u, 7u}, std::pair{9u, 1u}}) {
      for (const size_t gap : {0u, 5u}) {
        Stored stored = Store(format, height, width, pixel_bytes, gap);
        for (const uint32_t rotation : {0u, 90u, 180u, 270u}) {
          for (const bool mirrored : {false, true}) {
            stored.view.rotation = rotation;
            stored.view.mirrored = mirrored;
            REQUIRE(vision::CheckPixels(stored.view).ok());
            INFO("format " << static_cast<int>(format) << " " << width << " x " << height
                           << " turned " << rotation << " mirrored " << mirrored);
            CHECK(CountWrong(stored.view) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("a part of a row is that part", "[vision][pixels]") {
  for (const auto& [format, pixel_bytes] : kFormats) {
    Stored stored = Store(format, 6, 9, pixel_bytes, 3);
    for (const uint32_t rotation : {0u, 90u, 180u, 270u}) {
      stored.view.rotation = rotation;
      const uint32_t width = vision::UprightWidth(stored.view);
      const std::vector<uint8_t> whole = test::ReadUpright(stored.view);
      std::vector<uint8_t> part(3 * (width - 3));
      vision::ReadUprightRow(stored.view, 4, 2, width - 3, part.data());
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + 3 * (4 * width + 2)));
    }
  }
}

TEST_CASE("all colours of a camera are rounded to the nearest level", "[vision][pixels]") {
  uint8_t luma = 0, pair[2] = {0, 0};
  PixelView view;
  view.format = PixelFormat::kNv21;
  view.data = &luma;
  view.chroma = pair;
  view.width = view.height = 1;
  view.row_bytes = 1;
  view.chroma_row_bytes = 2;
  size_t wrong = 0;
  for (uint32_t colour = 0; colour < 1u << 24; colour += 3) {  // a third of them, all bytes in each
    luma = static_cast<uint8_t>(colour);
    pair[0] = static_cast<uint8_t>(colour >> 8);
    pair[1] = static_cast<uint8_t>(colour >> 16);
    uint8_t rgb[3];
    double exact[3];
    vision::ReadUprightRow(view, 0, 0, 1, rgb);
    ExactColour(view, 0, 0, exact);
    for (int i = 0; i < 3; ++i) wrong += std::abs(rgb[i] - exact[i]) > test::kRoundedLevel;
  }
  CHECK(wrong == 0);
}

void Refused(const PixelView& view, const char* why) {
  const Status status = vision::CheckPixels(view);
  INFO(status.message());
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()).find(why) != std::string::npos);
}

TEST_CASE("a view that cannot be is refused with its numbers", "[vision][pixels]") {
  const auto changed = [](PixelFormat format, const auto& change) {
    static uint8_t memory[64];
    PixelView view{format, memory, memory, 4, 3, 16, 4, 0, false};
    change(view);
    return view;
  };
  const auto rgba = [&](const auto& change) { return changed(PixelFormat::kRgba, change); };
  const auto nv21 = [&](const auto& change) { return changed(PixelFormat::kNv21, change); };
  CHECK(vision::CheckPixels(rgba([](auto&) {})).ok());
  CHECK(vision::CheckPixels(nv21([](auto&) {})).ok());
  CHECK(vision::CheckPixels(rgba([](auto& view) { view.chroma = nullptr; })).ok());
  Refused(rgba([](auto& view) { view.data = nullptr; }), "no memory");
  Refused(rgba([](auto& view) { view.width = 0; }), "0 x 3");
  Refused(rgba([](auto& view) { view.height = 16385; }), "1..16384");
  Refused(rgba([](auto& view) { view.row_bytes = 15; }), "15 bytes < 16");
  Refused(rgba([](auto& view) { view.row_bytes = SIZE_MAX / 3; }), "> limit");
  Refused(rgba([](auto& view) { view.rotation = 45; }), "45");
  Refused(rgba([](auto& view) { view.rotation = 360; }), "360");
  Refused(rgba([](auto& view) { view.format = static_cast<PixelFormat>(6); }), "format 6");
  Refused(nv21([](auto& view) { view.chroma = nullptr; }), "chroma");
  Refused(nv21([](auto& view) { view.chroma_row_bytes = 3; }), "3 bytes < 4");
  Refused(nv21([](auto& view) { view.width = 5; }), "4 bytes < 6");
}

}  // namespace
}  // namespace headroom
