// The safetensors container: 8 bytes header length, a JSON header, the tensors' bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Checks the whole header against the bytes that are there before anything of it is used: header
// within the file and 100 MB, known element type, shape x type = bytes, offsets inside the data, no
// overlap, no name twice, rank <= 8. `what` names the file in messages. Errors: kCorrupt,
// kUnsupported (element type).
Result<TensorIndex> ParseSafetensors(std::span<const std::byte> file, const std::string& what);

}  // namespace headroom::convert
