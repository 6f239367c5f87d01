// Softmax attention over one lane: the contract between a cache layout and the kernels that read
// it.
//
//   o_h = sum_s p_hs v_s,   p_hs = softmax_s( cap( scale * q_h . k_s ) + bias_s )   over the rows s
//   that h may see; cap(x) = c * tanh(x / c) when softcap = c > 0 (Gemma 2), else x. The bias
//   belongs to the softmax's weight, not to the capped logit: log n makes a row count as n rows,
//   -infinity hides it. k_s and v_s of a lane: see LaneView.
// computed in blocks of rows with running maximum m and sum l (FlashAttention-2, arXiv 2307.08691,
// alg. 1); partial results (m, l, o) of disjoint row ranges are merged by log-sum-exp. Scores,
// statistics and the accumulation over V are f32. Deviation: none; a query that sees no row yields
// zeros, never NaN.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dims.h"
#include "tensor/dtype.h"
#include "tensor/lane_view.h"

namespace headroom::attention {

using headroom::LaneView;

// What a query at position p sees: positions s with s <= p and (p - s <= left or s < sinks).
struct MixSpec {
  float scale = 1.0f;
  float softcap = 0.0f;
  uint32_t left = kUnlimited;
  uint32_t sinks = 0;
};

// Running statistics of one query: m, l (natural-log domain) and the unnormalised o[Dv] stand
// behind one another in a partial record of PartialFloats(Dv) floats: { m, l, o[0..Dv) }, padded to
// 16 floats.
constexpr uint32_t PartialFloats(uint32_t value_width) { return (2 + value_width + 15) / 16 * 16; }

// Attends `queries` query vectors to rows [row_begin, row_end) of a lane; all share the lane.
//   q          query i at q + i * q_stride, f32 [Dk], not yet scaled
//   query_positions[i]  its position
//   partials   record i at partials + i * PartialFloats(Dv); overwritten; an empty view gives m =
//   -inf,
//              l = 0, o = 0
//   scratch    MixScratchBytes(...) bytes, 64-byte aligned, private to the call
// Used for decode (queries = query heads of the group, one position) and for prefill tiles (tokens
// x group). No aliasing between q, partials and scratch. Cannot fail: all checks were made when
// planning.
using MixKernel = void (*)(const LaneView& lane, const MixSpec& spec, const float* q,
                           uint32_t q_stride, const int32_t* query_positions, uint32_t queries,
                           uint32_t row_begin, uint32_t row_end, float* partials,
                           std::byte* scratch);

// Rows are taken in blocks of kMixBlockRows from row_begin, queries in panels of kMixPanelQueries:
// ranges and tiles that are multiples of them waste nothing. Any other count is as correct.
constexpr uint32_t kMixBlockRows = 64;
constexpr uint32_t kMixPanelQueries = 64;

// Scratch for a call with up to `queries` queries; the same bound serves every backend's kernel.
uint64_t MixScratchBytes(uint32_t queries, uint32_t key_width, uint32_t value_width);

// Merges `count` partial records (record j at partials + j * stride_floats) of one query into
// out[Dv], normalised. sink_logit: learned sink added once here (gpt-oss), or -infinity for none.
using MergeKernel = void (*)(const float* partials, uint64_t stride_floats, uint32_t count,
                             uint32_t value_width, float sink_logit, float* out);

// Adds to record `to` of a query the record `from` of other rows, both of `value_width` values.
void AddPartial(const float* from, uint32_t value_width, float* to);

// Encodes one f32 row of `width` values into a cached row.
//   data  RowDataBytes(codec, width) bytes;  meta  RowMetaBytes(codec, width) bytes or unused
// kF16 rounds to nearest. Codes: |x| beyond 65504, and infinities, are clipped to it. kI8Token:
// |decoded - x| <= scale / 2; NaN becomes the row's minimum; a constant row that f16 holds has
// scale 0. kBlock8, kBlock4: the numbers of ggml's q8_0 and q4_0, half a step from x (a whole one
// for what lies opposite to the largest element of a kBlock4 block); NaN becomes 0.
using EncodeRowKernel = void (*)(const float* row, uint32_t width, std::byte* data, uint16_t* meta);

// Decodes rows [begin, begin + count) of an array to f32, row r to out + (r - begin) * stride.
// scratch: MixScratchBytes(1, width, width) bytes, 64-byte aligned.
using DecodeRowsKernel = void (*)(const RowArray& rows, uint32_t begin, uint32_t count, float* out,
                                  uint32_t stride, std::byte* scratch);

// The portable definitions (plain C++): correct inside the product, slow.
MixKernel PortableMix();
MergeKernel PortableMerge();
EncodeRowKernel PortableEncodeRow(RowCodec codec);
DecodeRowsKernel PortableDecodeRows();
// Decodes one cached row to f32; used off the hot path (trim, tests).
void DecodeRow(RowCodec codec, const std::byte* data, const uint16_t* meta, uint32_t width,
               float* row);

}  // namespace headroom::attention
