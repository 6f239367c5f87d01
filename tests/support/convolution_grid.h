// Which convolutions are tested: every kernel with every kind of groups and every type of weights,
// each a few times with everything else drawn.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "support/convolution_tester.h"

namespace headroom::test {

struct GroupCase {
  uint32_t groups, group_in, group_out;
};
// Dense, two and four groups, depthwise, depthwise with two results a channel, one channel.
inline constexpr GroupCase kGroupCases[] = {{1, 5, 7},  {1, 19, 33}, {2, 3, 5}, {4, 4, 2},
                                            {13, 1, 1}, {40, 1, 1},  {6, 1, 2}, {1, 1, 1}};
inline constexpr uint32_t kKernelCases[][2] = {{1, 1}, {3, 3}, {5, 5}, {7, 7}, {2, 3}, {1, 7}};

// Drawn until the window fits into the picture.
inline ConvolutionCase DrawConvolution(DType dtype, const uint32_t kernel[2], const GroupCase& g,
                                       std::mt19937& random) {
  const auto draw = [&](uint32_t low, uint32_t high) {
    return std::uniform_int_distribution<uint32_t>(low, high)(random);
  };
  ConvolutionCase c;
  c.dtype = dtype;
  c.groups = g.groups;
  c.group_in = g.group_in;
  c.group_out = g.group_out;
  const bool plain = draw(0, 2) == 0;
  for (int axis = 0; axis < 2; ++axis) {
    c.window.kernel[axis] = kernel[axis];
    c.window.stride[axis] = plain ? 1 : draw(1, 3);
    c.window.dilation[axis] = kernel[axis] == 1 || plain ? 1 : draw(1, 2);
    c.window.pad[axis] = plain ? 0 : draw(0, kernel[axis] - 1);
    c.window.pad[axis + 2] = plain ? 0 : draw(0, kernel[axis] - 1);
  }
  const uint32_t reach[2] = {c.window.dilation[0] * (kernel[0] - 1) + 1,
                             c.window.dilation[1] * (kernel[1] - 1) + 1};
  c.rows = reach[0] + draw(0, 6);
  c.columns = reach[1] + draw(0, 7);
  c.batch = draw(0, 2) == 0 ? 3 : 1;
  c.in_gap = draw(0, 1) * draw(1, 9);
  c.out_gap = draw(0, 1) * draw(1, 9);
  c.bias = draw(0, 3) != 0;
  c.limit = static_cast<model::Limit>(draw(0, 2));
  c.seed = draw(1, 1u << 30);
  return c;
}

inline std::vector<ConvolutionCase> ConvolutionGrid(uint32_t each) {
  std::mt19937 random(20);
  std::vector<ConvolutionCase> cases;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    for (const auto& kernel : kKernelCases) {
      for (const GroupCase& g : kGroupCases) {
        for (uint32_t i = 0; i < each; ++i) {
          cases.push_back(DrawConvolution(dtype, kernel, g, random));
        }
      }
    }
  }
  for (const auto& kernel : kKernelCases) {
    for (const GroupCase& g : kGroupCases) {
      for (uint32_t i = 0; i < each; ++i) {
        cases.push_back(DrawConvolution(DType::kF16, kernel, g, random));
        cases.back().halves = true;
      }
    }
  }
  return cases;
}

}  // namespace headroom::test
