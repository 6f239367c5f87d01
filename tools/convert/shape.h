// The numbers of one model: what config.json says, read through its architecture's recipe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/config.h"
#include "convert/recipe.h"
#include "convert/rope.h"
#include "model/model.h"
#include "tensor/dims.h"

namespace headroom::convert {

inline constexpr uint32_t kMaxContext = 1u << 30;  // tokens

// How latent attention is cut. rank 0: there is none.
struct LatentShape {
  uint32_t rank = 0;        // r
  uint32_t query_rank = 0;  // 0: queries are made of the input in one step
  uint32_t part = 0;        // of a head's query that meets the latent
  uint32_t tail = 0;        // of a head's query that is rotated
  uint32_t value = 0;       // of a head's values
  float scale = 0.0f;       // of scores
  const LatentRecipe* names = nullptr;
  // 1: all heads share the rotated key; otherwise one for each KV head, and neighbouring heads
  // share the matrices between them and the latent.
  uint32_t key_heads = 1;
  bool norms = true;
  bool query_down_bias = false, query_bias = false;
};

// How linear attention is cut. heads 0: there is none.
struct LinearShape {
  uint32_t heads = 0;        // H
  uint32_t key_heads = 0;    // G
  uint32_t key_width = 0;    // K
  uint32_t value_width = 0;  // V
  uint32_t taps = 0;         // of the convolution
  uint32_t rank = 0;         // of the step; 0: it is made in one
  bool bias = false, output_bias = false, convolution_bias = false;
  LinearNorm norm = LinearNorm::kNone;
  bool norm_first = true;
  float scales[kLinearParts] = {1, 1, 1, 1, 1, 1};  // of what the parts' matrices make
  float input_scale = 1.0f, output_scale = 1.0f;
};

// See rwkv.h. Ranks of the small matrices that make mixes, decays, rates, values and gates.
struct RwkvShape {
  uint32_t version = 0;  // 5, 6, 7
  uint32_t head_width = 0;
  uint32_t mix_rank = 0, decay_rank = 0, rate_rank = 0, value_rank = 0, gate_rank = 0;
  uint32_t rescale_every = 0;  // layers after which the residual is halved; 0: none
  bool turned = false;         // those matrices are stored [rows, columns]
};

// What the residual and a branch are multiplied by where they meet.
struct BranchScales {
  float residual = 1.0f, branch = 1.0f;
};

struct LayerShape {
  uint32_t left = kUnlimited;  // rows visible before self
  size_t rope = 0;             // index into ModelShape::ropes
  bool mixture = false;        // experts in place of the MLP
  LatentShape latent;
  bool linear = false, attention = true;  // both: their sum
  int32_t source = model::kNone;          // an earlier layer whose keys and values this one reads
};

struct MixtureShape {
  uint32_t experts = 0;       // E
  uint32_t chosen = 0;        // experts a token
  uint32_t inner = 0;         // F of one
  uint32_t shared_inner = 0;  // F of the shared expert
  bool renormalise = false;
  float scale = 1.0f;
  uint32_t groups = 1, top_groups = 1;
  float limit = 0.0f;
  size_t names = 0;  // which of MixtureRecipe::names; the checkpoint says
};

struct ModelShape {
  const Recipe* recipe = nullptr;
  uint32_t channels = 0;        // C
  uint32_t inner = 0;           // F
  uint32_t query_heads = 0;     // H
  uint32_t kv_heads = 0;        // G
  uint32_t head_width = 0;      // D
  uint32_t query_rank = 0;      // of queries made in two steps; 0: in one
  uint32_t vocabulary = 0;      // V
  uint32_t further_layers = 0;  // behind the last, which nothing reads
  uint32_t trained_tokens = 0;  // trained maximum
  uint32_t context_tokens = 0;  // what the file will allow
  float epsilon = 0.0f;
  model::RopeLayout rope_layout = model::RopeLayout::kHalfSplit;
  model::Activation activation = model::Activation::kSilu;
  bool parallel = false;
  bool query_key_value_bias = false, attention_output_bias = false, mlp_bias = false;
  bool tied = false;
  float attention_scale = 1.0f;
  float embedding_scale = 1.0f;
  float residual_scale = 1.0f;
  float attention_softcap = 0.0f;  // 0: none
  float logit_softcap = 0.0f;      // 0: none
  float logit_scale = 1.0f;
  float attention_input_scale = 1.0f, attention_output_scale = 1.0f, key_scale = 1.0f;
  float mlp_gate_scale = 1.0f, mlp_scale = 1.0f;
  BranchScales attention_branch, linear_branch, mlp_branch;
  MixtureShape mixture;
  LinearShape linear;
  std::optional<RwkvShape> rwkv;
  std::vector<RopeParameters> ropes;
  std::vector<LayerShape> layers;
  std::vector<uint32_t> end_tokens;
  std::vector<std::string> notes;  // what was decided that a person may want otherwise
};

// Reads every key that matters and refuses the others by name. `context` other than 0: the context
// to store, at most the trained one. Errors: kUnsupported (architecture, key or value, each named),
// kCorrupt (a key is missing or of the wrong type), kInvalidArgument (context). `recipe` other than
// nullptr stands in for the row that "architectures" names, and outlives the shape.
Result<ModelShape> ReadShape(Config& config, uint32_t context, const Recipe* recipe = nullptr);

}  // namespace headroom::convert
