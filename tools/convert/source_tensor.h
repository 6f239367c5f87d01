// A tensor of a checkpoint, whatever file it lies in, and how its elements become floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/platform.h"
#include "base/status.h"

namespace headroom::convert {

// How elements are stored: in blocks of so many elements and so many bytes.
struct ElementType {
  std::string_view name;  // as its container calls it
  uint32_t block = 1;     // elements
  uint32_t block_bytes = 0;
  // Whole blocks from any address, exactly. nullptr: a type that is known by name alone.
  void (*widen)(const std::byte* blocks, size_t count, float* out) = nullptr;
};

struct SourceTensor {
  const ElementType* type = nullptr;
  std::vector<uint64_t> shape;      // rows first; a row is whole blocks
  const std::byte* data = nullptr;  // unaligned, inside the file
  uint64_t bytes = 0;
};

using TensorIndex = std::map<std::string, SourceTensor>;

// No two tensors share a byte. `what` names the file. kCorrupt names both tensors.
Status CheckOverlap(const TensorIndex& index, const std::string& what);

// Elements [begin, begin + out.size()) as floats; whole blocks. kUnsupported names a type that
// cannot be widened.
Status ReadFloats(const std::string& name, const SourceTensor& tensor, uint64_t begin,
                  std::span<float> out);

// The same range as it is stored, behind the same checks.
Result<std::span<const std::byte>> ReadBlocks(const std::string& name, const SourceTensor& tensor,
                                              uint64_t begin, uint64_t count);

// All tensors of a checkpoint, and the files that they lie in.
class Checkpoint {
 public:
  Checkpoint() = default;
  Checkpoint(std::vector<platform::FileMapping> files, TensorIndex tensors)
      : files_(std::move(files)), tensors_(std::move(tensors)) {}
  // Of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names, or
  // every *.safetensors there is when neither exists. Errors: kNotFound (no safetensors in the
  // folder), kIo, kCorrupt, kUnsupported.
  static Result<Checkpoint> Open(const std::string& folder);

  const TensorIndex& tensors() const { return tensors_; }
  // The same elements under other extents. Precondition: as many of them.
  void Reshape(const std::string& name, std::vector<uint64_t> shape) {
    tensors_.at(name).shape = std::move(shape);
  }
  void Forget(const std::string& name) { tensors_.erase(name); }
  // nullptr when there is none.
  const SourceTensor* Find(const std::string& name) const;

 private:
  std::vector<platform::FileMapping> files_;
  TensorIndex tensors_;
};

// The types of each container; nullptr: it has no such type.
const ElementType* FindSafetensorsType(std::string_view name);
const ElementType* FindGgmlType(uint32_t number);
inline constexpr uint32_t kGgmlMxfp4 = 39;

}  // namespace headroom::convert
