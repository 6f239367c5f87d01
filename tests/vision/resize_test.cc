// Resize and crop against the bytes that Pillow, torchvision and transformers make
// (tests/golden/make_image_goldens.py).
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <sstream>

#include "tests/vision/scene.h"

namespace headroom {
namespace {

struct GoldenCase {
  std::string line;
  model::PreprocessSpec spec;
  uint32_t height = 0, width = 0;
  size_t begin = 0;
};

std::vector<GoldenCase> ReadCases() {
  using model::ResizeFilter;
  const std::map<std::string, ResizeFilter> filters = {
      {"nearest", ResizeFilter::kNearest},   {"box", ResizeFilter::kBox},
      {"bilinear", ResizeFilter::kBilinear}, {"hamming", ResizeFilter::kHamming},
      {"bicubic", ResizeFilter::kBicubic},   {"lanczos", ResizeFilter::kLanczos}};
  const std::map<std::string, model::ResizeRule> rules = {
      {"none", model::ResizeRule::kNone},
      {"shorter", model::ResizeRule::kShorterSide},
      {"exact", model::ResizeRule::kExact}};
  std::vector<GoldenCase> cases;
  std::istringstream lines(test::ReadGolden("resized.txt"));
  for (std::string line; std::getline(lines, line);) {
    GoldenCase& one = cases.emplace_back();
    one.line = line;
    one.spec.scale = 1.0f;
    std::string filter, rule, rounding;
    std::istringstream(line) >> filter >> rule >> one.spec.resize_height >> one.spec.resize_width >>
        one.spec.crop_height >> one.spec.crop_width >> rounding >> one.height >> one.width >>
        one.begin;
    one.spec.filter = filters.at(filter);
    one.spec.resize = rules.at(rule);
    one.spec.rounding =
        rounding == "even" ? model::CropRounding::kHalfToEven : model::CropRounding::kDown;
  }
  return cases;
}

// How many bytes differ from the golden ones; says the first.
size_t CountWrong(const std::vector<float>& made, const char* golden) {
  size_t wrong = 0;
  for (size_t i = 0; i < made.size(); ++i) {
    const float expected = static_cast<uint8_t>(golden[i]);
    if (made[i] == expected) continue;
    if (wrong++ == 0) UNSCOPED_INFO("number " << i << ": " << made[i] << ", not " << expected);
  }
  return wrong;
}

TEST_CASE("resize and crop give Pillow's bytes with every filter", "[vision][resize]") {
  const std::string golden = test::ReadGolden("resized.bin");
  std::set<std::pair<model::ResizeFilter, model::CropRounding>> seen;
  size_t compared = 0;
  for (const GoldenCase& one : ReadCases()) {
    INFO(one.line);
    const std::vector<uint8_t> scene = test::Scene(one.height, one.width);
    std::vector<float> made;
    const Status status =
        test::RunPreprocess(test::ViewOf(scene, one.height, one.width), one.spec, &made);
    INFO(status.message());
    REQUIRE(status.ok());
    REQUIRE(one.begin + made.size() <= golden.size());
    CHECK(CountWrong(made, &golden[one.begin]) == 0);
    compared += made.size();
    seen.insert({one.spec.filter, one.spec.rounding});
  }
  CHECK(compared == golden.size());
  CHECK(seen.size() == 12);
}

TEST_CASE("turning a picture and resizing it is resizing what was turned", "[vision][resize]") {
  constexpr uint32_t kHeight = 45, kWidth = 71;
  const std::vector<uint8_t> scene = test::Scene(kHeight, kWidth);
  model::PreprocessSpec spec = test::PlainSpec(14, 19);
  spec.resize = model::ResizeRule::kShorterSide;
  spec.resize_height = 23;
  for (const uint32_t rotation : {0u, 90u, 180u, 270u}) {
    for (const bool mirrored : {false, true}) {
      vision::PixelView view = test::ViewOf(scene, kHeight, kWidth);
      view.rotation = rotation;
      view.mirrored = mirrored;
      const std::vector<uint8_t> turned = test::ReadUpright(view);
      std::vector<float> at_once, afterwards;
      REQUIRE(test::RunPreprocess(view, spec, &at_once).ok());
      REQUIRE(test::RunPreprocess(
                  test::ViewOf(turned, vision::UprightHeight(view), vision::UprightWidth(view)),
                  spec, &afterwards)
                  .ok());
      CHECK(at_once == afterwards);
    }
  }
}

}  // namespace
}  // namespace headroom
