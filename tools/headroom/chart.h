// Points over a logarithmic axis, as a picture (SVG).
#pragma once

#include <string>
#include <vector>

namespace headroom::cli {

struct ChartTick {
  double value;
  std::string label;
};

struct ChartPoint {
  double x, y;
  std::string label;  // beside the point where there is room; empty: none, the line passes it by
  std::string title;  // shown when the pointer rests on it
};

struct ChartSeries {
  std::string name;  // in its colour, in a list at the right; empty: not listed
  std::vector<ChartPoint> points;
};

struct Chart {
  std::string title, x_title;
  double low_x = 1, high_x = 10;  // x > 0: halving is a step of one length wherever it happens
  double low_y = 0, high_y = 1;
  std::vector<ChartTick> x_ticks, y_ticks;  // those outside the picture are left out
  std::vector<ChartSeries> series;
};

// Control characters made visible, and nothing in it is read as markup.
std::string EscapeMarkup(const std::string& text);

// One above the other.
std::string ChartSvg(const std::vector<Chart>& charts);

}  // namespace headroom::cli
