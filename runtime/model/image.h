// What the file of a vision model says about its pictures: how pixels become the input.
#pragma once

#include <cstdint>

namespace headroom::model {

// To what a picture is resized before it is cropped.
enum class ResizeRule : uint8_t {
  kNone,         // as it is
  kShorterSide,  // the shorter side to `resize_height`, the longer one in proportion, rounded down
  kExact,        // to resize_height x resize_width, whatever its proportions
};

// Of Pillow: a filter as wide as the reduction (antialiased), 8-bit rows between its two passes.
enum class ResizeFilter : uint8_t { kNearest, kBox, kBilinear, kHamming, kBicubic, kLanczos };

// Where the crop begins when an odd number of pixels is cut off.
enum class CropRounding : uint8_t {
  kHalfToEven,  // round((size - crop) / 2), halves to even (torchvision)
  kDown,        // (size - crop) / 2 rounded down (transformers)
};

// Pixels [height, width, 3] of 8 bits become f32 (pixel * scale - mean) / deviation.
struct PreprocessSpec {
  ResizeRule resize = ResizeRule::kNone;
  ResizeFilter filter = ResizeFilter::kBicubic;
  uint32_t resize_height = 0, resize_width = 0;
  uint32_t crop_height = 0, crop_width = 0;  // from the centre: the input's own extents
  CropRounding rounding = CropRounding::kHalfToEven;
  bool bgr = false;  // blue first
  float scale = 1.0f / 255.0f;
  float mean[3] = {0.0f, 0.0f, 0.0f};
  float deviation[3] = {1.0f, 1.0f, 1.0f};
};

}  // namespace headroom::model
