// Numbers as codes of 8 bits, in double precision: number = (code - zero) * scale
// (arXiv 1712.05877 eq. 1).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace headroom::oracle {

struct CodeSpec {
  double scale = 1;
  int zero = 0;
};

inline double CodeNumber(int code, const CodeSpec& spec) { return (code - spec.zero) * spec.scale; }

// A number's place among the codes before it is rounded, no further out than the last codes.
inline double CodePlace(double number, const CodeSpec& spec) {
  return std::clamp(number / spec.scale + spec.zero, -128.0, 127.0);
}

// The nearest code, of two the even one. Codes count from `zero`: it is the distance to that which
// is even.
inline int Encode(double number, const CodeSpec& spec) {
  const double steps = number / spec.scale;
  const double down = std::floor(steps), part = steps - down;
  const bool up = part > 0.5 || (part == 0.5 && std::fmod(down, 2.0) != 0);
  return static_cast<int>(std::clamp(down + (up ? 1 : 0) + spec.zero, -128.0, 127.0));
}

}  // namespace headroom::oracle
