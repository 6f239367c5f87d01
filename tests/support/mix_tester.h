// Tester of softmax kernels: builds a lane and queries for a MixCase, hides what nobody may see
// behind NaN and forbidden pages, runs the kernel over the case's row ranges, and compares every
// record and the merged output with the double-precision oracle. Product kernels and mutants go
// through the same function.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "attention/softmax_mix.h"
#include "base/half.h"
#include "oracle/softmax.h"
#include "support/compare.h"
#include "support/guarded_memory.h"
#include "support/mix_rows.h"
#include "support/tolerance.h"

namespace headroom::test {

using attention::MergeKernel;
using attention::MixKernel;
using attention::MixSpec;

enum class Logits { kPlain, kLarge, kEqual };  // spread of about 1; up to +-80; all the same
enum class Layout { kDense, kRing, kHoles };   // position = row; wrapped; wrapped with empty rows

struct MixCase {
  RowCodec codec = RowCodec::kF32;  // of keys, and of values unless they have one of their own
  std::optional<RowCodec> value_codec;
  uint32_t rows = 1;    // S
  uint32_t tokens = 1;  // T: the last ones, at positions S - T .. S - 1
  uint32_t group = 1;   // queries per token
  uint32_t key_width = 16, value_width = 16;
  uint32_t tail_width = 0;  // elements of the key behind key_width, in a codec of their own
  RowCodec tail_codec = RowCodec::kF16;
  bool latent = false;         // values are the first value_width elements of the keys
  bool bias = false;           // of every row, some so low that the row is hidden
  int32_t first_position = 0;  // of a dense lane
  uint32_t left = kUnlimited, sinks = 0;
  float softcap = 0;
  Logits logits = Logits::kPlain;
  Layout layout = Layout::kDense;
  uint32_t splits = 1;         // row ranges that are merged
  bool poison_behind = false;  // rows behind S exist and hold NaN; else S ends at a forbidden page
  uint32_t seed = 1;
};

inline std::string Describe(const MixCase& c) {
  std::string text = std::string(RowCodecName(c.codec)) + " S " + std::to_string(c.rows) + " T " +
                     std::to_string(c.tokens) + " group " + std::to_string(c.group) + " Dk " +
                     std::to_string(c.key_width) + " Dv " + std::to_string(c.value_width);
  if (c.value_codec) text += std::string(" values ") + RowCodecName(*c.value_codec);
  if (c.tail_width > 0) {
    text += " tail " + std::to_string(c.tail_width) + " " + RowCodecName(c.tail_codec);
  }
  if (c.latent) text += " latent";
  if (c.bias) text += " bias";
  if (c.first_position > 0) text += " from " + std::to_string(c.first_position);
  if (c.left != kUnlimited) text += " left " + std::to_string(c.left);
  if (c.sinks > 0) text += " sinks " + std::to_string(c.sinks);
  if (c.softcap > 0) text += " cap " + std::to_string(c.softcap);
  if (c.logits == Logits::kLarge) text += " large";
  if (c.logits == Logits::kEqual) text += " equal";
  if (c.layout == Layout::kRing) text += " ring";
  if (c.layout == Layout::kHoles) text += " holes";
  return text + " splits " + std::to_string(c.splits) + " seed " + std::to_string(c.seed);
}

// A case made concrete, with the oracle's answers. Built once, given to many kernels.
class MixProblem {
 public:
  explicit MixProblem(const MixCase& c) : case_(c), random_(c.seed * 7919 + 17) {
    MakePositions();
    MakeQueries();
    key_gain_ = c.logits == Logits::kLarge ? LargeGain() : 1.0f;
    const float gain = c.logits == Logits::kEqual ? 0.0f : key_gain_;
    keys_ = StoredRows(c.codec, c.key_width, stored_rows(), gain, random_);
    tail_ = StoredRows(c.tail_codec, c.tail_width, stored_rows(), gain, random_);
    const RowCodec value_codec = c.value_codec.value_or(c.codec);
    values_ = StoredRows(value_codec, c.value_width, c.latent ? 0 : stored_rows(), 1.0f, random_);
    MakeBias();
    Poison();
    Solve();
  }

  uint32_t queries() const { return case_.tokens * case_.group; }
  const MixCase& test_case() const { return case_; }
  const std::vector<oracle::SoftmaxResult>& exact() const { return exact_; }

  LaneView Lane() const {
    LaneView lane;
    lane.keys = keys_.View();
    if (case_.tail_width > 0) lane.key_tail = tail_.View();
    lane.values = values_.View();
    if (case_.latent) lane.values = {RowCodec::kF32, case_.value_width, nullptr, nullptr};
    lane.first_position = case_.first_position;
    if (case_.bias) lane.bias = bias_.as<float>();
    lane.rows = case_.rows;
    lane.positions = case_.layout == Layout::kDense ? nullptr : positions_memory_.as<int32_t>();
    return lane;
  }

  uint32_t key_width() const { return case_.key_width + case_.tail_width; }  // Dk of queries

  MixSpec Spec() const { return {scale_, case_.softcap, case_.left, case_.sinks}; }

  // The query vectors, q_stride() floats apart.
  const float* q() const { return q_.data(); }
  uint32_t q_stride() const { return q_stride_; }
  const std::vector<int32_t>& query_positions() const { return query_positions_; }
  double score_allowance(uint32_t query, uint32_t row) const {
    return score_allowance_[query][row];
  }

  // Runs the kernel on every row range, checks each record, and the outputs merged in double.
  Verdict Test(MixKernel kernel) const {
    Verdict verdict;
    const uint32_t record_floats = attention::PartialFloats(case_.value_width);
    std::vector<std::vector<oracle::Partial>> partials(queries());
    for (uint32_t part = 0; part < case_.splits; ++part) {
      const auto [begin, end] = Range(part);
      const std::vector<float> records = Run(kernel, begin, end, &verdict);
      for (uint32_t i = 0; i < queries(); ++i) {
        const float* record = records.data() + uint64_t{i} * record_floats;
        CheckRecord(i, begin, end, record, &verdict);
        partials[i].push_back({record[0], record[1], {record + 2, record + 2 + case_.value_width}});
      }
    }
    for (uint32_t i = 0; i < queries(); ++i) {
      const std::vector<double> out = oracle::MergePartials(partials[i]);
      for (uint32_t c = 0; c < case_.value_width; ++c) {
        verdict.Check(out[c], exact_[i].out[c], allowance_[i][c],
                      "query " + std::to_string(i) + " Dv " + std::to_string(c));
      }
    }
    return verdict;
  }

  // The rows that part `part` of the split covers: uneven on purpose.
  std::pair<uint32_t, uint32_t> Range(uint32_t part) const {
    const auto cut = [&](uint32_t i) {
      return i == case_.splits ? case_.rows
                               : static_cast<uint32_t>(uint64_t{case_.rows} * i * (i + 1) /
                                                       (case_.splits * (case_.splits + 1)));
    };
    return {cut(part), cut(part + 1)};
  }

  // Records of all queries over [begin, end), between guards; also sees that nothing else changed.
  std::vector<float> Run(MixKernel kernel, uint32_t begin, uint32_t end, Verdict* verdict) const {
    constexpr size_t kGuard = 32;
    const size_t floats = size_t{queries()} * attention::PartialFloats(case_.value_width);
    std::vector<float> partials(floats + 2 * kGuard, NAN);
    GuardedMemory scratch(attention::MixScratchBytes(queries(), key_width(), case_.value_width),
                          64);
    std::memset(scratch.data(), 0xff, scratch.bytes());  // NaN, to those who trust it
    const std::vector<std::byte> before = Snapshot();
    kernel(Lane(), Spec(), q_.data(), q_stride_, query_positions_.data(), queries(), begin, end,
           partials.data() + kGuard, scratch.data());
    if (Snapshot() != before) verdict->Fail("an input changed");
    for (size_t i = 0; i < kGuard; ++i) {
      if (!std::isnan(partials[i]) || !std::isnan(partials[partials.size() - 1 - i])) {
        verdict->Fail("guard overwritten");
      }
    }
    return {partials.begin() + kGuard, partials.end() - kGuard};
  }

  // exp(entropy) of a query's weights: how many rows really take part.
  double EffectiveRows(uint32_t i) const {
    double entropy = 0;
    for (const double p : exact_[i].weights) entropy -= p > 0 ? p * std::log(p) : 0;
    return std::exp(entropy);
  }
  uint32_t VisibleRows(uint32_t i) const {
    return static_cast<uint32_t>(std::count_if(exact_[i].scores.begin(), exact_[i].scores.end(),
                                               [](double x) { return x > -INFINITY; }));
  }

 private:
  float Normal() { return normal_(random_); }

  uint32_t stored_rows() const { return case_.rows + (case_.poison_behind ? 3 : 0); }
  bool coded_keys() const { return IsCoded(case_.codec); }
  bool coded_values() const { return IsCoded(case_.value_codec.value_or(case_.codec)); }

  // exp(score) must overflow f32 when nobody subtracts the maximum, and scores stay below the f16
  // limit.
  float LargeGain() const { return 34.0f; }

  void MakePositions() {
    const uint32_t rows = case_.rows;
    positions_.resize(rows);
    std::iota(positions_.begin(), positions_.end(), case_.first_position);
    if (case_.layout !=
        Layout::kDense) {  // a ring that has wrapped: old rows first, newest in the middle
      const uint32_t newest = rows * 2 / 3;
      for (uint32_t r = 0; r < rows; ++r) {
        positions_[r] = r < case_.sinks ? r : r <= newest ? r + rows : r;
      }
    }
    if (case_.layout == Layout::kHoles) {
      for (uint32_t r = 0; r < rows; ++r) {
        if (random_() % 4 == 0) positions_[r] = -1;
      }
    }
    positions_memory_ = GuardedMemory(rows * sizeof(int32_t), sizeof(int32_t));
    int64_t last = case_.first_position + rows - 1;
    for (uint32_t r = 0; r < rows; ++r) {
      positions_memory_.as<int32_t>()[r] = static_cast<int32_t>(positions_[r]);
      last = std::max(last, positions_[r]);
    }
    for (uint32_t t = 0; t < case_.tokens; ++t) {
      for (uint32_t h = 0; h < case_.group; ++h) {
        query_positions_.push_back(
            static_cast<int32_t>(std::max<int64_t>(last - case_.tokens + 1 + t, 0)));
      }
    }
  }

  void MakeQueries() {
    scale_ = 1.0f / std::sqrt(static_cast<float>(key_width()));
    q_stride_ = key_width() + 3;  // odd, so that nothing relies on alignment
    q_.assign(size_t{queries()} * q_stride_, NAN);
    for (uint32_t i = 0; i < queries(); ++i) {
      for (uint32_t d = 0; d < key_width(); ++d) q_[size_t{i} * q_stride_ + d] = Normal() * 1.3f;
    }
  }

  // log n of rows that stand for several, and a few that hide their row from everybody.
  void MakeBias() {
    bias_ = GuardedMemory(case_.rows * sizeof(float), sizeof(float));
    for (uint32_t r = 0; r < case_.rows; ++r) {
      bias_.as<float>()[r] = random_() % 8 == 0 ? -INFINITY : 1.5f * Normal();
    }
  }

  bool SeenByAny(uint32_t row) const {
    for (const int32_t position : query_positions_) {
      if (oracle::Sees(OracleSpec(), position, positions_[row])) return true;
    }
    return false;
  }

  // Rows that nobody sees, and rows behind S, hold NaN of every kind.
  void Poison() {
    for (uint32_t r = 0; r < stored_rows(); ++r) {
      if (r < case_.rows && SeenByAny(r)) continue;
      keys_.Poison(r);
      tail_.Poison(r);
      if (!case_.latent) values_.Poison(r);
      if (r < case_.rows) bias_.as<float>()[r] = NAN;
    }
  }

  oracle::SoftmaxSpec OracleSpec() const {
    return {scale_, case_.softcap, case_.left == kUnlimited ? INT64_MAX : int64_t{case_.left},
            case_.sinks};
  }

  void Solve() {
    std::vector<oracle::DecodedRow> keys, values;
    std::vector<double> bias;
    for (uint32_t r = 0; r < case_.rows; ++r) {
      keys.push_back(keys_.Decode(r));
      values.push_back(case_.latent ? oracle::FirstElements(keys[r], case_.value_width)
                                    : values_.Decode(r));
      oracle::Append(&keys[r], tail_.Decode(r));
      if (case_.bias) bias.push_back(bias_.as<float>()[r]);
    }
    for (uint32_t i = 0; i < queries(); ++i) {
      const float* from = q_.data() + size_t{i} * q_stride_;
      const std::vector<double> q(from, from + key_width());
      exact_.push_back(oracle::Attend(OracleSpec(), q, query_positions_[i], keys, values,
                                      positions_, oracle::kNoSink, bias));
      std::vector<double> scores(case_.rows, 0.0);
      for (uint32_t r = 0; r < case_.rows; ++r) {
        if (exact_[i].scores[r] == -INFINITY) continue;
        scores[r] = ScoreAllowance(ConditionOfScore(scale_, q, keys[r], coded_keys()), key_width(),
                                   case_.softcap, case_.bias ? bias[r] : 0);
      }
      allowance_.push_back(SoftmaxAllowance(exact_[i], values, scores, coded_values()));
      score_allowance_.push_back(std::move(scores));
    }
  }

  // m and l of one record over [begin, end), from the oracle's scores. An empty view is exact.
  void CheckRecord(uint32_t i, uint32_t begin, uint32_t end, const float* record,
                   Verdict* verdict) const {
    double maximum = -INFINITY, sum = 0, worst = 0;
    for (uint32_t r = begin; r < end; ++r) maximum = std::max(maximum, exact_[i].scores[r]);
    for (uint32_t r = begin; r < end; ++r) {
      if (exact_[i].scores[r] == -INFINITY) continue;
      sum += std::exp(exact_[i].scores[r] - maximum);
      worst = std::max(worst, score_allowance_[i][r]);
    }
    const std::string where =
        "query " + std::to_string(i) + " rows " + std::to_string(begin) + "..";
    verdict->Check(record[0], maximum, MaximumAllowance(worst, maximum == -INFINITY ? 0 : maximum),
                   where + " m");
    const bool empty = maximum == -INFINITY;
    verdict->Check(record[1], sum, empty ? 0 : SumAllowance(sum, worst, maximum, end - begin),
                   where + " l");
    for (uint32_t c = 0; c < case_.value_width; ++c) {
      if (empty) verdict->Check(record[2 + c], 0, 0, where + " o of an empty view");
    }
  }

  std::vector<std::byte> Snapshot() const {
    std::vector<std::byte> all;
    const auto add = [&](const void* data, size_t bytes) {
      const std::byte* from = static_cast<const std::byte*>(data);
      all.insert(all.end(), from, from + bytes);
    };
    for (const StoredRows* rows : {&keys_, &tail_, &values_}) rows->AppendBytes(&all);
    add(bias_.data(), bias_.bytes());
    add(q_.data(), q_.size() * sizeof(float));
    add(query_positions_.data(), query_positions_.size() * sizeof(int32_t));
    add(positions_memory_.data(), positions_memory_.bytes());
    return all;
  }

  MixCase case_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  float scale_ = 1, key_gain_ = 1;
  uint32_t q_stride_ = 0;
  std::vector<int64_t> positions_;
  GuardedMemory positions_memory_;
  std::vector<int32_t> query_positions_;
  std::vector<float> q_;
  StoredRows keys_, tail_, values_;
  GuardedMemory bias_;
  std::vector<oracle::SoftmaxResult> exact_;
  std::vector<std::vector<double>> allowance_, score_allowance_;
};

// Random records, some of them empty, large and small maxima, a sink or none.
inline Verdict TestMerge(MergeKernel merge, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const uint32_t width = 1 + seed * 7 % 83, count = 1 + seed % 6, stride = width + 2 + seed % 5;
  const float spread = seed % 3 == 0 ? 60.0f : 1.5f;
  const double sink = seed % 2 == 0 ? normal(random) * spread : oracle::kNoSink;
  std::vector<float> records(count * stride, NAN), out(width + 2, NAN);
  std::vector<oracle::Partial> partials;
  double largest = std::isinf(sink) ? 0 : std::fabs(sink);
  for (uint32_t j = 0; j < count; ++j) {
    float* record = &records[j * stride];
    const bool empty = seed % 4 == 1 && j % 2 == 0;
    record[0] = empty ? -INFINITY : normal(random) * spread;
    record[1] = empty ? 0.0f : 1.0f + std::fabs(normal(random));
    for (uint32_t c = 0; c < width; ++c) record[2 + c] = empty ? 0.0f : normal(random) * 2.0f;
    if (!empty) largest = std::max<double>(largest, std::fabs(record[0]));
    partials.push_back({record[0], record[1], {record + 2, record + 2 + width}});
  }
  merge(records.data(), stride, count, width, static_cast<float>(sink), out.data() + 1);
  const std::vector<double> exact = oracle::MergePartials(partials, sink);
  std::vector<oracle::Partial> magnitudes = partials;
  for (auto& p : magnitudes) {
    for (double& o : p.o) o = std::fabs(o);
  }
  const std::vector<double> magnitude = oracle::MergePartials(magnitudes, sink);
  Verdict verdict;
  for (uint32_t c = 0; c < width; ++c) {
    verdict.Check(out[1 + c], exact[c], MergeAllowance(magnitude[c], largest, count),
                  "seed " + std::to_string(seed) + " Dv " + std::to_string(c));
  }
  if (!std::isnan(out[0]) || !std::isnan(out[width + 1])) verdict.Fail("guard overwritten");
  return verdict;
}

}  // namespace headroom::test
