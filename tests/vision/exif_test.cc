// Orientations in metadata that tells the truth, and in metadata that does not.
#include "vision/exif.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "tests/support/guarded_memory.h"
#include "tests/vision/scene.h"

namespace headroom {
namespace {

std::string Number(uint32_t value, int bytes, bool big) {
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    text += static_cast<char>(value >> 8 * (big ? bytes - 1 - i : i));
  }
  return text;
}

struct ExifFields {
  bool big = true;
  uint32_t magic = 42, directory = 8, entries = 1, tag = 0x0112, type = 3, count = 1, value = 6;
};

std::string Tiff(const ExifFields& f) {
  std::string tiff = f.big ? "MM" : "II";
  tiff += Number(f.magic, 2, f.big) + Number(f.directory, 4, f.big);
  tiff += Number(f.entries, 2, f.big) + Number(f.tag, 2, f.big) + Number(f.type, 2, f.big);
  return tiff + Number(f.count, 4, f.big) + Number(f.value, 2, f.big) + std::string(6, '\0');
}

std::string Segment(uint8_t kind, const std::string& body) {
  return std::string("\xff") + static_cast<char>(kind) +
         Number(static_cast<uint32_t>(body.size() + 2), 2, true) + body;
}

std::string Jpeg(const std::string& segments) { return "\xff\xd8" + segments + "\xff\xda"; }

std::string WithExif(const ExifFields& fields) {
  return Jpeg(Segment(0xe1, std::string("Exif\0\0", 6) + Tiff(fields)));
}

// In memory that ends where the file does.
vision::Upright Read(const std::string& file) {
  test::GuardedMemory memory(file.size());
  std::copy_n(test::BytesOf(file).data(), file.size(), memory.data());
  return vision::ReadJpegOrientation({memory.data(), file.size()});
}

bool IsUpright(const std::string& file) {
  const vision::Upright read = Read(file);
  return read.rotation == 0 && !read.mirrored;
}

ExifFields Changed(uint32_t ExifFields::*field, uint32_t value) {
  ExifFields fields;
  fields.*field = value;
  return fields;
}

TEST_CASE("the orientation is read in either byte order", "[vision][exif]") {
  for (const bool big : {true, false}) {
    ExifFields fields;
    fields.big = big;
    CHECK(Read(WithExif(fields)).rotation == 90);
    CHECK_FALSE(Read(WithExif(fields)).mirrored);
    fields.value = 7;
    CHECK(Read(WithExif(fields)).rotation == 270);
    CHECK(Read(WithExif(fields)).mirrored);
  }
}

TEST_CASE("segments before the Exif one are passed over", "[vision][exif]") {
  const std::string exif = Segment(0xe1, std::string("Exif\0\0", 6) + Tiff({}));
  const std::string other = Segment(0xe1, "http://ns.adobe.com/xap/1.0/"),
                    plain = Segment(0xe0, "");
  CHECK(Read(Jpeg(other + plain + exif)).rotation == 90);
  CHECK(Read(Jpeg("\xff\xff" + exif)).rotation == 90);        // fill bytes
  CHECK(IsUpright(Jpeg(std::string("\xff\xda", 2) + exif)));  // beyond the start of the scan
  CHECK(IsUpright("\xff\xd9" + exif));
}

TEST_CASE("metadata that lies leaves the picture as it is", "[vision][exif]") {
  CHECK(IsUpright(WithExif(Changed(&ExifFields::magic, 43))));
  CHECK(IsUpright(WithExif(Changed(&ExifFields::directory, 0xffffffff))));
  CHECK(IsUpright(WithExif(Changed(&ExifFields::entries, 0))));
  CHECK(IsUpright(WithExif(Changed(&ExifFields::tag, 0x0113))));
  CHECK(IsUpright(WithExif(Changed(&ExifFields::type, 2))));
  CHECK(IsUpright(WithExif(Changed(&ExifFields::count, 2))));
  for (const uint32_t value : {0u, 1u, 9u, 0xffffu}) {
    CHECK(IsUpright(WithExif(Changed(&ExifFields::value, value))));
  }
  ExifFields many = Changed(&ExifFields::entries, 0xffff);
  many.tag = 1;
  CHECK(IsUpright(WithExif(many)));
  CHECK(IsUpright(Jpeg(std::string("\xff\xe1\x00\x01", 4))));  // shorter than its own length
}

TEST_CASE("a file cut anywhere is read to its end and no further", "[vision][exif]") {
  const std::string whole = WithExif({});
  size_t read = 0;
  for (size_t bytes = 0; bytes <= whole.size(); ++bytes) {
    if (!IsUpright(whole.substr(0, bytes))) ++read;
  }
  CHECK(read == 3);  // the whole segment, and two bytes of the next marker
}

}  // namespace
}  // namespace headroom
