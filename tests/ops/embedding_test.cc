// Embedding rows of every weight type, and the angles of rotary embedding.
#include "ops/embedding.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/half.h"
#include "ops/pointwise.h"
#include "oracle/projection.h"
#include "support/compare.h"
#include "support/guarded_memory.h"
#include "support/tolerance.h"

namespace headroom::test {
namespace {

struct Table {
  DType dtype;
  uint16_t block;
  uint32_t columns;
};

constexpr uint32_t kRows = 7;

// Random bits in every code, numbers in every float, positive scales.
struct TableBytes {
  GuardedMemory data, scales;

  explicit TableBytes(const Table& t) {
    std::mt19937 random(t.columns + t.block);
    std::normal_distribution<float> normal;
    const uint64_t elements = uint64_t{kRows} * t.columns;
    data = GuardedMemory(elements * DTypeBits(t.dtype) / 8, 1);
    for (size_t i = 0; i < data.bytes(); ++i)
      data.as<uint8_t>()[i] = static_cast<uint8_t>(random());
    for (uint64_t i = 0; i < elements; ++i) {
      const float x = normal(random);
      if (t.dtype == DType::kF32) std::memcpy(data.data() + 4 * i, &x, 4);
      if (t.dtype == DType::kF16) data.as<uint16_t>()[i] = FloatToHalf(x);
      if (t.dtype == DType::kBF16) data.as<uint16_t>()[i] = FloatToBfloat(x);
    }
    const uint64_t count = t.block == 0 ? kRows : elements / t.block;
    scales = GuardedMemory(count * (t.block == 0 ? 4 : 2), 4);
    for (uint64_t i = 0; i < count; ++i) {
      const float s = 0.01f + std::fabs(normal(random));
      if (t.block == 0) std::memcpy(scales.data() + 4 * i, &s, 4);
      if (t.block != 0) {
        scales.as<uint16_t>()[i] = t.dtype == DType::kI8 ? FloatToHalf(s) : FloatToBfloat(s);
      }
    }
  }
};

Verdict TestEmbedding(const Table& t) {
  const TableBytes bytes(t);
  TensorView view;
  view.dtype = t.dtype;
  view.rank = 2;
  view.block = t.block;
  view.extents = {kRows, t.columns, 0, 0};
  view.data = bytes.data.data();
  view.data_bytes = bytes.data.bytes();
  view.scales = bytes.scales.data();
  view.scale_bytes = bytes.scales.bytes();
  oracle::StoredMatrix m;
  m.format = t.dtype == DType::kF32  ? oracle::WeightFormat::kF32
             : t.dtype == DType::kI8 ? oracle::WeightFormat::kInt8
             : t.dtype == DType::kI4 ? oracle::WeightFormat::kInt4
                                     : oracle::WeightFormat::kF16;
  m.rows = kRows;
  m.columns = t.columns;
  m.block = t.block;
  m.data = view.data;
  m.scales = view.scales;
  Verdict verdict;
  for (uint32_t id = 0; id < kRows; ++id) {
    const GuardedMemory out(t.columns * sizeof(float), sizeof(float));
    std::memset(out.data(), 0xff, out.bytes());
    ops::EmbeddingRow(view, id, 1.5f, out.as<float>());
    for (uint32_t c = 0; c < t.columns; ++c) {
      const double exact =
          1.5 * (t.dtype == DType::kBF16
                     ? oracle::DecodeBF16(bytes.data.as<uint16_t>()[uint64_t{id} * t.columns + c])
                     : oracle::StoredWeight(m, id, c));
      verdict.Check(out.as<float>()[c], exact, ProductAllowance(exact),
                    std::string(DTypeName(t.dtype)) + " id " + std::to_string(id) + " C " +
                        std::to_string(c));
    }
  }
  return verdict;
}

TEST_CASE("embedding rows of every weight type decode to their values times the factor", "[ops]") {
  for (const Table& t : {Table{DType::kF32, 0, 33},
                         {DType::kF16, 0, 33},
                         {DType::kBF16, 0, 33},
                         {DType::kI8, 0, 33},
                         {DType::kI8, 32, 96},
                         {DType::kI4, 0, 34},
                         {DType::kI4, 32, 96},
                         {DType::kI4, 64, 128},
                         {DType::kI4, 128, 256}}) {
    const Verdict verdict = TestEmbedding(t);
    INFO(verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("rotary angles are exact to f32 at positions up to 2^31", "[ops]") {
  const std::vector<float> frequencies = {1.0f, 0.31622776f, 0.01f, 1e-4f, 5e-7f};
  Verdict verdict;
  for (const int32_t position : {0, 1, 7, 4095, 131071, 1 << 20, 2147483647}) {
    std::vector<float> cos_sin(10);
    ops::RopeAngles(position, frequencies.data(), 10, 1.25f, cos_sin.data());
    for (size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = double{frequencies[i]} * position;
      const std::string where =
          "position " + std::to_string(position) + " pair " + std::to_string(i);
      verdict.Check(cos_sin[i], 1.25 * std::cos(angle), ProductAllowance(1.25), where);
      verdict.Check(cos_sin[5 + i], 1.25 * std::sin(angle), ProductAllowance(1.25), where);
    }
  }
  INFO(verdict.Why());
  CHECK(verdict.accepted());
}

}  // namespace
}  // namespace headroom::test
