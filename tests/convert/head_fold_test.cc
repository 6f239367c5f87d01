// Weights of heads folded into their matrices, against heads that are made one by one, rotated, and
// summed, in double.
#include "convert/head_fold.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <catch2/catch_test_macros.hpp>

namespace headroom::convert {
namespace {

constexpr uint32_t kGroups = 3, kMembers = 2, kWidth = 6, kColumns = 5;
constexpr HeadFold kByHead = {kGroups, kMembers, kWidth, false};
constexpr HeadFold kByDimension = {kGroups, kMembers, kWidth, true};

std::vector<float> Random(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> value(-1.0f, 1.0f);
  std::vector<float> out(count);
  for (float& x : out) x = value(random);
  return out;
}

std::vector<double> Times(const std::vector<float>& matrix, const std::vector<float>& x) {
  std::vector<double> out(matrix.size() / x.size());
  for (size_t i = 0; i < matrix.size(); ++i) {
    out[i / x.size()] += static_cast<double>(matrix[i]) * static_cast<double>(x[i % x.size()]);
  }
  return out;
}

void Rotate(std::vector<double>& heads, double position) {
  for (size_t i = 0; i < heads.size(); i += 2) {
    const double angle = position * std::pow(100.0, -static_cast<double>(i % kWidth) / kWidth);
    const double a = heads[i], b = heads[i + 1];
    heads[i] = a * std::cos(angle) - b * std::sin(angle);
    heads[i + 1] = b * std::cos(angle) + a * std::sin(angle);
  }
}

// Members' heads, weighted and summed.
std::vector<double> Summed(const HeadFold& fold, const std::vector<float>& weights,
                           const std::vector<double>& heads) {
  std::vector<double> out(kGroups * kWidth);
  for (size_t i = 0; i < heads.size(); ++i) {
    const size_t head = i / kWidth, dimension = i % kWidth;
    const double weight = weights[fold.by_dimension ? i : head];
    out[head / kMembers * kWidth + dimension] += weight * heads[i];
  }
  return out;
}

double Difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

struct Folded {
  explicit Folded(const HeadFold& fold)
      : weights(Random(kGroups * kMembers * (fold.by_dimension ? kWidth : 1), 8)),
        out(kGroups * kWidth * kColumns) {
    REQUIRE(FoldHeads(fold, matrix, weights, out).ok());
  }
  const std::vector<float> matrix = Random(kGroups * kMembers * kWidth * kColumns, 7);
  const std::vector<float> x = Random(kColumns, 9);
  std::vector<float> weights, out;
};

TEST_CASE("a head of folded weights is the weighted sum of heads", "[convert][fold]") {
  for (const HeadFold& fold : {kByHead, kByDimension}) {
    const Folded f(fold);
    auto expected = Summed(fold, f.weights, Times(f.matrix, f.x));
    auto got = Times(f.out, f.x);
    CHECK(Difference(got, expected) < 1e-6);
    Rotate(got, 17);
    Rotate(expected, 17);
    CHECK(Difference(got, expected) < 1e-6);
    // Members side by side in another order are other heads.
    auto turned = f.weights;
    std::reverse(turned.begin(), turned.end());
    CHECK(Difference(Summed(fold, turned, Times(f.matrix, f.x)), Times(f.out, f.x)) > 1e-2);
  }
}

TEST_CASE("weights of heads fold behind a rotation too, those of dimensions do not",
          "[convert][fold]") {
  for (const HeadFold& fold : {kByHead, kByDimension}) {
    const Folded f(fold);
    auto heads = Times(f.matrix, f.x);
    Rotate(heads, 17);
    auto got = Times(f.out, f.x);
    Rotate(got, 17);
    CHECK((Difference(got, Summed(fold, f.weights, heads)) < 1e-6) == !fold.by_dimension);
  }
}

TEST_CASE("a bias folds as a matrix of one column", "[convert][fold]") {
  const std::vector<float> bias = Random(kGroups * kMembers * kWidth, 3), weights = Random(6, 4);
  std::vector<float> out(kGroups * kWidth);
  REQUIRE(FoldHeads(kByHead, bias, weights, out).ok());
  const auto expected = Summed(kByHead, weights, {bias.begin(), bias.end()});
  CHECK(Difference({out.begin(), out.end()}, expected) < 1e-6);
}

TEST_CASE("folds whose counts do not go together are refused", "[convert][fold]") {
  const std::vector<float> matrix(kGroups * kMembers * kWidth * kColumns), weights(6);
  std::vector<float> out(kGroups * kWidth * kColumns), short_out(out.size() - 1);
  const auto code = [&](const HeadFold& fold, std::span<const float> w, std::span<float> to) {
    return FoldHeads(fold, matrix, w, to).code();
  };
  CHECK(code(kByHead, weights, out) == StatusCode::kOk);
  CHECK(code(kByDimension, weights, out) == StatusCode::kInvalidArgument);
  CHECK(code(kByHead, std::span(weights).first(5), out) == StatusCode::kInvalidArgument);
  CHECK(code(kByHead, weights, short_out) == StatusCode::kInvalidArgument);
  CHECK(code({kGroups, 0, kWidth, false}, weights, out) == StatusCode::kInvalidArgument);
  CHECK(code({0, kMembers, kWidth, false}, weights, out) == StatusCode::kInvalidArgument);
  CHECK(code({kGroups, 4, kWidth, false}, weights, out) == StatusCode::kInvalidArgument);
  std::vector<float> broken = weights;
  broken[3] = NAN;
  CHECK(code(kByHead, broken, out) == StatusCode::kCorrupt);
}

}  // namespace
}  // namespace headroom::convert
