// Wrong softmax kernels, given to the tester of the right ones. A survivor is a hole in the tests.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <utility>

#include "mutants/wrong_mix.h"
#include "support/mix_grid.h"

namespace headroom::mutants {
namespace {

using test::MixCase;
using test::MixProblem;

constexpr uint32_t kPairedCases = 64;  // those of softmax_mix_test

template <size_t... kBugs>
constexpr auto AllKernels(std::index_sequence<kBugs...>) {
  return std::array<attention::MixKernel, sizeof...(kBugs)>{
      WrongMix<static_cast<MixBug>(kBugs)>...};
}
constexpr auto kKernels = AllKernels(std::make_index_sequence<kMixBugs>());

// A row behind the last may only be read where the test put one; elsewhere lies a forbidden page.
bool MayRun(MixBug bug, const MixCase& c) {
  return bug != MixBug::kRowBehindTheLastRead ||
         (c.poison_behind && c.layout == test::Layout::kDense && !c.bias);
}

// By bug, in how many cases the tester rejected it.
std::vector<uint32_t> Rejections(RowCodec codec) {
  std::vector<uint32_t> rejected(kMixBugs, 0);
  for (const MixCase& c : test::AllMixCases(codec, kPairedCases)) {
    if (uint64_t{c.rows} * c.tokens * c.group * c.key_width > 200000)
      continue;  // plain loops are slow
    const MixProblem problem(c);
    for (int bug = 0; bug < kMixBugs; ++bug) {
      if (!MayRun(static_cast<MixBug>(bug), c) || (bug > 0 && rejected[bug] > 2)) continue;
      rejected[bug] += !problem.Test(kKernels[bug]).accepted();
    }
  }
  return rejected;
}

// Every codec meets rows of every other as values or as the second part of keys, so that all bugs
// show with each.
void ExpectAllRejected(RowCodec codec) {
  const std::vector<uint32_t> rejected = Rejections(codec);
  CHECK(rejected[static_cast<int>(MixBug::kNone)] == 0);
  for (int bug = 1; bug < kMixBugs; ++bug) {
    INFO("bug " << bug << " of mutants/wrong_mix.h over " << RowCodecName(codec) << " rows");
    CHECK(rejected[bug] > 0);
  }
}

TEST_CASE("every wrong softmax is rejected, the right one is not", "[mutant][mix]") {
  for (const RowCodec codec : test::kAllCodecs) ExpectAllRejected(codec);
}

// --- merge
// -----------------------------------------------------------------------------------------

enum class MergeBug {
  kNone,
  kMaximaIgnored,
  kSumsIgnored,
  kSinkInEveryRecord,
  kSinkIgnored,
  kEmptyCounted,
  kLastSkipped
};

template <MergeBug kBug>
void WrongMerge(const float* partials, uint64_t stride, uint32_t count, uint32_t width, float sink,
                float* out) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  if (kBug == MergeBug::kSinkIgnored) sink = kMinusInfinity;
  if (kBug == MergeBug::kLastSkipped && count > 1) --count;
  float maximum = sink;
  for (uint32_t j = 0; j < count; ++j) maximum = std::max(maximum, partials[j * stride]);
  std::fill_n(out, width, 0.0f);
  if (maximum == kMinusInfinity) return;
  float total = std::exp(sink - maximum) * (kBug == MergeBug::kSinkInEveryRecord ? count : 1);
  for (uint32_t j = 0; j < count; ++j) {
    const float* record = partials + j * stride;
    if (record[0] == kMinusInfinity) {
      total += kBug == MergeBug::kEmptyCounted ? 1 : 0;
      continue;
    }
    const float weight = kBug == MergeBug::kMaximaIgnored ? 1.0f : std::exp(record[0] - maximum);
    total += weight * (kBug == MergeBug::kSumsIgnored ? 1.0f : record[1]);
    for (uint32_t c = 0; c < width; ++c) out[c] += weight * record[2 + c];
  }
  for (uint32_t c = 0; c < width; ++c) out[c] /= total;
}

bool MergeRejected(attention::MergeKernel merge) {
  for (uint32_t seed = 1; seed <= 60; ++seed) {
    if (!test::TestMerge(merge, seed).accepted()) return true;
  }
  return false;
}

TEST_CASE("every wrong merge is rejected, the right one is not", "[mutant][merge]") {
  CHECK_FALSE(MergeRejected(WrongMerge<MergeBug::kNone>));
  CHECK(MergeRejected(WrongMerge<MergeBug::kMaximaIgnored>));
  CHECK(MergeRejected(WrongMerge<MergeBug::kSumsIgnored>));
  CHECK(MergeRejected(WrongMerge<MergeBug::kSinkInEveryRecord>));
  CHECK(MergeRejected(WrongMerge<MergeBug::kSinkIgnored>));
  CHECK(MergeRejected(WrongMerge<MergeBug::kEmptyCounted>));
  CHECK(MergeRejected(WrongMerge<MergeBug::kLastSkipped>));
}

}  // namespace
}  // namespace headroom::mutants
