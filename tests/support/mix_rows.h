// Rows of a lane for the tester of softmax kernels: bytes as the cache keeps them, in any codec.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/half.h"
#include "oracle/softmax.h"
#include "support/guarded_memory.h"
#include "tensor/lane_view.h"

namespace headroom::test {

inline bool IsCoded(RowCodec codec) { return codec >= RowCodec::kI8Token; }

class StoredRows {
 public:
  StoredRows() = default;

  // `gain` is the spread of the elements; 0 makes rows that are constant.
  StoredRows(RowCodec codec, uint32_t width, uint32_t rows, float gain, std::mt19937& random)
      : codec_(codec),
        width_(width),
        data_(uint64_t{rows} * RowDataBytes(codec, width), 64),
        meta_(uint64_t{rows} * RowMetaBytes(codec, width), sizeof(uint16_t)) {
    for (uint32_t r = 0; r < rows; ++r) Fill(r, gain, random);
  }

  RowArray View() const { return {codec_, width_, data_.data(), meta_.as<uint16_t>()}; }

  void Poison(uint32_t row) {
    std::memset(Data(row), IsCoded(codec_) ? 0x7f : 0xff, RowDataBytes(codec_, width_));
    std::memset(Meta(row), 0xff, RowMetaBytes(codec_, width_));
  }

  oracle::DecodedRow Decode(uint32_t row) const {
    switch (codec_) {
      case RowCodec::kF32:
        return oracle::DecodeF32Row(Data(row), width_);
      case RowCodec::kF16:
        return oracle::DecodeF16Row(Data(row), width_);
      case RowCodec::kI8Token:
        return oracle::DecodeI8Row(Data(row), Meta(row)[0], Meta(row)[1], width_);
      case RowCodec::kBlock8:
        return oracle::DecodeBlock8Row(Data(row), Meta(row), width_);
      case RowCodec::kBlock4:
        return oracle::DecodeBlock4Row(Data(row), Meta(row), width_);
    }
    return {};
  }

  void AppendBytes(std::vector<std::byte>* all) const {
    all->insert(all->end(), data_.data(), data_.data() + data_.bytes());
    all->insert(all->end(), meta_.data(), meta_.data() + meta_.bytes());
  }

 private:
  std::byte* Data(uint32_t row) const {
    return data_.data() + uint64_t{row} * RowDataBytes(codec_, width_);
  }
  uint16_t* Meta(uint32_t row) const {
    return meta_.as<uint16_t>() + uint64_t{row} * RowMetaBytes(codec_, width_) / 2;
  }

  void Fill(uint32_t row, float gain, std::mt19937& random) {
    std::normal_distribution<float> normal;
    // A different middle and spread for every row and block, so that no scale or minimum can be
    // left out or taken from a neighbour.
    const auto spread = [&] { return gain * (0.5f + (random() % 1024) / 1024.0f); };
    const auto code = [&](float deviation, float low, float high) {
      return gain == 0 ? 0 : std::lround(std::clamp(normal(random) * deviation, low, high));
    };
    std::byte* data = Data(row);
    uint16_t* meta = Meta(row);
    if (codec_ == RowCodec::kI8Token) {
      const float of_row = spread();
      meta[0] = FloatToHalf(of_row * 5.0f / 255.0f);
      meta[1] = FloatToHalf(0.3f * gain * normal(random) - 2.5f * of_row);
    }
    for (uint32_t b = 0; b * kRowBlock < width_ && codec_ > RowCodec::kI8Token; ++b) {
      const float sign = codec_ == RowCodec::kBlock4 && random() % 2 == 0 ? -1.0f : 1.0f;
      meta[b] = FloatToHalf(spread() * sign / (codec_ == RowCodec::kBlock8 ? 51.0f : 3.0f));
    }
    for (uint32_t d = 0; d < RowDataBytes(codec_, width_) * 8 / Bits(); ++d) {
      if (codec_ == RowCodec::kF32) reinterpret_cast<float*>(data)[d] = gain * normal(random);
      if (codec_ == RowCodec::kF16) {
        reinterpret_cast<uint16_t*>(data)[d] = FloatToHalf(gain * normal(random));
      }
      if (Bits() == 8) data[d] = static_cast<std::byte>(code(51.0f, -128.0f, 127.0f));
      if (codec_ == RowCodec::kBlock4) {  // nibbles in the order of their bytes, low ones first
        const auto nibble = static_cast<std::byte>(8 + code(3.0f, -8.0f, 7.0f));
        data[d / 2] = d % 2 == 0 ? nibble : data[d / 2] | nibble << 4;
      }
    }
  }

  uint32_t Bits() const {
    constexpr uint32_t kBits[kRowCodecs] = {32, 16, 8, 8, 4};
    return kBits[static_cast<int>(codec_)];
  }

  RowCodec codec_ = RowCodec::kF32;
  uint32_t width_ = 0;
  GuardedMemory data_, meta_;
};

}  // namespace headroom::test
