#include "example/pictures/canvas.h"

#include <algorithm>
#include <cstddef>

namespace headroom::pictures {
namespace {

constexpr Colour kLuma = {0.299, 0.587, 0.114};

double LumaOf(const Colour& c) { return c[0] * kLuma[0] + c[1] * kLuma[1] + c[2] * kLuma[2]; }

// The corner or edge of the colour cube with this hue, channels 0 .. 1.
Colour PureColour(double hue) {
  Colour c;
  for (int i = 0; i < 3; ++i) {
    const double from_peak = Absolute(Fraction(hue - i / 3.0 + 0.5) - 0.5);
    c[i] = std::clamp(2 - 6 * from_peak, 0.0, 1.0);
  }
  return c;
}

template <typename Each>
void ForEachPixel(const Each& each) {
  size_t i = 0;
  for (uint32_t y = 0; y < kSide; ++y) {
    for (uint32_t x = 0; x < kSide; ++x) each(Point{x + 0.5, y + 0.5}, i++);
  }
}

}  // namespace

Colour ColourOf(double hue, double strength, double luma) {
  Colour c = PureColour(hue);
  const double own = LumaOf(c);
  for (double& channel : c) {
    // Towards black or towards white until the luma is right, then towards grey.
    const double toned =
        luma < own ? channel * luma / own : channel + (1 - channel) * (luma - own) / (1 - own);
    channel = 255 * (luma + (toned - luma) * strength);
  }
  return c;
}

Colour Lightened(Colour colour, double levels) {
  for (double& channel : colour) channel += levels;
  return colour;
}

void Canvas::Paint(const Figure& figure, const Colour& colour) {
  ForEachPixel([&](Point p, size_t i) {
    const double cover = std::clamp(0.5 - figure(p), 0.0, 1.0);
    for (int k = 0; k < 3; ++k) pixels_[i][k] += (colour[k] - pixels_[i][k]) * cover;
  });
}

void Canvas::Add(const std::function<double(Point)>& levels) {
  ForEachPixel([&](Point p, size_t i) { pixels_[i] = Lightened(pixels_[i], levels(p)); });
}

void Canvas::Blur() {
  // Weights 1 2 1 along rows, then along columns; at the edge a pixel is its own neighbour.
  for (const size_t step : {size_t{1}, size_t{kSide}}) {
    const std::vector<Colour> before = pixels_;
    for (size_t i = 0; i < before.size(); ++i) {
      const size_t at = i / step % kSide;
      const Colour& a = before[at == 0 ? i : i - step];
      const Colour& b = before[at == kSide - 1 ? i : i + step];
      for (int k = 0; k < 3; ++k) pixels_[i][k] = (a[k] + 2 * before[i][k] + b[k]) / 4;
    }
  }
}

std::vector<uint8_t> Canvas::Exposed(double gain, double grain, Random& random) const {
  std::vector<uint8_t> bytes;
  bytes.reserve(kPictureBytes);
  for (const Colour& pixel : pixels_) {
    for (const double channel : pixel) {
      const double noise = grain > 0 ? random.Between(-grain, grain) : 0;
      bytes.push_back(static_cast<uint8_t>(std::clamp(channel * gain + noise + 0.5, 0.0, 255.0)));
    }
  }
  return bytes;
}

}  // namespace headroom::pictures
