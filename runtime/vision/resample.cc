#include "vision/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace headroom::vision {
namespace {

using model::ResizeFilter;

constexpr double kPi = 3.14159265358979323846;
constexpr int32_t kOne = 1 << kWeightBits, kHalf = kOne / 2;

// Half the width of a filter, in inputs where nothing is reduced.
double Support(ResizeFilter filter) {
  switch (filter) {
    case ResizeFilter::kNearest:
      return 0.0;
    case ResizeFilter::kBox:
      return 0.5;
    case ResizeFilter::kBilinear:
    case ResizeFilter::kHamming:
      return 1.0;
    case ResizeFilter::kBicubic:
      return 2.0;
    case ResizeFilter::kLanczos:
      return 3.0;
  }
  return 0.0;
}

double Sinc(double x) { return x == 0.0 ? 1.0 : std::sin(x * kPi) / (x * kPi); }

// The Hamming window's two numbers are floats in Pillow, and the last bit counts.
double Hamming(double x) {
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= kPi;
  return std::sin(x) / x * (double{0.54f} + double{0.46f} * std::cos(x));
}

// Keys' cubic convolution with a = -1/2.
double Bicubic(double x) {
  constexpr double kA = -0.5;
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * kA;
  return 0.0;
}

double Weigh(ResizeFilter filter, double x) {
  const double distance = std::fabs(x);
  switch (filter) {
    case ResizeFilter::kBox:
      return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;  // an input on an edge belongs to one side
    case ResizeFilter::kBilinear:
      return distance < 1.0 ? 1.0 - distance : 0.0;
    case ResizeFilter::kHamming:
      return Hamming(distance);
    case ResizeFilter::kBicubic:
      return Bicubic(distance);
    case ResizeFilter::kLanczos:
      return -3.0 <= x && x < 3.0 ? Sinc(x) * Sinc(x / 3.0) : 0.0;
    case ResizeFilter::kNearest:
      break;
  }
  return 0.0;
}

uint8_t ToByte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

}  // namespace

uint32_t MaxTaps(uint32_t in, double inputs_per_output, model::ResizeFilter filter) {
  const double reach = Support(filter) * std::max(1.0, inputs_per_output);
  return static_cast<uint32_t>(std::min(std::ceil(reach) * 2.0 + 1.0, static_cast<double>(in)));
}

uint32_t MaxTaps(const Axis& axis) {
  if (axis.in == axis.out) return 1;
  return MaxTaps(axis.in, static_cast<double>(axis.in) / axis.out, axis.filter);
}

AxisWalk::AxisWalk(const Axis& axis, std::span<double> room)
    : axis_(axis), room_(room), nearest_(0.0 + static_cast<double>(axis.in) / axis.out * 0.5) {}

void AxisWalk::Skip(uint32_t positions) {
  if (axis_.filter == ResizeFilter::kNearest) {
    const double step = static_cast<double>(axis_.in) / axis_.out;
    for (uint32_t i = 0; i < positions; ++i) nearest_ += step;
  }
  position_ += positions;
}

Taps AxisWalk::Next(int32_t* weights) {
  if (axis_.in == axis_.out) {  // no resize: the input itself
    weights[0] = kOne;
    return {position_++, 1};
  }
  return axis_.filter == ResizeFilter::kNearest ? Nearest(weights) : Filtered(weights);
}

Taps AxisWalk::Nearest(int32_t* weights) {
  const uint32_t at = std::min(static_cast<uint32_t>(nearest_), axis_.in - 1);
  Skip(1);
  weights[0] = kOne;
  return {at, 1};
}

Taps AxisWalk::Filtered(int32_t* weights) {
  const double scale = static_cast<double>(axis_.in) / axis_.out;
  const double widened = std::max(1.0, scale), inverse = 1.0 / widened;
  const double reach = Support(axis_.filter) * widened;
  const double centre = (position_++ + 0.5) * scale;
  // Truncated towards zero, so that what is negative becomes 0 at most.
  const int32_t begin = std::max(static_cast<int32_t>(centre - reach + 0.5), 0);
  const int32_t end =
      std::min(static_cast<int32_t>(centre + reach + 0.5), static_cast<int32_t>(axis_.in));
  const int32_t count = end - begin;
  double sum = 0.0;
  for (int32_t i = 0; i < count; ++i) {
    room_[i] = Weigh(axis_.filter, (i + begin - centre + 0.5) * inverse);
    sum += room_[i];
  }
  for (int32_t i = 0; i < count; ++i) {
    const double weight = (sum != 0.0 ? room_[i] / sum : room_[i]) * kOne;
    weights[i] = static_cast<int32_t>(weight < 0.0 ? weight - 0.5 : weight + 0.5);
  }
  return {static_cast<uint32_t>(begin), static_cast<uint32_t>(count)};
}

void ResampleRow(const uint8_t* in, uint32_t in_first, std::span<const Taps> taps,
                 const int32_t* weights, uint32_t weights_stride, uint8_t* out) {
  for (const Taps& tap : taps) {
    const uint8_t* pixel = in + size_t{3} * (tap.begin - in_first);
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (uint32_t i = 0; i < tap.count; ++i, pixel += 3) {
      red += pixel[0] * weights[i];
      green += pixel[1] * weights[i];
      blue += pixel[2] * weights[i];
    }
    out[0] = ToByte(red);
    out[1] = ToByte(green);
    out[2] = ToByte(blue);
    out += 3;
    weights += weights_stride;
  }
}

void StartSums(std::span<int32_t> sums) { std::fill(sums.begin(), sums.end(), kHalf); }

void AddRow(const uint8_t* row, int32_t weight, std::span<int32_t> sums) {
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += row[i] * weight;
}

void RoundSums(std::span<const int32_t> sums, uint8_t* out) {
  for (size_t i = 0; i < sums.size(); ++i) out[i] = ToByte(sums[i]);
}

}  // namespace headroom::vision
