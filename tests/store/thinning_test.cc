// Rows that leave lanes: by votes, and into the mean of a ring.
#include <cmath>
#include <optional>

#include <catch2/catch_test_macros.hpp>

#include "attention/softmax_mix.h"
#include "backends/xnnpack/kernels.h"
#include "store/kv_store.h"
#include "support/thinning_tester.h"

namespace headroom::store {
namespace {

constexpr uint32_t kWidth = 4, kContext = test::kThinningContext, kChunk = test::kThinningChunk;

struct alignas(64) Line {
  std::byte bytes[64];
};

// One layer of one lane in f32, whose rows hold the Mark of their position + column / 8.
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
  static float At(float mark, uint32_t column) { return mark + static_cast<float>(column) / 8; }
  void Append(uint32_t count) {
    store.BeginAppend(tokens, count);
    for (uint32_t p = tokens; p < tokens + count; ++p) {
      const RowPlace place = store.Place(0, 0, p);
      for (uint32_t c = 0; c < kWidth; ++c) {
        reinterpret_cast<float*>(place.key.data)[c] = At(test::Mark(p).key, c);
        reinterpret_cast<float*>(place.value.data)[c] = At(test::Mark(p).value, c);
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
                At(test::Mark(position).key, c));
        REQUIRE(reinterpret_cast<const float*>(view.values.data)[r * kWidth + c] ==
                At(test::Mark(position).value, c));
      }
    }
  }
  xnnpack::Kernels kernels = xnnpack::PortableKernels();
  LaneSpec spec;
  std::vector<Line> memory, scratch;
  KvStore store;
  uint32_t tokens = 0;
};

// A lane of the store as the tester wants it.
struct StoreLane : Fixture {
  using Fixture::Fixture;
  bool Vote(const std::vector<float>& votes) {
    uint32_t queries = 0;
    float* to = store.BeginVote(0, 0, kChunk, &queries);
    if (to == nullptr) return false;
    for (size_t i = 0; i < votes.size(); ++i) to[i] += votes[i];
    return true;
  }
  std::vector<test::LaneRow> Rows() const {
    CheckRows();
    const LaneView view = Last();
    const auto* votes = reinterpret_cast<const float*>(memory[0].bytes + LaneLayout(spec).votes);
    std::vector<test::LaneRow> rows;
    for (uint32_t r = 0; r < view.rows; ++r) {
      rows.push_back({view.positions[r], reinterpret_cast<const float*>(view.keys.data)[r * kWidth],
                      reinterpret_cast<const float*>(view.values.data)[r * kWidth],
                      spec.voted() ? votes[r] : 0});
    }
    return rows;
  }
  std::optional<test::MeanRow> Mean() const {
    LaneView segments[kMostSegments];
    if (store.View(0, {0, 0, 0}, tokens, segments) != 2) return {};
    const LaneView& row = segments[0];
    return test::MeanRow{reinterpret_cast<const float*>(row.keys.data)[0],
                         reinterpret_cast<const float*>(row.values.data)[0], row.bias[0]};
  }
};

TEST_CASE("the rows with the most votes stay, in their order", "[store][votes]") {
  CHECK(test::TestVotes<StoreLane>() == "");
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
  CHECK(test::TestMean<StoreLane>() == "");
}

}  // namespace
}  // namespace headroom::store
