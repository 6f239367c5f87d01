// Row codecs in blocks of 32 and the Hadamard rotation, portable and of every instruction set.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "support/block_tester.h"
#include "support/guarded_memory.h"
#include "support/kernel_subjects.h"

namespace headroom::test {
namespace {

constexpr RowCodec kBlockCodecs[] = {RowCodec::kBlock8, RowCodec::kBlock4};

struct EncodedBlocks {
  std::vector<uint8_t> data;
  std::vector<uint16_t> scales;
  bool operator==(const EncodedBlocks&) const = default;

  std::vector<double> Values(RowCodec codec, uint32_t width) const {
    return (codec == RowCodec::kBlock8 ? oracle::DecodeBlock8Row : oracle::DecodeBlock4Row)(
               data.data(), scales.data(), width)
        .value;
  }
};

EncodedBlocks Encode(const xnnpack::Kernels& kernels, RowCodec codec,
                     const std::vector<float>& row) {
  const uint32_t width = static_cast<uint32_t>(row.size());
  EncodedBlocks out;
  out.data.assign(RowDataBytes(codec, width), 0x5a);
  out.scales.assign(RowMetaBytes(codec, width) / 2, 0xffff);
  kernels.encode_row[static_cast<int>(codec)](
      row.data(), width, reinterpret_cast<std::byte*>(out.data.data()), out.scales.data());
  return out;
}

TEST_CASE("rows in blocks decode to within half a step", "[codec]") {
  for (const uint32_t width : kPointwiseWidths) {
    for (const RowCodec codec : kBlockCodecs) {
      for (const auto& [spread, middle] : {std::pair(1.0f, 0.0f),
                                           {0.01f, 0.0f},
                                           {20.0f, 300.0f},
                                           {1.0f, -70.0f},
                                           {2000.0f, 0.0f}}) {
        for (const xnnpack::Kernels& kernels : KernelSubjects()) {
          const Verdict verdict = TestEncodeBlocks(kernels.encode_row[static_cast<int>(codec)],
                                                   codec, width, spread, middle);
          INFO(kernels.isa << " " << RowCodecName(codec) << ": " << verdict.Why());
          CHECK(verdict.accepted());
        }
      }
    }
  }
}

// Rows begin anywhere and lie further apart than they are wide; what is between them stays.
TEST_CASE("runs of rows decode as rows by themselves", "[codec]") {
  constexpr uint32_t kRows = 150, kGap = 3;
  constexpr float kUntouched = 77.5f;
  for (const uint32_t width : {1u, 18u, 64u, 100u, 512u}) {
    for (int c = 0; c < kRowCodecs; ++c) {
      const auto codec = static_cast<RowCodec>(c);
      const uint64_t bytes = RowDataBytes(codec, width), metas = RowMetaBytes(codec, width) / 2;
      std::mt19937 random(width + static_cast<uint32_t>(c));
      std::normal_distribution<float> normal(0.3f);
      GuardedMemory data(kRows * bytes, 64), meta(kRows * metas * 2, 64);
      std::vector<float> row(width), expected(width);
      for (uint32_t r = 0; r < kRows; ++r) {
        for (float& x : row) x = normal(random);
        attention::PortableEncodeRow(codec)(row.data(), width, data.data() + r * bytes,
                                            meta.as<uint16_t>() + r * metas);
      }
      const RowArray rows{codec, width, data.data(), meta.as<uint16_t>()};
      const GuardedMemory scratch(attention::MixScratchBytes(1, width, width), 64);
      for (const xnnpack::Kernels& kernels : KernelSubjects()) {
        INFO(kernels.isa << " " << RowCodecName(codec) << " " << width);
        for (const auto& [begin, count] : {std::pair(0u, kRows), {7u, 64u}, {149u, 1u}}) {
          std::vector<float> out(uint64_t{count} * (width + kGap), kUntouched);
          kernels.decode_rows(rows, begin, count, out.data(), width + kGap, scratch.data());
          double apart = 0;
          bool kept = true;
          for (uint32_t r = 0; r < count; ++r) {
            const uint64_t at = begin + r;
            attention::DecodeRow(codec, data.data() + at * bytes, meta.as<uint16_t>() + at * metas,
                                 width, expected.data());
            const float* got = out.data() + uint64_t{r} * (width + kGap);
            for (uint32_t i = 0; i < width; ++i) {
              apart = std::max(apart, std::abs(double{got[i]} - double{expected[i]}));
            }
            for (uint32_t i = width; i < width + kGap; ++i) kept = kept && got[i] == kUntouched;
          }
          CHECK(apart < 1e-6);  // one rounding less where the set multiplies and adds at once
          CHECK(kept);
        }
      }
    }
  }
}

// Four blocks and what ggml 0.27 (quantize_row_q8_0_ref, quantize_row_q4_0_ref) makes of them; the
// last has its largest magnitude twice, with both signs. f16 bits.
constexpr uint16_t kSourceF16[128] = {
    0x370f, 0xb54b, 0x40dd, 0xb409, 0x2f04, 0x3e54, 0xbb46, 0xb8bc, 0x3201, 0xb547, 0xbcc5, 0xb28e,
    0xb5be, 0x38d4, 0xbea9, 0xb99a, 0x3c9b, 0x3f6e, 0xbe0b, 0x3929, 0xbbd8, 0xbadb, 0xbafa, 0xb6c3,
    0x3bf9, 0x39b3, 0x2b92, 0xb5d0, 0x1abc, 0xaec8, 0x3a58, 0xb90d, 0x8000, 0x9819, 0x9419, 0x1d1f,
    0x1c19, 0x26c9, 0x9625, 0x27f0, 0x9e25, 0xa0dd, 0x1819, 0x1f2b, 0x1da2, 0x26a8, 0x25e3, 0x211f,
    0x9ea8, 0x9819, 0x274c, 0x1c9c, 0xa6a8, 0xa32b, 0xa1e3, 0x25e3, 0x9819, 0x29c3, 0x22a8, 0x191f,
    0xa05a, 0x24fe, 0x9d1f, 0xa439, 0x4c43, 0x3620, 0x5075, 0xc06a, 0xd55d, 0x4dec, 0xd30b, 0x51c5,
    0x52d5, 0xca68, 0xd05e, 0xd13d, 0x4e8b, 0xc610, 0xcc7d, 0xc74d, 0x53d5, 0x4934, 0x4d98, 0x4dd4,
    0x4fa3, 0x4ff6, 0xcd54, 0xc675, 0xcdb5, 0xcd55, 0x5048, 0xcb87, 0xc0c0, 0xcd32, 0xcc73, 0x4de9,
    0xbd58, 0xbdc9, 0x3dec, 0x4b90, 0x40c1, 0xc21c, 0xc543, 0x3f90, 0x3dfb, 0x421c, 0xc114, 0x4790,
    0xc365, 0x405d, 0x3069, 0xbdd8, 0x40e6, 0xbac1, 0xc702, 0xc301, 0xcb90, 0x46b7, 0xc472, 0xaa82,
    0x445a, 0x3f48, 0xbc82, 0xc444, 0xc558, 0xc07d, 0xbc6c, 0xc6bf};
constexpr uint16_t kScales8[4] = {0x24e7, 0x0dcf, 0x3968, 0x2f9f};
constexpr int8_t kCodes8[128] = {
    23,  -17, 127,  -13, 6,   83,  -47, -31, 10,  -17, -62, -11,  -19, 32,  -87, -37, 60,  97,  -79,
    34,  -51, -45,  -46, -22, 52,  37,  3,   -19, 0,   -6,  41,   -33, 0,   -6,  -3,  14,  11,  75,
    -4,  87,  -17,  -27, 6,   20,  16,  73,  65,  28,  -18, -6,   80,  13,  -73, -39, -32, 65,  -6,
    127, 37,  7,    -24, 55,  -14, -47, 25,  1,   53,  -3,  -127, 35,  -83, 68,  81,  -19, -52, -62,
    39,  -9,  -27,  -11, 93,  15,  33,  35,  45,  47,  -32, -10,  -34, -32, 51,  -22, -4,  -31, -26,
    35,  -11, -12,  12,  127, 20,  -26, -44, 16,  13,  26,  -21,  64,  -31, 18,  1,   -12, 21,  -7,
    -59, -29, -127, 56,  -37, 0,   37,  15,  -9,  -36, -45, -19,  -9,  -57};
constexpr uint16_t kScales4[4] = {0xb4dd, 0x9dc3, 0x495d, 0xbf90};
constexpr uint8_t kCodes4[64] = {71,  41,  208, 105, 184, 179, 187, 154, 87,  105, 140, 153, 137,
                                 134, 93,  170, 152, 136, 56,  119, 215, 163, 168, 66,  137, 10,
                                 104, 135, 167, 83,  148, 182, 234, 152, 171, 168, 176, 186, 99,
                                 124, 109, 103, 181, 116, 138, 103, 102, 167, 121, 137, 199, 160,
                                 247, 74,  171, 135, 103, 118, 153, 164, 186, 151, 152, 201};

TEST_CASE("rows in blocks hold the bits that ggml makes of the same numbers", "[codec]") {
  std::vector<float> row;
  for (const uint16_t half : kSourceF16) row.push_back(HalfToFloat(half));
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    INFO(kernels.isa);
    const EncodedBlocks eight = Encode(kernels, RowCodec::kBlock8, row);
    CHECK((eight.scales == std::vector<uint16_t>(std::begin(kScales8), std::end(kScales8))));
    CHECK(std::memcmp(eight.data.data(), kCodes8, sizeof(kCodes8)) == 0);
    const EncodedBlocks four = Encode(kernels, RowCodec::kBlock4, row);
    CHECK((four.scales == std::vector<uint16_t>(std::begin(kScales4), std::end(kScales4))));
    CHECK(std::memcmp(four.data.data(), kCodes4, sizeof(kCodes4)) == 0);
  }
}

TEST_CASE("rows in blocks are encoded to the same bits by every kernel", "[codec]") {
  // A session saved on one machine must mean the same on another. Whole and half numbers make ties.
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.4f, 2.0f);
  const xnnpack::Kernels portable = xnnpack::PortableKernels();
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    for (const RowCodec codec : kBlockCodecs) {
      INFO(kernels.isa << " " << RowCodecName(codec));
      for (int i = 0; i < 400; ++i) {
        std::vector<float> row(1 + i / 2);
        for (float& x : row)
          x = i % 2 == 0 ? normal(random) : std::nearbyint(normal(random) * 8) / 2;
        REQUIRE((Encode(kernels, codec, row) == Encode(portable, codec, row)));
      }
    }
  }
}

TEST_CASE("rows in blocks survive zeros, NaN, infinities and numbers too small to scale",
          "[codec]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    for (const RowCodec codec : kBlockCodecs) {
      INFO(kernels.isa << " " << RowCodecName(codec));
      const auto values = [&](const std::vector<float>& row) {
        const EncodedBlocks blocks = Encode(kernels, codec, row);
        for (const uint16_t scale : blocks.scales) REQUIRE((scale & 0x7c00u) != 0x7c00u);
        return blocks.Values(codec, static_cast<uint32_t>(row.size()));
      };
      for (const float x : {0.0f, NAN, 1e-40f, -1e-30f}) {
        for (const double v : values(std::vector<float>(40, x))) CHECK(v == 0);
      }
      const std::vector<double> mixed = values({8.0f, NAN, -4.0f});
      CHECK(std::fabs(mixed[0] - 8) <= 1);
      CHECK(mixed[1] == 0);
      CHECK(std::fabs(mixed[2] + 4) <= 0.5);
      const std::vector<double> wild = values({INFINITY, -INFINITY, 3.0f, 1e30f, -1e30f});
      for (const int i : {0, 3}) CHECK((wild[i] > 57000 && wild[i] < 66000));
      for (const int i : {1, 4}) CHECK((wild[i] < -57000 && wild[i] > -66000));
      CHECK(std::fabs(wild[2]) < 300);
    }
  }
}

TEST_CASE("portable decoding of every codec is the oracle's", "[codec]") {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (const RowCodec codec : kBlockCodecs) {
    for (const uint32_t width : kPointwiseWidths) {
      std::vector<float> row(width), out(width, NAN);
      for (float& x : row) x = normal(random);
      const EncodedBlocks blocks = Encode(xnnpack::PortableKernels(), codec, row);
      attention::DecodeRow(codec, reinterpret_cast<const std::byte*>(blocks.data.data()),
                           blocks.scales.data(), width, out.data());
      const std::vector<double> exact = blocks.Values(codec, width);
      for (uint32_t d = 0; d < width; ++d) CHECK(out[d] == exact[d]);  // 11 + 7 bits: no rounding
    }
  }
}

// --- Hadamard rotation
// -----------------------------------------------------------------------------

constexpr uint32_t kRotatedWidths[] = {1,  2,  4,  6,  7,   8,   12,  16,  24,  32,
                                       40, 64, 80, 96, 128, 192, 256, 320, 512, 576};

TEST_CASE("the Hadamard rotation matches its definition", "[hadamard]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    Verdict total;
    for (const uint32_t width : kRotatedWidths) total.Join(TestHadamard(kernels.hadamard, width));
    INFO(kernels.isa << ": " << total.Why() << ", worst " << total.worst_ratio);
    CHECK(total.accepted());
    CHECK(total.worst_ratio > 0.01);
  }
}

TEST_CASE("the Hadamard rotation is its own inverse, keeps lengths and scores", "[hadamard]") {
  for (const xnnpack::Kernels& kernels : KernelSubjects()) {
    Verdict verdict;
    for (const uint32_t width : kRotatedWidths) {
      std::mt19937 random(width);
      const GuardedFloats q(width, 1.0f, 0.2f, random), k(width, 1.0f, -0.3f, random);
      const auto q0 = q.Doubles(0, width), k0 = k.Doubles(0, width);
      const auto dot = [&](const std::vector<double>& a, const std::vector<double>& b) {
        double sum = 0;
        for (uint32_t d = 0; d < width; ++d) sum += a[d] * b[d];
        return sum;
      };
      kernels.hadamard(q.data(), 1, width, width);
      kernels.hadamard(k.data(), 1, width, width);
      const auto q1 = q.Doubles(0, width), k1 = k.Doubles(0, width);
      const double allowance = HadamardAllowance(1, attention::HadamardBlock(width));
      verdict.Check(dot(q1, k1), dot(q0, k0), 2 * width * allowance, "score");
      verdict.Check(Norm(q1), Norm(q0), width * allowance, "length");
      if (attention::HadamardBlock(width) > 1 && q1 == q0) verdict.Fail("not rotated");
      kernels.hadamard(q.data(), 1, width, width);
      for (uint32_t d = 0; d < width; ++d) {
        verdict.Check(q[d], q0[d], 2 * allowance * Norm(q0), "D " + std::to_string(d));
      }
    }
    INFO(kernels.isa << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

}  // namespace
}  // namespace headroom::test
