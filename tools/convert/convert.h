// Makes a .hrm file: from a Hugging Face folder (config.json, *.safetensors, tokenizer.json), from
// a GGUF file, or from a named public shape with random weights.
//
// The converter applies everything that is fixed at conversion (norm offsets, RoPE scaling, window
// conventions, fused projections), so that the file says plainly what the runtime executes. A
// configuration key that changes mathematics and is not understood is refused by its name.
// Peak memory: the source is mapped and converted in slices of rows; no whole tensor is ever held.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace headroom::convert {

// In the order of what they keep. kKeep: each matrix as its source has it, or the nearest form that
// loses least: f32 as f32, f16 and bf16 as f16, Q4_0 as int4 in blocks of 32 and all other types as
// int8 in blocks of 32.
enum class WeightFormat : uint8_t { kF32, kF16, kInt8, kInt4, kKeep };

// "f32", "f16", "int8", "int4", "keep". kInvalidArgument lists them.
Result<WeightFormat> ParseWeightFormat(const std::string& name);

struct Progress {
  uint64_t done_bytes = 0;   // of the file being written
  uint64_t total_bytes = 0;  // > 0
  std::string tensor;        // being written
};

constexpr uint32_t kMaxThreads = 256;

// Of one layer: an orthogonal matrix U [width, width] for each KV head, one behind another, its
// columns in order of importance. Keys become U^T k behind their rotation, as the file says; values
// U^T v, as the weights are made. Empty: the layer has none.
struct LayerBases {
  std::vector<float> keys, values;
};

struct Options {
  // Exactly one of these two.
  std::string source;  // Hugging Face folder, or a GGUF file (the first one of a split model)
  std::string preset;  // a name from PresetNames(): random weights, no tokenizer

  std::string out;  // the .hrm file; replaced only when the conversion succeeds
  // Writes no weight and reads none: `out` gets everything else and a hole in their place, so that
  // it can be inspected and planned with.
  bool outline = false;
  std::optional<WeightFormat> weights;  // unset: kKeep for a GGUF file, else kInt4
  // Values that share a scale: 32, 64, 128; 0 = a row. Of int8 matrices only when `weights` is
  // int8; kKeep makes them of 32. Unset: 32 for int4, a row for int8.
  std::optional<uint32_t> block;
  // The output matrix, which every generated token reads whole. Unset: int8 in an int4 file, else
  // as `weights`. A tied one whose format differs from the embedding's is stored beside it.
  std::optional<WeightFormat> head;
  uint32_t context = 0;            // tokens the file allows; 0: the trained maximum
  bool without_tokenizer = false;  // leave tokenizer.json out
  // How much an error in each column of a matrix matters to its layer, by the name of the stored
  // matrix: the mean square of what comes in there. Used for int4 weights; matrices that are not
  // named count every column alike.
  std::map<std::string, std::vector<float>> importance;
  // One for each layer, or none. A layer that reads another's rows has that one's values.
  std::vector<LayerBases> bases;
  // Name of the chat format (headroom.h); empty: what the model's own template is, if it is known.
  std::string chat_format;
  // That share the work of a source's weights, at most kMaxThreads; 0: one for each fast core. What
  // is written does not depend on it.
  uint32_t threads = 0;
  uint64_t seed = 1;  // presets only: same seed, same bytes
  std::string name;   // stored name; empty: the folder's or the preset's

  // Called after each slice; returning false cancels (kCancelled, nothing is left behind).
  std::function<bool(const Progress&)> progress;
  // Lines worth showing a person: a tensor that got another format, a tokenizer left out.
  std::function<void(const std::string&)> log;

  void Say(const std::string& line) const {
    if (log) log(line);
  }
};

struct Summary {
  std::string name;
  std::string architecture;
  std::string tokenizer;    // "none" or for example "byte-level BPE"
  std::string chat_format;  // empty: none known
  uint64_t file_bytes = 0;
  uint64_t weight_bytes = 0;  // elements and scales
  uint64_t parameters = 0;    // stored elements
  uint32_t tensors = 0;
  uint32_t layers = 0;
  uint32_t channels = 0;    // C
  uint32_t vocabulary = 0;  // V; of a vision model its classes
  bool vision = false;
  uint32_t context_tokens = 0;  // trained maximum, or Options::context
  // The tensor whose elements are furthest from the source's, by relative RMS; none: no name.
  std::string largest_error_tensor;
  float largest_error = 0.0f;
  double seconds = 0.0;
};

// Errors: kInvalidArgument (options), kNotFound, kIo, kCorrupt (a damaged source), kUnsupported
// (names the architecture, the key or the tokenizer part), kCancelled. The text is one line a
// person can act on.
Result<Summary> Convert(const Options& options);

std::vector<std::string> PresetNames();
// Values of "architectures" in config.json that have a recipe.
std::vector<std::string> ArchitectureNames();

}  // namespace headroom::convert
