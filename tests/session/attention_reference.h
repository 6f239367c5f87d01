// A forward pass in double through models of attention alone, that makes the keys and values of
// every query head: it knows neither lanes nor matrices on the query's side. And the same with one
// mistake, to show that the data of the tests would tell.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/model.h"
#include "plan/profile.h"
#include "session/attention_shapes.h"

namespace headroom::test {

using DoubleRows = std::vector<std::vector<double>>;  // by token or by head

// What is easily done wrong with a latent.
enum class LatentMistake {
  kNone,
  kRotatedKeysAveraged,     // one rotated key for all heads, the mean of theirs
  kRotatedQueriesAveraged,  // one rotated part for all heads, the mean of theirs
  kNormAfterCaching,        // the rows are not normed: what is read as keys is, the values are not
  kKeyHalfForValues,        // values made with the matrix that makes keys
};

// And with a basis.
enum class BasisMistake { kNone, kTurnedRound, kQueryLeft, kOtherHead };

class AttentionReference {
 public:
  explicit AttentionReference(const model::Model& model,
                              LatentMistake mistake = LatentMistake::kNone)
      : model_(model), mistake_(mistake) {}
  // Rows are cut to the ranks of the profile's roles.
  AttentionReference(const model::Model& model, const plan::Profile& profile,
                     BasisMistake mistake = BasisMistake::kNone)
      : model_(model), profile_(&profile), basis_mistake_(mistake) {}

  std::vector<double> Logits() {
    DoubleRows x;
    for (const int32_t token : kShapeTokens) x.push_back(Row(model_.ops[0].weight.tensor, token));
    for (const model::AttentionSpec& spec : model_.attentions) x = Attend(spec, x);
    std::vector<double> out;
    for (const auto& row : x) {
      for (const double logit : Times(model_.ops.back().weight, row)) out.push_back(logit);
    }
    return out;
  }

 private:
  std::vector<double> Row(int32_t tensor, int32_t row) const {
    const TensorView& t = model_.tensors[static_cast<size_t>(tensor)];
    const float* from = t.f32() + static_cast<size_t>(row) * t.columns();
    return {from, from + t.columns()};
  }
  std::vector<double> Vector(int32_t tensor) const {
    const TensorView& t = model_.tensors[static_cast<size_t>(tensor)];
    return {t.f32(), t.f32() + t.extents[0]};
  }
  std::vector<double> Times(const model::WeightRef& weight, const std::vector<double>& x) const {
    std::vector<double> out;
    for (uint32_t n = 0; n < weight.rows; ++n) {
      const auto row = Row(weight.tensor, static_cast<int32_t>(weight.row_begin + n));
      double sum = 0;
      for (size_t k = 0; k < row.size(); ++k) sum += row[k] * x[k];
      out.push_back(sum);
    }
    return out;
  }
  std::vector<double> Normed(const model::NormSpec& norm, std::vector<double> x) const {
    if (!norm.present()) return x;
    double sum = 0;
    for (const double v : x) sum += v * v;
    const double inverse =
        1 / std::sqrt(sum / static_cast<double>(x.size()) + static_cast<double>(norm.epsilon));
    const auto weight = Vector(norm.weight);
    for (size_t i = 0; i < x.size(); ++i) x[i] *= inverse * weight[i];
    return x;
  }
  void Rotate(const model::RopeSpec& rope, size_t position, std::vector<double>& x) const {
    if (rope.dims == 0) return;
    const auto frequencies = Vector(rope.inverse_frequencies);
    const bool halves = rope.layout == model::RopeLayout::kHalfSplit;
    for (uint32_t i = 0; i < rope.dims / 2; ++i) {
      double& a = x[rope.offset + (halves ? i : 2 * i)];
      double& b = x[rope.offset + (halves ? i + rope.dims / 2 : 2 * i + 1)];
      const double angle = static_cast<double>(position) * frequencies[i];
      const double turned = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = turned;
    }
  }

  // Replaces the elements from `begin` on of every head with their mean over the heads.
  static void Average(size_t begin, DoubleRows& heads) {
    for (size_t i = begin; i < heads[0].size(); ++i) {
      double sum = 0;
      for (const auto& head : heads) sum += head[i];
      for (auto& head : heads) head[i] = sum / static_cast<double>(heads.size());
    }
  }

  // [heads][width] of a token.
  DoubleRows Heads(const model::StreamSpec& stream, const std::vector<double>& x,
                   size_t position) const {
    DoubleRows out;
    if (!stream.present()) return out;
    const auto all = Times(stream.weight, x);
    for (uint32_t h = 0; h < stream.heads; ++h) {
      const auto begin = all.begin() + h * stream.width;
      out.push_back(Normed(stream.norm, {begin, begin + stream.width}));
      Rotate(stream.rope, position, out.back());
    }
    return out;
  }
  DoubleRows Queries(const model::AttentionSpec& spec, const std::vector<double>& x,
                     size_t position) const {
    const model::QuerySpec& query = spec.query;
    std::vector<double> all;
    if (query.kind == model::QueryKind::kLowRank) {
      all = Times(query.weight, Normed(query.down_norm, Times(query.down, x)));
    } else {
      all = Times(query.weight, x);
    }
    if (query.kind == model::QueryKind::kGated) {
      auto gate = Times(query.gate, all);
      const auto up = Times(query.up, all);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      all = Times(query.down, gate);
    }
    DoubleRows out;
    for (uint32_t h = 0; h < spec.query_heads; ++h) {
      const auto begin = all.begin() + h * query.width;
      out.push_back({begin, begin + query.width});
      Rotate(query.rope, position, out.back());
      if (query.factors == model::kNone) continue;
      const auto factors = Vector(query.factors);
      for (uint32_t i = 0; i < query.width; ++i) out.back()[i] *= factors[i];
    }
    return out;
  }
  // Block of head h, turned round when `transposed`, times x.
  std::vector<double> Block(const model::HeadMatrix& matrix, uint32_t head, uint32_t heads,
                            const std::vector<double>& x, bool transposed) const {
    if (!matrix.present()) return x;
    const uint32_t block = head / (heads / matrix.blocks);
    const model::WeightRef weight = {matrix.weight.tensor,
                                     matrix.weight.row_begin + block * matrix.rows, matrix.rows,
                                     model::kNone};
    if (!transposed) return Times(weight, x);
    std::vector<double> out(model_.tensors[static_cast<size_t>(weight.tensor)].columns(), 0.0);
    for (uint32_t n = 0; n < weight.rows; ++n) {
      const auto row = Row(weight.tensor, static_cast<int32_t>(weight.row_begin + n));
      for (size_t k = 0; k < out.size(); ++k) out[k] += row[k] * x[n];
    }
    return out;
  }

  std::vector<double> Value(const model::AttentionSpec& spec, uint32_t h,
                            const std::vector<double>& row) const {
    if (mistake_ != LatentMistake::kKeyHalfForValues) {
      return Block(spec.value_matrix, h, spec.query_heads, row, false);
    }
    auto value = Block(spec.query.matrix, h, spec.query_heads, row, true);
    value.resize(spec.value_matrix.rows);
    return value;
  }

  // What is left of a key when U^T k is cut behind its first numbers and turned back.
  std::vector<double> CutKey(const model::AttentionSpec& spec, uint32_t head, uint32_t rank,
                             const std::vector<double>& key) const {
    const size_t width = key.size();
    if (basis_mistake_ == BasisMistake::kOtherHead) head = (head + 1) % spec.key.heads;
    const auto element = [&](size_t i, size_t j) {
      if (basis_mistake_ == BasisMistake::kTurnedRound) std::swap(i, j);
      return Row(spec.key.basis, static_cast<int32_t>(head * width + i))[j];
    };
    std::vector<double> out(width, 0.0);
    for (size_t j = 0; j < rank; ++j) {
      double kept = 0;
      for (size_t i = 0; i < width; ++i) kept += element(i, j) * key[i];
      if (basis_mistake_ == BasisMistake::kQueryLeft) out[j] = kept;
      for (size_t i = 0; i < width && basis_mistake_ != BasisMistake::kQueryLeft; ++i) {
        out[i] += element(i, j) * kept;
      }
    }
    return out;
  }
  void Cut(const model::AttentionSpec& spec, size_t token) {
    const auto index = static_cast<size_t>(&spec - model_.attentions.data());
    for (uint32_t head = 0; profile_ != nullptr && head < spec.key.heads; ++head) {
      const model::RoleSpec& role = profile_->RoleOf(index, head);
      auto& key = keys_[token][head];
      auto& value = values_[token][head];
      const uint32_t rank = role.key_rank == 0 ? spec.key.width : role.key_rank;
      if (spec.key.basis != model::kNone) {
        key = CutKey(spec, head, std::min(rank, spec.key.width), key);
      }
      for (size_t i = role.value_rank; role.value_rank != 0 && i < value.size(); ++i) value[i] = 0;
    }
  }

  DoubleRows Attend(const model::AttentionSpec& spec, const DoubleRows& x) {
    if (spec.source_attention == model::kNone) {
      latents_.clear(), keys_.clear(), tails_.clear(), values_.clear();
      for (size_t t = 0; t < x.size(); ++t) {
        model::StreamSpec cached = spec.key;
        if (mistake_ == LatentMistake::kNormAfterCaching) cached.norm = {};
        latents_.push_back(Heads(cached, x[t], t));
        keys_.push_back(Heads(spec.key, x[t], t));
        tails_.push_back(Heads(spec.tail, x[t], t));
        if (mistake_ == LatentMistake::kRotatedKeysAveraged) Average(0, tails_.back());
        values_.push_back(Heads(spec.value, x[t], t));
        Cut(spec, t);
      }
    }
    DoubleRows out;
    for (size_t t = 0; t < x.size(); ++t) {
      DoubleRows queries = Queries(spec, x[t], t);
      if (mistake_ == LatentMistake::kRotatedQueriesAveraged) {
        Average(spec.query.width - spec.tail.width, queries);
      }
      std::vector<double> mixed;
      for (uint32_t h = 0; h < spec.query_heads; ++h) {
        for (const double v : Head(spec, h, queries[h], t)) mixed.push_back(v);
      }
      out.push_back(Times(spec.output, mixed));
    }
    return out;
  }

  std::vector<double> Head(const model::AttentionSpec& spec, uint32_t h,
                           const std::vector<double>& query, size_t position) const {
    const model::ViewHeads& heads = spec.views[spec.head_map[h]];
    std::vector<double> logits;
    for (size_t j = 0; j <= position; ++j) {
      auto key = Block(spec.query.matrix, h, spec.query_heads, keys_[j][heads.key], true);
      if (spec.tail.present()) {
        key.insert(key.end(), tails_[j][heads.tail].begin(), tails_[j][heads.tail].end());
      }
      double dot = 0;
      for (size_t i = 0; i < key.size(); ++i) dot += key[i] * query[i];
      logits.push_back(static_cast<double>(spec.scale) * dot);
    }
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double& logit : logits) sum += logit = std::exp(logit - most);
    std::vector<double> out;
    for (size_t j = 0; j <= position; ++j) {
      const auto& row = spec.value.present() ? values_[j][heads.value] : latents_[j][heads.key];
      const auto value = Value(spec, h, row);
      out.resize(value.size(), 0.0);
      for (size_t i = 0; i < value.size(); ++i) out[i] += logits[j] / sum * value[i];
    }
    return out;
  }

  const model::Model& model_;
  LatentMistake mistake_ = LatentMistake::kNone;
  const plan::Profile* profile_ = nullptr;
  BasisMistake basis_mistake_ = BasisMistake::kNone;
  std::vector<DoubleRows> keys_, tails_, values_;  // by token, by head
  std::vector<DoubleRows> latents_;  // where values are read that have no rows of their own
};

}  // namespace headroom::test
