#include "convert/row_writer.h"

#include <algorithm>

#include "base/half.h"
#include "base/math.h"
#include "convert/halves.h"
#include "convert/quantise.h"

namespace headroom::convert {
namespace {

// What one thread takes at a time, and what all of them finish before it is written: few enough
// that memory stays small, enough that the threads seldom wait for each other.
constexpr size_t kTileFloats = 1u << 15;
constexpr size_t kSliceTiles = 32;

// The scales of a row: one for each block, or a float for all of it.
size_t RowScaleBytes(const TensorDescription& tensor, size_t columns) {
  if (tensor.dtype != DType::kI8 && tensor.dtype != DType::kI4) return 0;
  return tensor.block != 0 ? columns / tensor.block * sizeof(uint16_t) : sizeof(float);
}

template <typename T>
std::span<T> As(std::span<std::byte> bytes) {  // of vectors that only whole elements are cut from
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

}  // namespace

struct RowWriter::Tile {
  uint64_t row = 0;  // first of the slice
  std::span<float> values;
  std::span<std::byte> data, scales;
};

RowWriter::RowWriter(const TensorDescription& tensor, size_t index,
                     std::span<const float> importance, const Workers& workers, HrmWriter& writer)
    : tensor_(tensor), index_(index), importance_(importance), workers_(workers), writer_(writer) {
  columns_ = tensor.extents.size() > 1 ? tensor.extents[1] : 1;
  row_bytes_ = columns_ * DTypeBits(tensor.dtype) / 8;
  row_scale_bytes_ = RowScaleBytes(tensor, columns_);
  tile_rows_ = std::max<uint64_t>(1, kTileFloats / columns_);
}

Status RowWriter::Write(uint64_t rows, const RowSource& source) {
  for (uint64_t done = 0; done < rows;) {
    const uint64_t count = std::min(kSliceTiles * tile_rows_, rows - done);
    HR_RETURN_IF_ERROR(WriteSlice(done, count, source));
    HR_RETURN_IF_ERROR(source.written(done, count));
    done += count;
  }
  return {};
}

RowWriter::Tile RowWriter::TileAt(size_t tile, uint64_t rows) {
  const uint64_t first = tile * tile_rows_;
  const uint64_t count = std::min(tile_rows_, rows - first);
  return {first, std::span(values_).subspan(first * columns_, count * columns_),
          std::span(data_).subspan(first * row_bytes_, count * row_bytes_),
          std::span(scales_).subspan(first * row_scale_bytes_, count * row_scale_bytes_)};
}

Status RowWriter::WriteSlice(uint64_t first, uint64_t rows, const RowSource& source) {
  values_.resize(rows * columns_);
  data_.resize(rows * row_bytes_);
  scales_.resize(rows * row_scale_bytes_);
  std::vector<StoredError> errors(CeilDiv(rows, tile_rows_));
  HR_RETURN_IF_ERROR(workers_.Run(errors.size(), [&](size_t i) -> Status {
    const Tile tile = TileAt(i, rows);
    HR_RETURN_IF_ERROR(source.read(first + tile.row, tile.values));
    HR_RETURN_IF_ERROR(Encode(tile, first, source));
    errors[i] = StoredError::Of(tensor_, tile.values, tile.data, tile.scales);
    return {};
  }));
  for (const StoredError& error : errors) error_.Add(error);  // in one order, whoever was first
  HR_RETURN_IF_ERROR(writer_.Append(index_, data_));
  return scales_.empty() ? Status() : writer_.AppendScales(index_, scales_);
}

Status RowWriter::Encode(const Tile& tile, uint64_t first, const RowSource& source) const {
  if (source.copy) {
    return source.copy(first + tile.row, tile.values.size() / columns_, tile.data.data(),
                       As<uint16_t>(tile.scales).data());
  }
  switch (tensor_.dtype) {
    case DType::kF32:
      std::ranges::copy(std::as_bytes(tile.values), tile.data.begin());
      return {};
    case DType::kF16:
      return EncodeHalves(tile);
    case DType::kI8:
      EncodeInt8(tile);
      return {};
    case DType::kI4:
      EncodeInt4(tile);
      return {};
    default:
      return Status::Make(StatusCode::kInternal, "no encoder for this type");
  }
}

Status RowWriter::EncodeHalves(const Tile& tile) const {
  const std::span<uint16_t> halves = As<uint16_t>(tile.data);
  for (size_t i = 0; i < halves.size(); ++i) {
    HR_RETURN_IF_ERROR(CheckHalf(tensor_.name, tile.values[i]));
    halves[i] = FloatToHalf(tile.values[i]);
  }
  return {};
}

void RowWriter::EncodeInt8(const Tile& tile) const {
  int8_t* codes = As<int8_t>(tile.data).data();
  if (tensor_.block != 0) {
    QuantiseInt8Row(tile.values, tensor_.block, codes, As<uint16_t>(tile.scales).data());
    return;
  }
  const std::span<float> scales = As<float>(tile.scales);
  for (size_t row = 0; row < scales.size(); ++row) {
    scales[row] =
        QuantiseInt8Row(tile.values.subspan(row * columns_, columns_), codes + row * columns_);
  }
}

void RowWriter::EncodeInt4(const Tile& tile) const {
  uint8_t* codes = As<uint8_t>(tile.data).data();
  for (size_t row = 0; row < tile.values.size() / columns_; ++row) {
    const std::span<const float> values = tile.values.subspan(row * columns_, columns_);
    if (tensor_.block != 0) {
      QuantiseInt4Row(values, importance_, tensor_.block, codes + row * row_bytes_,
                      As<uint16_t>(tile.scales).data() + row * (columns_ / tensor_.block));
    } else {
      As<float>(tile.scales)[row] = QuantiseInt4Row(values, importance_, codes + row * row_bytes_);
    }
  }
}

}  // namespace headroom::convert
