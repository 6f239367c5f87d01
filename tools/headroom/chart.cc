#include "headroom/chart.h"

#include <algorithm>
#include <cmath>

#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr double kWidth = 760, kHeight = 380;  // of one chart
constexpr double kLeft = 64, kRight = 24, kTop = 24, kBottom = 48;
constexpr double kLabelHeight = 14, kLetterWidth = 7;
// Where a label may stand below (or above) its point, best first.
constexpr double kLabelPlaces[] = {20, 34, -10, 48, -24};
constexpr size_t kColours = 6;
constexpr char kStyle[] =
    "svg{font:12px system-ui,sans-serif}text{fill:#444}.grid{stroke:#ddd}.left{fill:#bbb}"
    "polyline[class]{fill:none;stroke-width:1.5}"
    ".c0{fill:#0b66c3;stroke:#0b66c3}.c1{fill:#c2410c;stroke:#c2410c}"
    ".c2{fill:#15803d;stroke:#15803d}.c3{fill:#7e22ce;stroke:#7e22ce}"
    ".c4{fill:#a16207;stroke:#a16207}.c5{fill:#be185d;stroke:#be185d}"
    "text[class]{stroke:none}";

// "c0" to "c5": series beyond these begin again.
std::string Colour(size_t series) { return "c" + std::to_string(series % kColours); }

class Picture {
 public:
  Picture(const Chart& chart, double top) : chart_(chart), top_(top + kTop) {}

  std::string Draw() {
    Grid();
    Text(kLeft, top_ - 10, "", chart_.title);
    Text((kLeft + kWidth - kRight) / 2, top_ + kInner + 40, "middle", chart_.x_title);
    for (size_t i = 0; i < chart_.series.size(); ++i) Series(i);
    return std::move(svg_);
  }

 private:
  static constexpr double kInner = kHeight - kTop - kBottom;

  double X(double x) const {
    const double part = std::log(x / chart_.low_x) / std::log(chart_.high_x / chart_.low_x);
    return kLeft + part * (kWidth - kLeft - kRight);
  }
  double Y(double y) const {
    return top_ + kInner * (chart_.high_y - y) / (chart_.high_y - chart_.low_y);
  }

  void Text(double x, double y, const char* anchor, const std::string& text,
            const std::string& colour = "") {
    svg_ += Format("<text x=\"%.1f\" y=\"%.1f\"", x, y);
    if (*anchor != '\0') svg_ += Format(" text-anchor=\"%s\"", anchor);
    if (!colour.empty()) svg_ += " class=\"" + colour + "\"";
    svg_ += ">" + EscapeMarkup(text) + "</text>";
  }
  void Line(double x0, double y0, double x1, double y1) {
    svg_ += Format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>", x0, y0,
                   x1, y1);
  }

  void Grid() {
    for (const ChartTick& tick : chart_.y_ticks) {
      if (tick.value < chart_.low_y || tick.value > chart_.high_y) continue;
      const double y = Y(tick.value);
      Line(kLeft, y, kWidth - kRight, y);
      Text(kLeft - 8, y + 4, "end", tick.label);
    }
    for (const ChartTick& tick : chart_.x_ticks) {
      if (tick.value < chart_.low_x || tick.value > chart_.high_x) continue;
      const double x = X(tick.value);
      Line(x, top_, x, top_ + kInner);
      Text(x, top_ + kInner + 18, "middle", tick.label);
    }
  }

  void Series(size_t number) {
    const ChartSeries& series = chart_.series[number];
    std::string line;
    for (const ChartPoint& point : series.points) {
      if (!point.label.empty()) line += Format("%.1f,%.1f ", X(point.x), Y(point.y));
    }
    svg_ += "<polyline class=\"" + Colour(number) + "\" points=\"" + line + "\"/>";
    for (const ChartPoint& point : series.points) Point(point, Colour(number));
    if (series.name.empty()) return;
    Text(kWidth - kRight, top_ + kInner - 10 - 18.0 * static_cast<double>(number), "end",
         series.name, Colour(number));
  }

  void Point(const ChartPoint& point, const std::string& colour) {
    const double x = X(point.x), y = Y(point.y);
    const bool left = point.label.empty();
    svg_ += Format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%d\" class=\"%s\"><title>", x, y,
                   left ? 3 : 5, left ? "left" : colour.c_str());
    svg_ += EscapeMarkup(point.title) + "</title></circle>";
    if (!left) Label(x - 4, y, point.label, colour);
  }

  // Where no other label stands; nowhere, where all places are taken: the title still says it.
  void Label(double x, double y, const std::string& label, const std::string& colour) {
    const double width = kLetterWidth * static_cast<double>(label.size());
    for (const double place : kLabelPlaces) {
      const Box box = {x, y + place, width};
      if (box.y < top_ + kLabelHeight ||
          std::any_of(labels_.begin(), labels_.end(),
                      [&](const Box& other) { return box.Meets(other); })) {
        continue;
      }
      labels_.push_back(box);
      return Text(x, box.y, "", label, colour);
    }
  }

  struct Box {
    double x, y, width;
    bool Meets(const Box& other) const {
      return x < other.x + other.width && other.x < x + width &&
             std::abs(y - other.y) < kLabelHeight;
    }
  };

  const Chart& chart_;
  double top_;
  std::vector<Box> labels_;
  std::string svg_;
};

}  // namespace

std::string EscapeMarkup(const std::string& text) {
  std::string out;
  for (const char c : EscapeControls(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string ChartSvg(const std::vector<Chart>& charts) {
  const double height = kHeight * static_cast<double>(charts.size());
  std::string svg =
      Format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\">",
             kWidth, height, kWidth);
  svg += "<style>" + std::string(kStyle) + "</style>";
  svg += "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>";
  double top = 0;
  for (const Chart& chart : charts) {
    svg += Picture(chart, top).Draw();
    top += kHeight;
  }
  return svg + "</svg>\n";
}

}  // namespace headroom::cli
