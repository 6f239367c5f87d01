// Patterns over the whole picture. `u` and `v` are pixels along and across, rotated.
#include <algorithm>

#include "example/pictures/draw.h"
#include "example/pictures/layers.h"

namespace headroom::pictures {
namespace {

constexpr double kFinest = 11, kCoarsest = 28;  // pixels from one repetition to the next

// Distance from x to the nearest multiple of the period.
double FromMultiple(double x, double period) {
  const double share = Fraction(x / period);
  return period * std::min(share, 1 - share);
}

// Signed and half a period wide on each side; crosses 0 at the multiples of half the period.
double Wave(double x, double period) { return FromMultiple(x, period) - period / 4; }

Figure Stripes(double period, double duty) {
  return [=](Point p) { return FromMultiple(p.x, period) - period * duty / 2; };
}

Figure Checks(double period) {
  return [=](Point p) {
    const double a = Wave(p.x, 2 * period), b = Wave(p.y, 2 * period);
    const double nearest = std::min(Absolute(a), Absolute(b));
    return (a < 0) == (b < 0) ? nearest : -nearest;
  };
}

// In rows; every second row may stand half a step aside.
Figure Dots(double period, double duty, bool aside) {
  return [=](Point p) {
    const double row = Floor(p.y / period);
    const double shift = aside && Fraction(row / 2) > 0 ? period / 2 : 0;
    return Length({FromMultiple(p.x + shift, period), (Fraction(p.y / period) - 0.5) * period}) -
           period * Interpolated(0.22, 0.38, duty);
  };
}

Figure Bricks(double height, double joint) {
  return [=](Point p) {
    const double row = Floor(p.y / height), width = 2.2 * height;
    const double shift = Fraction(row / 2) > 0 ? width / 2 : 0;
    return joint - std::min(FromMultiple(p.x + shift, width), FromMultiple(p.y, height));
  };
}

Figure Waves(double period, double duty, double bend) {
  const double length = 3 * period, height = bend * period;
  // On the flanks lines lie closer together than they do along y; this evens their edges.
  const double steep = 1 + 3 * height / length;
  return [=](Point p) {
    const double x = p.y + height * Sine(p.x / length);
    return (FromMultiple(x, period) - period * duty / 2) / steep;
  };
}

Figure Rings(double period, double duty) {
  return [=](Point p) { return FromMultiple(Length(p), period) - period * duty / 2; };
}

Figure Texture(Label label, double period, Random& random) {
  const double duty = random.Between(0.35, 0.65);
  const double other = random.Unit();
  switch (label) {
    case kStripes:
      return Stripes(period, duty);
    case kChecks:
      return Checks(period);
    case kDots:
      return Dots(period, other, duty < 0.5);
    case kBricks:
      return Bricks(period, Interpolated(0.8, 1.4, other));
    case kWaves:
      return Waves(period, duty, Interpolated(0.45, 0.75, other));
    default:
      return Rings(period, duty);
  }
}

}  // namespace

std::vector<Layer> TextureLayers(const Parameters& p, Random& random) {
  const double x = random.Between(0.3, 0.7) * kSide;
  const double y = random.Between(0.3, 0.7) * kSide;
  const Figure texture = Texture(p.label, Interpolated(kFinest, kCoarsest, p.size), random);
  return {{Placed(texture, {x, y}, 1, p.rotation), Ink::kFirst}};
}

}  // namespace headroom::pictures
