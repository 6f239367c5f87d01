// What a model's numbers say, the scratch, refusals.
#include "vision/preprocess.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "tests/support/guarded_memory.h"
#include "tests/vision/scene.h"

namespace headroom {
namespace {

using model::PreprocessSpec;
using model::ResizeRule;

PreprocessSpec Published() {
  PreprocessSpec spec = test::PlainSpec(9, 11);
  spec.scale = 1.0f / 255.0f;
  const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
  std::copy_n(mean, 3, spec.mean);
  std::copy_n(deviation, 3, spec.deviation);
  return spec;
}

TEST_CASE("pixels are scaled, then mean and deviation are taken off by channel",
          "[vision][preprocess]") {
  const std::vector<uint8_t> scene = test::Scene(9, 11);
  for (const bool bgr : {false, true}) {
    PreprocessSpec spec = Published();
    spec.bgr = bgr;
    std::vector<float> made;
    REQUIRE(test::RunPreprocess(test::ViewOf(scene, 9, 11), spec, &made).ok());
    size_t wrong = 0;
    for (size_t i = 0; i < made.size(); ++i) {
      const size_t channel = i % 3, from = i - channel + (bgr ? 2 - channel : channel);
      const float expected = (static_cast<float>(scene[from]) * spec.scale - spec.mean[channel]) /
                             spec.deviation[channel];
      if (made[i] != expected) ++wrong;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("padding is black and normalised like any pixel", "[vision][preprocess]") {
  const std::vector<uint8_t> white(3 * 4 * 4, 255);
  PreprocessSpec spec = Published();
  spec.crop_height = spec.crop_width = 7;  // an odd difference: one row above, two below
  std::vector<float> made;
  REQUIRE(test::RunPreprocess(test::ViewOf(white, 4, 4), spec, &made).ok());
  for (uint32_t y = 0; y < 7; ++y) {
    for (uint32_t x = 0; x < 7; ++x) {
      const bool inside = y >= 1 && y < 5 && x >= 1 && x < 5;
      INFO(y << ", " << x);
      CHECK((made[(y * 7 + x) * 3] > 0.0f) == inside);
      CHECK(made[(y * 7 + x) * 3] != -1.0f);
    }
  }
  spec.rounding = model::CropRounding::kDown;
  CHECK(test::RunPreprocess(test::ViewOf(white, 4, 4), spec, &made).code() ==
        StatusCode::kUnsupported);
}

std::vector<PreprocessSpec> SpecsOfAllKinds() {
  std::vector<PreprocessSpec> specs;
  for (const auto rule : {ResizeRule::kNone, ResizeRule::kShorterSide, ResizeRule::kExact}) {
    for (const auto filter : {model::ResizeFilter::kNearest, model::ResizeFilter::kBox,
                              model::ResizeFilter::kLanczos}) {
      for (const uint32_t side : {1u, 6u, 40u}) {
        PreprocessSpec spec = test::PlainSpec(8, 5);
        spec.resize = rule;
        spec.filter = filter;
        spec.resize_height = side;
        spec.resize_width = side * 2 + 1;
        specs.push_back(spec);
      }
    }
  }
  return specs;
}

constexpr std::pair<uint32_t, uint32_t> kShapes[] = {{1, 1},   {37, 53}, {53, 37},  {3, 301},
                                                     {301, 3}, {500, 2}, {1, 1200}, {1200, 1}};

// The call's own word on what it needs: the smallest scratch that it does not refuse.
uint64_t Needed(const vision::PixelView& view, const PreprocessSpec& spec) {
  std::vector<float> out(size_t{3} * spec.crop_height * spec.crop_width);
  const Status status = vision::Preprocess(view, spec, {}, out);
  if (status.code() == StatusCode::kUnsupported) return 0;
  REQUIRE(status.code() == StatusCode::kBufferTooSmall);
  const std::string message = status.message();
  return std::stoull(message.substr(message.find('<') + 1));
}

TEST_CASE("the bound on scratch holds for every smaller picture, however turned",
          "[vision][preprocess]") {
  const std::vector<uint8_t> memory(3 * 1200 * 500);
  for (const PreprocessSpec& spec : SpecsOfAllKinds()) {
    for (const auto& [height, width] : kShapes) {
      for (const uint32_t rotation : {0u, 90u}) {
        vision::PixelView view = test::ViewOf(memory, height, width);
        view.rotation = rotation;
        const uint64_t needed = Needed(view, spec);
        for (const auto& [more_height, more_width] : kShapes) {
          if (more_height < height || more_width < width) continue;
          CHECK(needed <= vision::PreprocessScratchBytes(spec, more_width, more_height));
        }
      }
    }
  }
}

TEST_CASE("the bound on scratch never falls when a side grows", "[vision][preprocess]") {
  for (const PreprocessSpec& spec : SpecsOfAllKinds()) {
    size_t falls = 0;
    for (uint32_t side = 1; side < 400; ++side) {
      const uint64_t bytes = vision::PreprocessScratchBytes(spec, side, 100);
      if (vision::PreprocessScratchBytes(spec, side + 1, 100) < bytes) ++falls;
      if (vision::PreprocessScratchBytes(spec, side, 101) < bytes) ++falls;
    }
    CHECK(falls == 0);
  }
}

TEST_CASE("nothing is written outside scratch and output", "[vision][preprocess]") {
  for (const PreprocessSpec& spec : SpecsOfAllKinds()) {
    for (const auto& [height, width] : kShapes) {
      const std::vector<uint8_t> scene = test::Scene(height, width);
      const vision::PixelView view = test::ViewOf(scene, height, width);
      const uint64_t needed = Needed(view, spec);
      if (needed == 0) continue;
      const size_t numbers = size_t{3} * spec.crop_height * spec.crop_width;
      test::GuardedMemory scratch(needed), out(numbers * sizeof(float), alignof(float));
      std::span<float> written(out.as<float>(), numbers);
      std::fill(written.begin(), written.end(), -1.0f);
      std::fill_n(scratch.data(), needed, std::byte{0xff});
      REQUIRE(vision::Preprocess(view, spec, {scratch.data(), needed}, written).ok());
      CHECK(std::count(written.begin(), written.end(), -1.0f) == 0);
      CHECK(vision::Preprocess(view, spec, {scratch.data() + 1, needed - 1}, written).code() ==
            StatusCode::kBufferTooSmall);
    }
  }
}

TEST_CASE("scratch may begin anywhere", "[vision][preprocess]") {
  const std::vector<uint8_t> scene = test::Scene(40, 30);
  PreprocessSpec spec = test::PlainSpec(8, 8);
  spec.resize = ResizeRule::kExact;
  spec.resize_height = spec.resize_width = 8;
  const uint64_t bytes = vision::PreprocessScratchBytes(spec, 30, 40);
  std::vector<std::byte> memory(bytes + 64);
  std::vector<float> first(3 * 8 * 8), other(3 * 8 * 8);
  const vision::PixelView view = test::ViewOf(scene, 40, 30);
  REQUIRE(vision::Preprocess(view, spec, {memory.data(), bytes}, first).ok());
  for (size_t shift = 1; shift < 64; ++shift) {
    REQUIRE(vision::Preprocess(view, spec, {memory.data() + shift, bytes}, other).ok());
    REQUIRE(first == other);
  }
}

void Refused(const PreprocessSpec& spec, const char* why) {
  const Status status = vision::CheckPreprocess(spec);
  INFO(status.message());
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()).find(why) != std::string::npos);
}

TEST_CASE("a spec that cannot be is refused with its numbers", "[vision][preprocess]") {
  CHECK(vision::CheckPreprocess(Published()).ok());
  const auto changed = [](const auto& change) {
    PreprocessSpec spec = Published();
    change(spec);
    return spec;
  };
  Refused(changed([](auto& spec) { spec.crop_height = 0; }), "11 x 0");
  Refused(changed([](auto& spec) { spec.crop_width = 16385; }), "1..16384");
  Refused(changed([](auto& spec) { spec.resize = ResizeRule::kShorterSide; }), "resize");
  Refused(changed([](auto& spec) {
            spec.resize = ResizeRule::kExact;
            spec.resize_height = 4;
          }),
          "resize 0 x 4");
  Refused(changed([](auto& spec) { spec.resize = static_cast<ResizeRule>(3); }), "resize 3");
  Refused(changed([](auto& spec) { spec.filter = static_cast<model::ResizeFilter>(6); }),
          "filter 6");
  Refused(changed([](auto& spec) { spec.rounding = static_cast<model::CropRounding>(2); }),
          "rounding 2");
  Refused(changed([](auto& spec) { spec.deviation[1] = 0.0f; }), "channel 1");
  Refused(changed([](auto& spec) { spec.mean[2] = std::numeric_limits<float>::quiet_NaN(); }),
          "channel 2");
  Refused(changed([](auto& spec) { spec.scale = std::numeric_limits<float>::infinity(); }), "inf");
}

TEST_CASE("an output of another size, and a side that grows too long, are refused",
          "[vision][preprocess]") {
  const std::vector<uint8_t> memory(3 * 16384);
  PreprocessSpec spec = test::PlainSpec(2, 2);
  std::vector<std::byte> scratch(1 << 20);
  std::vector<float> out(13);
  const Status wrong = vision::Preprocess(test::ViewOf(memory, 1, 16384), spec, scratch, out);
  CHECK(wrong.code() == StatusCode::kInvalidArgument);
  out.resize(12);
  spec.resize = ResizeRule::kShorterSide;
  spec.resize_height = 64;
  CHECK(vision::Preprocess(test::ViewOf(memory, 1, 16384), spec, scratch, out).ok());
  spec.resize_height = 65;
  CHECK(vision::Preprocess(test::ViewOf(memory, 1, 16384), spec, scratch, out).code() ==
        StatusCode::kUnsupported);
}

TEST_CASE("preprocessing for another resolution keeps the proportions", "[vision][preprocess]") {
  PreprocessSpec spec = Published();
  spec.resize = ResizeRule::kShorterSide;
  spec.resize_height = 256;
  spec.crop_height = spec.crop_width = 224;
  CHECK(vision::ScaleTo(spec, 224, 224).resize_height == 256);
  CHECK(vision::ScaleTo(spec, 160, 160).resize_height == 183);  // 182.86
  CHECK(vision::ScaleTo(spec, 384, 384).resize_height == 439);  // 438.86
  CHECK(vision::ScaleTo(spec, 7, 7).resize_height == 8);
  CHECK(vision::ScaleTo(spec, 160, 320).resize_height == 366);  // 365.71: the wider side decides
  const PreprocessSpec scaled = vision::ScaleTo(spec, 160, 320);
  CHECK(scaled.crop_height == 160);
  CHECK(scaled.crop_width == 320);
  CHECK(scaled.mean[1] == spec.mean[1]);
  spec.resize = ResizeRule::kExact;
  spec.resize_width = 300;
  CHECK(vision::ScaleTo(spec, 112, 448).resize_height == 128);
  CHECK(vision::ScaleTo(spec, 112, 448).resize_width == 600);
  spec.resize_height = 1;
  CHECK(vision::ScaleTo(spec, 1, 1).resize_height == 1);
}

}  // namespace
}  // namespace headroom
