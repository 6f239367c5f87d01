// The one place where a result is held against an expectation. NaN never passes by accident, a
// comparison of nothing fails, and the worst error is reported as a share of what was allowed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

namespace headroom::test {

struct Verdict {
  std::string failure;     // empty: accepted so far
  double worst_ratio = 0;  // error / allowance
  uint64_t compared = 0;

  bool accepted() const { return failure.empty() && compared > 0; }
  std::string Why() const {
    return compared == 0 && failure.empty() ? "nothing compared" : failure;
  }

  void Fail(const std::string& why) {
    if (failure.empty()) failure = why;
  }

  // One element. `where` names it by letters ("H 3 D 17"). An allowance must be finite and not
  // negative.
  void Check(double found, double expected, double allowance, const std::string& where) {
    ++compared;
    if (!(allowance >= 0) || std::isinf(allowance)) return Fail(where + ": bad allowance");
    if (std::isnan(expected) || std::isinf(expected)) {
      const bool same = std::isnan(expected) ? std::isnan(found) : found == expected;
      if (!same) Report(found, expected, where, "must be equal");
      return;
    }
    const double ratio =
        std::fabs(found - expected) / (allowance + std::numeric_limits<double>::min());
    if (!(ratio <= worst_ratio)) worst_ratio = ratio;  // also takes NaN
    if (!(ratio <= 1)) Report(found, expected, where, "error / allowance " + std::to_string(ratio));
  }

  void Join(const Verdict& other) {
    compared += other.compared;
    if (!(other.worst_ratio <= worst_ratio)) worst_ratio = other.worst_ratio;
    if (!other.failure.empty()) Fail(other.failure);
  }

 private:
  void Report(double found, double expected, const std::string& where, const std::string& what) {
    char numbers[96];
    std::snprintf(numbers, sizeof(numbers), ": found %.9g, expected %.9g, ", found, expected);
    Fail(where + numbers + what);
  }
};

}  // namespace headroom::test
