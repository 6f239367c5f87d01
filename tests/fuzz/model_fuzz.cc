// Opens arbitrary bytes as a model. Two kinds of input:
//   * bytes that begin with HEADROOM are a whole file, opened as they are and once more with its
//     checksums repaired;
//   * all others are a graph alone: header and weights are added, so that mutations reach the
//     checks behind the checksums. The custom mutator keeps such graphs well-formed half the time.
// Whatever opens is then read to its edges, as a planner would.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fuzz/model_mutator.h"
#include "model/container.h"
#include "model/model.h"
#include "model/tiny_model.h"

namespace headroom {
namespace {

// Every four bytes are the float 1: a positive scale, frequency and norm weight.
constexpr uint64_t kPayloadBytes = 32 << 10;

test::AlignedBytes WrapGraph(std::span<const std::byte> graph) {
  const uint64_t payload = (model::kHeaderBytes + graph.size() + model::kSegmentAlignment - 1) /
                           model::kSegmentAlignment * model::kSegmentAlignment;
  test::AlignedBytes file(payload + kPayloadBytes);
  if (!graph.empty()) std::memcpy(file.data() + model::kHeaderBytes, graph.data(), graph.size());
  const float one = 1.0f;
  for (uint64_t i = payload; i < file.size(); i += sizeof(one)) {
    std::memcpy(file.data() + i, &one, sizeof(one));
  }
  model::Header header;
  header.graph_bytes = graph.size();
  model::WriteHeader(header, file.span().first<model::kHeaderBytes>());
  test::FixChecksums(file.span());
  return file;
}

// Volatile, so that the edges are really read.
volatile uint64_t sink;

void CheckImages(const model::Model& model) {
  const model::ImageGraph& image = model.image;
  const auto rows = [&](int32_t tensor) {
    return model.tensors[static_cast<size_t>(tensor)].rows();
  };
  for (const model::ImageOp& op : image.ops) {
    const auto& out = image.values[static_cast<size_t>(op.output)];
    const auto& in = image.values[static_cast<size_t>(op.inputs.at(0))];
    if (op.kind == model::ImageOpKind::kConvolution) {
      if (rows(op.weight) != out.channels || in.channels % op.groups != 0) __builtin_trap();
      if (op.bias != model::kNone && rows(op.bias) != out.channels) __builtin_trap();
    }
    if (op.kind == model::ImageOpKind::kSlice && op.end > in.channels) __builtin_trap();
    if (op.kind == model::ImageOpKind::kSelfAttention &&
        (op.attention.input_width() != in.channels || op.attention.output_width() != out.channels))
      __builtin_trap();
    if (op.kind == model::ImageOpKind::kPositionEmbedding && op.begin >= rows(op.weight))
      __builtin_trap();
    if (out.dtype == DType::kI8 && !(out.scale > 0.0f)) __builtin_trap();
  }
  uint64_t sum = 0;
  for (const std::string_view label : image.labels) {
    for (const char c : label) sum += static_cast<uint64_t>(c);
  }
  sink = sum;
}

void ReadEdges(const model::Model& model) {
  CheckImages(model);
  uint64_t sum = 0;
  for (const TensorView& tensor : model.tensors) {
    sum += static_cast<uint64_t>(tensor.data[0]) +
           static_cast<uint64_t>(tensor.data[tensor.data_bytes - 1]);
    if (tensor.scale_bytes != 0)
      sum += static_cast<uint64_t>(tensor.scales[tensor.scale_bytes - 1]);
    for (const char c : tensor.name) sum += static_cast<uint64_t>(c);
  }
  for (const model::Op& op : model.ops) {
    sum += model.values[static_cast<size_t>(op.output)].width;
    if (op.weight.present()) sum += model.tensors[static_cast<size_t>(op.weight.tensor)].rows();
    if (op.kind == model::OpKind::kAttention) {
      const model::AttentionSpec& spec = model.attentions[static_cast<size_t>(op.attention)];
      for (const uint16_t head : spec.head_map) {
        if (head >= spec.kv_heads()) __builtin_trap();
      }
    }
  }
  for (const model::MixtureSpec& spec : model.mixtures) {
    const TensorView& gate_up = model.tensors[static_cast<size_t>(spec.gate_up.tensor)];
    const TensorView& down = model.tensors[static_cast<size_t>(spec.down.tensor)];
    const uint64_t rows = uint64_t{spec.experts} * 2 * spec.inner;
    if (spec.chosen == 0 || spec.chosen > spec.experts) __builtin_trap();
    if (spec.gate_up.row_begin + rows > gate_up.rows()) __builtin_trap();
    if (spec.down.row_begin + uint64_t{spec.down.rows} > down.rows()) __builtin_trap();
    if (uint64_t{spec.down.rows} != uint64_t{spec.experts} * gate_up.columns()) __builtin_trap();
    if (spec.inner != down.columns()) __builtin_trap();
  }
  const model::TokenizerSpec& tokenizer = model.tokenizer;
  for (size_t id = 0; id < tokenizer.tokens.size(); ++id) {
    for (const char c : tokenizer.tokens[id]) sum += static_cast<uint64_t>(c);
  }
  for (const model::Merge& merge : tokenizer.merges) sum += tokenizer.tokens[merge.result].size();
  for (const uint32_t id : tokenizer.special_tokens) sum += tokenizer.tokens[id].size();
  sink = sum;
}

void Open(const test::AlignedBytes& file, bool verify) {
  model::OpenOptions options;
  options.verify_checksums = verify;
  const auto model = model::Model::OpenMemory(file.data(), file.size(), options);
  if (model.ok()) ReadEdges(*model.value());
}

bool IsWholeFile(std::span<const std::byte> input) {
  return input.size() >= sizeof(model::kMagic) &&
         std::memcmp(input.data(), model::kMagic, sizeof(model::kMagic)) == 0;
}

}  // namespace
}  // namespace headroom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace headroom;
  const std::span<const std::byte> input = std::as_bytes(std::span(data, bytes));
  if (!IsWholeFile(input)) {
    Open(WrapGraph(input), false);
    return 0;
  }
  test::AlignedBytes file(input);
  Open(file, true);
  test::FixChecksums(file.span());
  Open(file, false);
  return 0;
}

#if defined(HR_FUZZING)
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t bytes, size_t max_bytes);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t bytes, size_t max_bytes,
                                          unsigned int seed) {
  if (seed % 2 == 0) {
    const size_t written = headroom::fuzz::MutateGraph({data, bytes}, max_bytes, seed);
    if (written != 0) return written;
  }
  return LLVMFuzzerMutate(data, bytes, max_bytes);
}
#endif
