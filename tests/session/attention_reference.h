// A forward pass in double through models of attention alone, that makes the keys and values of
// every query head: it knows neither lanes nor matrices on the query's side. And the same with one
// mistake, to show that the data of the tests would tell.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
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

// What the query at position `query` sees of position `key`, and the positions that the two are
// rotated to. False: nothing.
struct PlacePair {
  size_t query = 0, key = 0;
};
using PlaceRule = std::function<bool(const model::AttentionSpec& spec, PlacePair* pair)>;

// Rows are kept unrotated.
class AttentionReference {
 public:
  explicit AttentionReference(const model::Model& model,
                              LatentMistake mistake = LatentMistake::kNone)
      : model_(model), mistake_(mistake) {}
  // Rows are cut to the ranks of the profile's roles.
  AttentionReference(const model::Model& model, const plan::Profile& profile,
                     BasisMistake mistake = BasisMistake::kNone)
      : model_(model), profile_(&profile), basis_mistake_(mistake) {}
  // Without a rule, every query sees all rows before it.
  AttentionReference(const model::Model& model, const std::vector<int32_t>& tokens, PlaceRule rule)
      : model_(model), tokens_(tokens), rule_(std::move(rule)) {}

  std::vector<double> Logits() {
    DoubleRows x;
    for (const int32_t token : tokens_) x.push_back(Row(model_.ops[0].weight.tensor, token));
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
      const double c = std::cos(angle) * static_cast<double>(rope.attention_factor);
      const double s = std::sin(angle) * static_cast<double>(rope.attention_factor);
      const double turned = a * c - b * s;
      b = b * c + a * s;
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
  DoubleRows Heads(const model::StreamSpec& stream, const std::vector<double>& x) const {
    DoubleRows out;
    if (!stream.present()) return out;
    const auto all = Times(stream.weight, x);
    for (uint32_t h = 0; h < stream.heads; ++h) {
      const auto begin = all.begin() + h * stream.width;
      out.push_back(Normed(stream.norm, {begin, begin + stream.width}));
    }
    return out;
  }
  DoubleRows Queries(const model::AttentionSpec& spec, const std::vector<double>& x) const {
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
      out.push_back(Normed(query.norm, {begin, begin + query.width}));
    }
    return out;
  }
  std::vector<double> Rotated(const model::QuerySpec& query, std::vector<double> x,
                              size_t position) const {
    Rotate(query.rope, position, x);
    if (query.factors == model::kNone) return x;
    const auto factors = Vector(query.factors);
    for (uint32_t i = 0; i < query.width; ++i) x[i] *= factors[i];
    return x;
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
  const model::RoleSpec* RoleOf(const model::AttentionSpec& spec, uint32_t head) const {
    const auto index = static_cast<size_t>(&spec - model_.attentions.data());
    return profile_ == nullptr ? nullptr : &profile_->RoleOf(index, head);
  }
  void CutValues(const model::AttentionSpec& spec, DoubleRows& values) const {
    for (uint32_t head = 0; head < values.size(); ++head) {
      const model::RoleSpec* role = RoleOf(spec, head);
      if (role == nullptr || role->value_rank == 0) continue;
      for (size_t i = role->value_rank; i < values[head].size(); ++i) values[head][i] = 0;
    }
  }
  // The key of a head as queries meet it at its place.
  std::vector<double> KeyAt(const model::AttentionSpec& spec, uint32_t head, size_t place,
                            std::vector<double> key) const {
    Rotate(spec.key.rope, place, key);
    const model::RoleSpec* role = RoleOf(spec, head);
    if (role == nullptr || spec.key.basis == model::kNone) return key;
    const uint32_t rank = role->key_rank == 0 ? spec.key.width : role->key_rank;
    return CutKey(spec, head, std::min(rank, spec.key.width), key);
  }

  DoubleRows Attend(const model::AttentionSpec& spec, const DoubleRows& x) {
    Cached own = {&spec, {}, {}, {}, {}};
    for (size_t t = 0; t < x.size() && spec.source_attention == model::kNone; ++t) {
      model::StreamSpec cached = spec.key;
      if (mistake_ == LatentMistake::kNormAfterCaching) cached.norm = {};
      own.latents.push_back(Heads(cached, x[t]));
      own.keys.push_back(Heads(spec.key, x[t]));
      own.tails.push_back(Heads(spec.tail, x[t]));
      if (mistake_ == LatentMistake::kRotatedKeysAveraged) Average(0, own.tails.back());
      own.values.push_back(Heads(spec.value, x[t]));
      CutValues(spec, own.values.back());
    }
    if (spec.source_attention != model::kNone) {
      own = cached_[static_cast<size_t>(spec.source_attention)];
    }
    cached_.push_back(std::move(own));
    DoubleRows out;
    for (size_t t = 0; t < x.size(); ++t) {
      DoubleRows queries = Queries(spec, x[t]);
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
    const Cached& cached = cached_.back();
    std::vector<double> logits;
    std::vector<size_t> seen;
    for (size_t j = 0; j <= position; ++j) {
      PlacePair at = {position, j};
      if (rule_ && !rule_(spec, &at)) continue;
      auto key = KeyAt(*cached.source, heads.key, at.key, cached.keys[j][heads.key]);
      key = Block(spec.query.matrix, h, spec.query_heads, key, true);
      if (spec.tail.present()) {
        auto tail = cached.tails[j][heads.tail];
        Rotate(cached.source->tail.rope, at.key, tail);
        key.insert(key.end(), tail.begin(), tail.end());
      }
      const auto rotated = Rotated(spec.query, query, at.query);
      double dot = 0;
      for (size_t i = 0; i < key.size(); ++i) dot += key[i] * rotated[i];
      logits.push_back(static_cast<double>(spec.scale) * dot);
      seen.push_back(j);
    }
    const double most = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double& logit : logits) sum += logit = std::exp(logit - most);
    std::vector<double> out;
    for (size_t n = 0; n < seen.size(); ++n) {
      const auto& row = spec.value.present() ? cached.values[seen[n]][heads.value]
                                             : cached.latents[seen[n]][heads.key];
      const auto value = Value(spec, h, row);
      out.resize(value.size(), 0.0);
      for (size_t i = 0; i < value.size(); ++i) out[i] += logits[n] / sum * value[i];
    }
    return out;
  }

  const model::Model& model_;
  LatentMistake mistake_ = LatentMistake::kNone;
  const plan::Profile* profile_ = nullptr;
  BasisMistake basis_mistake_ = BasisMistake::kNone;
  std::vector<int32_t> tokens_ = kShapeTokens;
  PlaceRule rule_;
  // What an attention reads, by token and head; the latents: where values are read that have no
  // rows of their own.
  struct Cached {
    const model::AttentionSpec* source;  // that made it
    std::vector<DoubleRows> keys, tails, values, latents;
  };
  std::vector<Cached> cached_;  // by attention
};

// Largest difference of logits from those expected, in parts of the largest one expected.
inline double Deviation(const std::vector<double>& expected, const std::vector<float>& logits) {
  double largest = 0, difference = expected.size() == logits.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(expected.size(), logits.size()); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - static_cast<double>(logits[i])));
  }
  return difference / largest;
}

}  // namespace headroom::test
