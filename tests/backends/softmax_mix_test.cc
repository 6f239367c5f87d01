// Softmax kernels, portable and of every instruction set, against the oracle; and what must hold
// without one.
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <span>
#include <string>

#include "support/kernel_subjects.h"
#include "support/mix_grid.h"

namespace headroom::test {
namespace {

constexpr uint32_t kPairedCases = 64;
constexpr RowCodec kFloatCodecs[] = {RowCodec::kF32, RowCodec::kF16};
constexpr RowCodec kBlockAndFloatCodecs[] = {RowCodec::kF32, RowCodec::kF16, RowCodec::kBlock8,
                                             RowCodec::kBlock4};

xnnpack::Kernels Best() { return xnnpack::BestKernels(); }

// An allowance that no kernel ever comes near bounds nothing: drift inside it would go unseen.
constexpr double kLeastRatio = 0.01;

void RunAll(const std::vector<MixCase>& cases) {
  const auto subjects = KernelSubjects();
  std::vector<Verdict> totals(subjects.size());
  for (const MixCase& c : cases) {
    const MixProblem problem(c);
    for (size_t s = 0; s < subjects.size(); ++s) {
      const Verdict verdict = problem.Test(subjects[s].mix);
      INFO(subjects[s].isa << ", " << Describe(c) << ": " << verdict.Why());
      REQUIRE(verdict.accepted());
      totals[s].Join(verdict);
    }
  }
  for (size_t s = 0; s < subjects.size(); ++s) {
    UNSCOPED_INFO(subjects[s].isa << ": worst error / allowance " << totals[s].worst_ratio);
    CHECK(totals[s].worst_ratio > kLeastRatio);
  }
}

TEST_CASE("softmax over f32 rows matches the oracle", "[mix]") {
  RunAll(AllMixCases(RowCodec::kF32, kPairedCases));
}
TEST_CASE("softmax over f16 rows matches the oracle", "[mix]") {
  RunAll(AllMixCases(RowCodec::kF16, kPairedCases));
}
TEST_CASE("softmax over int8 rows matches the oracle on the decoded rows", "[mix]") {
  RunAll(AllMixCases(RowCodec::kI8Token, kPairedCases));
}

TEST_CASE("softmax over rows in blocks of 8 bits matches the oracle on the decoded rows", "[mix]") {
  RunAll(AllMixCases(RowCodec::kBlock8, kPairedCases));
}
TEST_CASE("softmax over rows in blocks of 4 bits matches the oracle on the decoded rows", "[mix]") {
  RunAll(AllMixCases(RowCodec::kBlock4, kPairedCases));
}

TEST_CASE("the test data is neither flat nor one-hot, and large logits overflow exp",
          "[mix][data]") {
  for (const RowCodec codec : kAllCodecs) {
    MixCase c;
    c.codec = codec;
    c.rows = 100;
    c.key_width = c.value_width = 64;
    const MixProblem plain(c);
    CHECK(plain.EffectiveRows(0) > 5);
    CHECK(plain.EffectiveRows(0) < 90);
    c.logits = Logits::kLarge;
    CHECK(MixProblem(c).exact()[0].maximum > 89);  // ln of the largest f32
    c.logits = Logits::kEqual;
    if (!IsCoded(codec) || codec > RowCodec::kI8Token) CHECK(MixProblem(c).EffectiveRows(0) > 99.9);
  }
}

TEST_CASE("a view that is empty gives m = -inf and zeros", "[mix]") {
  for (const xnnpack::Kernels& subject : KernelSubjects()) {
    for (const RowCodec codec : kAllCodecs) {
      for (const uint32_t tokens : {1u, 20u}) {
        MixCase c;
        c.codec = codec;
        c.rows = 100;
        c.tokens = tokens;
        const MixProblem problem(c);
        Verdict verdict;
        const auto records = problem.Run(subject.mix, 10, 10, &verdict);
        for (uint32_t i = 0; i < tokens; ++i) {
          const float* record = records.data() + i * attention::PartialFloats(c.value_width);
          verdict.Check(record[0], -INFINITY, 0, "m");
          for (uint32_t k = 1; k < 2 + c.value_width; ++k) verdict.Check(record[k], 0, 0, "l, o");
        }
        INFO(subject.isa << ": " << verdict.Why());
        CHECK(verdict.accepted());
      }
    }
  }
}

// --- properties that need no oracle
// ----------------------------------------------------------------

// A plain lane of f32 or encoded rows, and the attention of some queries over it, merged and
// normalised.
struct Bench {
  uint32_t rows = 150, width = 64, group = 4;
  RowCodec codec = RowCodec::kF32;
  std::vector<float> k, v, q;
  std::vector<int32_t> positions;  // empty: dense

  explicit Bench(RowCodec codec_in, uint32_t tokens) : codec(codec_in) {
    std::mt19937 random(99);
    std::normal_distribution<float> normal;
    for (auto* values : {&k, &v}) {
      values->resize(rows * width);
      for (float& x : *values) x = normal(random);
    }
    q.resize(tokens * group * width);
    for (float& x : q) x = normal(random);
  }

  std::vector<float> Attend(const xnnpack::Kernels& kernels, uint32_t first_token, uint32_t tokens,
                            int32_t first_position, MixSpec spec, uint32_t parts = 1) const {
    const uint32_t queries = tokens * group, row_bytes = RowDataBytes(codec, width);
    const uint32_t record = attention::PartialFloats(width);
    const uint32_t metas = RowMetaBytes(codec, width) / 2;
    GuardedMemory keys(rows * row_bytes, 64), values(rows * row_bytes, 64);
    std::vector<uint16_t> key_meta(metas * rows + 1), value_meta(metas * rows + 1);
    for (uint32_t r = 0; r < rows; ++r) {
      const auto encode = kernels.encode_row[static_cast<int>(codec)];
      encode(&k[r * width], width, keys.data() + r * row_bytes, &key_meta[metas * r]);
      encode(&v[r * width], width, values.data() + r * row_bytes, &value_meta[metas * r]);
    }
    LaneView lane;
    lane.keys = {codec, width, keys.data(), key_meta.data()};
    lane.values = {codec, width, values.data(), value_meta.data()};
    lane.rows = rows;
    lane.positions = positions.empty() ? nullptr : positions.data();
    spec.scale = 0.125f;
    std::vector<int32_t> at(queries);
    for (uint32_t i = 0; i < queries; ++i) at[i] = first_position + static_cast<int32_t>(i / group);
    std::vector<float> partials(parts * queries * record), out(queries * width);
    GuardedMemory scratch(attention::MixScratchBytes(queries, width, width), 64);
    for (uint32_t p = 0; p < parts; ++p) {
      kernels.mix(lane, spec, &q[first_token * group * width], width, at.data(), queries,
                  rows * p / parts, rows * (p + 1) / parts, &partials[p * queries * record],
                  scratch.data());
    }
    for (uint32_t i = 0; i < queries; ++i) {
      kernels.merge(&partials[i * record], queries * record, parts, width, -INFINITY,
                    &out[i * width]);
    }
    return out;
  }
};

// Two ways to the same result: each is within its own error of the truth, for weights that sum
// to 1.
Verdict Same(const std::vector<float>& a, const std::vector<float>& b, RowCodec codec) {
  Verdict verdict;
  if (a.size() != b.size()) verdict.Fail("sizes differ");
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    verdict.Check(a[i], b[i], PropertyAllowance(IsCoded(codec)), "element " + std::to_string(i));
  }
  return verdict;
}

template <typename Fn>
void ForEachSubject(const Fn& fn, std::span<const RowCodec> codecs = kAllCodecs) {
  for (const xnnpack::Kernels& subject : KernelSubjects()) {
    for (const RowCodec codec : codecs) {
      const Verdict verdict = fn(subject, codec);
      INFO(subject.isa << " " << RowCodecName(codec) << ": " << verdict.Why());
      CHECK(verdict.accepted());
    }
  }
}

TEST_CASE("decoding one token equals the same row of a prefill tile", "[mix][property]") {
  ForEachSubject([](const xnnpack::Kernels& kernels, RowCodec codec) {
    const Bench bench(codec, 20);
    MixSpec spec;
    spec.left = 100;
    const auto tile = bench.Attend(kernels, 0, 20, 130, spec);
    Verdict verdict;
    for (const uint32_t token : {0u, 7u, 19u}) {
      const auto one = bench.Attend(kernels, token, 1, 130 + static_cast<int32_t>(token), spec);
      const auto row = tile.begin() + token * bench.group * bench.width;
      verdict.Join(Same(one, {row, row + bench.group * bench.width}, codec));
    }
    return verdict;
  });
}

TEST_CASE("any split of the rows merges to the whole", "[mix][property]") {
  ForEachSubject([](const xnnpack::Kernels& kernels, RowCodec codec) {
    Verdict verdict;
    for (const uint32_t tokens : {1u, 20u}) {
      const Bench bench(codec, tokens);
      const auto whole = bench.Attend(kernels, 0, tokens, 130, {});
      for (const uint32_t parts : {2u, 3u, 7u, 150u}) {
        verdict.Join(Same(bench.Attend(kernels, 0, tokens, 130, {}, parts), whole, codec));
      }
    }
    return verdict;
  });
}

TEST_CASE("a window of at least S equals full attention", "[mix][property]") {
  ForEachSubject([](const xnnpack::Kernels& kernels, RowCodec codec) {
    const Bench bench(codec, 20);
    MixSpec wide;
    wide.left = bench.rows;
    return Same(bench.Attend(kernels, 0, 20, 130, wide), bench.Attend(kernels, 0, 20, 130, {}),
                codec);
  });
}

TEST_CASE("the order of rows does not matter, only their positions", "[mix][property]") {
  ForEachSubject([](const xnnpack::Kernels& kernels, RowCodec codec) {
    Bench bench(codec, 20);
    MixSpec spec;
    spec.left = 60;
    spec.sinks = 3;
    const auto straight = bench.Attend(kernels, 0, 20, 130, spec);
    Bench shuffled = bench;
    std::mt19937 random(5);
    shuffled.positions.resize(bench.rows);
    std::iota(shuffled.positions.begin(), shuffled.positions.end(), 0);
    std::shuffle(shuffled.positions.begin(), shuffled.positions.end(), random);
    for (uint32_t r = 0; r < bench.rows; ++r) {
      for (auto [from, to] : {std::pair(&bench.k, &shuffled.k), std::pair(&bench.v, &shuffled.v)}) {
        std::copy_n(from->begin() + shuffled.positions[r] * bench.width, bench.width,
                    to->begin() + r * bench.width);
      }
    }
    return Same(shuffled.Attend(kernels, 0, 20, 130, spec), straight, codec);
  });
}

TEST_CASE("adding a constant to all logits of a query changes nothing", "[mix][property]") {
  // A key channel equal to 1 everywhere turns one element of q into that constant.
  ForEachSubject(
      [](const xnnpack::Kernels& kernels, RowCodec codec) {
        Bench bench(codec, 1);
        for (uint32_t r = 0; r < bench.rows; ++r) bench.k[r * bench.width] = 1.0f;
        for (uint32_t h = 0; h < bench.group; ++h) bench.q[h * bench.width] = 0.0f;
        Bench shifted = bench;
        for (uint32_t h = 0; h < bench.group; ++h) shifted.q[h * bench.width] = 2.0f;
        return Same(shifted.Attend(kernels, 0, 1, 149, {}), bench.Attend(kernels, 0, 1, 149, {}),
                    codec);
      },
      kFloatCodecs);  // 1 is not a code of every int8 row
}

TEST_CASE("a row that a query does not see cannot influence it", "[mix][property]") {
  // Bits, not tolerance: later rows differ wildly, earlier queries must not notice.
  ForEachSubject([](const xnnpack::Kernels& kernels, RowCodec codec) {
    Bench bench(codec, 20);
    const auto before = bench.Attend(kernels, 0, 20, 100, {});
    for (uint32_t r = 110; r < bench.rows; ++r) {
      for (uint32_t d = 0; d < bench.width; ++d) {
        bench.k[r * bench.width + d] *= -30.0f;
        bench.v[r * bench.width + d] += 1000.0f;
      }
    }
    const auto after = bench.Attend(kernels, 0, 20, 100, {});
    Verdict verdict;
    const size_t same = 10 * bench.group * bench.width;  // queries at positions 100 .. 109
    for (size_t i = 0; i < same; ++i)
      verdict.Check(after[i], before[i], 0, "element " + std::to_string(i));
    if (after == before) verdict.Fail("later queries must notice");
    return verdict;
  });
}

TEST_CASE("NaN in a visible row reaches the result", "[mix][property]") {
  ForEachSubject(
      [](const xnnpack::Kernels& kernels, RowCodec codec) {
        Verdict verdict;
        for (const uint32_t tokens : {1u, 20u}) {
          for (const bool in_key : {true, false}) {
            Bench bench(codec, tokens);
            (in_key ? bench.k : bench.v)[40 * bench.width + 5] = NAN;
            const auto out = bench.Attend(kernels, 0, tokens, 120, {});
            verdict.Check(std::isnan(out[5]), 1, 0, in_key ? "key" : "value");
          }
        }
        return verdict;
      },
      kFloatCodecs);  // int8 rows cannot hold NaN
}

// --- which way codes multiply
// -----------------------------------------------------------------------------

#if defined(__aarch64__)
// Whether this CPU executes SDOT: tried in a child.
bool CpuHasDot() {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGILL, [](int) { _exit(1); });
    __asm__ volatile(".inst 0x4e809400" ::: "v0");  // sdot v0.4s, v0.16b, v0.16b
    _exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
#endif

// What the kernels for this CPU have to report, by other means than their own.
std::string ExpectedProducts() {
#if defined(__aarch64__)
  return CpuHasDot() ? "i8 x i8" : "f32";
#elif defined(__x86_64__)
  const bool quads = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("gfni") &&
                     __builtin_cpu_supports("vaes");
  if (quads) return "u8 x i8";
  return __builtin_cpu_supports("avx2") ? "i16" : "f32";
#else
  return "f32";
#endif
}

TEST_CASE("rows of codes multiply in integers where the CPU can", "[mix][products]") {
  CHECK(Best().code_products == ExpectedProducts());
}

TEST_CASE("what kernels report about codes is what they do", "[mix][products]") {
  // Integers show: elements of a query that are a millionth of its largest count for nothing.
  ForEachSubject(
      [](const xnnpack::Kernels& kernels, RowCodec codec) {
        Bench bench(codec, 1);
        for (uint32_t r = 0; r < bench.rows; ++r) bench.k[r * bench.width] = 0.0f;
        for (uint32_t i = 0; i < bench.q.size(); ++i) bench.q[i] = i % bench.width == 0 ? 1e6f : 1;
        Bench bare = bench;
        for (float& x : bare.q) x = x == 1.0f ? 0.0f : x;
        const bool unnoticed =
            bench.Attend(kernels, 0, 1, 149, {}) == bare.Attend(kernels, 0, 1, 149, {});
        const bool integers = IsCoded(codec) && std::string(kernels.code_products) != "f32";
        Verdict verdict;
        verdict.Check(unnoticed, integers, 0, kernels.code_products);
        return verdict;
      },
      kBlockAndFloatCodecs);  // int8 rows keep a minimum, which meets the sum of a query in f32
}

// --- merge
// -----------------------------------------------------------------------------------------

TEST_CASE("merging matches the oracle, with and without a learned sink", "[mix][merge]") {
  for (const xnnpack::Kernels& subject : KernelSubjects()) {
    Verdict verdict;
    for (uint32_t seed = 1; seed <= 60; ++seed) verdict.Join(TestMerge(subject.merge, seed));
    INFO(subject.isa << ": " << verdict.Why() << ", worst " << verdict.worst_ratio);
    CHECK(verdict.accepted());
  }
}

TEST_CASE("the dispatched kernels are one of the tested sets", "[mix]") {
  bool found = false;
  for (const xnnpack::Kernels& subject : KernelSubjects()) found |= subject.mix == Best().mix;
  CHECK(found);
}

}  // namespace
}  // namespace headroom::test
