// A vision model in double precision beside the product's run of it: every operation is computed
// anew from what the product had before it, so that each result has the tolerance of one operation.
//
// Numbers of f32 are seen by the session's observer. Codes are not: they are computed, and where
// rounding could have gone either way, by how much they may be off is carried along.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "base/half.h"
#include "model/model.h"
#include "oracle/image.h"
#include "oracle/image_codes.h"
#include "oracle/pointwise.h"
#include "oracle/self_attention.h"
#include "plan/image.h"
#include "support/compare.h"
#include "support/convolution_tester.h"
#include "support/image_tester.h"
#include "support/pointwise_tester.h"
#include "support/tolerance.h"

namespace headroom::test {

// Numbers, and how far from them the product's may be.
struct Judged {
  oracle::Picture x, off;
  Judged() = default;
  explicit Judged(const oracle::Picture& numbers)
      : x(numbers), off(numbers.rows, numbers.columns, numbers.channels) {}
};

inline std::vector<double> Floats(const TensorView& tensor) {
  std::vector<double> all;
  const size_t count = tensor.data_bytes * 8 / DTypeBits(tensor.dtype);
  for (size_t i = 0; i < count; ++i) {
    if (tensor.dtype == DType::kF32) all.push_back(tensor.f32()[i]);
    if (tensor.dtype == DType::kF16) {
      all.push_back(HalfToFloat(reinterpret_cast<const uint16_t*>(tensor.data)[i]));
    }
    if (tensor.dtype == DType::kI8) {
      all.push_back(reinterpret_cast<const int8_t*>(tensor.data)[i] *
                    double{reinterpret_cast<const float*>(tensor.scales)[i / tensor.columns()]});
    }
  }
  return all;
}

class ImageReference {
 public:
  ImageReference(const model::Model& model, const std::vector<plan::ImageExtent>& extents)
      : model_(model), graph_(model.image), extents_(extents) {}

  // Of all pictures of the batch, see session::ValueObserver.
  void Observe(uint32_t value, const float* x, size_t positions, size_t stride, size_t channels) {
    std::vector<double>& seen = seen_[value];
    seen.clear();
    for (size_t p = 0; p < positions; ++p) {
      for (size_t c = 0; c < channels; ++c) seen.push_back(x[p * stride + c]);
    }
  }

  // Everything that was seen of picture `index`.
  Verdict Check(uint32_t index) {
    Verdict verdict;
    values_.assign(graph_.values.size(), {});
    values_[0] = Judged(Seen(0, index));
    for (const model::ImageOp& op : graph_.ops) {
      Judged made = Compute(op);
      const bool codes = graph_.values[op.output].dtype == DType::kI8;
      const bool halves = graph_.values[op.output].dtype == DType::kF16;
      if (codes && !IsView(op)) made = Encoded(made, graph_.values[op.output]);
      if (halves && !IsView(op)) Halve(&made);
      if (seen_.count(static_cast<uint32_t>(op.output)) != 0) {
        const oracle::Picture seen = Seen(op.output, index);
        const std::string where = "picture " + std::to_string(index) + " \"" +
                                  std::string(op.name) + "\" kind " +
                                  std::to_string(static_cast<int>(op.kind)) + " number ";
        for (size_t i = 0; i < seen.x.size(); ++i) {
          verdict.Check(seen.x[i], made.x.x[i], made.off.x[i], where + std::to_string(i));
        }
        made = Judged(seen);
      } else if (!codes && !halves && !IsView(op)) {
        verdict.Fail("an operation's result was not shown");
      }
      values_[op.output] = std::move(made);
    }
    return verdict;
  }

 private:
  static bool IsView(const model::ImageOp& op) {
    return op.kind == model::ImageOpKind::kSlice || op.kind == model::ImageOpKind::kFlatten ||
           op.kind == model::ImageOpKind::kConcat;
  }
  oracle::Picture Blank(int32_t value) const {
    return {extents_[value].rows, extents_[value].columns, graph_.values[value].channels};
  }
  oracle::Picture Seen(int32_t value, uint32_t index) const {
    oracle::Picture picture = Blank(value);
    const std::vector<double>& all = seen_.at(static_cast<uint32_t>(value));
    std::copy_n(all.begin() + static_cast<ptrdiff_t>(index * picture.x.size()), picture.x.size(),
                picture.x.begin());
    return picture;
  }
  // The nearest codes, and those on the other side where that is as near as rounding can tell.
  static Judged Encoded(const Judged& made, const model::ImageValue& value) {
    Judged result(made.x);
    const oracle::CodeSpec spec{value.scale, value.zero_point};
    for (size_t i = 0; i < made.x.x.size(); ++i) {
      const double number = made.x.x[i], off = made.off.x[i];
      const int code = oracle::Encode(number, spec);
      const int low = oracle::Encode(number - off, spec), high = oracle::Encode(number + off, spec);
      result.x.x[i] = oracle::CodeNumber(code, spec);
      result.off.x[i] = std::max(high - code, code - low) * spec.scale;
    }
    return result;
  }
  static void Halve(Judged* made) {
    for (size_t i = 0; i < made->x.x.size(); ++i) made->off.x[i] += HalfAllowance(made->x.x[i]);
  }
  // out = f(each number), off by its own and by what f says.
  template <typename Fn>
  Judged Each(int32_t value, const Fn& fn) const {
    Judged made(Blank(value));
    for (size_t i = 0; i < made.x.x.size(); ++i) fn(i, &made.x.x[i], &made.off.x[i]);
    return made;
  }

  Judged Compute(const model::ImageOp& op) const {
    using enum model::ImageOpKind;
    const Judged& in = values_[op.inputs[0]];
    switch (op.kind) {
      case kConvolution:
        return Convolution(op, in);
      case kNorm:
        return op.groups == 0 ? LayerNorms(op, in) : GroupNorm(op, in);
      case kActivation:
        return Activation(op, in);
      case kAdd:
        return Sum(op, in, values_[op.inputs[1]]);
      case kMultiply:
        return Product(op, in, values_[op.inputs[1]]);
      case kPool:
        return Pool(op, in);
      case kResize:
        return Resize(op, in);
      case kSelfAttention:
        return Attention(op, in);
      case kPositionEmbedding:
        return Positions(op, in);
      case kConcat:
        return Concat(op);
      case kSlice:
        return Channels(op, in, op.begin);
      case kRows: {
        const size_t from = size_t{op.begin} * in.x.columns * in.x.channels;
        return Each(op.output, [&](size_t i, double* x, double*) { *x = in.x.x[from + i]; });
      }
      case kFlatten:
      case kConvert:
        break;
    }
    return Each(op.output, [&](size_t i, double* x, double* off) {
      *x = in.x.x[i];
      *off = in.off.x[i] + 6 * kRoundoff * std::fabs(*x) * (op.kind == kConvert);
    });
  }

  Judged Convolution(const model::ImageOp& op, const Judged& in) const {
    const TensorView& tensor = model_.tensors[op.weight];
    std::vector<double> weight = Floats(tensor), bias(tensor.rows(), 0.0);
    const bool codes = tensor.dtype == DType::kI8;
    for (uint32_t n = 0; op.bias != model::kNone && n < tensor.rows(); ++n) {
      bias[n] = model_.tensors[op.bias].f32()[n];
      if (!codes) continue;  // rounded to a whole number of products of codes
      const double unit = double{graph_.values[op.inputs[0]].scale} *
                          reinterpret_cast<const float*>(tensor.scales)[n];
      bias[n] = std::nearbyint(bias[n] / unit) * unit;
    }
    const oracle::Window window = OracleWindow(op.window);
    const auto exact = oracle::Convolve2d(in.x, weight, bias, window, op.groups);
    for (double& w : weight) w = std::fabs(w);
    std::fill(bias.begin(), bias.end(), 0.0);
    const auto off = oracle::Convolve2d(in.off, weight, bias, window, op.groups);
    const double low = op.limit == model::Limit::kNone ? -INFINITY : 0;
    const double high = op.limit == model::Limit::kRelu6 ? 6 : INFINITY;
    const auto allowance = graph_.values[op.output].dtype == DType::kF16 ? HalfConvolutionAllowance
                                                                         : ConvolutionAllowance;
    return Each(op.output, [&](size_t i, double* x, double* by) {
      *x = std::fmin(std::fmax(exact.out.x[i], low), high);
      *by = off.out.x[i] + allowance(exact.magnitude.x[i], tensor.columns());
    });
  }

  Judged LayerNorms(const model::ImageOp& op, const Judged& in) const {
    const std::vector<double> w = Floats(model_.tensors[op.weight]);
    const std::vector<double> b = Floats(model_.tensors[op.bias]);
    const size_t width = in.x.channels;
    Judged made(in.x);
    for (size_t p = 0; p < in.x.positions(); ++p) {
      oracle::Picture row(1, 1, width);
      std::copy_n(in.x.x.begin() + static_cast<ptrdiff_t>(p * width), width, row.x.begin());
      const std::vector<double> exact = oracle::LayerNorm(row.x, w, b, op.epsilon);
      const GroupCondition g = ConditionOfGroup(row, 0, static_cast<uint32_t>(width), op.epsilon);
      for (size_t c = 0; c < width; ++c) {
        made.x.x[p * width + c] = exact[c];
        made.off.x[p * width + c] = NormOff(exact[c], w[c], b[c], g, width);
      }
    }
    return made;
  }
  static double NormOff(double out, double weight, double bias, const GroupCondition& g,
                        size_t count) {
    const double gain = std::fabs(weight) / g.deviation;
    const double normal = weight == 0 ? 0 : (out - bias) / weight;
    return NormAllowance(out - bias, bias, count) +
           CentringAllowance(g.magnitude, gain * (1 + std::fabs(normal)), count);
  }
  Judged GroupNorm(const model::ImageOp& op, const Judged& in) const {
    const std::vector<double> w = Floats(model_.tensors[op.weight]);
    const std::vector<double> b = Floats(model_.tensors[op.bias]);
    const auto width = static_cast<uint32_t>(in.x.channels / op.groups);
    Judged made(oracle::GroupNorm(in.x, op.groups, w, b, op.epsilon));
    for (uint32_t c = 0; c < in.x.channels; ++c) {
      const GroupCondition g = ConditionOfGroup(in.x, c / width * width, width, op.epsilon);
      for (size_t p = 0; p < in.x.positions(); ++p) {
        made.off.at(p / in.x.columns, p % in.x.columns, c) =
            NormOff(made.x.at(p / in.x.columns, p % in.x.columns, c), w[c], b[c], g,
                    in.x.positions() * width);
      }
    }
    return made;
  }

  Judged Activation(const model::ImageOp& op, const Judged& in) const {
    const auto kind = static_cast<ops::Activation>(op.activation);
    return Each(op.output, [&](size_t i, double* x, double* off) {
      *x = ExactActivation(kind, in.x.x[i]);
      *off = in.off.x[i] + ActivationAllowance(in.x.x[i], *x, ActivationExponent(kind, in.x.x[i]));
    });
  }
  Judged Sum(const model::ImageOp& op, const Judged& a, const Judged& b) const {
    return Each(op.output, [&](size_t i, double* x, double* off) {
      *x = a.x.x[i] + b.x.x[i];
      *off = a.off.x[i] + b.off.x[i] + 6 * kRoundoff * (std::fabs(a.x.x[i]) + std::fabs(b.x.x[i]));
    });
  }
  Judged Product(const model::ImageOp& op, const Judged& a, const Judged& b) const {
    return Each(op.output, [&](size_t i, double* x, double* off) {
      const size_t j = b.x.positions() == 1 ? i % b.x.channels : i;
      *x = a.x.x[i] * b.x.x[j];
      *off = a.off.x[i] * std::fabs(b.x.x[j]) + 6 * kRoundoff * std::fabs(*x) + kSmallest;
    });
  }
  Judged Pool(const model::ImageOp& op, const Judged& in) const {
    const oracle::Window window = OracleWindow(op.window);
    const bool largest = op.pool == model::PoolKind::kMax, adaptive = op.window.adaptive;
    oracle::Picture magnitude = in.x;
    for (double& v : magnitude.x) v = std::fabs(v);
    Judged made(oracle::Pool(in.x, window, adaptive, largest));
    if (largest) return made;
    magnitude = oracle::Pool(magnitude, window, adaptive, false);
    const oracle::Picture off = oracle::Pool(in.off, window, adaptive, false);
    const model::ImageValue& value = graph_.values[op.inputs[0]];
    for (size_t i = 0; i < made.x.x.size(); ++i) {
      const double mean = made.x.x[i];
      made.off.x[i] = off.x[i] + (value.dtype == DType::kI8
                                      ? CodeMeanAllowance(mean / value.scale + value.zero_point,
                                                          value.zero_point, value.scale)
                                      : MeanAllowance(magnitude.x[i], in.x.positions()));
    }
    return made;
  }
  Judged Resize(const model::ImageOp& op, const Judged& in) const {
    const plan::ImageExtent& out = extents_[op.output];
    const auto rule = !op.bilinear       ? oracle::ResizeRule::kNearest
                      : op.align_corners ? oracle::ResizeRule::kAlignCorners
                                         : oracle::ResizeRule::kBilinear;
    Judged made(oracle::Resize(in.x, out.rows, out.columns, rule));
    double largest = 0;
    for (const double v : in.x.x) largest = std::max(largest, std::fabs(v));
    const double place = static_cast<double>(std::max(in.x.rows, in.x.columns));
    for (double& off : made.off.x) {
      off = BlendAllowance(largest) + PlaceAllowance(place, 2 * largest);
    }
    return made;
  }
  Judged Attention(const model::ImageOp& op, const Judged& in) const {
    const model::SelfAttentionSpec& s = op.attention;
    const oracle::HeadShape shape{s.heads, s.query_width, s.value_width, s.scale, s.relu};
    const oracle::Attended exact = oracle::SelfAttention(in.x.x, shape);
    const size_t width = s.output_width();
    return Each(op.output, [&](size_t i, double* x, double* off) {
      const size_t channel = i % width;
      *x = exact.out[i];
      *off = MixAllowanceOf(exact, in.x.x, shape, in.x.positions(), channel / s.value_width,
                            i / width, channel % s.value_width);
    });
  }
  Judged Positions(const model::ImageOp& op, const Judged& in) const {
    Judged made(oracle::PositionEmbedding(in.x, Floats(model_.tensors[op.weight]), op.begin));
    for (size_t i = 0; i < made.x.x.size(); ++i) made.off.x[i] = AddAllowance(made.x.x[i]);
    return made;
  }
  Judged Channels(const model::ImageOp& op, const Judged& in, size_t begin) const {
    const size_t width = graph_.values[op.output].channels;
    return Each(op.output, [&](size_t i, double* x, double* off) {
      const size_t from = i / width * in.x.channels + begin + i % width;
      *x = in.x.x[from];
      *off = in.off.x[from];
    });
  }
  Judged Concat(const model::ImageOp& op) const {
    Judged made(Blank(op.output));
    size_t begin = 0;
    for (const int32_t input : op.inputs) {
      const Judged& in = values_[input];
      for (size_t i = 0; i < in.x.x.size(); ++i) {
        const size_t to = i / in.x.channels * made.x.channels + begin + i % in.x.channels;
        made.x.x[to] = in.x.x[i];
        made.off.x[to] = in.off.x[i];
      }
      begin += in.x.channels;
    }
    return made;
  }

  const model::Model& model_;
  const model::ImageGraph& graph_;
  const std::vector<plan::ImageExtent>& extents_;
  std::map<uint32_t, std::vector<double>> seen_;
  std::vector<Judged> values_;
};

}  // namespace headroom::test
