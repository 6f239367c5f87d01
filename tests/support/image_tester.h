// Testers of the kernels on pictures: each takes the kernel's real signature, makes data in which
// every term of the formula matters, and compares with the oracle; product kernels and mutants
// alike. What a kernel must not look at is NaN, what it must not touch is a gap that is checked.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "ops/image.h"
#include "oracle/image.h"
#include "oracle/self_attention.h"
#include "support/compare.h"
#include "support/pointwise_tester.h"
#include "support/tolerance.h"

namespace headroom::test {

inline constexpr uint32_t kImageWidths[] = {1,  2,  3,  5,  7,  8,  9,  15,
                                            16, 17, 31, 33, 47, 63, 64, 67};
inline constexpr uint32_t kImagePositions[] = {1, 2, 16, 17, 49, 196};

// [positions, channels] with NaN in the gaps, the last position ending at a forbidden page.
class Strided {
 public:
  Strided(uint32_t positions, uint32_t channels, uint32_t stride)
      : positions_(positions),
        channels_(channels),
        stride_(stride),
        memory_(uint64_t{positions - 1} * stride + channels) {}
  float& at(uint32_t p, uint32_t c) const { return memory_[uint64_t{p} * stride_ + c]; }
  float* data() const { return memory_.data(); }
  uint32_t stride() const { return stride_; }
  std::vector<double> Doubles() const {
    std::vector<double> all;
    for (uint32_t p = 0; p < positions_; ++p) {
      for (uint32_t c = 0; c < channels_; ++c) all.push_back(at(p, c));
    }
    return all;
  }
  // The gaps are as they were.
  void CheckGaps(Verdict* verdict) const {
    for (uint32_t p = 0; p + 1 < positions_; ++p) {
      for (uint32_t c = channels_; c < stride_; ++c) {
        if (!std::isnan(at(p, c))) verdict->Fail("gap overwritten behind " + std::to_string(p));
      }
    }
  }

 private:
  uint32_t positions_, channels_, stride_;
  GuardedFloats memory_;
};

// Every position and every channel has a mean and a spread of its own, so that a norm of each
// position or of each channel is another one.
inline void FillPositions(const Strided& x, uint32_t positions, uint32_t channels, float gain,
                          std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> of_channel(channels);
  for (float& value : of_channel) value = normal(random);
  for (uint32_t p = 0; p < positions; ++p) {
    const float mean = 2.0f + normal(random), spread = 0.5f + std::fabs(normal(random));
    for (uint32_t c = 0; c < channels; ++c) {
      x.at(p, c) = gain * (mean + of_channel[c] + spread * normal(random));
    }
  }
}

// Mean of |x| and spread of a group.
struct GroupCondition {
  double magnitude = 0, deviation = 0;
};
inline GroupCondition ConditionOfGroup(const oracle::Picture& x, uint32_t first, uint32_t width,
                                       double epsilon) {
  GroupCondition condition;
  const double count = static_cast<double>(x.positions() * width);
  double mean = 0, variance = 0;
  const auto each = [&](const auto& visit) {
    for (size_t p = 0; p < x.positions(); ++p) {
      for (size_t c = first; c < first + width; ++c) visit(x.x[p * x.channels + c]);
    }
  };
  each([&](double v) { mean += v / count; });
  each([&](double v) {
    condition.magnitude += std::fabs(v) / count;
    variance += (v - mean) * (v - mean) / count;
  });
  condition.deviation = std::sqrt(variance + epsilon);
  return condition;
}

inline Verdict TestGroupNorm(ops::GroupNormKernel kernel, uint32_t positions, uint32_t channels,
                             uint32_t groups, bool in_place) {
  std::mt19937 random(positions * 71 + channels * 3 + groups);
  const GuardedFloats weight(channels, 0.5f, 1.0f, random), bias(channels, 1.0f, 0.0f, random);
  Verdict verdict;
  for (const float gain : {1.0f, 1e-3f, 300.0f}) {
    const float epsilon = 1e-5f;
    const Strided x(positions, channels, channels + 3);
    FillPositions(x, positions, channels, gain, random);
    oracle::Picture before(positions, 1, channels);
    before.x = x.Doubles();
    const Strided separate(positions, channels, channels + 2);
    const Strided& out = in_place ? x : separate;
    kernel(x.data(), x.stride(), out.data(), out.stride(), positions, channels, groups,
           weight.data(), bias.data(), epsilon);
    const oracle::Picture exact = oracle::GroupNorm(before, groups, weight.Doubles(0, channels),
                                                    bias.Doubles(0, channels), epsilon);
    const uint32_t width = channels / groups;
    for (uint32_t c = 0; c < channels; ++c) {
      const GroupCondition condition = ConditionOfGroup(before, c / width * width, width, epsilon);
      for (uint32_t p = 0; p < positions; ++p) {
        const double found = exact.at(p, 0, c), normal = (found - bias[c]) / weight[c];
        const double gain_here = std::fabs(weight[c]) / condition.deviation;
        const double allowed =
            NormAllowance(found - bias[c], bias[c], size_t{positions} * width) +
            CentringAllowance(condition.magnitude, gain_here * (1 + std::fabs(normal)),
                              size_t{positions} * width);
        verdict.Check(out.at(p, c), found, allowed,
                      "T " + std::to_string(p) + " of " + std::to_string(positions) + " C " +
                          std::to_string(c) + " of " + std::to_string(channels) + " groups " +
                          std::to_string(groups));
      }
    }
    out.CheckGaps(&verdict);
  }
  return verdict;
}

// Windows of a picture of 6 x 5: whole, one pixel, a row, a column, a corner, an inner part.
inline std::vector<ops::PoolWindow> PoolWindows() {
  return {{0, 6, 0, 5}, {2, 3, 3, 4}, {5, 6, 0, 5}, {0, 6, 4, 5}, {0, 2, 0, 2}, {1, 4, 2, 4}};
}
inline constexpr uint32_t kPoolRows = 6, kPoolColumns = 5;

inline bool InWindow(const ops::PoolWindow& w, uint32_t position) {
  const uint32_t row = position / kPoolColumns, column = position % kPoolColumns;
  return row >= w.row_begin && row < w.row_end && column >= w.column_begin && column < w.column_end;
}

inline Verdict TestPool(ops::PoolKernel kernel, bool largest, uint32_t channels) {
  std::mt19937 random(channels * 2 + largest);
  std::normal_distribution<float> normal(-3.0f, 1.0f);  // below 0: the largest is no number at rest
  constexpr uint32_t kPixels = kPoolRows * kPoolColumns;
  Verdict verdict;
  for (const ops::PoolWindow& w : PoolWindows()) {
    const Strided x(kPixels, channels, channels + 4);
    oracle::Picture exact_x(kPoolRows, kPoolColumns, channels);
    std::vector<double> magnitude(channels, 0.0);
    size_t pixels = 0;
    for (uint32_t p = 0; p < kPixels; ++p) {
      if (!InWindow(w, p)) continue;  // stays NaN
      ++pixels;
      for (uint32_t c = 0; c < channels; ++c) {
        exact_x.x[p * channels + c] = x.at(p, c) = normal(random);
        magnitude[c] += std::fabs(x.at(p, c));
      }
    }
    const GuardedFloats out(channels);
    kernel(x.data(), x.stride(), kPoolColumns, w, channels, out.data());
    const std::vector<double> exact = oracle::PoolPixels(exact_x, {w.row_begin, w.row_end},
                                                         {w.column_begin, w.column_end}, largest);
    for (uint32_t c = 0; c < channels; ++c) {
      const double mean = magnitude[c] / static_cast<double>(pixels);
      verdict.Check(out[c], exact[c], largest ? 0 : MeanAllowance(mean, pixels),
                    "C " + std::to_string(c) + " of " + std::to_string(channels) + ", pixels " +
                        std::to_string(pixels));
    }
  }
  return verdict;
}

inline Verdict TestBlend(ops::BlendKernel kernel, uint32_t channels) {
  std::mt19937 random(channels);
  const GuardedFloats pixels[4] = {{channels, 1.0f, 0.0f, random},
                                   {channels, 1.0f, 2.0f, random},
                                   {channels, 3.0f, 0.0f, random},
                                   {channels, 1.0f, -2.0f, random}};
  const float* from[4] = {pixels[0].data(), pixels[1].data(), pixels[2].data(), pixels[3].data()};
  const float weights[4] = {0.28f, 0.42f, 0.12f, 0.18f};
  const GuardedFloats out(channels);
  kernel(from, weights, out.data(), channels);
  Verdict verdict;
  for (uint32_t c = 0; c < channels; ++c) {
    double exact = 0, magnitude = 0;
    for (int i = 0; i < 4; ++i) {
      exact += double{weights[i]} * from[i][c];
      magnitude += std::fabs(double{weights[i]} * from[i][c]);
    }
    verdict.Check(out[c], exact, BlendAllowance(magnitude), "C " + std::to_string(c));
  }
  return verdict;
}

struct AttentionCase {
  uint32_t positions = 1, heads = 1, query_width = 1, value_width = 1;
  float sharpness = 1.0f;  // scale is this by the root of the query's width
  bool relu = false;
};

inline std::vector<AttentionCase> AttentionCases() {
  std::vector<AttentionCase> cases;
  for (const uint32_t positions : kImagePositions) {
    cases.push_back({positions, 1, 16, 48, 1.5f, false});
    cases.push_back({positions, 3, 5, 7, 1.5f, true});
    cases.push_back({positions, 2, 1, 1, 2.0f, false});
    cases.push_back({positions, 1, 33, 67, 40.0f, false});  // scores beyond what exp can take
  }
  for (const uint32_t width : kImageWidths) cases.push_back({10, 2, width, width, 1.5f, false});
  return cases;
}

inline std::string Describe(const AttentionCase& c) {
  return "T " + std::to_string(c.positions) + " H " + std::to_string(c.heads) + " D " +
         std::to_string(c.query_width) + " and " + std::to_string(c.value_width) +
         (c.relu ? " relu" : "") + " sharpness " + std::to_string(c.sharpness);
}

// Keys turned round are the head's keys, 0 behind the last.
inline void CheckTurnedKeys(const ops::SelfAttention& at, uint32_t head, const float* turned,
                            Verdict* verdict) {
  const uint32_t padded = ops::PaddedPositions(at.positions);
  for (uint32_t d = 0; d < at.query_width; ++d) {
    for (uint32_t t = 0; t < padded; ++t) {
      const float key =
          t < at.positions
              ? at.qkv[uint64_t{t} * at.stride + (at.heads + head) * at.query_width + d]
              : 0.0f;
      verdict->Check(turned[uint64_t{d} * padded + t], key, 0,
                     "key " + std::to_string(t) + " D " + std::to_string(d));
    }
  }
}

inline double MixAllowanceOf(const oracle::Attended& exact, const std::vector<double>& qkv,
                             const oracle::HeadShape& shape, size_t positions, size_t head,
                             size_t t, size_t channel) {
  const size_t row = shape.row_width(), begin = (head * positions + t) * positions;
  double largest = 0, magnitude = 0, moved = 0;
  for (size_t j = 0; j < positions; ++j) {
    largest = std::max(largest, std::fabs(exact.scores[begin + j]));
    const size_t at = j * row + 2 * shape.heads * shape.query_width + head * shape.value_width;
    magnitude += exact.weights[begin + j] * std::fabs(qkv[at + channel]);
  }
  for (size_t j = 0; j < positions; ++j) {
    const size_t at = j * row + 2 * shape.heads * shape.query_width + head * shape.value_width;
    moved += exact.weights[begin + j] * (std::fabs(qkv[at + channel]) + magnitude) *
             PictureScoreAllowance(exact.strength[begin + j], exact.scores[begin + j], largest,
                                   shape.query_width);
  }
  return PictureMixAllowance(magnitude, moved, positions);
}

// Every query in tiles, the last of which may be short.
inline Verdict TestSelfAttention(ops::TurnKeysKernel turn, ops::SelfAttentionKernel kernel,
                                 const AttentionCase& c) {
  std::mt19937 random(c.positions * 7 + c.query_width);
  std::normal_distribution<float> normal;
  const oracle::HeadShape shape{
      c.heads, c.query_width, c.value_width,
      static_cast<float>(c.sharpness / std::sqrt(static_cast<float>(c.query_width))), c.relu};
  const auto row = static_cast<uint32_t>(shape.row_width());
  const Strided qkv(c.positions, row, row + 3);
  for (uint32_t t = 0; t < c.positions; ++t) {
    for (uint32_t i = 0; i < row; ++i) qkv.at(t, i) = normal(random);
  }
  const uint32_t width = c.heads * c.value_width, padded = ops::PaddedPositions(c.positions);
  const Strided out(c.positions, width, width + 5);
  ops::SelfAttention at{qkv.data(),
                        qkv.stride(),
                        c.positions,
                        c.heads,
                        c.query_width,
                        c.value_width,
                        static_cast<float>(shape.scale),
                        c.relu,
                        out.data(),
                        out.stride()};
  const std::vector<double> numbers = qkv.Doubles();
  const oracle::Attended exact = oracle::SelfAttention(numbers, shape);
  Verdict verdict;
  for (uint32_t head = 0; head < c.heads; ++head) {
    const GuardedFloats turned(size_t{c.query_width} * padded);
    turn(at, head, turned.data());
    CheckTurnedKeys(at, head, turned.data(), &verdict);
    for (uint32_t begin = 0; begin < c.positions; begin += ops::kAttentionTile) {
      const GuardedFloats scores(size_t{ops::kAttentionTile} * padded);
      const uint32_t end = std::min(begin + ops::kAttentionTile, c.positions);
      kernel(at, head, turned.data(), begin, end, scores.data());
    }
    for (uint32_t t = 0; t < c.positions; ++t) {
      for (uint32_t v = 0; v < c.value_width; ++v) {
        const uint32_t channel = head * c.value_width + v;
        verdict.Check(out.at(t, channel), exact.out[size_t{t} * width + channel],
                      MixAllowanceOf(exact, numbers, shape, c.positions, head, t, v),
                      Describe(c) + ": head " + std::to_string(head) + " T " + std::to_string(t) +
                          " C " + std::to_string(v));
      }
    }
  }
  out.CheckGaps(&verdict);
  return verdict;
}

}  // namespace headroom::test
