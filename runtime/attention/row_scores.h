// How much attention each cached row got from a set of queries: the second pass that score-based
// retention needs, made only for the queries that score.
//
//   a_s += sum_q p_qs,   p_qs = exp( x_qs - lse_q )   over the queries q that see row s
// with the logits x of softmax_mix.h and each query's final log-sum-exp over all rows of all parts
// (H2O, arXiv 2306.14048, eq. 1; SnapKV, arXiv 2404.14469, eq. 5). Deviation: sums, not means; the
// caller divides where a scale matters.
#pragma once

#include "attention/softmax_mix.h"

namespace headroom::attention {

// Adds to scores[row_begin .. row_end) of a lane; a row that no query sees keeps its score.
//   q, q_stride, query_positions, queries, scratch  as for MixKernel
//   lse     of each query, natural logarithm; -infinity: the query saw nothing, and adds nothing
//   scores  by row of the lane, not relative to row_begin
using RowScoresKernel = void (*)(const LaneView& lane, const MixSpec& spec, const float* q,
                                 uint32_t q_stride, const int32_t* query_positions,
                                 uint32_t queries, const float* lse, uint32_t row_begin,
                                 uint32_t row_end, float* scores, std::byte* scratch);

RowScoresKernel PortableRowScores();

// The log-sum-exp of one query from its `count` partial records (record j at partials + j *
// stride_floats) and its learned sink, as MergeKernel takes them.
float LogSumExp(const float* partials, uint64_t stride_floats, uint32_t count, float sink_logit);

}  // namespace headroom::attention
