#include "vision/decode.h"

#include <cstring>
#include <optional>
#include <string_view>

#include "vision/exif.h"

namespace headroom::vision {
namespace {

using Bytes = std::span<const std::byte>;

unsigned long long Number(uint64_t value) { return value; }

bool Says(const StbOutcome& outcome, std::string_view words) {
  return std::string_view(outcome.reason).find(words) != std::string_view::npos;
}

Status WhyNot(const StbOutcome& outcome, Bytes file, uint64_t limit_bytes) {
  if (outcome.over_budget) {
    return Status::Make(StatusCode::kOverBudget,
                        "picture: decoding a file of %zu bytes needs more than the limit of %llu",
                        file.size(), Number(limit_bytes));
  }
  if (outcome.refused) {
    return Status::Make(StatusCode::kOutOfMemory, "picture: the heap has no memory to decode it");
  }
  if (Says(outcome, "too large") || Says(outcome, "Very large")) {
    return Status::Make(StatusCode::kUnsupported, "picture: %s; sides must be 1..%u",
                        outcome.reason, kMaxSide);
  }
  if (Says(outcome, "not supported") || Says(outcome, "not of any known type")) {
    return Status::Make(StatusCode::kUnsupported, "picture: %s", outcome.reason);
  }
  if (outcome.ended_early) {
    return Status::Make(StatusCode::kCorrupt, "picture: its file of %zu bytes is cut off",
                        file.size());
  }
  return Status::Make(StatusCode::kCorrupt, "picture: %s", outcome.reason);
}

// A PNM's header: a letter and three numbers between blanks and comments.
std::optional<uint32_t> PnmGreatest(Bytes file) {
  size_t at = 2;
  uint32_t value = 0;
  const auto byte = [&] { return at < file.size() ? std::to_integer<int>(file[at]) : -1; };
  const auto is_digit = [&] { return byte() >= '0' && byte() <= '9'; };
  for (int number = 0; number < 3; ++number) {
    while (!is_digit()) {
      if (byte() < 0) return std::nullopt;
      if (byte() == '#') {
        while (byte() >= 0 && byte() != '\n' && byte() != '\r') ++at;
      } else {
        ++at;
      }
    }
    for (value = 0; is_digit() && value < 100'000; ++at) {
      value = value * 10 + static_cast<uint32_t>(byte() - '0');
    }
  }
  return value;
}

bool Begins(Bytes file, std::string_view with, size_t at = 0) {
  return file.size() >= at + with.size() &&
         std::memcmp(file.data() + at, with.data(), with.size()) == 0;
}

// Variants that stb would read, but otherwise than everybody else.
Status CheckVariant(Bytes file) {
  if (Begins(file, "P5") || Begins(file, "P6")) {
    const std::optional<uint32_t> greatest = PnmGreatest(file);
    if (greatest.has_value() && *greatest != 255) {
      return Status::Make(StatusCode::kUnsupported,
                          "picture: PNM with greatest value %u, only 255 is read", *greatest);
    }
  }
  if (Begins(file, "\x89PNG") && Begins(file, "CgBI", 12)) {
    return Status::Make(StatusCode::kUnsupported,
                        "picture: a PNG as Apple's tools rewrite it (CgBI) is not read");
  }
  return Status();
}

Status CheckExtents(const StbOutcome& header, uint64_t limit_bytes) {
  if (header.width < 1 || header.height < 1) {
    return Status::Make(StatusCode::kCorrupt, "picture: %u x %u pixels", header.width,
                        header.height);
  }
  if (header.width > kMaxSide || header.height > kMaxSide) {
    return Status::Make(StatusCode::kUnsupported, "picture: %u x %u, sides must be 1..%u",
                        header.width, header.height, kMaxSide);
  }
  const uint64_t pixels_bytes = uint64_t{3} * header.width * header.height;
  if (pixels_bytes > limit_bytes) {
    return Status::Make(StatusCode::kOverBudget, "picture: %u x %u is %llu bytes > limit %llu",
                        header.width, header.height, Number(pixels_bytes), Number(limit_bytes));
  }
  return Status();
}

}  // namespace

PixelView DecodedImage::View() const {
  PixelView view;
  view.data = rgb.get();
  view.width = width;
  view.height = height;
  view.row_bytes = size_t{3} * width;
  view.rotation = rotation;
  view.mirrored = mirrored;
  return view;
}

Result<DecodedImage> Decode(Bytes file, uint64_t limit_bytes) {
  HR_RETURN_IF_ERROR(CheckVariant(file));
  // A header that is refused is looked at again by the decoder, which says why.
  const StbOutcome header = StbReadHeader(file, limit_bytes);
  if (header.ok) HR_RETURN_IF_ERROR(CheckExtents(header, limit_bytes));
  StbOutcome outcome = StbDecode(file, limit_bytes);
  if (!outcome.ok || outcome.ended_early) return WhyNot(outcome, file, limit_bytes);
  // A second header in the file could say something else than the one that was checked.
  HR_RETURN_IF_ERROR(CheckExtents(outcome, limit_bytes));
  const Upright upright = ReadJpegOrientation(file);
  DecodedImage image;
  image.rgb = std::move(outcome.rgb);
  image.width = outcome.width;
  image.height = outcome.height;
  image.rotation = upright.rotation;
  image.mirrored = upright.mirrored;
  image.peak_bytes = outcome.peak_bytes;
  return image;
}

}  // namespace headroom::vision
