// Every tolerance of the kernel tests, derived from the unit roundoff and the condition of the
// result. Tests hold no literals; a kernel that needs more must say why here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "oracle/softmax.h"

namespace headroom::test {

inline constexpr double kRoundoff = 0x1p-24;   // of f32, half an ulp relative
inline constexpr double kSmallest = 0x1p-126;  // below it f32 loses digits, or flushes to zero

// n roundings that fall either way err like a random walk; four standard deviations, and a few for
// what happens once.
inline double Roundings(double n) { return 8 + 2 * std::sqrt(n); }

// --- softmax
// --------------------------------------------------------------------------------------- o = sum p
// v. Relative errors of p come from exp (4 roundings) and from the absolute error of the score;
// what is common to all rows cancels in the division, so a score's error moves o by p |v - o|.
//
// Score: D products and sums, each rounding relative to the sum of |terms|; plus q scaled once. A
// soft cap adds the error of tanh (4 ulp of a value up to c). Integer kernels (int8 rows) may
// quantise q to 15 bits of its largest element, and p times the row's scale to 15 bits of the
// largest in a block: half a step per element, falling either way.

inline constexpr double kQueryStep = 1.0 / 32767;   // of max |q|
inline constexpr double kWeightStep = 1.0 / 32767;  // of the block's largest weight
inline constexpr size_t kWeightBlock = 64;          // attention::kMixBlockRows

struct ScoreCondition {
  double magnitude = 0;  // scale * sum |q_d k_d|
  double quantised = 0;  // scale * max|q| * sqrt(sum coded_d^2): 0 for float rows
};

inline ScoreCondition ConditionOfScore(double scale, const std::vector<double>& q,
                                       const oracle::DecodedRow& key, bool coded) {
  ScoreCondition c;
  double largest = 0, squares = 0;
  for (size_t d = 0; d < q.size(); ++d) {
    c.magnitude +=
        std::fabs(q[d]) * (coded ? std::fabs(key.coded[d]) + std::fabs(key.value[d] - key.coded[d])
                                 : std::fabs(key.value[d]));
    largest = std::max(largest, std::fabs(q[d]));
    squares += key.coded[d] * key.coded[d];
  }
  c.magnitude *= scale;
  c.quantised = coded ? scale * largest * std::sqrt(squares) : 0;
  return c;
}

inline double ScoreAllowance(const ScoreCondition& c, size_t width, double softcap, double bias) {
  return kRoundoff * (Roundings(static_cast<double>(width)) * c.magnitude + 16 * softcap +
                      4 * std::fabs(bias)) +
         2 * 0.5 * kQueryStep * c.quantised;
}

// Allowance per output channel. `scores` holds ScoreAllowance of every row.
inline std::vector<double> SoftmaxAllowance(const oracle::SoftmaxResult& exact,
                                            const std::vector<oracle::DecodedRow>& values,
                                            const std::vector<double>& scores, bool coded) {
  std::vector<double> allowance(exact.out.size(), 0.0);
  for (size_t c = 0; c < allowance.size(); ++c) {
    double sum = 0, moved = 0, quantised = 0, block_largest = 0, block_squares = 0, visible = 0;
    for (size_t j = 0; j < values.size(); ++j) {
      const double p = exact.weights[j], v = values[j].value[c], code = values[j].coded[c];
      if (j % kWeightBlock == 0) {
        quantised += block_largest * std::sqrt(block_squares);
        block_largest = block_squares = 0;
      }
      if (!(exact.scores[j] > -INFINITY)) continue;
      const double offset = v - code;
      sum += p * (std::fabs(code) + std::fabs(offset));
      moved += p * (std::fabs(v) + std::fabs(exact.out[c])) * scores[j];
      block_largest = std::max(block_largest, p);
      block_squares += code * code;
      ++visible;
    }
    quantised += block_largest * std::sqrt(block_squares);
    allowance[c] = kRoundoff * (Roundings(visible) * sum) + moved +
                   (coded ? 4 * 0.5 * kWeightStep * quantised : 0);
  }
  return allowance;
}

// m is a score in natural units, kept in the log2 domain and converted: two roundings more.
inline double MaximumAllowance(double score_allowance, double maximum) {
  return score_allowance + 4 * kRoundoff * std::fabs(maximum);
}

// l = sum exp(x - m): errors of the scores and of m, of exp and of the sum.
inline double SumAllowance(double sum, double worst_score, double maximum, double rows) {
  return sum * (2 * worst_score + kRoundoff * (Roundings(rows) + 4 * std::fabs(maximum)));
}

// p = exp(x - lse) of one query: errors of the score, of lse (rounded once, as large as it is), of
// exp.
inline double WeightAllowance(double p, double score_allowance, double lse) {
  return p * (2 * score_allowance + kRoundoff * (12 + 4 * std::fabs(lse))) + kSmallest;
}

// Merging adds, per record, one exp of a difference of maxima (relative error |m| u) and one
// product.
inline double MergeAllowance(double magnitude, double largest_maximum, double count) {
  return kSmallest + kRoundoff * magnitude * (Roundings(count) + 4 * largest_maximum);
}

// Two results of the same attention on standard normal data of up to a few hundred rows: both
// within the allowances above, whose sums are of order 1 there.
inline double PropertyAllowance(bool coded) { return coded ? 8 * kWeightStep : 64 * kRoundoff; }

// --- linear attention
// ------------------------------------------------------------------------------
// linear_condition.h carries the errors of a state through its tokens, in units of kRoundoff.

// exp(x): 2 ulp, and x itself rounded where it is a product or a sum of x of several tokens. exp(0)
// is exact.
inline double LinearDecayError(double log_decay) {
  return log_decay == 0 ? 0 : 4 + 2 * std::fabs(log_decay);
}
inline double LinearStateAllowance(double number, double variance, double slope) {
  return kRoundoff * (2 * std::fabs(number) + 4 * std::sqrt(variance) + std::fabs(slope)) +
         kSmallest;
}
inline double LinearReadAllowance(double summed, double variance, double slope) {
  return kRoundoff * (summed + 4 * std::sqrt(variance) + slope) + kSmallest;
}

// --- rows
// ------------------------------------------------------------------------------------------

// f16: half an ulp, relative 2^-11 for normal numbers, absolute 2^-25 below 2^-14.
inline double HalfAllowance(double x) { return std::max(std::fabs(x) * 0x1p-11, 0x1p-25); }
// int8: half a step, plus the roundings of (x - minimum) / scale.
inline double CodeAllowance(double x, double minimum, double scale) {
  return 0.5 * scale + 4 * kRoundoff * (std::fabs(x) + std::fabs(minimum));
}

// Blocks of 32: half a step of the scale before it was rounded to f16 (2^-11 of it), for codes of
// up to `most` steps. The 4-bit code for +8 does not exist: such an element loses the whole step.
inline double BlockAllowance(double x, double step, double most) {
  const double lost = x / step > most - 0.5 ? x / step - most : 0.5;
  return std::fabs(step) * (std::max(lost, 0.5) + 128 * kRoundoff + (most + 1) * 0x1p-11) +
         (most + 1) * 0x1p-25;
}
// n = 2^k channels: k sums, a product; each rounding relative to the root of the sum of squares.
inline double HadamardAllowance(double norm, size_t n) {
  return kRoundoff * Roundings(std::log2(static_cast<double>(n)) + 1) * norm;
}

// --- pointwise
// -------------------------------------------------------------------------------------

// Norms: a sum of squares of `width` terms (relative, halved by the root), then three or four
// products.
inline double NormAllowance(double normal, double bias, size_t width) {
  return kRoundoff * Roundings(static_cast<double>(width)) * (std::fabs(normal) + std::fabs(bias));
}
// The mean of LayerNorm errs relative to the mean of |x|; every difference x - mean inherits that.
inline double CentringAllowance(double mean_magnitude, double gain, size_t width) {
  return kRoundoff * Roundings(static_cast<double>(width)) * mean_magnitude * gain;
}
// Rotation: two products and a sum.
inline double RotationAllowance(double a, double b) {
  return 4 * kRoundoff * (std::fabs(a) + std::fabs(b));
}
// Sigmoid-like: exp errs by a few ulp, and by the rounding of its argument times the argument;
// results that vanish may flush to zero. GELU by erf: 1 - tail errs relative to 1, where the output
// is near x.
inline double ActivationAllowance(double x, double out, double exponent) {
  return kRoundoff * std::fabs(out) * (12 + 4 * std::min(std::fabs(exponent), 100.0)) +
         kSmallest * (1 + std::fabs(x));
}
// Weight of an expert: a softmax or sigmoid of a score `exponent` below the largest, divided by a
// sum over E of them.
inline double ExpertWeightAllowance(double weight, double exponent, size_t experts) {
  return ActivationAllowance(0, weight, exponent) +
         kRoundoff * Roundings(static_cast<double>(experts)) * std::fabs(weight);
}
// Scores nearer to each other than this, but not equal, may be ordered either way once rounded.
inline constexpr double kScoreTie = 16 * kRoundoff;
// tanh within 4 ulp, two products.
inline double SoftcapAllowance(double cap, double out) {
  return 12 * kRoundoff * std::fabs(out) + kSmallest * cap;
}
inline double AddAllowance(double sum) { return kRoundoff * std::fabs(sum); }
// One product, or two where a scale and a factor meet.
inline double ProductAllowance(double out) { return 2 * kRoundoff * std::fabs(out); }
// A product and a sum, fused or not.
inline double MultiplyAddAllowance(double product, double sum) {
  return kRoundoff * (std::fabs(product) + std::fabs(sum));
}
// A sum of products by its terms' magnitudes.
inline double BasisAllowance(double magnitude, size_t width) {
  return kRoundoff * Roundings(static_cast<double>(width)) * magnitude;
}

// --- pictures
// A sum, divided or times a rounded reciprocal.
inline double MeanAllowance(double mean_magnitude, size_t count) {
  return kRoundoff * (Roundings(static_cast<double>(count)) + 4) * mean_magnitude;
}
// A mean of codes, whose sums are exact, less the zero point, times the scale.
inline double CodeMeanAllowance(double mean, double zero, double scale) {
  return 4 * kRoundoff * (std::fabs(mean) + std::fabs(zero)) * scale;
}
// Four products and their sum.
inline double BlendAllowance(double magnitude) { return 4 * kRoundoff * magnitude; }
// Places between pixels in f32 err relative to the place, and with them how the pixels count.
inline double PlaceAllowance(double place, double range) {
  return 8 * kRoundoff * (1 + place) * range;
}
// Score of attention: D products and a sum, times the scale and log2 e; what the largest errs by
// divides out, but both are rounded where they are subtracted.
inline double PictureScoreAllowance(double strength, double score, double largest, size_t width) {
  return kRoundoff * (Roundings(static_cast<double>(width)) * strength +
                      4 * (std::fabs(score) + std::fabs(largest)));
}
// out = sum p v. exp and with it the sum it is divided by are within 4 ulp each. moved: sum of
// p (|v| + |out|) times the score's allowance.
inline double PictureMixAllowance(double magnitude, double moved, size_t positions) {
  return kRoundoff * (Roundings(static_cast<double>(positions)) + 20) * magnitude + moved;
}
// A code is the nearest to a place that f32 makes of `magnitude` steps in all.
inline double NearestCodeAllowance(double magnitude) { return 0.5 + 6 * kRoundoff * magnitude; }
// Convolution: a sum of products in any order.
inline double ConvolutionAllowance(double magnitude, size_t terms) {
  return kRoundoff * Roundings(static_cast<double>(terms)) * magnitude + kSmallest;
}
// The same of halves: some CPUs add up in halves, and all round the bias and the result.
inline constexpr double kHalfRoundoff = 0x1p-11;
inline double HalfConvolutionAllowance(double magnitude, size_t terms) {
  return kHalfRoundoff * Roundings(static_cast<double>(terms)) * magnitude +
         0x1p-24 * static_cast<double>(terms + 2);
}
// A level rounded to nearest, of two factors that are half a unit of 2^-16 off, times at most 128.
inline constexpr double kRoundedLevel = 0.5 + 2 * 128 * 0x1p-17;
// Two JPEG decoders with transforms, chroma filters and colour factors rounded each in its own way.
inline constexpr int kJpegLevels = 2;

}  // namespace headroom::test
