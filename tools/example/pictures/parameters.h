// What decides a picture: its label, and the four numbers by which pictures are held out.
#ifndef HEADROOM_TOOLS_EXAMPLE_PICTURES_PARAMETERS_H_
#define HEADROOM_TOOLS_EXAMPLE_PICTURES_PARAMETERS_H_

#include <cstdint>

namespace headroom::pictures {

// In the order of labels.txt; groups by what draws them.
enum Label : uint32_t {
  // shapes.cc
  kCircle,
  kRing,
  kTriangle,
  kSquare,
  kPentagon,
  kStar,
  kCross,
  kHeart,
  kCrescent,
  kArrow,
  // textures.cc
  kStripes,
  kChecks,
  kDots,
  kBricks,
  kWaves,
  kRings,
  // digits.cc
  kDigit0,
  kDigit9 = kDigit0 + 9,
  // scenes.cc
  kTwoCircles,
  kThreeCircles,
  kCircleAboveSquare,
  kCircleLeftOfSquare,
  kCircleInsideSquare,
  kSquareInsideCircle,
  kLabelCount,
};

const char* LabelName(uint32_t label);  // label < kLabelCount

enum class Split { kTrain, kHeldOut };

struct Parameters {
  Label label;
  // All 0 <= x < 1. `size` and `rotation` say where in the range of its label a drawing lies.
  double hue, ground_hue, size, rotation;
  uint64_t key;  // of every further choice: place, shades, thickness, noise
};

// The four numbers, cut into 8 * 8 * 4 * 4 cells. One cell in eight, chosen by a hash, is held out:
// no picture for training has its combination of colours, size and rotation, whatever its label.
inline constexpr uint32_t kCellCount = 1024;
uint32_t CellOf(const Parameters& parameters);
bool IsHeldOut(uint32_t cell);

// Labels take turns: seed modulo kLabelCount.
Parameters ChooseParameters(uint64_t seed, Split split);

}  // namespace headroom::pictures

#endif  // HEADROOM_TOOLS_EXAMPLE_PICTURES_PARAMETERS_H_
