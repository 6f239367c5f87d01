// Several things and how they stand to each other.
#include <algorithm>
#include <utility>

#include "example/pictures/layers.h"

namespace headroom::pictures {
namespace {

constexpr double kMostTurned = 0.04;  // of a turn, either way: above stays above

struct Thing {
  bool square;
  Point at;       // from the middle of the scene
  double radius;  // of a square: to its corners
};

Figure FigureOf(const Thing& thing) {
  return thing.square ? Placed(RegularPolygon(4), {0, 0}, 1, 0.125) : Disc({0, 0}, 1);
}

// Moves the scene to a place where all of it is seen. One ink for all, or another from the second
// thing on.
std::vector<Layer> Painted(const std::vector<Thing>& things, double turns, Random& random) {
  double x = 0, y = 0;
  for (const Thing& thing : things) {
    x = std::max(x, Absolute(thing.at.x) + thing.radius);
    y = std::max(y, Absolute(thing.at.y) + thing.radius);
  }
  const Point middle = RandomPlace(x, y, random);
  const Ink others = random.Chance(0.5) ? Ink::kFirst : Ink::kSecond;
  std::vector<Layer> layers;
  for (const Thing& thing : things) {
    const Point at{middle.x + thing.at.x, middle.y + thing.at.y};
    layers.push_back(
        {Placed(FigureOf(thing), at, thing.radius, turns), layers.empty() ? Ink::kFirst : others});
  }
  return layers;
}

// Two things side by side, the first one in this direction from the second.
std::vector<Thing> Pair(double radius, bool square, double direction, Random& random) {
  const double a = radius * random.Between(0.8, 1.2), b = radius * random.Between(0.8, 1.2);
  const double apart = a + b + random.Between(3, square ? 14 : 28);
  const Point half = Rotated({apart / 2, 0}, direction);
  return {{false, half, a}, {square, {-half.x, -half.y}, b}};
}

std::vector<Thing> ThreeCircles(double radius, double direction, Random& random) {
  const bool in_a_row = random.Chance(0.3);
  std::vector<Thing> things;
  for (int i = 0; i < 3; ++i) {
    const double size = radius * random.Between(0.8, 1);
    const double reach = radius * random.Between(2, 2.6);
    const double turns = direction + i / 3.0 + random.Between(-0.05, 0.05);
    const Point around = Rotated({reach, 0}, turns);
    const Point along = Rotated({(i - 1) * reach, 0}, direction);
    things.push_back({false, in_a_row ? along : around, size});
  }
  return things;
}

// One thing within another of the other kind: filled both, or the outer one as a frame.
std::vector<Layer> Nested(bool square_outside, const Parameters& p, double turns, Random& random) {
  const double radius = Interpolated(30, 54, p.size);
  const Point centre = RandomPlace(radius, radius, random);
  const bool frame = random.Chance(0.35);
  Figure outer = FigureOf({square_outside, {0, 0}, 1});
  if (frame) outer = Outlined(std::move(outer), random.Between(0.09, 0.14));
  const double inner = radius * random.Between(0.32, square_outside ? 0.46 : 0.56);
  const double room = radius * (square_outside ? 0.1 : 0.2);
  const Point aside{random.Between(-room, room), random.Between(-room, room)};
  return {{Placed(std::move(outer), centre, radius, turns), Ink::kFirst},
          {Placed(FigureOf({!square_outside, {0, 0}, 1}), {centre.x + aside.x, centre.y + aside.y},
                  inner, turns),
           frame ? Ink::kFirst : Ink::kSecond}};
}

}  // namespace

std::vector<Layer> SceneLayers(const Parameters& p, Random& random) {
  const double turns = Interpolated(-kMostTurned, kMostTurned, p.rotation);
  const double radius = Interpolated(11, 20, p.size);
  switch (p.label) {
    case kTwoCircles:
      return Painted(Pair(radius, false, p.rotation, random), 0, random);
    case kThreeCircles:
      return Painted(ThreeCircles(0.8 * radius, p.rotation, random), 0, random);
    case kCircleAboveSquare:
      return Painted(Pair(radius, true, 0.75 + turns, random), turns, random);
    case kCircleLeftOfSquare:
      return Painted(Pair(radius, true, 0.5 + turns, random), turns, random);
    default:
      return Nested(p.label == kCircleInsideSquare, p, turns, random);
  }
}

}  // namespace headroom::pictures
