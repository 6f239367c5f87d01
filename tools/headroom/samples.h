// Repeated measurements and the two numbers people want of them.
#pragma once

#include <algorithm>
#include <vector>

namespace headroom::cli {

// Median; 0 of nothing.
inline double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Largest distance of a sample from the median: with the handful of repetitions of a benchmark an
// honest spread, where a standard deviation would be a guess.
inline double Spread(const std::vector<double>& values) {
  const double middle = Median(values);
  double largest = 0;
  for (const double value : values)
    largest = std::max(largest, std::max(value - middle, middle - value));
  return largest;
}

}  // namespace headroom::cli
