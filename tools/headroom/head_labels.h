// Which KV heads look far back, by what their queries attend to: a number for each, larger is more.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <headroom/headroom.h>

#include "headroom/yardstick.h"
#include "model/model.h"

namespace headroom::cli {

// [layer][KV head]; a layer that reads another's rows has none.
using HeadLabels = std::vector<std::vector<double>>;

// RazorAttention's search (arXiv 2407.15891, section 3): random tokens, repeated. A head's echo
// score is the mean weight that a query of a repetition gives to earlier copies of its token, its
// induction score that on the tokens behind them; the best query head counts for its KV head. The
// label is 1 minus the smallest share x of heads such that the head is among the first x by
// induction or the first x / 14 by echo (the paper takes the first 14 % and 1 %). Reads
// `copies` * `tokens` tokens. Throws Failure: latent attention, whose queries meet no keys of their
// own.
HeadLabels RandomLabels(hr_model* model, const model::Model& spec, uint32_t tokens,
                        uint32_t copies);

// Retrieval scores (arXiv 2404.15574): the share of answer tokens for which the row with most
// weight holds the very token that the answer goes on with. The answers are the right ones, not
// generated. Throws Failure, as above.
HeadLabels RetrievalLabels(hr_model* model, const model::Model& spec,
                           const std::vector<Passage>& passages);

// A table, as DuoAttention publishes them: a line for each layer, a number for each of its KV
// heads. Throws Failure.
HeadLabels ReadLabels(const std::string& path);

// Softmax of the scaled, capped products of a query with the first `rows` keys, `stride` floats
// apart, of which the last is its own; weights outside the layer's window are 0. In double, apart
// from the runtime's kernels.
std::vector<double> AttentionWeights(const model::AttentionSpec& spec, const float* query,
                                     const float* keys, size_t stride, size_t rows);

// RandomLabels' last step: labels from echo and induction scores.
HeadLabels CombineScores(const HeadLabels& echo, const HeadLabels& induction);

}  // namespace headroom::cli
