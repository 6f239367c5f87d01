// Testers of the block codecs and of the Hadamard rotation: the kernel's real signature, product
// kernels and mutants alike.
#pragma once

#include <bit>

#include "attention/hadamard.h"
#include "support/pointwise_tester.h"

namespace headroom::test {

// Encodes one row and bounds the error of what a reader (the oracle) gets back, block by block,
// from the step that the block's largest element asks for, in double.
inline Verdict TestEncodeBlocks(attention::EncodeRowKernel kernel, RowCodec codec, uint32_t width,
                                float spread, float middle) {
  std::mt19937 random(width + 7);
  const GuardedFloats row(width, spread, middle, random);
  const std::vector<double> before = row.Doubles(0, width);
  const GuardedMemory data(RowDataBytes(codec, width), 1);
  const GuardedMemory meta(RowMetaBytes(codec, width), 2);
  std::memset(data.data(), 0x5a, data.bytes());
  kernel(row.data(), width, data.data(), meta.as<uint16_t>());
  const uint32_t padded = RoundUp(width, 32);
  const auto decode =
      codec == RowCodec::kBlock8 ? oracle::DecodeBlock8Row : oracle::DecodeBlock4Row;
  const std::vector<double> found = decode(data.data(), meta.as<uint16_t>(), padded).value;
  Verdict verdict;
  for (uint32_t d = 0; d < padded; ++d) {
    const std::string where = "D " + std::to_string(d) + " of " + std::to_string(width);
    if (d >= width) {  // the last block is filled up with zeros
      verdict.Check(found[d], 0, 0, where);
      continue;
    }
    double extreme = 0;
    for (uint32_t e = d / 32 * 32; e < std::min(d / 32 * 32 + 32, width); ++e) {
      if (std::fabs(before[e]) > std::fabs(extreme)) extreme = before[e];
    }
    const bool eight = codec == RowCodec::kBlock8;
    const double step = eight ? std::fabs(extreme) / 127 : extreme / -8;
    verdict.Check(found[d], before[d], BlockAllowance(before[d], step, eight ? 127 : 7), where);
    if (row[d] != static_cast<float>(before[d])) verdict.Fail("input changed");
  }
  return verdict;
}

// y_i = n^-1/2 sum_j (-1)^popcount(i & j) x_j per block of n channels, in double.
inline std::vector<double> HadamardOracle(const std::vector<double>& x) {
  size_t n = 1;
  while (x.size() % (2 * n) == 0) n *= 2;
  std::vector<double> y(x.size(), 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < n; ++j) {
      const double sign = std::popcount(i % n & j) % 2 == 0 ? 1 : -1;
      y[i] += sign * x[i / n * n + j] / std::sqrt(static_cast<double>(n));
    }
  }
  return y;
}

inline double Norm(const std::vector<double>& x) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  return std::sqrt(squares);
}

// Three rows with a gap between them that must stay as it is.
inline Verdict TestHadamard(attention::HadamardKernel kernel, uint32_t width) {
  constexpr uint32_t kRows = 3, kGap = 5;
  std::mt19937 random(width);
  const GuardedFloats rows(kRows * (width + kGap) - kGap, 1.0f, 0.5f, random);
  const std::vector<double> before = rows.Doubles(0, rows.size());
  kernel(rows.data(), kRows, width + kGap, width);
  Verdict verdict;
  for (uint32_t r = 0; r < kRows; ++r) {
    const auto begin = before.begin() + r * (width + kGap);
    const std::vector<double> row(begin, begin + width), exact = HadamardOracle(row);
    for (uint32_t d = 0; d < width + (r + 1 < kRows ? kGap : 0); ++d) {
      const bool inside = d < width;
      verdict.Check(
          rows[r * (width + kGap) + d], inside ? exact[d] : begin[d],
          inside ? HadamardAllowance(Norm(row), attention::HadamardBlock(width)) : 0,
          "row " + std::to_string(r) + " D " + std::to_string(d) + " of " + std::to_string(width));
    }
  }
  return verdict;
}

}  // namespace headroom::test
