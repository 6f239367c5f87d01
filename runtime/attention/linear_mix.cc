#include "attention/linear_mix.h"

#include <algorithm>
#include <cmath>

#include "base/math.h"

namespace headroom::attention {
namespace {

// One token of a call.
class Token {
 public:
  Token(const LinearMixSpec& spec, const LinearMixCall& call, uint32_t token, float* read)
      : spec_(spec), call_(call), token_(token), read_(read) {}

  void Run() {
    if (spec_.update == StateUpdate::kRemoval) Recall(call_.removal.row(token_));
    if (spec_.read_before) Read();
    for (uint32_t k = 0; k < spec_.key_width; ++k) DecayRow(k);
    if (spec_.update == StateUpdate::kDelta) Recall(key());
    for (uint32_t k = 0; k < spec_.key_width; ++k) UpdateRow(k);
    if (!spec_.read_before) Read();
    if (spec_.sum_keys) Normalise();
  }

 private:
  const float* key() const { return call_.key.row(token_); }
  float* row(uint32_t k) const { return call_.state + uint64_t{k} * call_.state_stride; }

  float Strength(uint32_t v) const {
    if (call_.strength.data == nullptr) return 1.0f;
    return call_.strength.row(token_)[spec_.decay == Decay::kElement ? v : 0];
  }

  float DecayOf(uint32_t k, uint32_t v) const {
    float log_decay = 0.0f;
    if (spec_.decay == Decay::kHead) log_decay = call_.log_decay.row(token_)[0];
    if (spec_.decay == Decay::kChannel) log_decay = call_.log_decay.row(token_)[k];
    if (spec_.decay == Decay::kElement) {
      log_decay = Strength(v) * call_.rate[uint64_t{k} * call_.rate_stride + v];
    }
    return std::exp(std::min(log_decay, 0.0f));
  }

  // What the state holds for a key.
  void Recall(const float* at) {
    std::fill_n(read_, call_.values, 0.0f);
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      for (uint32_t v = 0; v < call_.values; ++v) read_[v] += at[k] * row(k)[v];
    }
  }

  void DecayRow(uint32_t k) {
    if (spec_.decay == Decay::kNone) return;
    if (spec_.sum_keys) call_.key_sum[k] *= DecayOf(k, 0);
    const float decay = spec_.decay == Decay::kElement ? 0.0f : DecayOf(k, 0);
    for (uint32_t v = 0; v < call_.values; ++v) {
      row(k)[v] *= spec_.decay == Decay::kElement ? DecayOf(k, v) : decay;
    }
  }

  void UpdateRow(uint32_t k) {
    const float* value = call_.value.row(token_);
    if (spec_.sum_keys) call_.key_sum[k] += key()[k];
    for (uint32_t v = 0; v < call_.values; ++v) {
      const bool delta = spec_.update == StateUpdate::kDelta;
      row(k)[v] += key()[k] * Strength(v) * (value[v] - (delta ? read_[v] : 0.0f));
      if (spec_.update == StateUpdate::kRemoval) row(k)[v] += call_.write.row(token_)[k] * read_[v];
    }
  }

  void Read() {
    const float* query = call_.query.row(token_);
    const float* value = call_.value.row(token_);
    float* out = call_.out + uint64_t{token_} * call_.out_stride;
    std::fill_n(out, call_.values, 0.0f);
    for (uint32_t k = 0; k < spec_.key_width; ++k) {
      const float bonus = spec_.read_before ? call_.bonus[k] * key()[k] : 0.0f;
      for (uint32_t v = 0; v < call_.values; ++v) {
        out[v] += query[k] * (row(k)[v] + bonus * Strength(v) * value[v]);
      }
    }
  }

  void Normalise() {
    const float* query = call_.query.row(token_);
    float* out = call_.out + uint64_t{token_} * call_.out_stride;
    float sum = 0.0f;
    for (uint32_t k = 0; k < spec_.key_width; ++k) sum += query[k] * call_.key_sum[k];
    for (uint32_t v = 0; v < call_.values; ++v) out[v] /= sum + spec_.epsilon;
  }

  const LinearMixSpec& spec_;
  const LinearMixCall& call_;
  uint32_t token_;
  float* read_;  // [values]
};

void LinearMix(const LinearMixSpec& spec, const LinearMixCall& call, std::byte* scratch) {
  for (uint32_t t = 0; t < call.tokens; ++t) {
    Token(spec, call, t, reinterpret_cast<float*>(scratch)).Run();
  }
}

}  // namespace

uint64_t LinearMixScratchBytes(const LinearMixSpec& spec) {
  // Here one row of values. For the fast kernels a group of values of every key, with kElement the
  // rates, too, and where tokens are taken in blocks, what two blocks are made of and what one has
  // read.
  const uint64_t most = spec.sum_keys ? spec.value_width : kMostCallValues;
  const uint64_t values = RoundUp(std::min<uint64_t>(spec.value_width, most), kLinearMostGroup);
  const uint64_t edge = uint64_t{spec.key_width} * kLinearMostGroup;
  if (spec.decay == Decay::kElement) return std::max(values, 2 * edge) * sizeof(float);
  const uint64_t block = (1 + kLinearMostReads + kLinearMostWrites) * kLinearRow +
                         kLinearMostReads * kLinearMostWrites + 4 * kLinearMostWrites;
  return (2 * block + edge + kLinearMostReads * values) * sizeof(float);
}

LinearMixKernel PortableLinearMix() { return LinearMix; }

}  // namespace headroom::attention
