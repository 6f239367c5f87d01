// Any bytes as a GGUF file: refused, or everything it claims can be read.
#include <cstdint>
#include <vector>

#include "convert/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace headroom::convert;
  const auto parsed = ParseGguf({reinterpret_cast<const std::byte*>(data), bytes}, "input");
  if (!parsed.ok()) return 0;
  for (const auto& [key, value] : parsed.value().metadata) {
    if (value.Numbers().size() + value.Texts().size() != value.count()) __builtin_trap();
    uint64_t claimed = 0;
    for (const std::string_view text : value.Texts()) {
      claimed += text.size();
    }
    if (claimed > bytes) __builtin_trap();
  }
  uint64_t claimed = 0;
  for (const auto& [name, tensor] : parsed.value().tensors) {
    claimed += tensor.bytes;
    std::vector<float> values(tensor.bytes / tensor.type->block_bytes * tensor.type->block);
    const bool read = ReadFloats(name, tensor, 0, values).ok();
    if (read != (tensor.type->widen != nullptr)) __builtin_trap();
    if (ReadFloats(name, tensor, tensor.type->block, values).ok()) __builtin_trap();  // one too far
  }
  if (claimed > bytes) __builtin_trap();  // tensors do not overlap, so they fit together
  return 0;
}
