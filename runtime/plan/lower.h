// Lowering: a model's operations become a flat list of steps over buffers, once, when a model is
// opened.
//
// Attention is taken apart here into its words: dense q/k/v, norm + RoPE + append, mix, dense
// output. Adjacent row ranges of one tensor become one dense layer. Steps after the last that keeps
// something of its rows (cached ones or a state) only matter for rows whose logits are wanted: they
// are the tail, and run on one row at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace headroom::plan {

using model::kNone;

// out[T, rows] = x[T, K] * weight[row_begin : row_begin + rows]^T (+ bias[row_begin : ...])
// Of a mixture: `parts` of them one below the other, of which a token uses `used`; 0: decode uses
// none.
struct DenseLayer {
  int32_t tensor = kNone;
  uint32_t row_begin = 0;
  uint32_t rows = 0;
  int32_t bias = kNone;
  uint32_t parts = 1, used = 1;
};

// [T, width] f32, or as many rows as steps ever make of it; a tail buffer has one row.
struct Buffer {
  uint32_t width = 0;
  bool tail = false;
  int32_t first_step = kNone, last_step = kNone;  // liveness, inclusive
  int32_t alias_of = kNone;                       // lives in that buffer's memory
  uint32_t most_rows = kUnlimited;
};

// Columns [column, ...) of every row of a buffer.
struct Slice {
  int32_t buffer = kNone;
  uint32_t column = 0;
  uint32_t head_stride = 0;  // of queries: columns from one head to the next
};

// What is cached of a token: keys, the second part of keys, values.
inline constexpr int kStreams = 3;
constexpr const model::StreamSpec& StreamOf(const model::AttentionSpec& spec, int stream) {
  return stream == 0 ? spec.key : stream == 1 ? spec.tail : spec.value;
}

// A stream that the attention makes rows of, rather than read another attention's.
constexpr bool MakesStream(const model::AttentionSpec& spec, int stream) {
  return spec.source_attention == kNone && StreamOf(spec, stream).present();
}

enum class StepKind : uint8_t {
  kEmbed,  // of the token, or of its position
  kNorm,
  kDense,
  kAppend,  // per head: norm and rotate q in place; norm, rotate and store k; store v
  kMix,     // q against the layer's lanes -> output [T, H * Dv]
  kActivation,
  kAdd,
  kScale,
  kSoftcap,
  kExperts,    // chooses by the router's logits (second input) and runs the chosen experts
  kMultiply,   // by one factor a row, or number by number
  kHeadDense,  // out[T, h, :] = block of head h * in[T, h, :]
  kMultiplyAdd,
  kHeadProduct,
  kConvolve,   // with the rows before the chunk, which it keeps
  kLinearMix,  // tokens into states and out of them
};

struct Step {
  StepKind kind = StepKind::kAdd;
  // Buffers; of kLinearMix by model::LinearInput.
  int32_t inputs[model::kMostInputs] = {kNone, kNone, kNone, kNone, kNone, kNone, kNone};
  int32_t output = kNone;
  int32_t op = kNone;     // the model operation it came from: attributes
  int32_t dense = kNone;  // kDense; kExperts: gate and up; index into Lowered::dense
  int32_t down = kNone;   // kExperts: likewise
  int32_t attention =
      kNone;               // kAppend, kMix: index into Model::attentions and of the store's layer
  int32_t linear = kNone;  // kLinearMix: index into Model::linears
  int32_t state = kNone;   // kConvolve, kLinearMix: index into Lowered::states
  model::NormSpec norm;    // kNorm
  model::Activation activation = model::Activation::kSilu;  // kActivation
  bool gated = false;                                       // kActivation
  // kAppend, kMix, kHeadDense; ropes: index into Lowered::ropes
  Slice query;
  Slice query_tail;  // kMix: what meets the second part of keys
  int32_t query_rope = kNone;
  Slice streams[kStreams];
  int32_t stream_ropes[kStreams] = {kNone, kNone, kNone};
  // kMix, and the kHeadDense before and behind it: from so many rows on, the mix makes keys and
  // values of the latent, and the others do nothing. See plan/expand.h.
  uint32_t expand_from = kUnlimited;
  Slice expanded_query;                              // kMix: of whole heads
  int32_t expanded_output = kNone;                   // kMix: buffer
  int32_t expand_key = kNone, expand_value = kNone;  // kMix: indices into Lowered::dense
};

struct Lowered {
  std::vector<Step> steps;
  std::vector<Buffer> buffers;
  std::vector<DenseLayer> dense;
  std::vector<model::RopeSpec> ropes;  // distinct ones; angles are computed once per token and rope
  std::vector<int32_t>
      direct_tensors;  // read whole from the model file at run time (norms, tables)
  std::vector<int32_t> embedding_tensors;  // read from it row by row
  std::vector<uint64_t> states;            // floats that steps keep from chunk to chunk
  size_t tail_begin = 0;                   // first step of the tail
  int32_t logits = kNone;                  // buffer, tail, width V
};

// Errors: kUnsupported for a graph this build cannot order or execute, by name.
Result<Lowered> Lower(const model::Model& model);

}  // namespace headroom::plan
