// headroom bench for vision models: pictures per second, and what they cost in bytes.
#pragma once

#include <cstdint>
#include <vector>

#include <headroom/headroom.h>

namespace headroom::cli {

struct ImageBenchArguments {
  hr_image_options options = {};
  std::vector<uint32_t> threads = {0};
  uint32_t repetitions = 5;
};

int BenchImages(hr_model* model, const ImageBenchArguments& arguments, bool json);

}  // namespace headroom::cli
