// A complete two-layer model of a few kilobytes, and the means to bend its file into files no
// writer makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "convert/hrm_writer.h"
#include "headroom_generated.h"
#include "model/model.h"

namespace headroom::test {

// C 32, H 4, G 2, D 8, F 32, V 40; layer 0 has a window with sinks, layer 1 sees everything and
// has a mixture of experts beside a gated shared one; int4,
// int8 and f16 weights, biases, QK norms, soft caps, learned sinks and a byte-level BPE tokenizer.
convert::ModelDescription TinyDescription();

// Bytes that start at a multiple of 64, as OpenMemory wants them. Nothing of the allocation lies
// behind the last one, so that the address sanitizer sees a read past the end.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t bytes = 0);
  explicit AlignedBytes(std::span<const std::byte> bytes);
  std::byte* data() const { return storage_.get(); }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() const { return {storage_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> storage_;
  size_t bytes_ = 0;
};

// Deterministic contents for every tensor: small signed values, positive scales, falling
// frequencies; 0 for a float tensor with "zeros" in its name, orthogonal matrices for one with
// "basis", numbers below 0 for one with "log_decay".
Status WriteModel(const std::string& path, const convert::ModelDescription& description);
AlignedBytes WriteToMemory(const convert::ModelDescription& description);
// WriteToMemory(TinyDescription()), made once.
const AlignedBytes& TinyFile();

// A file, else the tiny one, taken apart: change `graph` or `payload`, then Assemble. Header and
// graph checksums are made right, the segments' are not touched. Segments move only when the graph
// no longer fits before them.
struct OpenedFile {
  explicit OpenedFile(const AlignedBytes& made = TinyFile());
  fb::ModelT graph;
  std::vector<std::byte> payload;  // everything from the first segment on
  AlignedBytes Assemble() const;
};

// Makes the header agree with a file whose graph bytes were changed in place.
void FixChecksums(std::span<std::byte> file);

// A path in the temporary folder that disappears with the object.
class TemporaryPath {
 public:
  explicit TemporaryPath(const std::string& name);
  ~TemporaryPath();
  const std::string& text() const { return path_; }

 private:
  std::string path_;
};

}  // namespace headroom::test
