// Softmax mix for many queries (prefill tiles): two small matrix products per block of rows.
//
// Queries lie in the lanes of vectors: Q is transposed once per call, so K needs no transposition,
// every row element is broadcast, and maxima, sums and masks are vertical operations without a
// reduction. Rows that are not f32 are decoded once per block for all queries of the call.
//
//   S^T[row][query] = sum_d K[row][d] Q^T[d][query];  P = exp2(S - m);  O^T[c][query] += V[row][c]
//   P[row][query]
#if defined(HR_SOFTMAX_MIX_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_SOFTMAX_MIX_TILE_INL_H_
#undef HR_SOFTMAX_MIX_TILE_INL_H_
#else
#define HR_SOFTMAX_MIX_TILE_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/softmax_mix_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// Register tile: kTileRows rows x up to kPanelVectors vectors of queries (16 or 32 registers in
// all).
inline constexpr size_t kTileRows = 6;
inline constexpr size_t kPanelVectors = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM ? 4 : 2;
inline constexpr size_t kPanelQueries = kPanelVectors * kLanes;

// A panel: up to kPanelQueries queries, as many vectors of them as needed.
struct Panel {
  uint32_t first = 0;    // query
  uint32_t queries = 0;  // of the caller; lanes behind repeat the last one's position
  size_t vectors = 0;
  float* q;            // [Dk][kPanelQueries] scaled
  float* o;            // [Dv][kPanelQueries] not normalised
  float* maxima;       // [kPanelQueries] m, log2 domain
  float* sums;         // [kPanelQueries] l
  int32_t* positions;  // [kPanelQueries]
};

// The call's scratch: per panel the arrays above, then what one block of rows needs.
struct TileScratch {
  TileScratch(uint32_t queries, size_t key_width, size_t value_width, std::byte* scratch)
      : panels((queries + kPanelQueries - 1) / kPanelQueries),
        key_floats((key_width + 15) / 16 * 16),
        value_floats((value_width + 15) / 16 * 16),
        base(reinterpret_cast<float*>(scratch)) {
    float* next = base + panels * PanelFloats();
    scores = next;
    next += kMixBlockRows * kPanelQueries;
    keys = next;
    next += kMixBlockRows * key_floats;
    values = next;
    next += kMixBlockRows * value_floats;
    visible = reinterpret_cast<int32_t*>(next);
    next += kMixBlockRows;
    rescale = next;
    next += kPanelQueries;
    scales = next;  // ScaleFloats of the widest rows
  }

  size_t PanelFloats() const { return kPanelQueries * (key_floats + value_floats + 3); }

  Panel At(size_t i, uint32_t queries) const {
    float* next = base + i * PanelFloats();
    Panel panel;
    panel.first = static_cast<uint32_t>(i * kPanelQueries);
    panel.queries = std::min(queries - panel.first, static_cast<uint32_t>(kPanelQueries));
    panel.vectors = (panel.queries + kLanes - 1) / kLanes;
    panel.maxima = next;
    panel.sums = next + kPanelQueries;
    panel.positions = reinterpret_cast<int32_t*>(next + 2 * kPanelQueries);
    panel.q = next + 3 * kPanelQueries;
    panel.o = panel.q + kPanelQueries * key_floats;
    return panel;
  }

  size_t panels;
  size_t key_floats, value_floats;  // stride of a decoded row
  float* base;
  float* scores;     // [kMixBlockRows][kPanelQueries]
  float* keys;       // [kMixBlockRows][key_floats] decoded
  float* values;     // [kMixBlockRows][value_floats]
  int32_t* visible;  // [kMixBlockRows] position, or -1 where nobody looks
  float* rescale;    // [kPanelQueries]
  float* scales;     // of rows being decoded
};

// --- the two products
// -----------------------------------------------------------------------------

// kRows rows of S^T: dot products with all queries of a panel.
template <size_t kVectors, size_t kRows>
HWY_INLINE void ScoreRowsTile(const float* keys, size_t stride, size_t width, const float* q,
                              float* scores) {
  const DF df;
  VF acc[kRows][kVectors];
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) acc[r][v] = hn::Zero(df);
  }
  for (size_t d = 0; d < width; ++d, q += kPanelQueries) {
    VF query[kVectors];
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) query[v] = hn::Load(df, q + v * kLanes);
    HR_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const VF key = hn::Set(df, keys[r * stride + d]);
      HR_UNROLL
      for (size_t v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(key, query[v], acc[r][v]);
    }
  }
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) {
      hn::Store(acc[r][v], df, scores + r * kPanelQueries + v * kLanes);
    }
  }
}

// kColumns rows of O^T: rescaled, plus the block's weighted values.
template <size_t kVectors, size_t kColumns>
HWY_INLINE void AddColumnsTile(const float* values, size_t stride, size_t rows, const float* p,
                               const float* rescale, float* o) {
  const DF df;
  VF acc[kColumns][kVectors];
  HR_UNROLL
  for (size_t v = 0; v < kVectors; ++v) {
    const VF factor = hn::Load(df, rescale + v * kLanes);
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c) {
      acc[c][v] = hn::Mul(hn::Load(df, o + c * kPanelQueries + v * kLanes), factor);
    }
  }
  for (size_t r = 0; r < rows; ++r, values += stride, p += kPanelQueries) {
    VF weight[kVectors];
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) weight[v] = hn::Load(df, p + v * kLanes);
    HR_UNROLL
    for (size_t c = 0; c < kColumns; ++c) {
      const VF value = hn::Set(df, values[c]);
      HR_UNROLL
      for (size_t v = 0; v < kVectors; ++v) acc[c][v] = hn::MulAdd(value, weight[v], acc[c][v]);
    }
  }
  HR_UNROLL
  for (size_t c = 0; c < kColumns; ++c) {
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) {
      hn::Store(acc[c][v], df, o + c * kPanelQueries + v * kLanes);
    }
  }
}

template <size_t kVectors>
HWY_INLINE void ScoreBlock(const float* keys, size_t stride, size_t width, size_t rows,
                           const float* q, float* scores) {
  size_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    ScoreRowsTile<kVectors, kTileRows>(keys + r * stride, stride, width, q,
                                       scores + r * kPanelQueries);
  }
  for (; r + 4 <= rows; r += 4) {
    ScoreRowsTile<kVectors, 4>(keys + r * stride, stride, width, q, scores + r * kPanelQueries);
  }
  for (; r < rows; ++r) {
    ScoreRowsTile<kVectors, 1>(keys + r * stride, stride, width, q, scores + r * kPanelQueries);
  }
}

template <size_t kVectors>
HWY_INLINE void AddBlock(const float* values, size_t stride, size_t width, size_t rows,
                         const float* p, const float* rescale, float* o) {
  size_t c = 0;
  for (; c + kTileRows <= width; c += kTileRows) {
    AddColumnsTile<kVectors, kTileRows>(values + c, stride, rows, p, rescale,
                                        o + c * kPanelQueries);
  }
  for (; c + 4 <= width; c += 4) {
    AddColumnsTile<kVectors, 4>(values + c, stride, rows, p, rescale, o + c * kPanelQueries);
  }
  for (; c < width; ++c) {
    AddColumnsTile<kVectors, 1>(values + c, stride, rows, p, rescale, o + c * kPanelQueries);
  }
}

// --- softmax
// --------------------------------------------------------------------------------------

// Hides from one vector of queries the rows that each may not see.
HWY_INLINE void MaskColumn(const MixSpec& spec, const int32_t* visible, VI query_position,
                           size_t rows, float* scores) {
  const DF df;
  const DI di;
  const VI left = hn::Set(di, static_cast<int32_t>(std::min<uint32_t>(spec.left, INT32_MAX)));
  const int32_t sinks = static_cast<int32_t>(std::min<uint32_t>(spec.sinks, INT32_MAX));
  const VF hidden = hn::Set(df, kMinusInfinity);
  for (size_t r = 0; r < rows; ++r, scores += kPanelQueries) {
    const int32_t position = visible[r];
    const VI distance = hn::Sub(query_position, hn::Set(di, position));
    auto seen = hn::Ge(distance, hn::Set(di, position < 0 ? INT32_MAX : 0));
    if (position >= sinks) seen = hn::And(seen, hn::Le(distance, left));
    hn::Store(hn::IfThenElse(hn::RebindMask(df, seen), hn::Load(df, scores), hidden), df, scores);
  }
}

// Dot products become logits in the log2 domain: cap, then bias, then sight.
HWY_NOINLINE void FinishTileScores(const LaneView& lane, const MixSpec& spec, const RowBlock& block,
                                   const int32_t* visible, size_t vectors,
                                   const TileScratch& scratch, const Panel& panel) {
  const DI di;
  for (size_t lane0 = 0; lane0 < vectors * kLanes && spec.softcap > 0.0f; lane0 += kLanes) {
    CapScores(spec.softcap, block.rows, kPanelQueries, scratch.scores + lane0);
  }
  if (lane.bias != nullptr) {
    BiasRows(lane.bias + block.begin, block.rows, vectors, kPanelQueries, scratch.scores);
  }
  for (size_t lane0 = 0; lane0 < vectors * kLanes && visible != nullptr; lane0 += kLanes) {
    MaskColumn(spec, visible, hn::Load(di, panel.positions + lane0), block.rows,
               scratch.scores + lane0);
  }
}

// Online softmax of one vector of queries: scores become weights in place, m and l move on.
HWY_INLINE void SoftmaxColumn(size_t rows, float* scores, float* maxima, float* sums,
                              float* rescale) {
  const DF df;
  const VF before = hn::Load(df, maxima);
  VF maximum = before;
  for (size_t r = 0; r < rows; ++r)
    maximum = hn::Max(maximum, hn::Load(df, scores + r * kPanelQueries));
  const VF factor = Exp2(hn::Sub(before, maximum));
  VF sum = hn::Mul(hn::Load(df, sums), factor);
  for (size_t r = 0; r < rows; ++r) {
    const VF p = Exp2(hn::Sub(hn::Load(df, scores + r * kPanelQueries), maximum));
    sum = hn::Add(sum, p);
    hn::Store(p, df, scores + r * kPanelQueries);
  }
  hn::Store(maximum, df, maxima);
  hn::Store(sum, df, sums);
  hn::Store(factor, df, rescale);
}

// --- the whole call
// -------------------------------------------------------------------------------

// Decoded rows of one block, or the lane's own f32 rows.
struct BlockRows {
  const float* data;
  size_t stride;
};

// Keys of one block, both parts behind one another.
HWY_INLINE BlockRows DecodeKeys(const LaneView& lane, const RowBlock& block, const int32_t* visible,
                                const TileScratch& scratch) {
  const RowArray &body = lane.keys, &tail = lane.key_tail;
  if (body.codec == RowCodec::kF32 && visible == nullptr && tail.width == 0) {
    return {reinterpret_cast<const float*>(body.data) + uint64_t{block.begin} * body.width,
            body.width};
  }
  const size_t stride = scratch.key_floats;
  DecodeRowsOf(body.codec)(body, block, visible, scratch.scales, scratch.keys, stride);
  if (tail.width > 0) {
    DecodeRowsOf(tail.codec)(tail, block, visible, scratch.scales, scratch.keys + body.width,
                             stride);
  }
  return {scratch.keys, stride};
}

// Values of one block: rows of their own, or the first elements of the keys.
HWY_INLINE BlockRows DecodeValues(const LaneView& lane, const RowBlock& block,
                                  const int32_t* visible, BlockRows keys,
                                  const TileScratch& scratch) {
  const RowArray& values = lane.values;
  if (values.data == nullptr) return keys;
  if (values.codec == RowCodec::kF32 && visible == nullptr) {
    return {reinterpret_cast<const float*>(values.data) + uint64_t{block.begin} * values.width,
            values.width};
  }
  DecodeRowsOf(values.codec)(values, block, visible, scratch.scales, scratch.values,
                             scratch.value_floats);
  return {scratch.values, scratch.value_floats};
}

template <size_t kVectors>
HWY_NOINLINE void TileBlock(const LaneView& lane, const MixSpec& spec, const RowBlock& block,
                            const int32_t* visible, BlockRows keys, BlockRows values,
                            const TileScratch& scratch, const Panel& panel) {
  ScoreBlock<kVectors>(keys.data, keys.stride, lane.key_width(), block.rows, panel.q,
                       scratch.scores);
  FinishTileScores(lane, spec, block, visible, kVectors, scratch, panel);
  for (size_t lane0 = 0; lane0 < kVectors * kLanes; lane0 += kLanes) {
    SoftmaxColumn(block.rows, scratch.scores + lane0, panel.maxima + lane0, panel.sums + lane0,
                  scratch.rescale + lane0);
  }
  AddBlock<kVectors>(values.data, values.stride, lane.value_width(), block.rows, scratch.scores,
                     scratch.rescale, panel.o);
}

// Transposes and scales the queries of a panel, clears its sums.
HWY_INLINE void BeginPanel(const MixSpec& spec, const float* q, size_t q_stride,
                           const int32_t* query_positions, size_t key_width, size_t value_width,
                           const Panel& panel) {
  const float factor = QueryFactor(spec);
  const size_t lanes = panel.vectors * kLanes;
  for (size_t i = 0; i < lanes; ++i) {
    const size_t from = std::min<size_t>(i, panel.queries - 1);
    const float* query = q + (panel.first + from) * q_stride;
    for (size_t d = 0; d < key_width; ++d) panel.q[d * kPanelQueries + i] = query[d] * factor;
    panel.positions[i] = query_positions[panel.first + from];
    panel.maxima[i] = kNoMaximum;
    panel.sums[i] = 0.0f;
  }
  for (size_t c = 0; c < value_width; ++c) {
    std::memset(panel.o + c * kPanelQueries, 0, lanes * sizeof(float));
  }
}

HWY_INLINE void EndPanel(const Panel& panel, uint32_t value_width, float* partials) {
  const size_t record_floats = attention::PartialFloats(value_width);
  for (size_t i = 0; i < panel.queries; ++i) {
    float* record = partials + (panel.first + i) * record_floats;
    const bool seen = !(panel.maxima[i] <= kNoMaximum);  // NaN counts as seen
    record[0] = seen ? panel.maxima[i] * kLn2 : kMinusInfinity;
    record[1] = panel.sums[i];
    for (size_t c = 0; c < value_width; ++c) record[2 + c] = panel.o[c * kPanelQueries + i];
  }
}

// Calls fn(block, visible) for the blocks of rows that some query sees; visible: null when every
// row is seen by somebody, else its positions.
template <class Fn>
HWY_INLINE void ForVisibleBlocks(const LaneView& lane, const MixSpec& spec,
                                 const PositionRange& queries, uint32_t row_begin, uint32_t row_end,
                                 const TileScratch& scratch, const Fn& fn) {
  for (uint32_t begin = row_begin; begin < row_end; begin += kMixBlockRows) {
    const RowBlock block = MakeRowBlock(lane, begin, std::min(row_end - begin, kMixBlockRows));
    const Sight sight = SightOf(spec, block, queries);
    if (sight == Sight::kNone) continue;
    const uint32_t seen =
        sight == Sight::kAll ? block.rows : VisiblePositions(spec, block, queries, scratch.visible);
    if (seen > 0) fn(block, seen < block.rows ? scratch.visible : nullptr);
  }
}

// Calls fn<vectors>(mask, panel) for the panels of queries that see something of a block; mask:
// null when its queries see all of it.
template <class Fn>
HWY_INLINE void ForPanels(const MixSpec& spec, const RowBlock& block, uint32_t queries,
                          const TileScratch& scratch, const Fn& fn) {
  for (size_t i = 0; i < scratch.panels; ++i) {
    const Panel panel = scratch.At(i, queries);
    const Sight sight = SightOf(spec, block, RangeOf(panel.positions, panel.queries));
    if (sight == Sight::kNone) continue;
    const int32_t* mask = sight == Sight::kAll ? nullptr : scratch.visible;
    if (panel.vectors == 1) fn(std::integral_constant<size_t, 1>(), mask, panel);
    if (panel.vectors == 2) fn(std::integral_constant<size_t, 2>(), mask, panel);
    if constexpr (kPanelVectors > 2) {
      if (panel.vectors == 3) fn(std::integral_constant<size_t, 3>(), mask, panel);
      if (panel.vectors == 4) fn(std::integral_constant<size_t, 4>(), mask, panel);
    }
  }
}

HWY_NOINLINE void TileMix(const LaneView& lane, const MixSpec& spec, const float* q,
                          uint32_t q_stride, const int32_t* query_positions, uint32_t queries,
                          uint32_t row_begin, uint32_t row_end, float* partials,
                          std::byte* scratch_bytes) {
  const TileScratch scratch(queries, lane.key_width(), lane.value_width(), scratch_bytes);
  for (size_t i = 0; i < scratch.panels; ++i) {
    BeginPanel(spec, q, q_stride, query_positions, lane.key_width(), lane.value_width(),
               scratch.At(i, queries));
  }
  ForVisibleBlocks(lane, spec, RangeOf(query_positions, queries), row_begin, row_end, scratch,
                   [&](const RowBlock& block, const int32_t* visible) HWY_ATTR {
                     const BlockRows keys = DecodeKeys(lane, block, visible, scratch);
                     const BlockRows values = DecodeValues(lane, block, visible, keys, scratch);
                     ForPanels(spec, block, queries, scratch,
                               [&](auto n, const int32_t* mask, const Panel& panel) HWY_ATTR {
                                 TileBlock<n()>(lane, spec, block, mask, keys, values, scratch,
                                                panel);
                               });
                   });
  for (size_t i = 0; i < scratch.panels; ++i) {
    EndPanel(scratch.At(i, queries), lane.value_width(), partials);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_TILE_INL_H_
