// The generator of labelled pictures: the same pictures everywhere, legible, splits apart.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "tools/example/pictures/draw.h"
#include "tools/example/pictures/numbers.h"

namespace headroom::pictures {
namespace {

// FNV-1a, 64 bits.
uint64_t HashOf(const std::vector<uint8_t>& bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

// Brightness of each pixel, 0 .. 255.
std::vector<int> LumaOf(const std::vector<uint8_t>& picture) {
  std::vector<int> luma;
  for (size_t i = 0; i < picture.size(); i += 3) {
    luma.push_back((299 * picture[i] + 587 * picture[i + 1] + 114 * picture[i + 2]) / 1000);
  }
  return luma;
}

// Share of pixels that stand out from the ground, which fills most of the border of a picture.
double ShareStandingOut(const std::vector<uint8_t>& picture) {
  const std::vector<int> luma = LumaOf(picture);
  std::vector<int> border(luma.begin(), luma.begin() + kSide);
  border.insert(border.end(), luma.end() - kSide, luma.end());
  std::nth_element(border.begin(), border.begin() + kSide, border.end());
  const int ground = border[kSide];
  const auto out =
      std::count_if(luma.begin(), luma.end(), [&](int at) { return std::abs(at - ground) >= 35; });
  return static_cast<double>(out) / static_cast<double>(luma.size());
}

TEST_CASE("pictures are the recorded ones on every machine", "[example][pictures]") {
  uint64_t hash[2] = {0, 0};
  for (const Split split : {Split::kTrain, Split::kHeldOut}) {
    std::vector<uint8_t> all;
    for (uint64_t seed = 0; seed < 2 * kLabelCount; ++seed) {
      const std::vector<uint8_t> picture = DrawPicture(seed, split, nullptr);
      REQUIRE(picture.size() == kPictureBytes);
      all.insert(all.end(), picture.begin(), picture.end());
    }
    hash[split == Split::kHeldOut] = HashOf(all);
  }
  CHECK(hash[0] == 0xa344a18fd02ec202u);
  CHECK(hash[1] == 0xb7b4e73b6a92650eu);
}

TEST_CASE("every label is drawn in its turn, and something is seen", "[example][pictures]") {
  for (uint64_t seed = 0; seed < 4 * kLabelCount; ++seed) {
    uint32_t label = kLabelCount;
    const auto picture = DrawPicture(seed, seed % 3 == 0 ? Split::kHeldOut : Split::kTrain, &label);
    INFO(LabelName(label) << ", seed " << seed);
    CHECK(label == seed % kLabelCount);
    const double share = ShareStandingOut(picture);
    CHECK(share > 0.008);
    CHECK(share < 0.92);
  }
}

TEST_CASE("labels have names of their own", "[example][pictures]") {
  std::set<std::string> names;
  for (uint32_t label = 0; label < kLabelCount; ++label) names.insert(LabelName(label));
  CHECK(names.size() == kLabelCount);
  CHECK(names.count("") == 0);
  CHECK(std::string(LabelName(kDigit0 + 7)) == "digit 7");
  CHECK(std::string(LabelName(kSquareInsideCircle)) == "square inside circle");
}

TEST_CASE("no picture for training has held-out parameters", "[example][pictures]") {
  std::set<uint32_t> cells[2];
  for (uint64_t seed = 0; seed < 40000; ++seed) {
    for (const Split split : {Split::kTrain, Split::kHeldOut}) {
      const Parameters p = ChooseParameters(seed, split);
      CHECK(IsHeldOut(CellOf(p)) == (split == Split::kHeldOut));
      cells[split == Split::kHeldOut].insert(CellOf(p));
    }
  }
  std::vector<uint32_t> both;
  std::set_intersection(cells[0].begin(), cells[0].end(), cells[1].begin(), cells[1].end(),
                        std::back_inserter(both));
  CHECK(both.empty());
  // Every cell belongs to one of them, and about one in eight is held out.
  CHECK(cells[0].size() + cells[1].size() == kCellCount);
  CHECK(cells[1].size() > kCellCount / 10);
  CHECK(cells[1].size() < kCellCount / 6);
}

TEST_CASE("each of the four parameters decides about the cell", "[example][pictures]") {
  const Parameters low{kCircle, 0, 0, 0, 0, 0};
  std::set<uint32_t> cells = {CellOf(low)};
  for (double Parameters::*number :
       {&Parameters::hue, &Parameters::ground_hue, &Parameters::size, &Parameters::rotation}) {
    Parameters high = low;
    high.*number = 0.999999;
    cells.insert(CellOf(high));
    CHECK(CellOf(high) < kCellCount);
  }
  CHECK(cells.size() == 5);
}

TEST_CASE("no two seeds give the same picture", "[example][pictures]") {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 0; seed < 64; ++seed) {
    hashes.insert(HashOf(DrawPicture(seed, Split::kTrain, nullptr)));
    hashes.insert(HashOf(DrawPicture(seed, Split::kHeldOut, nullptr)));
  }
  CHECK(hashes.size() == 128);
}

TEST_CASE("the sine of our own is a sine", "[example][pictures]") {
  for (int i = -700; i <= 700; ++i) {
    const double turns = i / 97.0;
    CHECK(std::abs(Sine(turns) - std::sin(turns * 6.283185307179586)) < 1e-11);
    CHECK(std::abs(Cosine(turns) - std::cos(turns * 6.283185307179586)) < 1e-11);
  }
  CHECK(Floor(-0.25) == -1);
  CHECK(Floor(3) == 3);
}

}  // namespace
}  // namespace headroom::pictures
