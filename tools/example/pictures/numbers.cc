#include "example/pictures/numbers.h"

namespace headroom::pictures {

double Floor(double x) {
  const double whole = static_cast<double>(static_cast<int64_t>(x));
  return whole > x ? whole - 1 : whole;
}

double Fraction(double x) { return x - Floor(x); }

double Sine(double turns) {
  double t = Fraction(turns);  // 0 .. 1
  const double sign = t < 0.5 ? 1 : -1;
  if (t >= 0.5) t -= 0.5;     // half a turn on, the sign turns
  if (t > 0.25) t = 0.5 - t;  // symmetric about the quarter
  const double x = t * 6.283185307179586;
  // The series x - x^3/3! + x^5/5! - ... from its last term inwards.
  double sum = 1;
  for (int n = 16; n >= 2; n -= 2) sum = 1 - sum * (x * x) / (n * (n + 1));
  return sign * x * sum;
}

double Cosine(double turns) { return Sine(turns + 0.25); }

}  // namespace headroom::pictures
