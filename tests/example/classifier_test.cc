// The shipped vision models on drawings that none of their training had.
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <headroom/headroom.h>

#include "tools/example/pictures/draw.h"

namespace headroom::pictures {
namespace {

constexpr uint64_t kPictures = 320;
constexpr uint64_t kFirstSeed = uint64_t{1}
                                << 40;  // apart from what was calibrated or trained with
constexpr uint64_t kBudget = 5 << 20;

std::string Shipped(const char* name) {
  const char* root = std::getenv("HEADROOM_SOURCE_DIR");
  REQUIRE(root != nullptr);
  return std::string(root) + "/tools/example/" + name;
}

struct Classifier {
  explicit Classifier(const char* name) {
    hr_error error = {};
    INFO(name);
    const hr_status opened = hr_model_open_path(Shipped(name).c_str(), nullptr, &model, &error);
    INFO(error.text);
    REQUIRE(opened == HR_OK);
    hr_image_options options = {};
    options.struct_size = sizeof(options);
    options.budget_bytes = kBudget;
    options.threads = 1;
    options.max_picture_width = options.max_picture_height = kSide;
    const hr_status created = hr_image_session_create(model, &options, &session, &error);
    INFO(error.text);
    REQUIRE(created == HR_OK);
  }
  ~Classifier() {
    hr_image_session_release(session);
    hr_model_release(model);
  }

  hr_class BestOf(const std::vector<uint8_t>& pixels) const {
    hr_image image = {};
    image.struct_size = sizeof(image);
    image.format = HR_PIXELS_RGB;
    image.width = image.height = kSide;
    image.pixels = pixels.data();
    hr_error error = {};
    REQUIRE(hr_image_session_run(session, &image, 1, &error) == HR_OK);
    hr_class best = {};
    size_t found = 0;
    REQUIRE(hr_image_session_top(session, 0, &best, 1, &found, &error) == HR_OK);
    REQUIRE(found == 1);
    return best;
  }

  hr_model* model = nullptr;
  hr_image_session* session = nullptr;
};

TEST_CASE("the shipped classifiers know held-out drawings, in int8 as in floats", "[example]") {
  const Classifier floats("headroom-pictures.hrm"), codes("headroom-pictures-int8.hrm");
  uint64_t of_floats = 0, of_codes = 0;
  for (uint64_t i = 0; i < kPictures; ++i) {
    uint32_t label = 0;
    const auto pixels = DrawPicture(kFirstSeed + i, Split::kHeldOut, &label);
    of_floats += floats.BestOf(pixels).index == label;
    of_codes += codes.BestOf(pixels).index == label;
  }
  CAPTURE(of_floats, of_codes, kPictures);
  CHECK(static_cast<double>(of_floats) >= 0.97 * kPictures);
  CHECK(static_cast<double>(of_codes) >= static_cast<double>(of_floats) - 0.005 * kPictures);
}

TEST_CASE("the shipped classifiers have the names of what was drawn", "[example]") {
  for (const char* name : {"headroom-pictures.hrm", "headroom-pictures-int8.hrm"}) {
    const Classifier classifier(name);
    for (uint32_t label = 0; label < kLabelCount; ++label) {
      const char* text = nullptr;
      REQUIRE(hr_model_label(classifier.model, label, &text, nullptr) == HR_OK);
      CHECK(std::string(text) == LabelName(label));
    }
  }
}

TEST_CASE("the shipped classifiers take what their plans say", "[example][memory]") {
  for (const char* name : {"headroom-pictures.hrm", "headroom-pictures-int8.hrm"}) {
    const Classifier classifier(name);
    classifier.BestOf(DrawPicture(kFirstSeed, Split::kHeldOut, nullptr));
    hr_image_stats stats = {};
    stats.struct_size = sizeof(stats);
    REQUIRE(hr_image_session_get_stats(classifier.session, &stats) == HR_OK);
    CHECK(stats.planned_bytes == stats.peak_bytes);
    CHECK(stats.pictures == 1);
    hr_image_plan_report plan = {};
    plan.struct_size = sizeof(plan);
    REQUIRE(hr_image_session_get_plan(classifier.session, &plan) == HR_OK);
    CHECK(plan.total_bytes <= kBudget);
    CHECK(plan.largest_batch >= 1);
  }
}

}  // namespace
}  // namespace headroom::pictures
