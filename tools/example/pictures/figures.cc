#include "example/pictures/figures.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "example/pictures/numbers.h"

namespace headroom::pictures {
namespace {

double SquaredLength(Point p) { return p.x * p.x + p.y * p.y; }

double SquaredDistanceToSegment(Point p, Point a, Point b) {
  const Point along{b.x - a.x, b.y - a.y}, from{p.x - a.x, p.y - a.y};
  const double length = SquaredLength(along);
  const double dot = from.x * along.x + from.y * along.y;
  const double share = length > 0 ? std::clamp(dot / length, 0.0, 1.0) : 0;
  return SquaredLength({from.x - share * along.x, from.y - share * along.y});
}

// Whether a ray from p to the right crosses the segment; an odd number of crossings is inside.
bool RayCrosses(Point p, Point a, Point b) {
  if ((a.y > p.y) == (b.y > p.y)) return false;
  return p.x < a.x + (b.x - a.x) * (p.y - a.y) / (b.y - a.y);
}

}  // namespace

double Length(Point p) { return std::sqrt(SquaredLength(p)); }

double Absolute(double x) { return x < 0 ? -x : x; }

Point Rotated(Point p, double turns) {
  const double s = Sine(turns), c = Cosine(turns);
  return {c * p.x - s * p.y, s * p.x + c * p.y};
}

Figure Disc(Point centre, double radius) {
  return [=](Point p) { return Length({p.x - centre.x, p.y - centre.y}) - radius; };
}

Figure Polygon(Line corners) {
  return [corners = std::move(corners)](Point p) {
    double nearest = SquaredDistanceToSegment(p, corners.back(), corners.front());
    bool inside = RayCrosses(p, corners.back(), corners.front());
    for (size_t i = 1; i < corners.size(); ++i) {
      nearest = std::min(nearest, SquaredDistanceToSegment(p, corners[i - 1], corners[i]));
      inside ^= RayCrosses(p, corners[i - 1], corners[i]);
    }
    return inside ? -std::sqrt(nearest) : std::sqrt(nearest);
  };
}

Figure RegularPolygon(int corners) {
  Line line;
  for (int i = 0; i < corners; ++i) {
    line.push_back(Rotated({0, -1}, static_cast<double>(i) / corners));
  }
  return Polygon(std::move(line));
}

Figure Strokes(std::vector<Line> lines, double half_width) {
  return [lines = std::move(lines), half_width](Point p) {
    double nearest = SquaredLength({p.x - lines[0][0].x, p.y - lines[0][0].y});
    for (const Line& line : lines) {
      for (size_t i = 1; i < line.size(); ++i) {
        nearest = std::min(nearest, SquaredDistanceToSegment(p, line[i - 1], line[i]));
      }
    }
    return std::sqrt(nearest) - half_width;
  };
}

Line Arc(Point centre, double width, double height, double from, double to) {
  const int pieces = 2 + static_cast<int>(Absolute(to - from) * 22);
  Line line;
  for (int i = 0; i <= pieces; ++i) {
    const double turns = from + (to - from) * i / pieces;
    line.push_back({centre.x + width * Cosine(turns), centre.y + height * Sine(turns)});
  }
  return line;
}

Figure Union(std::vector<Figure> figures) {
  return [figures = std::move(figures)](Point p) {
    double nearest = figures[0](p);
    for (size_t i = 1; i < figures.size(); ++i) nearest = std::min(nearest, figures[i](p));
    return nearest;
  };
}

Figure Without(Figure figure, Figure hole) {
  return [figure = std::move(figure), hole = std::move(hole)](Point p) {
    return std::max(figure(p), -hole(p));
  };
}

Figure Outlined(Figure figure, double width) {
  return [figure = std::move(figure), width](Point p) {
    return Absolute(figure(p) + width / 2) - width / 2;
  };
}

Figure Placed(Figure figure, Point centre, double scale, double turns) {
  const double s = Sine(turns), c = Cosine(turns);
  return [=, figure = std::move(figure)](Point p) {
    const double x = (p.x - centre.x) / scale, y = (p.y - centre.y) / scale;
    return scale * figure({c * x + s * y, c * y - s * x});
  };
}

}  // namespace headroom::pictures
