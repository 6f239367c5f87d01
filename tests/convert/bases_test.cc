// Bases from second moments: what they lose, against loops in double; and which are refused.
#include "convert/bases.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>

#include "tests/convert/converted.h"

namespace headroom {
namespace {

using Square = std::vector<double>;

// Moments of vectors whose directions have the widths of `spread`, mixed.
Square RandomMoments(uint32_t width, unsigned seed, double mean = 0.0) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Square mixing(width * width);
  for (double& x : mixing) x = normal(random);
  convert::Moments moments(width);
  for (int n = 0; n < 400; ++n) {
    std::vector<float> x(width, static_cast<float>(mean));
    for (uint32_t j = 0; j < width; ++j) {
      const double amount = normal(random) / (1.0 + j * j);
      for (uint32_t i = 0; i < width; ++i) {
        x[i] += static_cast<float>(amount * mixing[i * width + j]);
      }
    }
    moments.Add(x.data());
  }
  return moments.Covariance();
}

// E (q^T R k)^2 by its definition: sums over all pairs of cut columns.
double LostByDefinition(const Square& rows, const Square& readers, const Square& basis,
                        uint32_t width, uint32_t rank) {
  const auto form = [&](const Square& m, uint32_t a, uint32_t b) {
    double sum = 0;
    for (uint32_t i = 0; i < width; ++i) {
      for (uint32_t j = 0; j < width; ++j) {
        sum += basis[i * width + a] * m[i * width + j] * basis[j * width + b];
      }
    }
    return sum;
  };
  double lost = 0;
  for (uint32_t a = rank; a < width; ++a) {
    for (uint32_t b = rank; b < width; ++b) lost += form(rows, a, b) * form(readers, a, b);
  }
  return lost;
}

double OffOrthogonal(const Square& basis, uint32_t width) {
  double largest = 0;
  for (uint32_t a = 0; a < width; ++a) {
    for (uint32_t b = 0; b < width; ++b) {
      double dot = a == b ? -1.0 : 0.0;
      for (uint32_t i = 0; i < width; ++i) dot += basis[i * width + a] * basis[i * width + b];
      largest = std::max(largest, std::fabs(dot));
    }
  }
  return largest;
}

Square Identity(uint32_t width) {
  Square m(width * width, 0.0);
  for (uint32_t i = 0; i < width; ++i) m[i * width + i] = 1.0;
  return m;
}

TEST_CASE("a basis is orthogonal and loses no more than principal components", "[convert][basis]") {
  constexpr uint32_t kWidth = 16;
  for (unsigned seed = 1; seed < 6; ++seed) {
    const Square rows = RandomMoments(kWidth, seed), readers = RandomMoments(kWidth, 100 + seed);
    const Square basis = convert::MakeBasis(rows, readers, kWidth);
    const Square plain = convert::MakeBasis(rows, Identity(kWidth), kWidth);
    CHECK(OffOrthogonal(basis, kWidth) < 1e-12);
    double product = 1.0, before = LostByDefinition(rows, readers, basis, kWidth, 0);
    for (uint32_t rank = 0; rank <= kWidth; ++rank) {
      const double lost = convert::CutError(rows, readers, basis, kWidth, rank);
      const double exact = LostByDefinition(rows, readers, basis, kWidth, rank);
      CHECK(std::fabs(lost - exact) <= 1e-9 * LostByDefinition(rows, readers, basis, kWidth, 0));
      CHECK(exact <= before * (1 + 1e-9) + 1e-12);
      before = exact;
      if (rank == 4 || rank == 8 || rank == 12) {
        product *= exact / LostByDefinition(rows, readers, plain, kWidth, rank);
      }
    }
    CHECK(product <= 1 + 1e-9);
    CHECK(convert::CutError(rows, readers, basis, kWidth, kWidth) == 0.0);
  }
}

TEST_CASE("directions that nobody reads come last", "[convert][basis]") {
  // Directions are the axes; the widest one is read least.
  constexpr uint32_t kWidth = 4;
  Square rows = Identity(kWidth), readers = Identity(kWidth);
  const double spread[kWidth] = {9.0, 1.0, 4.0, 2.0}, read[kWidth] = {1e-3, 3.0, 1.0, 0.1};
  for (uint32_t i = 0; i < kWidth; ++i) {
    rows[i * kWidth + i] = spread[i];
    readers[i * kWidth + i] = read[i];
  }
  const Square basis = convert::MakeBasis(rows, readers, kWidth);
  const uint32_t order[kWidth] = {2, 1, 3, 0};  // by spread * read: 4, 3, 0.2, 0.009
  for (uint32_t j = 0; j < kWidth; ++j) {
    CHECK(std::fabs(std::fabs(basis[order[j] * kWidth + j]) - 1.0) < 1e-9);
  }
}

TEST_CASE("a mean is no part of a covariance, and of a second moment it is", "[convert][basis]") {
  const Square a = RandomMoments(8, 3), b = RandomMoments(8, 3, 100.0);
  for (size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) < 1e-3);
  convert::Moments one(2), other(2);
  const float x[] = {1, 2}, y[] = {3, -4};
  one.Add(x);
  other.Add(y);
  one.Add(other);
  CHECK(one.count() == 2);
  CHECK(one.Second() == Square{5, -5, -5, 10});
  CHECK(one.Covariance() == Square{1, -3, -3, 9});
  CHECK(convert::Moments(2).Covariance() == Square(4, 0.0));
}

TEST_CASE("moments of nothing give a basis all the same", "[convert][basis]") {
  const Square nothing(64, 0.0);
  CHECK(OffOrthogonal(convert::MakeBasis(nothing, nothing, 8), 8) < 1e-12);
  CHECK(OffOrthogonal(convert::MakeBasis(RandomMoments(8, 1), nothing, 8), 8) < 1e-12);
}

TEST_CASE("bases that do not fit the model are refused", "[convert][basis]") {
  test::TempFolder folder;
  convert::Options options;
  options.source = test::GoldenFolder("llama-gqa");
  options.out = folder / "model.hrm";
  const auto refused = [&](std::vector<convert::LayerBases> bases, StatusCode code,
                           const char* text) {
    options.bases = std::move(bases);
    const Status status = convert::Convert(options).status();
    INFO(status.message());
    CHECK(status.code() == code);
    CHECK(std::string(status.message()).find(text) != std::string::npos);
  };
  refused({{}}, StatusCode::kInvalidArgument, "bases for 1 layers, there are 2");
  refused({{}, {{1.0f}, {1.0f}}}, StatusCode::kInvalidArgument, "bases of 1 and 1 numbers");
  options.source = test::GoldenFolder("deepseek-v2");
  const auto layers = convert::Convert([&] {
                        convert::Options plain = options;
                        plain.bases.clear();
                        return plain;
                      }())
                          .Take()
                          .layers;
  refused(std::vector<convert::LayerBases>(layers, {{1.0f}, {1.0f}}), StatusCode::kUnsupported,
          "latent");
}

}  // namespace
}  // namespace headroom
