// Digits as strokes in a box of -0.6 .. 0.6 by -1 .. 1, with slant, width and pen of their own.
#include <utility>

#include "example/pictures/layers.h"

namespace headroom::pictures {
namespace {

constexpr double kSmallest = 22, kLargest = 50;  // half the height in pixels
constexpr double kMostTurned = 0.04;             // of a turn, either way: 6 and 9 stay apart

Line Joined(Line first, const Line& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

using Lines = std::vector<Line>;

Lines Six() { return {Arc({0, 0.42}, 0.52, 0.53, 0, 1), Arc({0.38, 0.42}, 0.9, 1.36, 0.5, 0.74)}; }

Lines Upended(Lines lines) {
  for (Line& line : lines) {
    for (Point& p : line) p = {-p.x, -p.y};
  }
  return lines;
}

Lines One(bool foot) {
  Lines lines = {{{-0.32, -0.58}, {0.06, -0.95}, {0.06, 0.95}}};
  if (foot) lines.push_back({{-0.34, 0.95}, {0.46, 0.95}});
  return lines;
}

Lines Seven(bool bar) {
  Lines lines = {{{-0.55, -0.95}, {0.55, -0.95}, {-0.1, 0.95}}};
  if (bar) lines.push_back({{-0.22, 0.05}, {0.52, 0.05}});
  return lines;
}

Lines Digit(uint32_t digit, bool variant) {
  switch (digit) {
    case 0:
      return {Arc({0, 0}, 0.56, 0.95, 0, 1)};
    case 1:
      return One(variant);
    case 2:
      return {Joined(Arc({0, -0.42}, 0.53, 0.53, 0.52, 1.1), {{-0.55, 0.95}, {0.58, 0.95}})};
    case 3:
      return {Joined(Arc({-0.02, -0.48}, 0.48, 0.47, 0.56, 1.22),
                     Arc({-0.02, 0.46}, 0.54, 0.49, 0.78, 1.44))};
    case 4:
      return {{{0.22, 0.95}, {0.22, -0.95}, {-0.58, 0.38}, {0.58, 0.38}}};
    case 5:
      return {Joined({{0.5, -0.95}, {-0.4, -0.95}, {-0.48, -0.08}},
                     Arc({-0.04, 0.35}, 0.58, 0.6, 0.64, 1.42))};
    case 6:
      return Six();
    case 7:
      return Seven(variant);
    case 8:
      return {Arc({0, -0.5}, 0.42, 0.45, 0, 1), Arc({0, 0.45}, 0.53, 0.5, 0, 1)};
    default:
      return Upended(Six());
  }
}

}  // namespace

std::vector<Layer> DigitLayers(const Parameters& p, Random& random) {
  const double slant = random.Between(-0.3, 0.15), width = random.Between(0.75, 1.1);
  Lines lines = Digit(p.label - kDigit0, random.Chance(0.5));
  for (Line& line : lines) {
    for (Point& at : line) at.x = at.x * width + at.y * slant;
  }
  const double half_height = Interpolated(kSmallest, kLargest, p.size);
  const double pen = random.Between(0.07, 0.17);
  const Point centre = RandomPlace(0.85 * half_height, (1 + pen) * half_height, random);
  const double turns = Interpolated(-kMostTurned, kMostTurned, p.rotation);
  return {{Placed(Strokes(std::move(lines), pen), centre, half_height, turns), Ink::kFirst}};
}

}  // namespace headroom::pictures
