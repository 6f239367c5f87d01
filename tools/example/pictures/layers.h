// What is painted onto the ground of a picture, by group of labels. Figures come in pixels.
#ifndef HEADROOM_TOOLS_EXAMPLE_PICTURES_LAYERS_H_
#define HEADROOM_TOOLS_EXAMPLE_PICTURES_LAYERS_H_

#include <vector>

#include "example/pictures/figures.h"
#include "example/pictures/numbers.h"
#include "example/pictures/parameters.h"

namespace headroom::pictures {

// The ground's colour is not among them. kSecond stands out from the ground and from kFirst.
enum class Ink { kFirst, kSecond };

struct Layer {
  Figure figure;
  Ink ink;
};

// In the order of painting.
std::vector<Layer> ShapeLayers(const Parameters& parameters, Random& random);
std::vector<Layer> TextureLayers(const Parameters& parameters, Random& random);
std::vector<Layer> DigitLayers(const Parameters& parameters, Random& random);
std::vector<Layer> SceneLayers(const Parameters& parameters, Random& random);

// A place where something that reaches this far from its middle stays inside of the picture.
Point RandomPlace(double reach_x, double reach_y, Random& random);
double Interpolated(double low, double high, double share);

}  // namespace headroom::pictures

#endif  // HEADROOM_TOOLS_EXAMPLE_PICTURES_LAYERS_H_
