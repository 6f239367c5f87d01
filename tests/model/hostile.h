// Shared by the hostile-file tests: one bend of the tiny file, one expected refusal.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/tiny_model.h"

namespace headroom::test {

inline constexpr StatusCode kCorrupt = StatusCode::kCorrupt;
inline constexpr StatusCode kUnsupported = StatusCode::kUnsupported;

// Opens the bytes, checksums of segments included, and forgets the model.
Status OpenStatus(std::span<const std::byte> file);

// Refusal with this code and a message that contains `fact`. `what` names the bend in a failure.
void ExpectStatus(const char* what, const Status& status, StatusCode code, const char* fact);

struct Bend {
  const char* what;
  StatusCode code;
  const char* fact;
  std::function<void(fb::ModelT& graph)> change;
};
// Applies each bend to a fresh file, the tiny one unless another is given, and expects its refusal.
void ExpectRefused(std::span<const Bend> bends, const AlignedBytes& made = TinyFile());
inline void ExpectRefused(std::initializer_list<Bend> bends) {
  ExpectRefused(std::span(bends.begin(), bends.size()));
}

// The first operation with this kind of attributes.
template <typename Attributes>
Attributes& FirstOp(fb::ModelT& graph) {
  for (auto& op : graph.ops) {
    if (op->attributes.type == fb::OpAttributesUnionTraits<Attributes>::enum_value) {
      return *static_cast<Attributes*>(op->attributes.value);
    }
  }
  std::abort();
}

}  // namespace headroom::test
