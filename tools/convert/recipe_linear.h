// Linear attention as data: which matrices make what a layer's recurrence reads, and what stands
// before and behind it. convert/graph_linear.* turns a row into operations.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace headroom::convert {

// What matrices of the input make. Of state space models the queries are called C, the keys B and
// the values x.
enum class LinearPart : uint8_t { kGate, kQueries, kKeys, kValues, kDecay, kStrength };
inline constexpr size_t kLinearParts = 6;

// A matrix that makes several parts, one below the other: all of each, or, by_head, of each key
// head in turn what belongs to it.
struct PartsMatrix {
  std::string_view name;
  std::span<const LinearPart> parts;
  bool by_head = false;
  bool reads_values = false;  // not the layer's input but the values, convolved
};

enum class LinearDecay : uint8_t {
  kSlopes,   // of head h in layer l of n: -2^(-8 (h + 1) / H) (1 - l / (n - 1)) (Lightning
             // attention)
  kStep,     // step = softplus(decay + step_bias), log decay = -exp(a_log) step
  kElement,  // the same for every number of the state, the step of a low rank (Mamba-1)
};

// What writing to the state is multiplied by.
enum class LinearStrength : uint8_t { kOne, kStep, kSigmoid };

// Over what the heads' outputs are normed: nothing, equal parts of all heads together, each head.
enum class LinearNorm : uint8_t { kNone, kAll, kHead };

// Which layers of a model are linear.
enum class LinearLayers : uint8_t {
  kAll,
  kListed,  // those that layer_types calls linear_attention; the others are attention
  kBeside,  // all, and attention beside: the sum of the two
};

// Keys of the configuration; empty: the number is that of attention, or where none is, 1.
struct LinearKeys {
  std::string_view heads = "";
  std::string_view key_heads = "";  // empty: heads
  std::string_view key_width = "";
  std::string_view value_width = "";
  std::string_view inner = "";   // width of all values together
  std::string_view expand = "";  // the same as a multiple of C
  std::string_view rank = "";    // of the step; "auto" is C / 16, rounded up
  std::string_view taps = "";
  std::string_view bias = "";         // of `inputs`, but for those that read values, and `output`
  std::string_view output_bias = "";  // of `output` alone, in place of the other
  std::string_view convolution_bias = "";
  std::string_view norm = "";        // flag: there is a norm; empty: as LinearRecipe::norm has it
  std::string_view norm_first = "";  // flag: the norm comes before the gate
  std::string_view gate_activation = "";  // may say what sigmoid_gate false does: silu
  // Multipliers: of the input, of gate, values, keys, queries and decay as a list, of the output.
  std::string_view input_scale = "", part_scales = "", output_scale = "";
};

// Names as in TensorNames, but that a_log, step_bias and skip are names in full.
struct LinearRecipe {
  LinearLayers layers = LinearLayers::kAll;
  LinearKeys keys = {};
  uint32_t listed_interval = 0;  // without layer_types each so-manieth layer is not linear
  std::span<const PartsMatrix> inputs = {};
  std::string_view convolution = "";  // of `convolved` one below the other, and a silu
  std::span<const LinearPart> convolved = {};
  bool activated = false;     // silu on queries, keys and values without a convolution
  bool unit_lengths = false;  // queries and keys of length 1, and queries by K^-1/2 (delta rule)
  bool delta = false;         // what the state holds for a key is replaced, not added to
  LinearDecay decay = LinearDecay::kStep;
  LinearStrength strength = LinearStrength::kStep;
  std::string_view a_log = "", step_bias = "";
  bool a_is_rate = false;         // the tensor of this name holds -exp(a_log) itself
  std::string_view step_up = "";  // kElement: makes the step, with a bias
  std::string_view skip = "";     // the values times these are added to the output
  LinearNorm norm = LinearNorm::kAll;
  std::string_view norm_weight = "";
  double norm_epsilon = 0.0;  // 0: the model's
  bool norm_groups = false;   // kAll: as many parts as key heads
  bool norm_first = true;     // before the gate
  bool sigmoid_gate = false;  // else silu
  std::string_view output = "";
};

}  // namespace headroom::convert
