// The weights with which Pillow's Image.resize makes one axis of an 8-bit picture from another.
//
// Output position x of `out` lies at (x + 1/2) in / out of the input; the filter, widened by in /
// out where that is a reduction, weights the inputs around it; weights sum to 1 and are rounded to
// 22 bits behind the point (Pillow 13, src/libImaging/Resample.c; nearest: Geometry.c). Sines and
// cosines are the C library's: one that rounds otherwise could move a weight by 2^-22.
#pragma once

#include <cstdint>
#include <span>

#include "model/image.h"

namespace headroom::vision {

struct Axis {
  uint32_t in = 0, out = 0;
  model::ResizeFilter filter = model::ResizeFilter::kNearest;
};

// One output position: inputs begin .. begin + count - 1.
struct Taps {
  uint32_t begin = 0, count = 0;
};

constexpr int kWeightBits = 22;

// No output position of an axis with this many inputs for each output has more taps; grows with
// both arguments. `in` bounds it, too.
uint32_t MaxTaps(uint32_t in, double inputs_per_output, model::ResizeFilter filter);
uint32_t MaxTaps(const Axis& axis);

// Goes over output positions in order, as far as is asked.
class AxisWalk {
 public:
  // `room` holds MaxTaps doubles and is borrowed.
  AxisWalk(const Axis& axis, std::span<double> room);

  void Skip(uint32_t positions);
  // Of the next position; `weights` holds MaxTaps numbers.
  Taps Next(int32_t* weights);

 private:
  Taps Nearest(int32_t* weights);
  Taps Filtered(int32_t* weights);

  Axis axis_;
  std::span<double> room_;
  uint32_t position_ = 0;
  double nearest_ = 0.0;  // where nearest reads; a running sum, as Pillow's is
};

// Rows of RGB, 8 bits. out[x] = the taps of x over `in`, whose first pixel is input `in_first`.
void ResampleRow(const uint8_t* in, uint32_t in_first, std::span<const Taps> taps,
                 const int32_t* weights, uint32_t weights_stride, uint8_t* out);

// Of `bytes` columns: sums[i] += weight * row[i]; and what the sums are as bytes, and begin anew.
void StartSums(std::span<int32_t> sums);
void AddRow(const uint8_t* row, int32_t weight, std::span<int32_t> sums);
void RoundSums(std::span<const int32_t> sums, uint8_t* out);

}  // namespace headroom::vision
