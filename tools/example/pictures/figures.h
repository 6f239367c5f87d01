// Figures as signed distances: how far a point lies outside (positive) or inside (negative) of the
// edge. Units are those of the points; y points down. Angles are in turns, clockwise as seen.
#ifndef HEADROOM_TOOLS_EXAMPLE_PICTURES_FIGURES_H_
#define HEADROOM_TOOLS_EXAMPLE_PICTURES_FIGURES_H_

#include <functional>
#include <vector>

namespace headroom::pictures {

struct Point {
  double x, y;
};
using Line = std::vector<Point>;  // points joined by straight segments
using Figure = std::function<double(Point)>;

Point Rotated(Point p, double turns);
double Length(Point p);
double Absolute(double x);

Figure Disc(Point centre, double radius);
Figure Polygon(Line corners);        // closed by itself, any order
Figure RegularPolygon(int corners);  // around 0, radius 1, the first corner on top
// Round pens of this half width along the lines.
Figure Strokes(std::vector<Line> lines, double half_width);
// Part of an ellipse, from one angle to the other; angle 0 is to the right, 0.25 below.
Line Arc(Point centre, double width, double height, double from, double to);

Figure Union(std::vector<Figure> figures);
Figure Without(Figure figure, Figure hole);
Figure Outlined(Figure figure, double width);  // its inner edge alone
// Scaled and rotated about 0, then moved: from units of the figure to pixels.
Figure Placed(Figure figure, Point centre, double scale, double turns);

}  // namespace headroom::pictures

#endif  // HEADROOM_TOOLS_EXAMPLE_PICTURES_FIGURES_H_
