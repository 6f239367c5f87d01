// The comparer must reject what a broken kernel produces.
#include "support/compare.h"

#include <catch2/catch_test_macros.hpp>

namespace headroom::test {
namespace {

Verdict One(double found, double expected, double allowance) {
  Verdict verdict;
  verdict.Check(found, expected, allowance, "x");
  return verdict;
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST_CASE("the comparer accepts errors up to the allowance and reports their share", "[support]") {
  CHECK(One(1.0, 1.0, 0.0).accepted());
  const Verdict half = One(1.5, 1.0, 1.0);
  CHECK(half.accepted());
  CHECK(half.worst_ratio == 0.5);
  CHECK(One(2.0, 1.0, 1.0).accepted());
}

TEST_CASE("the comparer rejects larger errors of either sign", "[support]") {
  CHECK_FALSE(One(2.1, 1.0, 1.0).accepted());
  CHECK_FALSE(One(-0.1, 1.0, 1.0).accepted());
  CHECK_FALSE(One(-1.0, -2.0, 0.5).accepted());
  CHECK_FALSE(One(0.0, -2.0, 0.5).accepted());
  CHECK_FALSE(One(1e-30, 0.0, 0.0).accepted());
}

TEST_CASE("the comparer rejects NaN and infinity where numbers are expected", "[support]") {
  CHECK_FALSE(One(kNaN, 2.0, 1.0).accepted());
  CHECK_FALSE(One(INFINITY, 2.0, 1.0).accepted());
  CHECK_FALSE(One(-INFINITY, 2.0, 1.0).accepted());
}

TEST_CASE("the comparer wants the very infinity or NaN that is expected", "[support]") {
  CHECK(One(-INFINITY, -INFINITY, 1.0).accepted());
  CHECK_FALSE(One(INFINITY, -INFINITY, 1.0).accepted());
  CHECK_FALSE(One(3.0, INFINITY, 1.0).accepted());
  CHECK(One(kNaN, kNaN, 1.0).accepted());
  CHECK_FALSE(One(3.0, kNaN, 1.0).accepted());
}

TEST_CASE("the comparer rejects senseless allowances", "[support]") {
  CHECK_FALSE(One(1.0, 1.0, -1.0).accepted());
  CHECK_FALSE(One(1.0, 1.0, kNaN).accepted());
  CHECK_FALSE(One(1.0, 2.0, INFINITY).accepted());
}

TEST_CASE("a comparison of nothing is a failure", "[support]") {
  CHECK_FALSE(Verdict().accepted());
  CHECK(Verdict().Why() == "nothing compared");
}

TEST_CASE("joined verdicts keep the first failure and the worst ratio", "[support]") {
  Verdict all = One(1.2, 1.0, 1.0);
  all.Join(One(5.0, 1.0, 1.0));
  all.Join(One(9.0, 1.0, 1.0));
  CHECK_FALSE(all.accepted());
  CHECK(all.worst_ratio == 8.0);
  CHECK(all.compared == 3);
  CHECK(all.failure.find("found 5") != std::string::npos);
}

}  // namespace
}  // namespace headroom::test
