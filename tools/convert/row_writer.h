// Rows of floats, or blocks of a source, into the stored form of one tensor.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "convert/block_copy.h"
#include "convert/hrm_writer.h"
#include "convert/stored_error.h"

namespace headroom::convert {

// Encodes slices of whole rows of one tensor, appends them to the file and measures what was lost.
class RowWriter {
 public:
  // `importance`: of each column's error in int4, or empty.
  RowWriter(const TensorDescription& tensor, size_t index, std::span<const float> importance,
            HrmWriter& writer);
  size_t columns() const { return columns_; }

  // `values`: whole rows, finite. kUnsupported: too large for f16.
  Status Write(std::span<const float> values);

  // nullptr where blocks of this type cannot be copied.
  BlockCopy FindCopy(const ElementType& from) const { return FindBlockCopy(from, tensor_); }
  // Whole rows by such a copy; `values` are the floats of the same blocks.
  Status Copy(BlockCopy copy, std::span<const std::byte> blocks, std::span<const float> values);

  float error() const { return error_.Relative(); }

 private:
  Status WriteHalves(std::span<const float> values);
  Status WriteInt8(std::span<const float> values);
  Status WriteInt4(std::span<const float> values);
  Status Append(std::span<const float> values, std::span<const std::byte> data,
                std::span<const std::byte> scales);

  const TensorDescription& tensor_;
  const size_t index_;
  const std::span<const float> importance_;
  HrmWriter& writer_;
  StoredError error_;
  size_t columns_ = 1;
};

}  // namespace headroom::convert
