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

#include "backends/xnnpack/softmax_mix-inl.h"

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
    scales = next;
    next += kMixBlockRows;
    minimums = next;
    next += kMixBlockRows;
    rescale = next;
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
  float* scales;     // [kMixBlockRows] of int8 rows
  float* minimums;
  float* rescale;  // [kPanelQueries]
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

template <RowCodec kCodec>
HWY_NOINLINE BlockRows DecodeRows(const std::byte* base, const uint16_t* meta, size_t width,
                                  const RowBlock& block, const int32_t* visible,
                                  const TileScratch& scratch, size_t stride, float* out) {
  const DF df;
  const size_t row_bytes = RowDataBytes(kCodec, static_cast<uint32_t>(width));
  const uint8_t* rows = reinterpret_cast<const uint8_t*>(base) + uint64_t{block.begin} * row_bytes;
  if constexpr (kCodec == RowCodec::kF32) {
    if (visible == nullptr) return {reinterpret_cast<const float*>(rows), width};
  }
  if constexpr (kCodec == RowCodec::kI8Token) {
    LoadRowMeta(meta + 2 * uint64_t{block.begin}, block.rows, scratch.scales, scratch.minimums);
  }
  for (size_t r = 0; r < block.rows; ++r, rows += row_bytes, out += stride) {
    if (visible != nullptr && visible[r] < 0) {  // may hold anything; its weight of 0 must stay 0
      std::memset(out, 0, stride * sizeof(float));
      continue;
    }
    for (size_t d = 0; d < width; d += kLanes) {
      VF x =
          width - d < kLanes ? LoadRowTail<kCodec>(rows, d, width - d) : LoadRow<kCodec>(rows, d);
      if constexpr (kCodec == RowCodec::kI8Token) {
        x = hn::MulAdd(x, hn::Set(df, scratch.scales[r]), hn::Set(df, scratch.minimums[r]));
      }
      hn::Store(x, df, out + d);
    }
  }
  return {out - block.rows * stride, stride};
}

template <size_t kVectors>
HWY_NOINLINE void TileBlock(const LaneView& lane, const MixSpec& spec, const RowBlock& block,
                            const int32_t* visible, BlockRows keys, BlockRows values,
                            const TileScratch& scratch, const Panel& panel) {
  const DI di;
  ScoreBlock<kVectors>(keys.data, keys.stride, lane.keys.width, block.rows, panel.q,
                       scratch.scores);
  for (size_t v = 0; v < kVectors; ++v) {
    const size_t lane0 = v * kLanes;
    float* scores = scratch.scores + lane0;
    if (spec.softcap > 0.0f) CapScores(spec.softcap, block.rows, kPanelQueries, scores);
    if (visible != nullptr) {
      MaskColumn(spec, visible, hn::Load(di, panel.positions + lane0), block.rows, scores);
    }
    SoftmaxColumn(block.rows, scores, panel.maxima + lane0, panel.sums + lane0,
                  scratch.rescale + lane0);
  }
  AddBlock<kVectors>(values.data, values.stride, lane.values.width, block.rows, scratch.scores,
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

// DecodeRows of the lane's codec.
using DecodeRowsFn = BlockRows (*)(const std::byte* base, const uint16_t* meta, size_t width,
                                   const RowBlock& block, const int32_t* visible,
                                   const TileScratch& scratch, size_t stride, float* out);

HWY_INLINE void TileBlockAllPanels(const LaneView& lane, const MixSpec& spec, const RowBlock& block,
                                   const PositionRange& queries, uint32_t query_count,
                                   DecodeRowsFn decode, const TileScratch& scratch) {
  const bool masked = SightOf(spec, block, queries) == Sight::kSome;
  const int32_t* visible = nullptr;
  if (masked) {
    const uint32_t seen = VisiblePositions(spec, block, queries, scratch.visible);
    if (seen == 0) return;
    if (seen < block.rows) visible = scratch.visible;
  }
  const BlockRows keys = decode(lane.keys.data, lane.keys.meta, lane.keys.width, block, visible,
                                scratch, scratch.key_floats, scratch.keys);
  const BlockRows values = decode(lane.values.data, lane.values.meta, lane.values.width, block,
                                  visible, scratch, scratch.value_floats, scratch.values);
  for (size_t i = 0; i < scratch.panels; ++i) {
    const Panel panel = scratch.At(i, query_count);
    const PositionRange range = RangeOf(panel.positions, panel.queries);
    const Sight sight = SightOf(spec, block, range);
    if (sight == Sight::kNone) continue;
    const int32_t* mask = sight == Sight::kAll ? nullptr : scratch.visible;
    switch (panel.vectors) {
      case 1:
        TileBlock<1>(lane, spec, block, mask, keys, values, scratch, panel);
        break;
      case 2:
        TileBlock<2>(lane, spec, block, mask, keys, values, scratch, panel);
        break;
      case 3:
        TileBlock<HWY_MIN(3, kPanelVectors)>(lane, spec, block, mask, keys, values, scratch, panel);
        break;
      default:
        TileBlock<kPanelVectors>(lane, spec, block, mask, keys, values, scratch, panel);
        break;
    }
  }
}

HWY_NOINLINE void TileMix(DecodeRowsFn decode, const LaneView& lane, const MixSpec& spec,
                          const float* q, uint32_t q_stride, const int32_t* query_positions,
                          uint32_t queries, uint32_t row_begin, uint32_t row_end, float* partials,
                          std::byte* scratch_bytes) {
  const TileScratch scratch(queries, lane.keys.width, lane.values.width, scratch_bytes);
  for (size_t i = 0; i < scratch.panels; ++i) {
    BeginPanel(spec, q, q_stride, query_positions, lane.keys.width, lane.values.width,
               scratch.At(i, queries));
  }
  const PositionRange range = RangeOf(query_positions, queries);
  for (uint32_t begin = row_begin; begin < row_end; begin += kMixBlockRows) {
    const RowBlock block = MakeRowBlock(lane, begin, std::min(row_end - begin, kMixBlockRows));
    if (SightOf(spec, block, range) == Sight::kNone) continue;
    TileBlockAllPanels(lane, spec, block, range, queries, decode, scratch);
  }
  for (size_t i = 0; i < scratch.panels; ++i) {
    EndPanel(scratch.At(i, queries), lane.values.width, partials);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_SOFTMAX_MIX_TILE_INL_H_
