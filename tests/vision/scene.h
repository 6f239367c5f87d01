// Pictures that tests make, and the goldens on disk.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/image.h"
#include "vision/pixels.h"
#include "vision/preprocess.h"

namespace headroom::test {

// Noise with blocks of black and white, RGB: that of tests/golden/make_image_goldens.py.
inline std::vector<uint8_t> Scene(uint32_t height, uint32_t width) {
  std::vector<uint8_t> pixels;
  uint32_t state = height * 65537 + width;
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      for (uint32_t channel = 0; channel < 3; ++channel) {
        state = state * 1664525 + 1013904223;
        const uint32_t block = (x / 5 + y / 3 + channel) % 4;
        pixels.push_back(static_cast<uint8_t>(block == 0 ? 0 : block == 1 ? 255 : state >> 24));
      }
    }
  }
  return pixels;
}

inline vision::PixelView ViewOf(const std::vector<uint8_t>& rgb, uint32_t height, uint32_t width) {
  vision::PixelView view;
  view.data = rgb.data();
  view.width = width;
  view.height = height;
  view.row_bytes = size_t{3} * width;
  return view;
}

// All of the upright picture, RGB.
inline std::vector<uint8_t> ReadUpright(const vision::PixelView& view) {
  const uint32_t width = vision::UprightWidth(view), height = vision::UprightHeight(view);
  std::vector<uint8_t> rgb(size_t{3} * width * height);
  for (uint32_t y = 0; y < height; ++y) {
    vision::ReadUprightRow(view, y, 0, width, &rgb[size_t{3} * width * y]);
  }
  return rgb;
}

// Bytes come out as they are: scale 1, mean 0, deviation 1.
inline model::PreprocessSpec PlainSpec(uint32_t crop_height, uint32_t crop_width) {
  model::PreprocessSpec spec;
  spec.crop_height = crop_height;
  spec.crop_width = crop_width;
  spec.scale = 1.0f;
  return spec;
}

// With scratch of just the stated bound and an output that must be written all over.
inline Status RunPreprocess(const vision::PixelView& view, const model::PreprocessSpec& spec,
                            std::vector<float>* out) {
  std::vector<std::byte> scratch(vision::PreprocessScratchBytes(spec, view.width, view.height));
  out->assign(size_t{3} * spec.crop_height * spec.crop_width, -1.0f);
  return vision::Preprocess(view, spec, scratch, *out);
}

inline std::string ReadGolden(const std::string& name) {
  const char* root = std::getenv("HEADROOM_SOURCE_DIR");
  if (root == nullptr) throw std::runtime_error("HEADROOM_SOURCE_DIR is not set");
  const std::string path = std::string(root) + "/tests/golden/images/" + name;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace headroom::test
