#include "example/pictures/parameters.h"

#include "example/pictures/numbers.h"

namespace headroom::pictures {
namespace {

constexpr const char* kNames[] = {
    "circle",
    "ring",
    "triangle",
    "square",
    "pentagon",
    "star",
    "cross",
    "heart",
    "crescent",
    "arrow",
    "stripes",
    "checks",
    "dots",
    "bricks",
    "waves",
    "concentric rings",
    "digit 0",
    "digit 1",
    "digit 2",
    "digit 3",
    "digit 4",
    "digit 5",
    "digit 6",
    "digit 7",
    "digit 8",
    "digit 9",
    "two circles",
    "three circles",
    "circle above square",
    "circle left of square",
    "circle inside square",
    "square inside circle",
};
static_assert(sizeof(kNames) / sizeof(kNames[0]) == kLabelCount);

constexpr uint32_t kHueBands = 8, kSizeBands = 4, kRotationBands = 4;
static_assert(kHueBands * kHueBands * kSizeBands * kRotationBands == kCellCount);

// Streams of random numbers; draw.cc has its own.
constexpr uint64_t kChoice[] = {0x747261696e, 0x68656c64};  // by split

uint32_t Band(double x, uint32_t bands) { return static_cast<uint32_t>(x * bands); }

}  // namespace

const char* LabelName(uint32_t label) { return kNames[label]; }

uint32_t CellOf(const Parameters& p) {
  uint32_t cell = Band(p.hue, kHueBands);
  cell = cell * kHueBands + Band(p.ground_hue, kHueBands);
  cell = cell * kSizeBands + Band(p.size, kSizeBands);
  return cell * kRotationBands + Band(p.rotation, kRotationBands);
}

bool IsHeldOut(uint32_t cell) { return Mix(cell + 1) % 8 == 0; }

Parameters ChooseParameters(uint64_t seed, Split split) {
  Random random(seed, kChoice[split == Split::kHeldOut]);
  Parameters p{};
  p.label = static_cast<Label>(seed % kLabelCount);
  do {
    p.hue = random.Unit();
    p.ground_hue = random.Unit();
    p.size = random.Unit();
    p.rotation = random.Unit();
  } while (IsHeldOut(CellOf(p)) != (split == Split::kHeldOut));
  p.key = random.Next();
  return p;
}

}  // namespace headroom::pictures
