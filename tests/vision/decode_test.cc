// Files of each kind against the pixels that Pillow makes of them.
#include "vision/decode.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "tests/support/tolerance.h"
#include "tests/vision/scene.h"

namespace headroom {
namespace {

constexpr uint64_t kLimit = 1 << 22;

// The largest difference to Pillow's bytes, of the upright picture.
int WorstLevel(const std::string& name) {
  const std::string file = test::ReadGolden("files/" + name);
  const std::string golden = test::ReadGolden("files/" + name + ".rgb");
  const auto decoded = vision::Decode(test::BytesOf(file), kLimit);
  INFO(decoded.status().message());
  REQUIRE(decoded.ok());
  REQUIRE(vision::CheckPixels(decoded.value().View()).ok());
  const std::vector<uint8_t> made = test::ReadUpright(decoded.value().View());
  REQUIRE(made.size() == golden.size());
  int worst = 0;
  for (size_t i = 0; i < made.size(); ++i) {
    worst = std::max(worst, std::abs(made[i] - static_cast<uint8_t>(golden[i])));
  }
  return worst;
}

TEST_CASE("files without loss give Pillow's bytes", "[vision][decode]") {
  for (const char* name :
       {"rgb.png", "rgba.png", "gray.png", "gray-alpha.png", "palette.png", "palette-clear.png",
        "one-bit.png", "rgb16.png", "noise.gif", "interlaced.gif", "frames.gif", "rgb.bmp",
        "palette.bmp", "one-bit.bmp", "rgb.ppm", "gray.pgm"}) {
    INFO(name);
    CHECK(WorstLevel(name) == 0);
  }
}

TEST_CASE("JPEG files are within the rounding of two decoders", "[vision][decode]") {
  for (const char* name : {"photo.jpg", "photo-444.jpg", "photo-422.jpg", "photo-progressive.jpg",
                           "photo-restarts.jpg", "gray.jpg"}) {
    INFO(name);
    CHECK(WorstLevel(name) <= test::kJpegLevels);
  }
  CHECK(WorstLevel("cmyk.jpg") <= test::kJpegLevels);
}

TEST_CASE("a JPEG is upright as its Exif orientation says", "[vision][decode]") {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const std::string name = "turned-" + std::to_string(orientation) + ".jpg";
    INFO(name);
    CHECK(WorstLevel(name) <= test::kJpegLevels);
    const std::string file = test::ReadGolden("files/" + name);
    const auto decoded = vision::Decode(test::BytesOf(file), kLimit);
    CHECK(decoded.value().width == 19);
    CHECK(vision::UprightWidth(decoded.value().View()) == (orientation < 5 ? 19 : 14));
  }
}

}  // namespace
}  // namespace headroom
