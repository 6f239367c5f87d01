// Numbers that are the same on every machine: no library function whose last bit may differ, only
// sums, products, quotients and square roots of doubles, which IEEE 754 fixes. The folder is
// compiled without fused multiply-add (CMakeLists.txt).
#ifndef HEADROOM_TOOLS_EXAMPLE_PICTURES_NUMBERS_H_
#define HEADROOM_TOOLS_EXAMPLE_PICTURES_NUMBERS_H_

#include <cfloat>
#include <cstdint>

namespace headroom::pictures {

static_assert(FLT_EVAL_METHOD == 0, "doubles must be computed as doubles");

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on each
// bit of x.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Counter-based: the n-th number follows from (key, stream, n) alone. Arguments of a call are
// evaluated in any order, so draw each number in a statement or a braced list of its own.
class Random {
 public:
  Random(uint64_t key, uint64_t stream) : key_(Mix(key + kStep * Mix(stream + kStep))) {}

  uint64_t Next() { return Mix(key_ + kStep * ++count_); }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // 0 <= result < 1
  double Between(double low, double high) { return low + (high - low) * Unit(); }
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(Next() % limit); }
  bool Chance(double share) { return Unit() < share; }

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  uint64_t key_;
  uint64_t count_ = 0;
};

double Floor(double x);     // -2^62 < x < 2^62
double Fraction(double x);  // x - Floor(x)
double Sine(double turns);  // of an angle in turns, within 1e-11
double Cosine(double turns);

}  // namespace headroom::pictures

#endif  // HEADROOM_TOOLS_EXAMPLE_PICTURES_NUMBERS_H_
