// Vision models against PyTorch's double precision (tests/golden/vision).
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>

#include "session/golden.h"
#include "session/image_golden.h"

namespace headroom::test {
namespace {

using convert::Json;

constexpr double kF32 = 1e-5, kF16 = 5e-3;  // of the spread of the logits

// Every `every`-th number.
void CheckNear(const char* what, std::span<const float> got, const Json& want, size_t every,
               double allowance) {
  REQUIRE_FALSE(want.empty());
  REQUIRE((got.size() + every - 1) / every == want.size());
  double worst = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i * every]) - want[i].get<double>());
    worst = std::isfinite(error) ? std::max(worst, error) : INFINITY;
  }
  INFO(what << ": " << worst << " of " << allowance);
  CHECK(worst <= allowance);
}

void CheckPicture(std::shared_ptr<session::Engine> engine, const Json& want, size_t every,
                  double tolerance) {
  const auto height = want["height"].get<uint32_t>(), width = want["width"].get<uint32_t>();
  INFO(height << " x " << width);
  const auto session = StartImages(std::move(engine), {1, height, width});
  RunPicture(*session);
  const double allowance = tolerance * want["logit_spread"].get<double>();
  CheckNear("logits", session->logits(0), want["logits"], every, allowance);
  // As large as the logits or larger.
  double largest = 0.0;
  for (const Json& x : want["features"]) largest = std::max(largest, std::abs(x.get<double>()));
  CheckNear("features", session->features(0), want["features"], every, tolerance * largest);
}

const char* const kCases[] = {"shvit", "shvit-even", "shvit-authors", "shvit-folded",
                              "vit",   "deit",       "deit-teacher"};

TEST_CASE("logits and features of vision checkpoints are PyTorch's", "[images][golden]") {
  for (const char* name : kCases) {
    INFO(name);
    const auto engine = OpenVision(VisionFolder(name));
    const Json expected = ReadExpected(VisionFolder(name) + "/expected.json");
    REQUIRE_FALSE(expected.empty());
    for (const Json& picture : expected) CheckPicture(engine, picture, 1, kF32);
  }
}

TEST_CASE("f16 weights of vision checkpoints stay near", "[images][golden]") {
  for (const char* name : kCases) {
    INFO(name);
    const auto engine = OpenVision(VisionFolder(name), "f16");
    const Json expected = ReadExpected(VisionFolder(name) + "/expected.json");
    for (const Json& picture : expected) CheckPicture(engine, picture, 1, kF16);
  }
}

uint64_t StoredNumbers(const model::Model& model) {
  uint64_t numbers = 0;
  for (const TensorView& tensor : model.tensors) {
    numbers += uint64_t{tensor.rows()} * (tensor.rank == 1 ? 1 : tensor.columns());
  }
  return numbers;
}

// The paper's table 2: millions of multiply-adds.
struct PublishedCase {
  const char* name;
  double mega_macs;
};
constexpr PublishedCase kPublished[] = {
    {"shvit_s1", 241.3}, {"shvit_s2", 365.4}, {"shvit_s3", 600.6}, {"shvit_s4", 986.2}};

// `sides`: pictures larger than that are left to the slow test.
void CheckPublished(const PublishedCase& published, uint32_t low, uint32_t high) {
  INFO(published.name);
  const std::string folder = ScratchPath(published.name);
  WritePublishedShvit(folder, published.name);
  const auto engine = OpenVision(folder);
  std::filesystem::remove_all(folder);
  const Json expected = ReadExpected(VisionFolder(published.name) + ".json");
  CHECK(StoredNumbers(engine->model()) == expected["folded_parameters"].get<uint64_t>());
  const auto side = expected["side"].get<uint32_t>();
  const auto extents = plan::ImageExtents(engine->model().image, side, side);
  REQUIRE(extents.ok());
  const uint64_t macs = plan::ImageMultiplyAdds(engine->model().image, extents.value());
  CHECK(std::abs(static_cast<double>(macs) / 1e6 - published.mega_macs) < 0.05);
  for (const Json& picture : expected["pictures"]) {
    const auto height = picture["height"].get<uint32_t>();
    if (height < low || height > high) continue;
    CheckPicture(engine, picture, expected["every"].get<size_t>(), 4 * kF32);
  }
}

TEST_CASE("SHViT at its published widths is PyTorch's", "[images][golden]") {
  for (const PublishedCase& published : kPublished) CheckPublished(published, 1, 256);
}

TEST_CASE("SHViT of large pictures is PyTorch's", "[images][golden][.slow]") {
  for (const PublishedCase& published : kPublished) CheckPublished(published, 257, 512);
}

TEST_CASE("published counts of SHViT's parameters", "[images][golden]") {
  const std::pair<uint64_t, uint64_t> kCounts[] = {
      {6330808, 6308660}, {11483072, 11453508}, {14245273, 14210010}, {16588484, 16546248}};
  for (size_t i = 0; i < 4; ++i) {
    const Json expected = ReadExpected(VisionFolder(kPublished[i].name) + ".json");
    CHECK(expected["trained_parameters"].get<uint64_t>() == kCounts[i].first);
    CHECK(expected["folded_parameters"].get<uint64_t>() == kCounts[i].second);
  }
}

TEST_CASE("presets of vision models give logits of a sane size", "[images]") {
  for (const char* preset : {"shvit-s1", "shvit-s2", "shvit-s3", "shvit-s4", "vit-tiny"}) {
    INFO(preset);
    const auto engine = OpenVision(std::string("random ") + preset);
    const auto session = StartImages(engine, {1, 0, 0});
    CHECK(session->plan().size.height == (std::string(preset) == "shvit-s4" ? 256u : 224u));
    RunPicture(*session);
    const std::span<const float> logits = session->logits(0);
    REQUIRE(logits.size() == 1000);
    double sum = 0.0, squares = 0.0;
    for (const float x : logits) {
      sum += static_cast<double>(x);
      squares += static_cast<double>(x) * static_cast<double>(x);
    }
    const double deviation = std::sqrt(squares / 1000 - sum * sum / 1e6);
    INFO("deviation " << deviation);
    CHECK(deviation > 0.05);
    CHECK(deviation < 20.0);
  }
}

}  // namespace
}  // namespace headroom::test
