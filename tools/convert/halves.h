// Numbers that are stored as halves.
#pragma once

#include <string_view>

#include "base/half.h"
#include "base/status.h"

namespace headroom::convert {

// kUnsupported for what would become infinite.
inline Status CheckHalf(std::string_view tensor, float number) {
  if ((FloatToHalf(number) & 0x7fffu) != 0x7c00u) return {};
  return Status::Make(StatusCode::kUnsupported, "tensor \"%.*s\" holds %g > 65504, the f16 limit",
                      static_cast<int>(tensor.size()), tensor.data(), static_cast<double>(number));
}

}  // namespace headroom::convert
