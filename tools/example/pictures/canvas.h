// A picture in the making, and what a camera would add to it.
#ifndef HEADROOM_TOOLS_EXAMPLE_PICTURES_CANVAS_H_
#define HEADROOM_TOOLS_EXAMPLE_PICTURES_CANVAS_H_

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "example/pictures/draw.h"
#include "example/pictures/figures.h"
#include "example/pictures/numbers.h"

namespace headroom::pictures {

using Colour = std::array<double, 3>;  // red, green, blue: 0 .. 255

// 0 <= hue < 1; `strength` 0 is grey. The luma (0 .. 1, ITU-R BT.601) is met exactly.
Colour ColourOf(double hue, double strength, double luma);
Colour Lightened(Colour colour, double levels);  // or darkened; may leave 0 .. 255

class Canvas {
 public:
  explicit Canvas(const Colour& ground) : pixels_(kSide * kSide, ground) {}

  // Mixes the colour in where the figure covers a pixel, in part at its edge.
  void Paint(const Figure& figure, const Colour& colour);
  void Add(const std::function<double(Point)>& levels);  // to all three channels
  void Blur();                                           // each pixel with its eight neighbours
  // Light times `gain`, and grain of up to so many levels in each channel.
  std::vector<uint8_t> Exposed(double gain, double grain, Random& random) const;

 private:
  std::vector<Colour> pixels_;
};

}  // namespace headroom::pictures

#endif  // HEADROOM_TOOLS_EXAMPLE_PICTURES_CANVAS_H_
