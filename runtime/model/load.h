// Inside model/: the steps that turn a verified FlatBuffer into model.h's structs, and the checks
// they share.
//
// Each step checks before it copies. A message names the place ("op 3 \"layers.0.mlp\""), the fact,
// its value and the limit. kCorrupt: no writer may say this. kUnsupported: well said, but this
// build does not execute it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"
#include "headroom_generated.h"
#include "model/model.h"

namespace headroom::model {

// Limits that keep every later product of sizes inside 64 bits and every file's cost proportionate.
inline constexpr uint32_t kMaxTensors = 1u << 16;
inline constexpr uint32_t kMaxValues = 1u << 14;
inline constexpr uint32_t kMaxOps = 1u << 14;
inline constexpr uint32_t kMaxRopes = 1u << 10;
inline constexpr uint32_t kMaxAttentions = 1u << 12;
inline constexpr uint32_t kMaxSegments = 1u << 16;
inline constexpr uint32_t kMaxWidth = 1u << 24;  // of a value
inline constexpr uint32_t kMaxHeads = 1u << 12;
inline constexpr uint32_t kMaxHeadWidth = 1u << 13;
inline constexpr uint32_t kMaxSinks = 1u << 20;
inline constexpr uint32_t kMaxNameBytes = 256;

// Heap the loader may take for a file: a small multiple of its bytes, since lists in a FlatBuffer
// can point many times at one element.
inline constexpr uint64_t kExpansion = 16;
inline constexpr uint64_t kExpansionFloorBytes = 1u << 20;

struct LoadContext {
  const fb::Model& graph;
  std::span<const std::byte> file;
  uint64_t graph_end = 0;  // segments lie behind it
  Model& model;
  uint64_t heap_left_bytes = 0;

  // Asks for heap before it is taken. kCorrupt when the file asks for more than its size can
  // justify.
  Status Charge(uint64_t count, uint64_t element_bytes, const char* what);
};

// Where in the file a check stands, for messages.
class Where {
 public:
  [[gnu::format(printf, 2, 3)]] explicit Where(const char* format, ...);
  const char* text() const { return text_; }

 private:
  char text_[128];
};

[[gnu::format(printf, 2, 3)]] Status Corrupt(const Where& where, const char* format, ...);
[[gnu::format(printf, 2, 3)]] Status Unsupported(const Where& where, const char* format, ...);

// For %llu.
inline unsigned long long Number(uint64_t value) { return value; }

template <typename V>
uint32_t Count(const V* list) {
  return list == nullptr ? 0 : list->size();
}

// Refuses values of a newer schema. `what` names the field.
template <typename E>
Status CheckKnown(const Where& where, const char* what, E value) {
  if (value <= E::MAX) return {};
  return Unsupported(where, "%s %u is unknown to this build", what, static_cast<unsigned>(value));
}

// `index` must be in [0, count); `list` names what it points into.
Status CheckIndex(const Where& where, const char* what, int64_t index, uint64_t count);
Status CheckCount(const char* list, uint64_t count, uint64_t limit);

// Text from a file may reach a terminal: no control characters (line breaks and tabs when `lines`),
// valid UTF-8, no NUL, at most max_bytes. Null gives "".
Status CheckText(const Where& where, const char* what, const flatbuffers::String* text,
                 uint64_t max_bytes, bool lines, std::string_view* out);

// A vector f32 [length] among the tensors.
Status CheckVector(const LoadContext& context, const Where& where, const char* what, int32_t tensor,
                   uint64_t length);
// Rows of a matrix [*, columns] of a type this build multiplies with. Null is an error.
Status LoadWeight(const LoadContext& context, const Where& where, const char* what,
                  const fb::Weight* weight, uint64_t columns, WeightRef* out);
// A norm over `width` values, or with whole_row over those of `heads` heads; heads 0: there are
// none. Null gives an absent one.
Status LoadNorm(const LoadContext& context, const Where& where, const char* what,
                const fb::Norm* norm, uint64_t width, uint64_t heads, NormSpec* out);

Status LoadActivation(const Where& where, fb::ActivationKind kind, Activation* out);
// A factor: finite and other than 0.
Status CheckFactor(const Where& where, const char* what, float factor);
// `width`: of the operation's input and output.
Status LoadMixture(const LoadContext& context, const Where& where, const fb::MixtureOp& from,
                   uint32_t width, MixtureSpec* out);

// Their widths have been compared by LoadEdges: MultiplyAdd's inputs are of one. `width`: of input
// and output; `out_width`: of the output.
Status LoadLinearAttention(LoadContext& context, const Where& where,
                           const fb::LinearAttentionOp& from, uint32_t out_width, Op* op);
Status LoadConvolution(const LoadContext& context, const Where& where,
                       const fb::ConvolutionOp& from, uint32_t width, Op* op);
Status LoadMultiplyAdd(const LoadContext& context, const Where& where,
                       const fb::MultiplyAddOp& from, uint32_t width, Op* op);

// Which vectors an attention makes, what is cached of them, and which head reads which. `source`:
// the earlier attention whose rows it reads instead of its own, or null.
Status LoadProjection(LoadContext& context, const Where& where, const fb::Projection* projection,
                      const AttentionSpec* source, AttentionSpec* out);

// The steps, in this order.
Status LoadTensors(LoadContext& context);     // segments and tensors
Status LoadMetadata(LoadContext& context);    // names, limits, sampling
Status LoadAttentions(LoadContext& context);  // plans; sets rope, view and mix
Status LoadGraph(LoadContext& context);       // values, operations, logits
Status LoadImageGraph(LoadContext& context);  // in its place, where the file has Vision
Status LoadTokenizer(LoadContext& context);
Status LoadTextSteps(LoadContext& context, const fb::Tokenizer& from);
Status LoadProfiles(LoadContext& context);  // behind the attentions

}  // namespace headroom::model
