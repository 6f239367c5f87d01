// Which head gets which cache: the search of `headroom tune`, numbers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headroom::cli {

// One unit (a KV head, or a layer) in one role, measured while all others keep everything.
struct Choice {
  bool possible = false;  // the model takes it, and it saves something
  double bytes = 0;
  double loss = 0;
};
// [unit][role]; role 0 keeps everything and is always possible.
using Choices = std::vector<std::vector<Choice>>;

// An assignment of roles to units and what the sum of its choices predicts.
struct Assignment {
  std::vector<uint8_t> roles;  // [unit]
  double bytes = 0;
  double loss = 0;
};

// The best assignments for falling numbers of bytes, if losses add up: from role 0 everywhere,
// every step gives one unit the role that loses least for each byte it saves (the lower convex
// hulls of all units, merged by slope). Last is the cheapest there is.
std::vector<Assignment> Descend(const Choices& choices);

// Of `path`, for each of `bytes` the first assignment that is not larger; none twice.
std::vector<Assignment> Pick(const std::vector<Assignment>& path, const std::vector<double>& bytes);

// A measured profile: more quality is better, less loss is better.
struct Measured {
  double bytes = 0;
  double quality = 0;
  double loss = 0;
};
// Which of them are worth their bytes: nothing that is not larger has more quality, or as much with
// no more loss. Indices from the largest to the smallest: quality falls, or stays while loss rises.
std::vector<size_t> WorthTheirBytes(const std::vector<Measured>& measured);

}  // namespace headroom::cli
