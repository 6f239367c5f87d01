#include "convert/row_writer.h"

#include <vector>

#include "base/half.h"
#include "convert/quantise.h"

namespace headroom::convert {
namespace {

template <typename T>
std::span<const std::byte> Bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

RowWriter::RowWriter(const TensorDescription& tensor, size_t index,
                     std::span<const float> importance, HrmWriter& writer)
    : tensor_(tensor), index_(index), importance_(importance), writer_(writer), error_(tensor) {
  columns_ = tensor.extents.size() > 1 ? tensor.extents[1] : 1;
}

Status RowWriter::Write(std::span<const float> values) {
  switch (tensor_.dtype) {
    case DType::kF32:
      return Append(values, std::as_bytes(values), {});
    case DType::kF16:
      return WriteHalves(values);
    case DType::kI8:
      return WriteInt8(values);
    case DType::kI4:
      return WriteInt4(values);
    default:
      return Status::Make(StatusCode::kInternal, "no encoder for this type");
  }
}

Status RowWriter::Copy(BlockCopy copy, std::span<const std::byte> blocks,
                       std::span<const float> values) {
  const size_t count = values.size() / tensor_.block;
  std::vector<std::byte> codes(values.size() * DTypeBits(tensor_.dtype) / 8);
  std::vector<uint16_t> scales(count);
  copy(blocks.data(), count, codes.data(), scales.data());
  return Append(values, codes, Bytes(scales));
}

Status RowWriter::WriteHalves(std::span<const float> values) {
  std::vector<uint16_t> halves(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    halves[i] = FloatToHalf(values[i]);
    if ((halves[i] & 0x7fffu) == 0x7c00u) {
      return Status::Make(StatusCode::kUnsupported, "tensor \"%s\" holds %g > 65504, the f16 limit",
                          tensor_.name.c_str(), static_cast<double>(values[i]));
    }
  }
  return Append(values, Bytes(halves), {});
}

Status RowWriter::WriteInt8(std::span<const float> values) {
  std::vector<int8_t> codes(values.size());
  if (tensor_.block != 0) {
    std::vector<uint16_t> scales(values.size() / tensor_.block);
    QuantiseInt8Row(values, tensor_.block, codes.data(), scales.data());
    return Append(values, Bytes(codes), Bytes(scales));
  }
  std::vector<float> scales;
  for (size_t at = 0; at < values.size(); at += columns_) {
    scales.push_back(QuantiseInt8Row(values.subspan(at, columns_), codes.data() + at));
  }
  return Append(values, Bytes(codes), Bytes(scales));
}

Status RowWriter::WriteInt4(std::span<const float> values) {
  std::vector<uint8_t> codes(values.size() / 2);
  if (tensor_.block != 0) {
    std::vector<uint16_t> scales(values.size() / tensor_.block);
    for (size_t at = 0; at < values.size(); at += columns_) {
      QuantiseInt4Row(values.subspan(at, columns_), importance_, tensor_.block,
                      codes.data() + at / 2, scales.data() + at / tensor_.block);
    }
    return Append(values, Bytes(codes), Bytes(scales));
  }
  std::vector<float> scales;
  for (size_t at = 0; at < values.size(); at += columns_) {
    scales.push_back(
        QuantiseInt4Row(values.subspan(at, columns_), importance_, codes.data() + at / 2));
  }
  return Append(values, Bytes(codes), Bytes(scales));
}

Status RowWriter::Append(std::span<const float> values, std::span<const std::byte> data,
                         std::span<const std::byte> scales) {
  error_.Add(values, data, scales);
  HR_RETURN_IF_ERROR(writer_.Append(index_, data));
  return scales.empty() ? Status() : writer_.AppendScales(index_, scales);
}

}  // namespace headroom::convert
