// Rows that leave lanes: by votes, and into the mean of a ring.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include <catch2/catch_test_macros.hpp>

#include "attention/softmax_mix.h"
#include "backends/xnnpack/kernels.h"
#include "store/kv_store.h"

namespace headroom::store {
namespace {

constexpr uint32_t kWidth = 4, kContext = 200, kChunk = 6;

struct alignas(64) Line {
  std::byte bytes[64];
};

// One layer of one lane in f32, whose row at position p holds p + column / 8, values negated.
struct Fixture {
  explicit Fixture(LaneSpec wanted) {
    wanted.key = wanted.value = {RowCodec::kF32, kWidth};
    const LayerSpec layer{{{1, PlanLane(wanted, kContext, kChunk)}}, -1};
    spec = layer.groups[0].spec;
    memory.resize(LayerBytes(layer) / 64 + 1);
    scratch.resize(ThinScratchBytes({&layer, 1}) / 64 + 1);
    store = KvStore({layer}, {memory[0].bytes, LayerBytes(layer)});
    store.Lend({attention::DecodeRow, kernels.encode_row, kernels.hadamard},
               {scratch[0].bytes, scratch.size() * 64});
  }
  static float Mark(uint32_t position, uint32_t column) {
    return static_cast<float>(position) + static_cast<float>(column) / 8;
  }
  void Append(uint32_t count) {
    store.BeginAppend(tokens, count);
    for (uint32_t p = tokens; p < tokens + count; ++p) {
      const RowPlace place = store.Place(0, 0, p);
      for (uint32_t c = 0; c < kWidth; ++c) {
        reinterpret_cast<float*>(place.key.data)[c] = Mark(p, c);
        reinterpret_cast<float*>(place.value.data)[c] = -Mark(p, c);
      }
    }
    tokens += count;
  }
  LaneView Last() const {
    LaneView segments[kMostSegments];
    return segments[store.View(0, {0, 0, 0}, tokens, segments) - 1];
  }
  std::vector<int32_t> Positions() const {
    const LaneView view = Last();
    return {view.positions, view.positions + view.rows};
  }
  // Every row is where its position says.
  void CheckRows() const {
    const LaneView view = Last();
    for (uint32_t r = 0; r < view.rows; ++r) {
      if (view.positions[r] < 0) continue;
      const auto position = static_cast<uint32_t>(view.positions[r]);
      for (uint32_t c = 0; c < kWidth; ++c) {
        REQUIRE(reinterpret_cast<const float*>(view.keys.data)[r * kWidth + c] ==
                Mark(position, c));
        REQUIRE(reinterpret_cast<const float*>(view.values.data)[r * kWidth + c] ==
                -Mark(position, c));
      }
    }
  }
  xnnpack::Kernels kernels = xnnpack::PortableKernels();
  LaneSpec spec;
  std::vector<Line> memory, scratch;
  KvStore store;
  uint32_t tokens = 0;
};

// What stays, by the definition: sinks, the newest, then the best of the pooled votes.
std::vector<int32_t> Kept(const LaneSpec& spec, const std::vector<int32_t>& positions,
                          const std::vector<float>& votes) {
  const size_t newest = spec.vote.observe, candidates = positions.size() - newest;
  std::vector<double> pooled(candidates);
  for (size_t i = 0; i < candidates; ++i) {
    for (int64_t j = int64_t(i) - spec.vote.pool / 2; j <= int64_t(i) + spec.vote.pool / 2; ++j) {
      if (j < 0 || j >= int64_t(candidates)) continue;
      if (spec.vote.pool_max) {
        pooled[i] = std::max<double>(pooled[i], votes[size_t(j)]);
      } else {
        pooled[i] += votes[size_t(j)];
      }
    }
    if (positions[i] < int32_t(spec.sinks)) pooled[i] = 1e9;
  }
  std::vector<size_t> order(candidates);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return pooled[a] > pooled[b]; });
  order.resize(spec.vote.rows - newest);
  std::vector<int32_t> kept;
  for (const size_t i : order) kept.push_back(positions[i]);
  kept.insert(kept.end(), positions.end() - int64_t(newest), positions.end());
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST_CASE("the rows with the most votes stay, in their order", "[store][votes]") {
  std::mt19937 random(3);
  for (uint32_t trial = 0; trial < 12; ++trial) {
    LaneSpec wanted;
    wanted.sinks = trial % 3;
    wanted.vote = {20, 5, trial % 2 == 0, trial % 4 < 2 ? 1u : 3u, trial % 4 == 3};
    Fixture f(wanted);
    REQUIRE(f.spec.capacity == 32);  // 20 and a chunk, rounded up
    std::vector<int32_t> kept;
    while (f.tokens < 100) {
      const uint32_t count = 1 + random() % kChunk;
      const std::vector<int32_t> before = f.tokens == 0 ? kept : f.Positions();
      std::vector<float> votes(before.size());
      if (!before.empty()) {  // few different values, so that equals decide
        uint32_t queries = 0;
        float* to = f.store.BeginVote(0, 0, kChunk, &queries);
        for (float& vote : votes) vote = static_cast<float>(random() % 7);
        if (to != nullptr) std::copy(votes.begin(), votes.end(), to);
        if (to == nullptr) REQUIRE(before.size() <= f.spec.vote.rows);
      }
      const bool full = before.size() + count > f.spec.capacity;
      f.Append(count);
      f.CheckRows();
      std::vector<int32_t> want = full ? Kept(f.spec, before, votes) : before;
      for (uint32_t p = f.tokens - count; p < f.tokens; ++p) want.push_back(int32_t(p));
      REQUIRE(f.Positions() == want);
    }
  }
}

TEST_CASE("a lane that kept all becomes one of votes without leaving its place", "[store][votes]") {
  LaneSpec all;
  Fixture f(all);
  for (int i = 0; i < 20; ++i) f.Append(kChunk);
  LaneSpec wanted = f.spec;
  wanted.sinks = 50;  // more than there is room for
  wanted.vote = {20, 5, true, 1, false};
  const LayerSpec to{{{1, PlanLane(wanted, kContext, kChunk)}}, -1};
  REQUIRE(CanShrink({1, f.spec}, to.groups[0]));
  const std::vector<LayerSpec> from = {f.store.layer(0)};
  std::vector<Line> scratch(ShrinkScratchBytes(from) / 64 + 1);
  const xnnpack::Kernels kernels = xnnpack::PortableKernels();
  f.store.ShrinkTo({&to, 1}, f.tokens, {attention::DecodeRow, kernels.encode_row, kernels.hadamard},
                   {scratch[0].bytes, scratch.size() * 64});
  CHECK(f.Positions().size() == 20);
  f.CheckRows();
  // More rows, or an array further up, is no smaller form, whatever the bytes.
  LaneSpec more = to.groups[0].spec;
  more.capacity += 16;
  more.key = {RowCodec::kI8Token, kWidth};
  CHECK_FALSE(CanShrink(to.groups[0], {1, more}));
}

TEST_CASE("votes of NaN, as a file may have them, are none", "[store][votes]") {
  LaneSpec wanted;
  wanted.vote = {20, 5, true, 3, false};
  Fixture f(wanted);
  for (int i = 0; i < 5; ++i) f.Append(kChunk);
  uint32_t queries = 0;
  float* votes = f.store.BeginVote(0, 0, 1, &queries);
  REQUIRE(votes != nullptr);
  for (uint32_t i = 0; i < 30; ++i) votes[i] = i % 2 == 0 ? NAN : 1.0f;
  f.Append(kChunk);
  CHECK(f.Positions().size() == 26);
  f.CheckRows();
}

TEST_CASE("what leaves a ring is its mean, and weighs as many rows", "[store][mean]") {
  LaneSpec wanted;
  wanted.sinks = 2;
  wanted.left = 9;
  wanted.mean = true;
  Fixture f(wanted);
  REQUIRE(f.spec.capacity == 18);  // 2 and roundup(9 + 6, 16)
  for (int i = 0; i < 20; ++i) f.Append(5);
  f.CheckRows();
  std::set<int32_t> there;
  const LaneView last = f.Last();
  for (uint32_t r = 0; r < last.rows; ++r) there.insert(last.positions[r]);
  double mean = 0;
  int gone = 0;
  for (int32_t p = 0; p < 100; ++p) {
    if (there.count(p) == 0) mean += p, ++gone;
  }
  CHECK(gone == 100 - 18);
  LaneView segments[kMostSegments];
  REQUIRE(f.store.View(0, {0, 0, 0}, f.tokens, segments) == 2);
  const LaneView& row = segments[0];
  REQUIRE(row.rows == 1);
  const auto* key = reinterpret_cast<const float*>(row.keys.data);
  const auto* value = reinterpret_cast<const float*>(row.values.data);
  for (uint32_t c = 0; c < kWidth; ++c) {
    CHECK(std::abs(key[c] - (mean / gone + c / 8.0)) < 1e-4);
    CHECK(std::abs(value[c] + (mean / gone + c / 8.0)) < 1e-4);
  }
  CHECK(std::abs(row.bias[0] - std::log(static_cast<float>(gone))) < 1e-6f);
}

}  // namespace
}  // namespace headroom::store
