#include "example/pictures/draw.h"

#include <utility>

#include "example/pictures/canvas.h"
#include "example/pictures/layers.h"
#include "example/pictures/numbers.h"

namespace headroom::pictures {
namespace {

// Streams of random numbers, so that a change to one does not stir the others.
enum Stream : uint64_t { kPalette, kGround, kLayers, kCamera };

struct Palette {
  Colour ground, first, second;
};

double Apart(double a, double b) { return Absolute(a - b); }

// Legible whatever the hues: the lumas keep apart.
Palette ChoosePalette(const Parameters& p) {
  Random random(p.key, kPalette);
  const double ground = random.Between(0.08, 0.95);
  double first = 0, second = 0;
  do first = random.Between(0.08, 0.95);
  while (Apart(first, ground) < 0.3);
  do second = random.Between(0.03, 0.97);
  while (Apart(second, ground) < 0.18 || Apart(second, first) < 0.18);
  Palette palette;
  palette.ground = ColourOf(p.ground_hue, random.Between(0.3, 1), ground);
  palette.first = ColourOf(p.hue, random.Between(0.3, 1), first);
  const double hue = random.Unit();
  palette.second = ColourOf(hue, random.Between(0.3, 1), second);
  return palette;
}

void AddGradient(Canvas& canvas, Random& random) {
  const double levels = random.Between(15, 45);
  const Point slope = Rotated({levels / kSide, 0}, random.Unit());
  canvas.Add([=](Point p) { return (p.x - kSide / 2) * slope.x + (p.y - kSide / 2) * slope.y; });
}

// Random levels on a grid, interpolated between its knots.
void AddClouds(Canvas& canvas, Random& random) {
  const double grid = random.Between(5, 24), levels = random.Between(8, 18);
  const uint64_t key = random.Next();
  const auto knot = [=](double x, double y) {
    return Random(key, static_cast<uint64_t>(y * 4096 + x)).Between(-levels, levels);
  };
  canvas.Add([=](Point p) {
    const double x = p.x / grid, y = p.y / grid, u = Floor(x), v = Floor(y);
    const double above = Interpolated(knot(u, v), knot(u + 1, v), x - u);
    const double below = Interpolated(knot(u, v + 1), knot(u + 1, v + 1), x - u);
    return Interpolated(above, below, y - v);
  });
}

// Specks and scratches, a few levels from the ground.
void AddClutter(Canvas& canvas, const Colour& ground, Random& random) {
  const uint32_t count = 4 + random.Below(7);
  for (uint32_t i = 0; i < count; ++i) {
    const double sign = random.Chance(0.5) ? 1 : -1;
    const Colour faint = Lightened(ground, sign * random.Between(8, 18));
    const Point a{random.Unit() * kSide, random.Unit() * kSide};
    const double turns = random.Unit(), length = random.Between(0, 50);
    const Point along = Rotated({length, 0}, turns);
    const double half_width = length < 15 ? random.Between(3, 10) : random.Between(0.6, 2);
    canvas.Paint(Strokes({{a, {a.x + along.x, a.y + along.y}}}, half_width), faint);
  }
}

void PaintGround(Canvas& canvas, const Parameters& p, const Colour& ground) {
  Random random(p.key, kGround);
  switch (random.Below(4)) {
    case 0:
      AddGradient(canvas, random);
      break;
    case 1:
      AddClouds(canvas, random);
      break;
    case 2:
      AddClutter(canvas, ground, random);
      break;
    default:
      break;  // flat
  }
}

std::vector<Layer> LayersOf(const Parameters& p) {
  Random random(p.key, kLayers);
  if (p.label < kStripes) return ShapeLayers(p, random);
  if (p.label < kDigit0) return TextureLayers(p, random);
  return p.label <= kDigit9 ? DigitLayers(p, random) : SceneLayers(p, random);
}

std::vector<uint8_t> Photographed(Canvas canvas, uint64_t key) {
  Random random(key, kCamera);
  for (uint32_t blurs = random.Below(4); blurs > 0; --blurs) canvas.Blur();
  const double gain = random.Between(0.75, 1.15);
  const bool grainy = random.Chance(0.6);
  const double grain = random.Between(1, 16);
  return canvas.Exposed(gain, grainy ? grain : 0, random);
}

}  // namespace

std::vector<uint8_t> DrawPicture(uint64_t seed, Split split, uint32_t* label) {
  const Parameters parameters = ChooseParameters(seed, split);
  const Palette palette = ChoosePalette(parameters);
  Canvas canvas(palette.ground);
  PaintGround(canvas, parameters, palette.ground);
  for (const Layer& layer : LayersOf(parameters)) {
    canvas.Paint(layer.figure, layer.ink == Ink::kFirst ? palette.first : palette.second);
  }
  if (label != nullptr) *label = parameters.label;
  return Photographed(std::move(canvas), parameters.key);
}

}  // namespace headroom::pictures
