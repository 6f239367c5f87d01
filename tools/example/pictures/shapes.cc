// One figure of radius about 1, anywhere in the picture.
#include <utility>

#include "example/pictures/draw.h"
#include "example/pictures/layers.h"

namespace headroom::pictures {
namespace {

constexpr double kSmallest = 19, kLargest = 50;  // radius in pixels
constexpr double kMargin = 3;                    // pixels to the edge of the picture

Figure Star(double inner_radius) {
  Line corners;
  for (int i = 0; i < 10; ++i) {
    corners.push_back(Rotated({0, i % 2 == 0 ? -1 : -inner_radius}, i / 10.0));
  }
  return Polygon(corners);
}

Figure Cross(double half_width) {
  Line corners;
  for (int quarter = 0; quarter < 4; ++quarter) {
    for (const Point p :
         {Point{-half_width, -half_width}, Point{-half_width, -1}, Point{half_width, -1}}) {
      corners.push_back(Rotated(p, quarter / 4.0));
    }
  }
  return Polygon(corners);
}

// A square on its corner with half a disc on each of its upper sides.
Figure Heart() {
  constexpr double kCorner = 0.78, kRadius = kCorner * 0.7071067811865476, kDown = 0.15;
  return Union(
      {Polygon({{0, kDown - kCorner}, {kCorner, kDown}, {0, kDown + kCorner}, {-kCorner, kDown}}),
       Disc({-kCorner / 2, kDown - kCorner / 2}, kRadius),
       Disc({kCorner / 2, kDown - kCorner / 2}, kRadius)});
}

Figure Arrow(double half_width, double half_head) {
  constexpr double kNeck = 0.15;  // where the head begins
  return Polygon({{1, 0},
                  {kNeck, half_head},
                  {kNeck, half_width},
                  {-1, half_width},
                  {-1, -half_width},
                  {kNeck, -half_width},
                  {kNeck, -half_head}});
}

Figure Shape(Label label, double thickness) {  // thickness: 0 .. 1
  switch (label) {
    case kRing:
      return Outlined(Disc({0, 0}, 1), Interpolated(0.16, 0.5, thickness));
    case kTriangle:
      return RegularPolygon(3);
    case kSquare:
      return RegularPolygon(4);
    case kPentagon:
      return RegularPolygon(5);
    case kStar:
      return Star(Interpolated(0.36, 0.5, thickness));
    case kCross:
      return Cross(Interpolated(0.16, 0.36, thickness));
    case kHeart:
      return Heart();
    case kCrescent: {
      const double shift = Interpolated(0.35, 0.6, thickness);
      return Without(Disc({0, 0}, 1), Disc({shift, 0}, 0.85));
    }
    case kArrow:
      return Arrow(Interpolated(0.12, 0.26, thickness), 0.65);
    default:
      return Disc({0, 0}, 1);
  }
}

// An outlined circle would be a ring, the others are too thin for it.
bool MayBeOutlined(Label label) {
  return label == kTriangle || label == kSquare || label == kPentagon || label == kStar ||
         label == kHeart;
}

}  // namespace

double Interpolated(double low, double high, double share) { return low + (high - low) * share; }

Point RandomPlace(double reach_x, double reach_y, Random& random) {
  const auto along = [&](double reach) {
    const double low = reach + kMargin, high = kSide - low;
    return low < high ? random.Between(low, high) : kSide / 2.0;
  };
  const double x = along(reach_x);
  return {x, along(reach_y)};
}

std::vector<Layer> ShapeLayers(const Parameters& p, Random& random) {
  const double radius = Interpolated(kSmallest, kLargest, p.size);
  const Point centre = RandomPlace(radius, radius, random);
  Figure figure = Shape(p.label, random.Unit());
  if (random.Chance(0.25) && MayBeOutlined(p.label)) {
    figure = Outlined(std::move(figure), random.Between(0.16, 0.26));
  }
  return {{Placed(std::move(figure), centre, radius, p.rotation), Ink::kFirst}};
}

}  // namespace headroom::pictures
