// Public model shapes with random weights, for speed work without a download.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"

namespace headroom::convert {

struct Preset {
  std::string_view name;
  std::string_view config;  // the published config.json's facts
};

std::span<const Preset> Presets();
const Preset* FindPreset(std::string_view name);  // nullptr: none

// Reproducible noise made directly in the stored form, several hundred MB/s: a model of a billion
// weights takes seconds. Weights have zero mean and standard deviation 1 / sqrt(K), which keeps
// activations of order one through a pre-normed network.
class RandomWeights {
 public:
  RandomWeights(uint64_t seed, DType dtype, uint32_t columns);

  // The next elements of the tensor, whole bytes.
  void FillData(std::span<std::byte> out);
  // Scales of one size: all rows are alike. `bytes_per_scale`: 4 (f32) or 2 (bfloat16).
  void FillScales(std::span<std::byte> out, size_t bytes_per_scale) const;

 private:
  uint64_t Next();
  uint64_t state_;
  DType dtype_;
  float deviation_;
};

}  // namespace headroom::convert
