// Any bytes as a GGUF file: refused, or everything it claims can be read; then what its metadata
// says about a model and a tokenizer is understood or refused, and a model is planned no larger
// than its tensors warrant.
#include <cstdint>
#include <vector>

#include "convert/checkpoint_fit.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "convert/gguf_tokenizer.h"
#include "convert/graph.h"
#include "convert/shape.h"
#include "convert/write_tensors.h"

namespace {

using namespace headroom::convert;

void ReadMetadata(const GgufFile& gguf, size_t bytes) {
  for (const auto& [key, value] : gguf.metadata) {
    if (value.Numbers().size() + value.Texts().size() != value.count()) __builtin_trap();
    uint64_t claimed = 0;
    for (const std::string_view text : value.Texts()) claimed += text.size();
    if (claimed > bytes) __builtin_trap();
  }
}

void ReadTensors(const GgufFile& gguf, size_t bytes) {
  uint64_t claimed = 0;
  for (const auto& [name, tensor] : gguf.tensors) {
    claimed += tensor.bytes;
    std::vector<float> values(tensor.bytes / tensor.type->block_bytes * tensor.type->block);
    const bool read = ReadFloats(name, tensor, 0, values).ok();
    if (read != (tensor.type->widen != nullptr)) __builtin_trap();
    if (ReadFloats(name, tensor, tensor.type->block, values).ok()) __builtin_trap();  // too far
  }
  if (claimed > bytes) __builtin_trap();  // tensors do not overlap, so they fit together
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  auto parsed = ParseGguf({reinterpret_cast<const std::byte*>(data), bytes}, "input");
  if (!parsed.ok()) return 0;
  GgufFile gguf = parsed.Take();
  ReadMetadata(gguf, bytes);
  ReadTensors(gguf, bytes);
  constexpr uint32_t kVocabulary = 400;
  (void)ReadGgufTokenizer(gguf, kVocabulary, "input");
  (void)ReadGgufEndTokens(gguf, kVocabulary, "input");
  (void)ReadGgufSampling(gguf);
  auto model = DescribeGguf(gguf, "input");
  if (!model.ok()) return 0;
  Config config(std::move(model.value().config), "input");
  auto shape = ReadShape(config, 0, &model.value().recipe);
  if (!shape.ok()) return 0;
  const Checkpoint checkpoint({}, std::move(gguf.tensors));
  if (!FitToCheckpoint(checkpoint, shape.value()).ok()) return 0;
  WeightChoice choice;
  choice.format = WeightFormat::kKeep;
  choice.checkpoint = &checkpoint;
  (void)CheckSources(BuildGraphPlan(shape.value(), choice), shape.value(), checkpoint);
  return 0;
}
