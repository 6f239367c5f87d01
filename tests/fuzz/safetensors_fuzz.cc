// Any bytes as a safetensors file: refused, or every tensor it claims can be read.
#include <cstdint>
#include <vector>

#include "convert/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace headroom::convert;
  const auto parsed = ParseSafetensors({reinterpret_cast<const std::byte*>(data), bytes}, "input");
  if (!parsed.ok()) return 0;
  uint64_t claimed = 0;
  for (const auto& [name, entry] : parsed.value()) {
    claimed += entry.bytes;
    const uint64_t elements = entry.bytes / (entry.type->name == "F32" ? 4 : 2);
    std::vector<float> values(elements);
    if (values.empty()) continue;
    (void)ReadFloats(name, entry, 0, values);
    if (ReadFloats(name, entry, 1, values).ok()) __builtin_trap();  // one element too many
  }
  if (claimed > bytes) __builtin_trap();  // tensors do not overlap, so they fit together
  return 0;
}
