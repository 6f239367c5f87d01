// Row scores: the first pass of the softmax mix once more, with the final log-sum-exp known.
#if defined(HR_ROW_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: include guard per target
#ifdef HR_ROW_SCORES_INL_H_
#undef HR_ROW_SCORES_INL_H_
#else
#define HR_ROW_SCORES_INL_H_
#endif

#include "backends/xnnpack/softmax_mix_decode-inl.h"
#include "backends/xnnpack/softmax_mix_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// What is taken from logits in the log2 domain: infinite for a query that saw nothing, so that its
// weights are 0.
HWY_INLINE float Log2Lse(float lse) {
  return lse == kMinusInfinity ? -kMinusInfinity : lse * kLog2E;
}

HWY_NOINLINE void DecodeRowScores(const LaneView& lane, const MixSpec& spec, const float* q,
                                  uint32_t q_stride, const int32_t* query_positions,
                                  uint32_t queries, const float* lse, uint32_t row_begin,
                                  uint32_t row_end, float* scores, std::byte* scratch) {
  const DF df;
  const DecodeState state(queries, lane.keys.width, 0, scratch);
  const DecodeCall call = {lane,    spec, query_positions, RangeOf(query_positions, queries),
                           row_end, 0,    lane.values,     nullptr};
  BeginDecode(call, q, q_stride, state);
  for (uint32_t begin = row_begin; begin < row_end; begin += kMixBlockRows) {
    const RowBlock block = MakeRowBlock(lane, begin, std::min(row_end - begin, kMixBlockRows));
    const Sight sight = SightOf(spec, block, call.range);
    if (sight == Sight::kNone || !ScoreBlockRows(call, block, sight, {}, state)) continue;
    for (size_t r = 0; r < block.rows; r += kLanes) {
      VF sum = hn::Zero(df);
      for (size_t h = 0; h < queries; ++h) {
        const VF x = hn::Load(df, state.scores + h * kMixBlockRows + r);
        sum = hn::Add(sum, Exp2(hn::Sub(x, hn::Set(df, Log2Lse(lse[h])))));
      }
      float* to = scores + begin + r;
      hn::StoreN(hn::Add(hn::LoadN(df, to, block.rows - r), sum), df, to, block.rows - r);
    }
  }
}

template <size_t kVectors>
HWY_NOINLINE void TileRowScores(const LaneView& lane, const MixSpec& spec, const RowBlock& block,
                                const int32_t* visible, BlockRows keys, const TileScratch& scratch,
                                const Panel& panel, float* scores) {
  const DF df;
  ScoreBlock<kVectors>(keys.data, keys.stride, lane.key_width(), block.rows, panel.q,
                       scratch.scores);
  FinishTileScores(lane, spec, block, visible, kVectors, scratch, panel);
  for (size_t r = 0; r < block.rows; ++r) {
    VF sum = hn::Zero(df);
    for (size_t lane0 = 0; lane0 < kVectors * kLanes; lane0 += kLanes) {
      const VF x = hn::Load(df, scratch.scores + r * kPanelQueries + lane0);
      sum = hn::Add(sum, Exp2(hn::Sub(x, hn::Load(df, panel.maxima + lane0))));
    }
    scores[block.begin + r] += hn::ReduceSum(df, sum);
  }
}

HWY_NOINLINE void TileRowScores(const LaneView& lane, const MixSpec& spec, const float* q,
                                uint32_t q_stride, const int32_t* query_positions, uint32_t queries,
                                const float* lse, uint32_t row_begin, uint32_t row_end,
                                float* scores, std::byte* scratch_bytes) {
  const TileScratch scratch(queries, lane.key_width(), 0, scratch_bytes);
  for (size_t i = 0; i < scratch.panels; ++i) {
    const Panel panel = scratch.At(i, queries);
    BeginPanel(spec, q, q_stride, query_positions, lane.key_width(), 0, panel);
    for (size_t k = 0; k < panel.vectors * kLanes; ++k) {  // lanes without a query add nothing
      panel.maxima[k] = k < panel.queries ? Log2Lse(lse[panel.first + k]) : -kMinusInfinity;
    }
  }
  ForVisibleBlocks(lane, spec, RangeOf(query_positions, queries), row_begin, row_end, scratch,
                   [&](const RowBlock& block, const int32_t* visible) HWY_ATTR {
                     const BlockRows keys = DecodeKeys(lane, block, visible, scratch);
                     ForPanels(spec, block, queries, scratch,
                               [&](auto n, const int32_t* mask, const Panel& panel) HWY_ATTR {
                                 TileRowScores<n()>(lane, spec, block, mask, keys, scratch, panel,
                                                    scores);
                               });
                   });
}

void RowScores(const LaneView& lane, const MixSpec& spec, const float* q, uint32_t q_stride,
               const int32_t* query_positions, uint32_t queries, const float* lse,
               uint32_t row_begin, uint32_t row_end, float* scores, std::byte* scratch) {
  const bool decode = lane.key_tail.width == 0 && queries <= kDecodeQueries;
  const auto kernel =
      decode ? DecodeRowScores : static_cast<attention::RowScoresKernel>(TileRowScores);
  kernel(lane, spec, q, q_stride, query_positions, queries, lse, row_begin, row_end, scores,
         scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_ROW_SCORES_INL_H_
