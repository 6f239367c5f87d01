#include "vision/exif.h"

#include <cstring>
#include <optional>

namespace headroom::vision {
namespace {

// Bytes with an order; reading beyond the end gives nothing.
class Bytes {
 public:
  Bytes(std::span<const std::byte> bytes, bool big_endian) : bytes_(bytes), big_(big_endian) {}

  std::optional<uint32_t> Read(uint64_t at, uint32_t count) const {
    if (at > bytes_.size() || bytes_.size() - at < count) return std::nullopt;
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; ++i) {
      value = value << 8 | std::to_integer<uint32_t>(bytes_[at + (big_ ? i : count - 1 - i)]);
    }
    return value;
  }
  bool Says(uint64_t at, uint32_t count, uint32_t value) const { return Read(at, count) == value; }

 private:
  std::span<const std::byte> bytes_;
  bool big_;
};

// The table of the standard: where row 0 and column 0 of the stored picture belong.
Upright FromOrientation(uint32_t orientation) {
  constexpr Upright kTable[] = {{0, false}, {0, true},   {180, false}, {180, true},
                                {90, true}, {90, false}, {270, true},  {270, false}};
  return orientation >= 1 && orientation <= 8 ? kTable[orientation - 1] : Upright();
}

// `tiff` is the body of an Exif segment: header, then directories at offsets from its start.
Upright ReadTiff(std::span<const std::byte> tiff) {
  const bool big = Bytes(tiff, true).Says(0, 2, 0x4d4d);
  const Bytes bytes(tiff, big);
  if ((!big && !bytes.Says(0, 2, 0x4949)) || !bytes.Says(2, 2, 42)) return {};
  const uint64_t directory = bytes.Read(4, 4).value_or(0);
  const uint32_t entries = bytes.Read(directory, 2).value_or(0);  // 16 bits: a bounded walk
  for (uint32_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + uint64_t{12} * i;
    constexpr uint32_t kOrientation = 0x0112, kShort = 3;
    if (!bytes.Says(entry, 2, kOrientation)) continue;
    if (!bytes.Says(entry + 2, 2, kShort) || !bytes.Says(entry + 4, 4, 1)) return {};
    return FromOrientation(bytes.Read(entry + 8, 2).value_or(1));
  }
  return {};
}

}  // namespace

Upright ReadJpegOrientation(std::span<const std::byte> file) {
  constexpr uint32_t kStartOfScan = 0xffda, kApp1 = 0xffe1;
  const Bytes bytes(file, true);
  if (!bytes.Says(0, 2, 0xffd8)) return {};
  // Each turn consumes a segment of at least its own length field.
  for (uint64_t at = 2;;) {
    const uint32_t marker = bytes.Read(at, 2).value_or(0);
    if (marker == 0xffff) {  // a fill byte before a marker
      ++at;
      continue;
    }
    const uint32_t length = bytes.Read(at + 2, 2).value_or(0);
    if (marker < 0xff00 || marker == kStartOfScan || length < 2) return {};
    if (at + 2 + length > file.size()) return {};
    const std::span<const std::byte> body = file.subspan(at + 4, length - 2);
    if (marker == kApp1 && body.size() >= 6 && std::memcmp(body.data(), "Exif\0\0", 6) == 0) {
      return ReadTiff(body.subspan(6));
    }
    at += 2 + length;
  }
}

}  // namespace headroom::vision
