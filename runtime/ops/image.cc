#include "ops/image.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"

namespace headroom::ops {
namespace {

struct Moments {
  double mean = 0.0, variance = 0.0;
};
Moments MomentsOf(const float* x, uint32_t stride, uint32_t positions, uint32_t channels) {
  Moments moments;
  const double count = double{1} * positions * channels;
  const auto sum = [&](const auto& term) {
    double total = 0.0;
    for (uint32_t p = 0; p < positions; ++p) {
      for (uint32_t c = 0; c < channels; ++c) {
        total += term(static_cast<double>(x[uint64_t{p} * stride + c]));
      }
    }
    return total / count;
  };
  moments.mean = sum([](double v) { return v; });
  moments.variance = sum([&](double v) { return (v - moments.mean) * (v - moments.mean); });
  return moments;
}

void GroupNorm(const float* x, uint32_t x_stride, float* out, uint32_t out_stride,
               uint32_t positions, uint32_t channels, uint32_t groups, const float* weight,
               const float* bias, float epsilon) {
  const uint32_t part = channels / groups;
  for (uint32_t first = 0; first < channels; first += part) {
    const Moments moments = MomentsOf(x + first, x_stride, positions, part);
    const auto mean = static_cast<float>(moments.mean);
    const auto scale = static_cast<float>(1.0 / std::sqrt(moments.variance + epsilon));
    for (uint32_t p = 0; p < positions; ++p) {
      for (uint32_t c = first; c < first + part; ++c) {
        const float normal = (x[uint64_t{p} * x_stride + c] - mean) * scale;
        out[uint64_t{p} * out_stride + c] = normal * weight[c] + bias[c];
      }
    }
  }
}

template <bool kMax>
void Pool(const float* x, uint32_t x_stride, uint32_t columns, const PoolWindow& window,
          uint32_t channels, float* out) {
  const uint32_t pixels =
      (window.row_end - window.row_begin) * (window.column_end - window.column_begin);
  constexpr float kNone = kMax ? -HUGE_VALF : 0.0f;
  const auto merge = [](float a, float b) { return kMax ? std::max(a, b) : a + b; };
  for (uint32_t c = 0; c < channels; ++c) {
    float sum = kNone;
    for (uint32_t row = window.row_begin; row < window.row_end; ++row) {
      float of_row = kNone;  // by itself: one sum of thousands of equal numbers drifts
      for (uint32_t column = window.column_begin; column < window.column_end; ++column) {
        of_row = merge(of_row, x[(uint64_t{row} * columns + column) * x_stride + c]);
      }
      sum = merge(sum, of_row);
    }
    out[c] = kMax ? sum : sum / static_cast<float>(pixels);
  }
}

void PoolCodes(const int8_t* x, uint32_t x_stride, uint32_t columns, const PoolWindow& window,
               uint32_t channels, CodeScale scale, float* out) {
  const uint32_t pixels =
      (window.row_end - window.row_begin) * (window.column_end - window.column_begin);
  for (uint32_t c = 0; c < channels; ++c) {
    int64_t sum = 0;
    for (uint32_t row = window.row_begin; row < window.row_end; ++row) {
      for (uint32_t column = window.column_begin; column < window.column_end; ++column) {
        sum += x[(uint64_t{row} * columns + column) * x_stride + c];
      }
    }
    const float mean = static_cast<float>(sum) / static_cast<float>(pixels);
    out[c] = (mean - static_cast<float>(scale.zero)) * scale.ratio;
  }
}

void Blend(const float* const from[4], const float weights[4], float* out, uint32_t channels) {
  for (uint32_t c = 0; c < channels; ++c) {
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) sum += weights[i] * from[i][c];
    out[c] = sum;
  }
}

void TurnKeys(const SelfAttention& at, uint32_t head, float* turned) {
  const uint32_t padded = PaddedPositions(at.positions);
  const float* keys = at.qkv + uint64_t{at.heads + head} * at.query_width;
  std::fill(turned, turned + uint64_t{at.query_width} * padded, 0.0f);
  for (uint32_t t = 0; t < at.positions; ++t) {
    for (uint32_t d = 0; d < at.query_width; ++d) {
      turned[uint64_t{d} * padded + t] = keys[uint64_t{t} * at.stride + d];
    }
  }
}

void AttendOne(const SelfAttention& at, uint32_t head, const float* turned, uint32_t query,
               float* scores) {
  const uint32_t padded = PaddedPositions(at.positions);
  const float* q = at.qkv + uint64_t{query} * at.stride + head * at.query_width;
  float largest = -HUGE_VALF, sum = 0.0f;
  for (uint32_t t = 0; t < at.positions; ++t) {
    float dot = 0.0f;
    for (uint32_t d = 0; d < at.query_width; ++d) dot += q[d] * turned[uint64_t{d} * padded + t];
    scores[t] = dot * at.scale;
    largest = std::max(largest, scores[t]);
  }
  for (uint32_t t = 0; t < at.positions; ++t) sum += scores[t] = std::exp(scores[t] - largest);
  const float* values =
      at.qkv + uint64_t{2} * at.heads * at.query_width + uint64_t{head} * at.value_width;
  float* out = at.out + uint64_t{query} * at.out_stride + head * at.value_width;
  for (uint32_t c = 0; c < at.value_width; ++c) {
    float mixed = 0.0f;
    for (uint32_t t = 0; t < at.positions; ++t) {
      mixed += scores[t] * values[uint64_t{t} * at.stride + c];
    }
    out[c] = at.relu ? std::max(mixed / sum, 0.0f) : mixed / sum;
  }
}

void Attend(const SelfAttention& at, uint32_t head, const float* turned, uint32_t begin,
            uint32_t end, float* scores) {
  for (uint32_t query = begin; query < end; ++query) AttendOne(at, head, turned, query, scores);
}

int8_t Code(float value, int32_t zero) {
  const float code = std::nearbyint(value) + static_cast<float>(zero);
  return static_cast<int8_t>(std::clamp(code, -128.0f, 127.0f));
}

float Number(int8_t code, CodeScale scale) {
  return static_cast<float>(code - scale.zero) * scale.ratio;
}

void Quantise(const float* x, float scale, int32_t zero, int8_t* out, uint32_t count) {
  const float inverse = 1.0f / scale;
  for (uint32_t i = 0; i < count; ++i) out[i] = Code(x[i] * inverse, zero);
}

void Dequantise(const int8_t* x, float scale, int32_t zero, float* out, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) out[i] = Number(x[i], {scale, zero});
}

void AddCodes(const int8_t* a, CodeScale a_scale, const int8_t* b, CodeScale b_scale,
              int32_t out_zero, int8_t* out, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    out[i] = Code(Number(a[i], a_scale) + Number(b[i], b_scale), out_zero);
  }
}

void MoveCodes(const int8_t* x, CodeScale scale, int32_t out_zero, bool relu, int8_t* out,
               uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    const float number = Number(x[i], scale);
    out[i] = Code(relu ? std::max(number, 0.0f) : number, out_zero);
  }
}

void ScaleCodes(const int8_t* x, CodeScale scale, const float* factors, int32_t out_zero,
                int8_t* out, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) out[i] = Code(Number(x[i], scale) * factors[i], out_zero);
}

void ToHalves(const float* x, uint16_t* out, uint32_t count) {
  std::transform(x, x + count, out, FloatToHalf);
}

void FromHalves(const uint16_t* x, float* out, uint32_t count) {
  std::transform(x, x + count, out, HalfToFloat);
}

}  // namespace

const ImageKernels& PortableImage() {
  static constexpr ImageKernels kKernels = {GroupNorm,  {Pool<true>, Pool<false>},
                                            PoolCodes,  Blend,
                                            TurnKeys,   Attend,
                                            Quantise,   Dequantise,
                                            AddCodes,   MoveCodes,
                                            ScaleCodes, ToHalves,
                                            FromHalves};
  return kKernels;
}

}  // namespace headroom::ops
