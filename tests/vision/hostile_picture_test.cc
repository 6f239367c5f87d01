// Files that are cut off, changed, far too large, and limits of memory of every size.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "tests/support/guarded_memory.h"
#include "tests/vision/scene.h"
#include "vision/decode.h"

namespace headroom {
namespace {

constexpr uint64_t kLimit = 1 << 22;
constexpr const char* kFiles[] = {
    "rgb.png",       "palette.png", "rgb16.png", "photo.jpg",  "photo-progressive.jpg",
    "photo-422.jpg", "cmyk.jpg",    "noise.gif", "frames.gif", "interlaced.gif",
    "one-bit.bmp",   "palette.bmp", "rgb.bmp",   "gray.pgm",   "rgb.ppm",
    "turned-5.jpg"};

// In memory that ends where the file does.
Result<vision::DecodedImage> Decode(const std::string& file, uint64_t limit = kLimit) {
  test::GuardedMemory memory(file.size());
  std::copy_n(test::BytesOf(file).data(), file.size(), memory.data());
  return vision::Decode({memory.data(), file.size()}, limit);
}

std::string Big(uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift);
  return text;
}

std::string Little(uint32_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i);
  return text;
}

void Refused(const std::string& file, StatusCode code, const char* why) {
  const auto decoded = Decode(file);
  INFO(decoded.status().message());
  CHECK(decoded.status().code() == code);
  CHECK(std::string(decoded.status().message()).find(why) != std::string::npos);
}

// With width and height at their place in the header.
std::string Resized(const std::string& file, size_t at, const std::string& extents) {
  std::string changed = file;
  return changed.replace(at, extents.size(), extents);
}

TEST_CASE("a picture far too large is refused by its header", "[vision][hostile]") {
  const std::string png = test::ReadGolden("files/rgb.png");
  const std::string bmp = test::ReadGolden("files/rgb.bmp");
  const std::string gif = test::ReadGolden("files/noise.gif");
  const std::string jpeg = test::ReadGolden("files/photo.jpg");
  Refused(Resized(png, 16, Big(65535) + Big(65535)), StatusCode::kUnsupported, "1..16384");
  Refused(Resized(png, 16, Big(16384) + Big(16384)), StatusCode::kOverBudget, "16384 x 16384");
  Refused(Resized(bmp, 18, Little(65535, 4) + Little(65535, 4)), StatusCode::kUnsupported,
          "1..16384");
  Refused(Resized(gif, 6, Little(65535, 2) + Little(65535, 2)), StatusCode::kUnsupported,
          "1..16384");
  Refused(Resized(gif, 6, Little(16384, 2) + Little(16384, 2)), StatusCode::kOverBudget, "16384");
  Refused("P6 65535 65535 255 x", StatusCode::kUnsupported, "1..16384");
  Refused("P6 16384 16384 255 x", StatusCode::kOverBudget, "16384");
  const size_t frame = jpeg.find("\xff\xc0");
  REQUIRE(frame != std::string::npos);
  Refused(Resized(jpeg, frame + 5, std::string(4, '\xff')), StatusCode::kUnsupported, "1..16384");
}

TEST_CASE("a picture without pixels is refused", "[vision][hostile]") {
  const std::string png = test::ReadGolden("files/rgb.png");
  const std::string bmp = test::ReadGolden("files/rgb.bmp");
  const std::string gif = test::ReadGolden("files/noise.gif");
  const std::string jpeg = test::ReadGolden("files/photo.jpg");
  CHECK_FALSE(Decode(Resized(png, 16, Big(0))).ok());
  CHECK_FALSE(Decode(Resized(png, 20, Big(0))).ok());
  CHECK_FALSE(Decode(Resized(bmp, 18, Little(0, 4))).ok());
  CHECK_FALSE(Decode(Resized(bmp, 22, Little(0, 4))).ok());
  CHECK_FALSE(Decode(Resized(gif, 6, Little(0, 2))).ok());
  CHECK_FALSE(Decode(Resized(jpeg, jpeg.find("\xff\xc0") + 7, std::string(2, '\0'))).ok());
  CHECK_FALSE(Decode("P6 0 4 255 ").ok());
  CHECK_FALSE(Decode("").ok());
}

TEST_CASE("what is not read is refused by name", "[vision][hostile]") {
  Refused("no picture at all, but long enough", StatusCode::kUnsupported, "known type");
  Refused("P6 2 2 15 abcdefghijkl", StatusCode::kUnsupported, "greatest value 15");
  Refused("P5\n# a comment\n2 2 65535\n12345678", StatusCode::kUnsupported, "65535");
  Refused("\x89PNG\r\n\x1a\n" + std::string("\0\0\0\4", 4) + "CgBI????????",
          StatusCode::kUnsupported, "CgBI");
}

TEST_CASE("a file that is cut off is refused wherever the cut is", "[vision][hostile]") {
  for (const char* name : kFiles) {
    const std::string whole = test::ReadGolden("files/" + std::string(name));
    REQUIRE(Decode(whole).ok());
    size_t accepted = 0;
    // What ends behind the last pixel belongs to no picture: trailers, later frames.
    const std::string kind = name;
    const bool trailer = !kind.ends_with("jpg");
    for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
      const auto decoded = Decode(whole.substr(0, bytes));
      if (decoded.ok() && !(trailer && bytes + 16 > whole.size()) && kind != "frames.gif") {
        if (accepted++ == 0) UNSCOPED_INFO("cut at " << bytes << " of " << whole.size());
      }
    }
    INFO(name);
    CHECK(accepted == 0);
  }
}

TEST_CASE("a changed byte gives a picture or a refusal, inside the limit", "[vision][hostile]") {
  size_t refused = 0, decoded = 0;
  for (const char* name : kFiles) {
    const std::string whole = test::ReadGolden("files/" + std::string(name));
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const int change : {0x01, 0x80, 0xff}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ change);
        const auto made = Decode(changed);
        if (!made.ok()) {
          CHECK(made.status().code() != StatusCode::kInternal);
          ++refused;
          continue;
        }
        ++decoded;
        if (made.value().peak_bytes > kLimit) FAIL(name << " " << at);
      }
    }
  }
  CHECK(refused > 1000);
  CHECK(decoded > 1000);
}

TEST_CASE("a palette shorter than its pixels need gives no bytes from elsewhere",
          "[vision][hostile]") {
  std::string png = test::ReadGolden("files/palette.png");
  const size_t palette = png.find("PLTE");
  REQUIRE(palette != std::string::npos);
  // One colour is left of sixteen: the rest of the chunk becomes one that nobody knows.
  const uint32_t colours_bytes = static_cast<uint8_t>(png[palette - 1]);
  REQUIRE(colours_bytes == 48);
  png[palette - 1] = 3;
  png.replace(palette + 4 + 3 + 4, 8, Big(colours_bytes - 3 - 12) + "teXt");
  const auto first = Decode(png), second = Decode(png);
  REQUIRE(first.ok());
  REQUIRE(second.ok());
  CHECK(test::ReadUpright(first.value().View()) == test::ReadUpright(second.value().View()));
}

TEST_CASE("decoding takes what it says and is refused one byte below", "[vision][hostile]") {
  for (const char* name : kFiles) {
    const std::string file = test::ReadGolden("files/" + std::string(name));
    const auto whole = Decode(file);
    REQUIRE(whole.ok());
    const uint64_t peak = whole.value().peak_bytes;
    INFO(name << " " << peak);
    CHECK(peak >= uint64_t{3} * whole.value().width * whole.value().height);
    CHECK(Decode(file, peak).ok());
    // A small PNM takes most where stb asks whether it is a JPEG, and a no will do.
    const bool exact = !std::string(name).ends_with("m");
    if (exact) CHECK(Decode(file, peak - 1).status().code() == StatusCode::kOverBudget);
    size_t wrong = 0;
    for (uint64_t limit = 0; limit < peak; limit += 97) {
      const auto made = Decode(file, limit);
      const bool inside = !exact && made.ok() && made.value().peak_bytes <= limit;
      if (!inside && made.status().code() != StatusCode::kOverBudget) ++wrong;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("memory that the decoder has given back counts no more", "[vision][hostile]") {
  // The probe for a JPEG comes first, and is gone when the pixels are taken.
  const std::string pnm = "P6 200 100 255 " + std::string(3 * 200 * 100, 'x');
  const auto decoded = Decode(pnm);
  REQUIRE(decoded.ok());
  CHECK(decoded.value().peak_bytes < 3 * 200 * 100 + 100);
}

TEST_CASE("a large picture of few bytes stays inside the limit", "[vision][hostile]") {
  // A megapixel of GIF whose first code ends it: the file is 40 bytes long.
  const std::string gif = "GIF89a" + Little(1000, 2) + Little(1000, 2) +
                          std::string("\x80\0\0", 3) + std::string(6, '\x40') + "," + Little(0, 4) +
                          Little(1000, 2) + Little(1000, 2) + std::string("\0\2\2\x4c\1\0;", 7);
  CHECK(Decode(gif, 2'999'999).status().code() == StatusCode::kOverBudget);  // by the header
  CHECK(Decode(gif, 3'500'000).status().code() == StatusCode::kOverBudget);  // while decoding
  const auto decoded = Decode(gif, 16'000'000);
  INFO(decoded.status().message());
  REQUIRE(decoded.ok());
  CHECK(decoded.value().peak_bytes <= 16'000'000);
}

}  // namespace
}  // namespace headroom
