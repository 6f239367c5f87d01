// The safetensors container: 8 bytes header length, a JSON header, the tensors' bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/platform.h"
#include "base/status.h"

namespace headroom::convert {

struct SafetensorsEntry {
  std::string dtype;  // "F32", "F16", "BF16", ... as the file says
  std::vector<uint64_t> shape;
  const std::byte* data = nullptr;  // unaligned, inside the file
  uint64_t bytes = 0;
};

using SafetensorsIndex = std::map<std::string, SafetensorsEntry>;

// Checks the whole header against the bytes that are there before anything of it is used: header
// within the file and 100 MB, known element type, shape x type = bytes, offsets inside the data, no
// overlap, no name twice, rank <= 8. `what` names the file in messages. Errors: kCorrupt,
// kUnsupported (element type).
Result<SafetensorsIndex> ParseSafetensors(std::span<const std::byte> file, const std::string& what);

// All tensors of a checkpoint folder: `model.safetensors`, or the shards that
// `model.safetensors.index.json` names, or every *.safetensors there is when neither exists.
class Checkpoint {
 public:
  // Errors: kNotFound (no safetensors in the folder), kIo, kCorrupt, kUnsupported.
  static Result<Checkpoint> Open(const std::string& folder);

  const SafetensorsIndex& tensors() const { return tensors_; }
  // nullptr when there is none.
  const SafetensorsEntry* Find(const std::string& name) const;

 private:
  std::vector<platform::FileMapping> files_;
  SafetensorsIndex tensors_;
};

// Elements [begin, begin + out.size()) as float. F32, F16 and BF16; kUnsupported names another
// type.
Status ReadFloats(const std::string& name, const SafetensorsEntry& entry, uint64_t begin,
                  std::span<float> out);

}  // namespace headroom::convert
