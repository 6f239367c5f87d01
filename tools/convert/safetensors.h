// The safetensors container: 8 bytes header length, a JSON header, the tensors' bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/platform.h"
#include "base/status.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Checks the whole header against the bytes that are there before anything of it is used: header
// within the file and 100 MB, known element type, shape x type = bytes, offsets inside the data, no
// overlap, no name twice, rank <= 8. `what` names the file in messages. Errors: kCorrupt,
// kUnsupported (element type).
Result<TensorIndex> ParseSafetensors(std::span<const std::byte> file, const std::string& what);

// All tensors of a checkpoint folder: `model.safetensors`, or the shards that
// `model.safetensors.index.json` names, or every *.safetensors there is when neither exists.
class Checkpoint {
 public:
  // Errors: kNotFound (no safetensors in the folder), kIo, kCorrupt, kUnsupported.
  static Result<Checkpoint> Open(const std::string& folder);

  const TensorIndex& tensors() const { return tensors_; }
  // nullptr when there is none.
  const SourceTensor* Find(const std::string& name) const;

 private:
  std::vector<platform::FileMapping> files_;
  TensorIndex tensors_;
};

}  // namespace headroom::convert
