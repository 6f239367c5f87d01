// Deliberately wrong dense layers, given to the same tester as the real ones: it must reject each.
#include <catch2/catch_test_macros.hpp>

#include "support/dense_tester.h"

namespace headroom::test {
namespace {

enum class Mutation {
  kNone,  // the plain loop itself is right, so a rejection below is the mutation's
  kScaleDropped,
  kScaleOfNextRow,
  kBlockScaleOfFirstBlock,
  kNibblesSwapped,
  kZeroPointZero,
  kBiasDropped,
  kBiasOfNextRow,
  kInputScaleDropped,
  kInputZeroDropped,
  kInputScaleOfFirstRow,
  kRowRangeIgnored,
  kLastColumnDropped,
  kOutputTransposed,
};

double MutantWeight(Mutation mutation, const oracle::StoredMatrix& m, uint64_t n, uint32_t k) {
  if (m.format == oracle::WeightFormat::kF32 || m.format == oracle::WeightFormat::kF16) {
    return oracle::StoredWeight(m, n, k);
  }
  const bool swapped =
      mutation == Mutation::kNibblesSwapped && m.format == oracle::WeightFormat::kInt4;
  double code = oracle::StoredCode(m, n, swapped ? k ^ 1 : k);
  if (mutation == Mutation::kZeroPointZero && m.format == oracle::WeightFormat::kInt4) code += 8;
  switch (mutation) {
    case Mutation::kScaleDropped:
      return code;
    case Mutation::kScaleOfNextRow:
      return code * oracle::StoredScale(m, (n + 1) % m.rows, k);
    case Mutation::kBlockScaleOfFirstBlock:
      return code * oracle::StoredScale(m, n, 0);
    default:
      return code * oracle::StoredScale(m, n, k);
  }
}

// A plain loop in double with one mistake.
DenseKernel Mutant(Mutation mutation) {
  return [mutation](const DenseWeights& layer, const float* x, uint32_t tokens, float* out,
                    std::vector<oracle::QuantizedRow>* quantized) {
    const oracle::StoredMatrix m = StoredMatrixOf(layer.weight);
    const bool codes = TakesQuantizedInput(layer.weight.dtype, layer.weight.block);
    for (uint32_t t = 0; t < tokens; ++t) {
      const float* row = x + size_t{t} * m.columns;
      if (codes) quantized->push_back(oracle::QuantizeRow(row, m.columns));
      for (uint32_t n = 0; n < layer.rows; ++n) {
        const uint64_t stored = n + (mutation == Mutation::kRowRangeIgnored ? 0 : layer.row_begin);
        const uint32_t columns = m.columns - (mutation == Mutation::kLastColumnDropped);
        double sum = 0;
        for (uint32_t k = 0; k < columns; ++k) {
          double value = row[k];
          if (codes) {
            const oracle::QuantizedRow& q = quantized->back();
            const double zero = mutation == Mutation::kInputZeroDropped ? 0 : q.zero;
            const double scale = mutation == Mutation::kInputScaleDropped ? 1
                                 : mutation == Mutation::kInputScaleOfFirstRow
                                     ? quantized->front().scale
                                     : q.scale;
            value = (q.codes[k] - zero) * scale;
          }
          sum += value * MutantWeight(mutation, m, stored, k);
        }
        const uint32_t bias_row = mutation == Mutation::kBiasOfNextRow ? (n + 1) % layer.rows : n;
        if (layer.bias != nullptr && mutation != Mutation::kBiasDropped)
          sum += layer.bias[bias_row];
        const size_t place = mutation == Mutation::kOutputTransposed ? size_t{n} * tokens + t
                                                                     : size_t{t} * layer.rows + n;
        out[place] = static_cast<float>(sum);
      }
    }
  };
}

bool Rejected(Mutation mutation, DType dtype, uint32_t block) {
  const DenseCase c{dtype, block, 40, 256, 5, 20, 9, true, 6};
  return !TestDense(c, Mutant(mutation)).failure.empty();
}

TEST_CASE("the dense tester accepts a plain loop", "[dense][mutants]") {
  CHECK(!Rejected(Mutation::kNone, DType::kF32, 0));
  CHECK(!Rejected(Mutation::kNone, DType::kF16, 0));
  CHECK(!Rejected(Mutation::kNone, DType::kI8, 0));
  CHECK(!Rejected(Mutation::kNone, DType::kI8, 32));
  CHECK(!Rejected(Mutation::kNone, DType::kI4, 0));
  CHECK(!Rejected(Mutation::kNone, DType::kI4, 64));
}

TEST_CASE("the dense tester rejects mistakes that every weight type can have", "[dense][mutants]") {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8, DType::kI4}) {
    for (const Mutation mutation :
         {Mutation::kBiasDropped, Mutation::kBiasOfNextRow, Mutation::kRowRangeIgnored,
          Mutation::kLastColumnDropped, Mutation::kOutputTransposed}) {
      INFO(DTypeName(dtype) << " mutation " << static_cast<int>(mutation));
      CHECK(Rejected(mutation, dtype, 0));
    }
  }
}

TEST_CASE("the dense tester rejects mistakes with scales and zero points", "[dense][mutants]") {
  for (const Mutation mutation :
       {Mutation::kScaleDropped, Mutation::kScaleOfNextRow, Mutation::kInputScaleDropped,
        Mutation::kInputZeroDropped, Mutation::kInputScaleOfFirstRow}) {
    INFO("mutation " << static_cast<int>(mutation));
    CHECK(Rejected(mutation, DType::kI8, 0));
    CHECK(Rejected(mutation, DType::kI4, 0));
    CHECK(Rejected(mutation, DType::kI4, 32));
  }
}

TEST_CASE("the dense tester rejects mistakes with the scales of int8 in blocks",
          "[dense][mutants]") {
  for (const Mutation mutation :
       {Mutation::kScaleDropped, Mutation::kScaleOfNextRow, Mutation::kBlockScaleOfFirstBlock,
        Mutation::kBiasOfNextRow, Mutation::kRowRangeIgnored, Mutation::kLastColumnDropped}) {
    INFO("mutation " << static_cast<int>(mutation));
    CHECK(Rejected(mutation, DType::kI8, 64));
  }
}

TEST_CASE("the dense tester rejects mistakes with nibbles and blocks", "[dense][mutants]") {
  for (const uint32_t block : {0u, 32u, 64u, 128u}) {
    CHECK(Rejected(Mutation::kNibblesSwapped, DType::kI4, block));
    CHECK(Rejected(Mutation::kZeroPointZero, DType::kI4, block));
    if (block != 0) CHECK(Rejected(Mutation::kBlockScaleOfFirstBlock, DType::kI4, block));
  }
}

TEST_CASE("the dense tester rejects a NaN, an unwritten element and a broken guard",
          "[dense][mutants]") {
  const DenseCase c{DType::kF32, 0, 8, 16, 0, 8, 3, false, 6};
  const DenseKernel right = Mutant(Mutation::kNone);
  const auto with = [&](auto damage) {
    return !TestDense(c, [&](const DenseWeights& layer, const float* x, uint32_t tokens, float* out,
                             std::vector<oracle::QuantizedRow>* quantized) {
              right(layer, x, tokens, out, quantized);
              damage(out);
            }).failure.empty();
  };
  CHECK(!with([](float*) {}));
  CHECK(with([](float* out) { out[7] = std::numeric_limits<float>::quiet_NaN(); }));
  CHECK(with([](float* out) { out[23] = std::numeric_limits<float>::infinity(); }));
  CHECK(with([](float* out) { out[24] = 0; }));
  CHECK(with([](float* out) { out[-1] = 0; }));
}

}  // namespace
}  // namespace headroom::test
