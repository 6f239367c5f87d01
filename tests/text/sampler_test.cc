#include "text/sampler.h"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

namespace headroom {
namespace {

using text::Sample;
using text::SamplerOptions;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int32_t Draw(const std::vector<float>& logits, const SamplerOptions& options, uint64_t position = 0,
             const std::vector<int32_t>& history = {}) {
  std::vector<uint64_t> scratch(logits.size(), 0xffffffffffffffffu);
  const auto drawn =
      Sample(logits, history, position, options, std::as_writable_bytes(std::span(scratch)));
  INFO(drawn.status().message());
  REQUIRE(drawn.ok());
  return drawn.value();
}

std::map<int32_t, int> Histogram(const std::vector<float>& logits, const SamplerOptions& options,
                                 int draws) {
  std::map<int32_t, int> counts;
  for (int n = 0; n < draws; ++n) ++counts[Draw(logits, options, static_cast<uint64_t>(n))];
  return counts;
}

// What the filters must keep, straight from their definitions, in double and by full sorting.
std::vector<int32_t> KeptByDefinition(const std::vector<float>& logits,
                                      const SamplerOptions& options) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (options.top_k && options.top_k < order.size()) order.resize(options.top_k);
  const auto p = [&](int32_t id) {
    return std::exp((static_cast<double>(logits[id]) - logits[order[0]]) / options.temperature);
  };
  if (options.top_p > 0 && options.top_p < 1) {
    double total = 0, sum = 0;
    for (const int32_t id : order) total += p(id);
    size_t keep = 0;
    while (keep < order.size() && (keep == 0 || sum < options.top_p * total))
      sum += p(order[keep++]);
    order.resize(keep);
  }
  if (options.min_p > 0) {
    const auto end = std::remove_if(order.begin(), order.end(),
                                    [&](int32_t id) { return p(id) < options.min_p; });
    order.erase(end, order.end());
  }
  std::sort(order.begin(), order.end());
  return order;
}

TEST_CASE("Philox4x32-10 gives its published vectors", "[text][sampler]") {
  const auto words = [](text::PhiloxBlock b) {
    return std::vector<uint32_t>(b.words, b.words + 4);
  };
  using Words = std::vector<uint32_t>;
  CHECK(words(text::Philox4x32({{0, 0, 0, 0}}, 0, 0)) ==
        Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(words(text::Philox4x32({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff,
                               0xffffffff)) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(words(text::Philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822,
                               0x299f31d0)) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("the uniform number of a position is fixed and well spread", "[text][sampler]") {
  // 0x6627e8d5e169c58d >> 11, times 2^-53.
  CHECK(text::DrawUniform(0, 0) ==
        static_cast<double>(0x6627e8d5e169c58dULL >> 11) / 9007199254740992.0);
  double sum = 0, squares = 0;
  for (uint64_t n = 0; n < 20000; ++n) {
    const double u = text::DrawUniform(42, n);
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    sum += u;
    squares += u * u;
  }
  CHECK(sum / 20000 == Catch::Approx(0.5).margin(0.01));
  CHECK(squares / 20000 == Catch::Approx(1.0 / 3).margin(0.01));
}

TEST_CASE("greedy takes the best, the lower id on a tie", "[text][sampler]") {
  CHECK(Draw({1, 5, 5, 2}, {}) == 1);
  CHECK(Draw({-kInfinity, -3, -kInfinity}, {}) == 1);
  SamplerOptions greedy;
  greedy.top_k = 3;
  greedy.top_p = 0.5f;
  CHECK(Draw({1, 2, 9, 9}, greedy) == 2);
}

TEST_CASE("top-k of one and a tiny top-p are greedy, ties included", "[text][sampler]") {
  for (uint64_t position = 0; position < 50; ++position) {
    SamplerOptions one;
    one.temperature = 1.0f;
    one.top_k = 1;
    CHECK(Draw({1, 5, 5, 5}, one, position) == 1);
    SamplerOptions nucleus;
    nucleus.temperature = 1.0f;
    nucleus.top_p = 1e-6f;
    CHECK(Draw({1, 5, 5, 5}, nucleus, position) == 1);
  }
}

TEST_CASE("filters keep exactly what their definitions keep", "[text][sampler]") {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> logits(40);
  size_t kept_in_all = 0;
  for (int round = 0; round < 60; ++round) {
    for (float& l : logits) l = normal(random);
    logits[7] = logits[30];  // a tie to be cut through
    SamplerOptions options;
    options.temperature = 0.5f + 0.25f * static_cast<float>(round % 5);
    options.top_k = round % 3 == 0 ? 0 : 3 + static_cast<uint32_t>(round) % 20;
    options.top_p = round % 4 == 0 ? 0.0f : 0.3f + 0.1f * static_cast<float>(round % 7);
    options.min_p = round % 5 == 0 ? 0.0f : 0.02f * static_cast<float>(round % 6);
    options.seed = static_cast<uint64_t>(round);
    const std::vector<int32_t> expected = KeptByDefinition(logits, options);
    std::vector<int32_t> seen;
    for (const auto& [id, count] : Histogram(logits, options, 4000)) seen.push_back(id);
    // Everything seen is kept; everything kept with some weight is seen.
    REQUIRE(std::includes(expected.begin(), expected.end(), seen.begin(), seen.end()));
    double total = 0;
    for (const int32_t id : expected) total += std::exp(logits[id] / options.temperature);
    for (const int32_t id : expected) {
      if (std::exp(logits[id] / options.temperature) / total < 0.005) continue;
      INFO("round " << round << " id " << id);
      REQUIRE(std::binary_search(seen.begin(), seen.end(), id));
    }
    kept_in_all += expected.size();
  }
  CHECK(kept_in_all > 200);
}

TEST_CASE("draws follow the softmax at the given temperature", "[text][sampler]") {
  const std::vector<float> logits = {0.3f, -1.2f, 1.7f, 0.0f, 0.9f};
  for (const float temperature : {0.6f, 1.0f, 1.8f}) {
    SamplerOptions options;
    options.temperature = temperature;
    options.seed = 77;
    constexpr int kDraws = 40000;
    auto counts = Histogram(logits, options, kDraws);
    double total = 0, chi_squared = 0;
    for (const float l : logits) total += std::exp(l / temperature);
    for (size_t id = 0; id < logits.size(); ++id) {
      const double expected = kDraws * std::exp(logits[id] / temperature) / total;
      chi_squared += std::pow(counts[static_cast<int32_t>(id)] - expected, 2) / expected;
    }
    CHECK(chi_squared < 18.5);  // 4 degrees of freedom, one in a thousand
  }
}

TEST_CASE("the same seed and position give the same token, others vary", "[text][sampler]") {
  std::vector<float> logits(500);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i % 17) * 0.1f;
  SamplerOptions options;
  options.temperature = 1.0f;
  options.seed = 1234;
  std::vector<int32_t> first, again, other;
  for (uint64_t n = 0; n < 40; ++n) first.push_back(Draw(logits, options, n));
  for (uint64_t n = 40; n-- > 0;) again.insert(again.begin(), Draw(logits, options, n));
  options.seed = 1235;
  for (uint64_t n = 0; n < 40; ++n) other.push_back(Draw(logits, options, n));
  CHECK(first == again);
  CHECK(first != other);
}

TEST_CASE("draws are pinned to values, so that no machine differs", "[text][sampler]") {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>((i * 2654435761u >> 12) % 1024) / 128.0f - 4.0f;
  }
  SamplerOptions options;
  options.temperature = 0.8f;
  options.top_k = 200;
  options.top_p = 0.9f;
  options.min_p = 0.02f;
  options.seed = 99;
  std::vector<int32_t> drawn;
  for (uint64_t n = 0; n < 12; ++n) drawn.push_back(Draw(logits, options, n));
  CHECK(drawn == std::vector<int32_t>{751, 774, 458, 819, 316, 826, 624, 233, 946, 458, 203, 886});
}

TEST_CASE("the repetition penalty works once per token, inside its window, by sign",
          "[text][sampler]") {
  SamplerOptions options;
  options.repetition_penalty = 2.0f;
  const std::vector<float> logits = {3.0f, 2.0f, -1.0f};
  CHECK(Draw(logits, options, 0, {}) == 0);
  CHECK(Draw(logits, options, 0, {0}) == 1);            // 1.5 < 2
  CHECK(Draw(logits, options, 0, {0, 0, 0, 1}) == 0);   // 1.5 > 1: once, not thrice
  CHECK(Draw({-1.0f, -1.5f}, options, 0, {0}) == 1);    // negative logits are multiplied: -2 < -1.5
  CHECK(Draw(logits, options, 0, {-5, 3, 1000}) == 0);  // foreign ids are ignored
  options.repetition_window = 2;
  CHECK(Draw(logits, options, 0, {0, 2, 2}) == 0);
  CHECK(Draw(logits, options, 0, {2, 0, 2}) == 1);
  options.repetition_window = 0;  // means 64
  std::vector<int32_t> history(64, 2);
  history[0] = 0;
  CHECK(Draw(logits, options, 0, history) == 1);
  history.push_back(2);
  CHECK(Draw(logits, options, 0, history) == 0);
}

TEST_CASE("broken logits are an error that names the token", "[text][sampler]") {
  std::vector<uint64_t> scratch(3);
  const auto sample = [&](std::vector<float> logits) {
    return Sample(logits, {}, 5, {}, std::as_writable_bytes(std::span(scratch))).status();
  };
  const Status nan = sample({0, std::nanf(""), 1});
  CHECK(nan.code() == StatusCode::kInternal);
  CHECK(std::string(nan.message()) == "logit of token 1 is nan at position 5");
  CHECK(sample({0, 1, kInfinity}).code() == StatusCode::kInternal);
  CHECK(sample({-kInfinity, -kInfinity, -kInfinity}).code() == StatusCode::kInternal);
}

TEST_CASE("extreme options stay defined", "[text][sampler]") {
  SamplerOptions cold;
  cold.temperature = 1e-30f;
  CHECK(Draw({1.0f, 1.0001f, -3e38f}, cold) == 1);
  SamplerOptions hot;
  hot.temperature = 3e38f;
  const auto counts = Histogram({-3e38f, 0.0f, 3e38f}, hot, 2000);
  CHECK(counts.size() == 3);
  SamplerOptions boost;
  boost.repetition_penalty = 1e-38f;
  CHECK(Draw({1.0f, 1e30f, -1.0f}, boost, 0, {1}) == 1);
  // The only possible token, punished past the range of floats, stays the only possible one.
  SamplerOptions punish;
  punish.repetition_penalty = 3e38f;
  punish.temperature = 1.0f;
  punish.min_p = 0.5f;
  CHECK(Draw({-kInfinity, -5.0f}, punish, 0, {1}) == 1);
}

TEST_CASE("options outside their ranges are refused by name", "[text][sampler]") {
  const auto message = [](SamplerOptions options) {
    std::vector<uint64_t> scratch(2);
    const std::vector<float> logits = {0, 1};
    const auto drawn = Sample(logits, {}, 0, options, std::as_writable_bytes(std::span(scratch)));
    CHECK(drawn.status().code() == StatusCode::kInvalidArgument);
    return std::string(drawn.status().message());
  };
  CHECK(message({.temperature = -1.0f}).find("temperature -1") != std::string::npos);
  CHECK(message({.temperature = std::nanf("")}).find("temperature nan") != std::string::npos);
  CHECK(message({.top_p = 1.5f}).find("top_p 1.5") != std::string::npos);
  CHECK(message({.min_p = -0.1f}).find("min_p") != std::string::npos);
  CHECK(message({.repetition_penalty = kInfinity}).find("repetition_penalty inf") !=
        std::string::npos);
  const std::vector<float> logits(10, 0.0f);
  std::vector<uint64_t> small(9);
  CHECK(Sample(logits, {}, 0, {}, std::as_writable_bytes(std::span(small))).status().code() ==
        StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headroom
