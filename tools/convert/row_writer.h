// Rows of floats, or blocks of a source, into the stored form of one tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "convert/block_copy.h"
#include "convert/hrm_writer.h"
#include "convert/stored_error.h"
#include "convert/workers.h"

namespace headroom::convert {

// Where rows come from. `read` and `copy` are called by several threads at a time.
struct RowSource {
  // Rows [first, first + values.size() / columns), finite.
  std::function<Status(uint64_t first, std::span<float> values)> read;
  // Not empty: stores the elements of so many rows as they are, one 16-bit scale a block; `read`
  // gives their floats to measure with.
  std::function<Status(uint64_t first, uint64_t rows, std::byte* codes, uint16_t* scales)> copy =
      {};
  // Told of rows once they are in the file.
  std::function<Status(uint64_t first, uint64_t rows)> written;
};

// Encodes slices of whole rows of one tensor on all threads, appends them to the file and measures
// what was lost. What it writes does not depend on the number of threads.
class RowWriter {
 public:
  // `importance`: of each column's error in int4, or empty.
  RowWriter(const TensorDescription& tensor, size_t index, std::span<const float> importance,
            const Workers& workers, HrmWriter& writer);
  size_t columns() const { return columns_; }
  size_t row_bytes() const { return row_bytes_; }  // without scales
  uint32_t block() const { return tensor_.block; }

  // The next `rows` rows of the tensor, [0, rows) of the source. kUnsupported: too large for f16;
  // or what the source returns.
  Status Write(uint64_t rows, const RowSource& source);

  // nullptr where blocks of this type cannot be copied.
  BlockCopy FindCopy(const ElementType& from) const { return FindBlockCopy(from, tensor_); }

  float error() const { return error_.Relative(); }

 private:
  struct Tile;

  Tile TileAt(size_t tile, uint64_t rows);
  Status WriteSlice(uint64_t first, uint64_t rows, const RowSource& source);
  Status Encode(const Tile& tile, uint64_t first, const RowSource& source) const;
  Status EncodeHalves(const Tile& tile) const;
  void EncodeInt8(const Tile& tile) const;
  void EncodeInt4(const Tile& tile) const;

  const TensorDescription& tensor_;
  const size_t index_;
  const std::span<const float> importance_;
  const Workers& workers_;
  HrmWriter& writer_;
  StoredError error_;
  size_t columns_ = 1;
  size_t row_bytes_ = 0, row_scale_bytes_ = 0;
  uint64_t tile_rows_ = 1;
  // Of one slice.
  std::vector<float> values_;
  std::vector<std::byte> data_, scales_;
};

}  // namespace headroom::convert
