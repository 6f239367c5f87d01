// Tester of convolutions of pictures: makes weights, pictures and codes for a ConvolutionCase, runs
// a kernel on them between guards and compares with the oracle.
#pragma once

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "backends/xnnpack/dense.h"
#include "base/half.h"
#include "model/image.h"
#include "oracle/image.h"
#include "oracle/image_codes.h"
#include "plan/image_solve.h"
#include "support/compare.h"
#include "support/guarded_memory.h"
#include "support/tolerance.h"

namespace headroom::test {

using xnnpack::ConvolutionSpec;
using xnnpack::DenseWeights;

struct ConvolutionCase {
  DType dtype = DType::kF32;
  model::WindowSpec window;
  uint32_t groups = 1, group_in = 1, group_out = 1;  // channels of a group
  uint32_t rows = 1, columns = 1, batch = 1;
  uint32_t in_gap = 0, out_gap = 0;  // channels of others behind ours in each pixel
  bool bias = true;
  model::Limit limit = model::Limit::kNone;
  uint32_t seed = 1;
  bool halves = false;  // elements are f16
  bool codes() const { return dtype == DType::kI8; }
  uint32_t channels() const { return groups * group_in; }
  uint32_t outputs() const { return groups * group_out; }
  uint32_t taps() const { return window.kernel[0] * window.kernel[1] * group_in; }
};

inline std::string Describe(const ConvolutionCase& c) {
  const model::WindowSpec& w = c.window;
  const auto n = [](uint32_t value) { return std::to_string(value); };
  return std::string(DTypeName(c.dtype)) + (c.halves ? " on halves kernel " : " kernel ") +
         n(w.kernel[0]) + "x" + n(w.kernel[1]) + " stride " + n(w.stride[0]) + "x" +
         n(w.stride[1]) + " dilation " + n(w.dilation[0]) + "x" + n(w.dilation[1]) + " pad " +
         n(w.pad[0]) + "," + n(w.pad[1]) + "," + n(w.pad[2]) + "," + n(w.pad[3]) + " groups " +
         n(c.groups) + " of " + n(c.group_in) + " to " + n(c.group_out) + " on " + n(c.batch) +
         "x" + n(c.rows) + "x" + n(c.columns) + " gaps " + n(c.in_gap) + "," + n(c.out_gap) +
         " limit " + n(static_cast<uint32_t>(c.limit)) + (c.bias ? " bias" : "") + " seed " +
         n(c.seed);
}

inline oracle::Window OracleWindow(const model::WindowSpec& from) {
  oracle::Window window;
  std::copy_n(from.kernel, 2, window.kernel);
  std::copy_n(from.stride, 2, window.stride);
  std::copy_n(from.dilation, 2, window.dilation);
  std::copy_n(from.pad, 4, window.pad);
  return window;
}

// A layer's weights and the pictures it reads, everything ending at a forbidden page.
class ConvolutionData {
 public:
  explicit ConvolutionData(const ConvolutionCase& c) : c_(c), random_(c.seed) {
    name_ = "tensor " + Describe(c);
    FillSpec();
    FillWeights();
    FillInput();
    const oracle::Window window = OracleWindow(c.window);
    out_rows = static_cast<uint32_t>(window.Places(c.rows, 0));
    out_columns = static_cast<uint32_t>(window.Places(c.columns, 1));
    const uint64_t pixels = uint64_t{c.batch} * out_rows * out_columns;
    out_stride = c.outputs() + c.out_gap;
    out = GuardedMemory(((pixels - 1) * out_stride + c.outputs()) * ElementBytes(), ElementBytes());
    // NaN, or a code that no result is likely to have everywhere.
    std::memset(out.data(), c.codes() ? kGapCode : 0xff, out.bytes());
  }

  size_t ElementBytes() const { return c_.codes() ? 1 : c_.halves ? 2 : 4; }
  double InputAt(size_t i) const {
    if (c_.codes()) {
      return oracle::CodeNumber(input.as<int8_t>()[i], {spec.in_scale, spec.in_zero});
    }
    return c_.halves ? HalfToFloat(input.as<uint16_t>()[i]) : input.as<float>()[i];
  }
  double OutputAt(size_t i) const {  // of floats or halves
    return c_.halves ? HalfToFloat(out.as<uint16_t>()[i]) : out.as<float>()[i];
  }
  const ConvolutionCase& shape() const { return c_; }
  DenseWeights Layer(const ConvolutionSpec& with) const {
    DenseWeights layer;
    TensorView& tensor = layer.weight;
    tensor.name = name_;
    tensor.dtype = c_.dtype;
    tensor.rank = 2;
    tensor.extents = {c_.outputs(), c_.taps(), 0, 0};
    tensor.data = weights.data();
    tensor.data_bytes = weights.bytes();
    tensor.scales = scales.data();
    tensor.scale_bytes = scales.bytes();
    layer.rows = c_.outputs();
    layer.bias = c_.bias ? bias.as<float>() : nullptr;
    layer.convolution = &with;
    return layer;
  }
  double Weight(size_t i) const {
    if (c_.dtype == DType::kF32) return weights.as<float>()[i];
    if (c_.dtype == DType::kF16) return HalfToFloat(weights.as<uint16_t>()[i]);
    return weights.as<int8_t>()[i] * double{scales.as<float>()[i / c_.taps()]};
  }
  oracle::Picture Picture(uint32_t index) const {
    oracle::Picture picture(c_.rows, c_.columns, c_.channels());
    for (size_t p = 0; p < picture.positions(); ++p) {
      for (size_t c = 0; c < picture.channels; ++c) {
        const size_t at = (index * picture.positions() + p) * in_stride + c;
        picture.x[p * picture.channels + c] = InputAt(at);
      }
    }
    return picture;
  }

  static constexpr int kGapCode = 0x55;
  ConvolutionSpec spec;
  GuardedMemory weights, scales, bias, input, out;
  uint32_t in_stride = 0, out_stride = 0, out_rows = 0, out_columns = 0;

 private:
  float Normal() { return normal_(random_); }
  void FillSpec() {
    std::copy_n(c_.window.kernel, 2, spec.kernel);
    std::copy_n(c_.window.stride, 2, spec.stride);
    std::copy_n(c_.window.dilation, 2, spec.dilation);
    std::copy_n(c_.window.pad, 4, spec.pad);
    spec.groups = c_.groups;
    spec.channels = c_.channels();
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    if (c_.limit == model::Limit::kRelu) spec.high = kInfinity;
    if (c_.limit == model::Limit::kRelu6) spec.high = 6.0f;
    spec.halves = c_.halves ? 1 : 0;
    if (!c_.codes()) return;
    spec.in_scale = 0.03f;
    spec.in_zero = static_cast<int32_t>(c_.seed % 41) - 20;  // what padding must look like
    spec.out_scale = 0.07f;
    spec.out_zero = static_cast<int32_t>(c_.seed % 23) - 11;
  }
  // Results have a spread of 3, so that both limits cut.
  void FillWeights() {
    const uint64_t values = uint64_t{c_.outputs()} * c_.taps();
    weights = GuardedMemory(values * DTypeBits(c_.dtype) / 8, DTypeBits(c_.dtype) / 8);
    bias = GuardedMemory(c_.outputs() * sizeof(float), sizeof(float));
    const float spread = 3.0f / std::sqrt(static_cast<float>(c_.taps()));
    for (uint64_t i = 0; i < values; ++i) {
      if (c_.dtype == DType::kF32) weights.as<float>()[i] = Normal() * spread;
      if (c_.dtype == DType::kF16) weights.as<uint16_t>()[i] = FloatToHalf(Normal() * spread);
      if (c_.codes()) weights.as<int8_t>()[i] = static_cast<int8_t>(random_());
    }
    for (uint32_t n = 0; n < c_.outputs(); ++n) bias.as<float>()[n] = Normal() * 2.0f;
    if (!c_.codes()) return;
    scales = GuardedMemory(c_.outputs() * sizeof(float), sizeof(float));
    std::uniform_real_distribution<float> factor(0.5f, 2.0f);
    for (uint32_t n = 0; n < c_.outputs(); ++n) {
      scales.as<float>()[n] = spread / 74.0f * factor(random_);
    }
  }
  void FillInput() {
    in_stride = c_.channels() + c_.in_gap;
    const uint64_t pixels = uint64_t{c_.batch} * c_.rows * c_.columns;
    const uint64_t count = (pixels - 1) * in_stride + c_.channels();
    // Readable so far behind the end, and no number there.
    input =
        GuardedMemory(count * ElementBytes() + xnnpack::DenseSet::kSpareInputBytes, ElementBytes());
    std::memset(input.data(), 0xff, input.bytes());
    for (uint64_t p = 0; p < pixels; ++p) {
      for (uint32_t c = 0; c < c_.channels(); ++c) {
        const uint64_t at = p * in_stride + c;
        if (c_.codes()) {
          input.as<int8_t>()[at] = static_cast<int8_t>(random_());
        } else if (c_.halves) {
          input.as<uint16_t>()[at] = FloatToHalf(Normal() + 0.5f);
        } else {
          input.as<float>()[at] = Normal() + 0.5f;
        }
      }
    }
  }

  ConvolutionCase c_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  std::string name_;
};

inline plan::ConvolutionBytes PlannedBytes(const ConvolutionCase& c, uint32_t threads) {
  model::ImageOp op;
  op.kind = model::ImageOpKind::kConvolution;
  op.window = c.window;
  op.groups = c.groups;
  const oracle::Window window = OracleWindow(c.window);
  const plan::ImageExtent out{static_cast<uint32_t>(window.Places(c.rows, 0)),
                              static_cast<uint32_t>(window.Places(c.columns, 1))};
  return plan::ConvolutionBytesOf(op, c.channels(), c.outputs(), out, threads);
}

// Runs a layer whose weights lie in `set`.
inline Status RunPacked(const ConvolutionData& data, const ConvolutionSpec& spec,
                        const xnnpack::DenseSet& set, size_t layer, xnnpack::ThreadPool& pool) {
  const ConvolutionCase& c = data.shape();
  HR_ASSIGN_OR_RETURN(auto convolution,
                      xnnpack::Convolution::Create(data.Layer(spec), set.packed_weights(layer),
                                                   data.in_stride, data.out_stride));
  const uint64_t bytes = PlannedBytes(c, pool.threads()).workspace;
  const GuardedMemory workspace(bytes, 64);
  HR_RETURN_IF_ERROR(convolution.Shape({c.batch, c.rows, c.columns}, bytes, pool));
  HR_RETURN_IF_ERROR(convolution.Bind(data.input.data(), data.out.data(), workspace.data()));
  return convolution.Run(pool);
}

using ConvolutionKernel = std::function<Status(const ConvolutionData& data)>;

// The product's own: one layer packed into private memory. `change` makes mutants of it.
inline ConvolutionKernel XnnpackConvolution(
    xnnpack::ThreadPool& pool, const std::function<void(ConvolutionSpec&)>& change = {}) {
  return [&pool, change](const ConvolutionData& data) -> Status {
    ConvolutionSpec spec = data.spec;
    if (change) change(spec);
    const DenseWeights layer = data.Layer(spec);
    HR_ASSIGN_OR_RETURN(const auto set, xnnpack::DenseSet::Create({&layer, 1}, {}));
    return RunPacked(data, spec, *set, 0, pool);
  };
}

inline void CheckPixel(const ConvolutionData& data, const oracle::Convolved& exact, uint32_t image,
                       uint32_t position, uint32_t n, Verdict* verdict) {
  const ConvolutionCase& c = data.shape();
  const size_t at = position * exact.out.channels + n;
  const double low = c.limit == model::Limit::kNone ? -INFINITY : 0;
  const double high = c.limit == model::Limit::kRelu6 ? 6 : INFINITY;
  const double number = std::fmin(std::fmax(exact.out.x[at], low), high);
  const double magnitude = exact.magnitude.x[at];
  const uint64_t place = (uint64_t{image} * exact.out.positions() + position) * data.out_stride + n;
  const std::string where = Describe(c) + ": picture " + std::to_string(image) + " position " +
                            std::to_string(position) + " channel " + std::to_string(n);
  if (!c.codes()) {
    const double allowed = c.halves ? HalfConvolutionAllowance(magnitude, c.taps())
                                    : ConvolutionAllowance(magnitude, c.taps());
    return verdict->Check(data.OutputAt(place), number, allowed, where);
  }
  // Sums of codes are exact but for the bias, which is rounded to a whole one of them.
  const oracle::CodeSpec codes{data.spec.out_scale, data.spec.out_zero};
  const double unit = data.spec.in_scale * data.scales.as<float>()[n] / data.spec.out_scale;
  verdict->Check(data.out.as<int8_t>()[place], oracle::CodePlace(number, codes),
                 NearestCodeAllowance(magnitude / data.spec.out_scale) + (c.bias ? unit / 2 : 0),
                 where);
}

inline void CheckGaps(const ConvolutionData& data, Verdict* verdict) {
  const ConvolutionCase& c = data.shape();
  const uint64_t pixels = uint64_t{c.batch} * data.out_rows * data.out_columns;
  for (uint64_t p = 0; p + 1 < pixels; ++p) {
    for (uint64_t i = p * data.out_stride + c.outputs(); i < (p + 1) * data.out_stride; ++i) {
      const bool kept = c.codes() ? data.out.as<int8_t>()[i] == ConvolutionData::kGapCode
                                  : std::isnan(data.OutputAt(i));
      if (!kept) verdict->Fail(Describe(c) + ": gap overwritten");
    }
  }
}

// Compares what lies in data.out.
inline Verdict CompareConvolution(const ConvolutionData& data) {
  const ConvolutionCase& c = data.shape();
  std::vector<double> weight(size_t{c.outputs()} * c.taps()), bias(c.outputs(), 0.0);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = data.Weight(i);
  for (uint32_t n = 0; n < c.outputs() && c.bias; ++n) bias[n] = data.bias.as<float>()[n];
  Verdict verdict;
  for (uint32_t image = 0; image < c.batch; ++image) {
    const oracle::Convolved exact =
        oracle::Convolve2d(data.Picture(image), weight, bias, OracleWindow(c.window), c.groups);
    for (uint32_t p = 0; p < exact.out.positions(); ++p) {
      for (uint32_t n = 0; n < c.outputs(); ++n) {
        CheckPixel(data, exact, image, p, n, &verdict);
      }
    }
  }
  CheckGaps(data, &verdict);
  return verdict;
}

// Whether the CPU computes with halves, or XNNPACK refuses them.
inline bool CpuHasHalves() {
#if defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDHP) != 0;
#else
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
#endif
}

inline Verdict TestConvolution(const ConvolutionKernel& kernel, const ConvolutionCase& c) {
  const ConvolutionData data(c);
  const Status status = kernel(data);
  if (status.ok()) return CompareConvolution(data);
  Verdict verdict;
  if (c.halves && !CpuHasHalves() && status.code() == StatusCode::kUnsupported) return verdict;
  verdict.Fail(Describe(c) + ": " + status.message());
  return verdict;
}

}  // namespace headroom::test
