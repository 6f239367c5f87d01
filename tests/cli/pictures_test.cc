// classify, features, and plan and bench of a vision model.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "cli/cli.h"
#include "model/image_builder.h"
#include "model/tiny_model.h"

namespace headroom::cli_test {
namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;

// A coloured square on a slope.
std::string DrawnPicture(int side, int seed) {
  std::string file = "P6\n" + std::to_string(side) + " " + std::to_string(side) + "\n255\n";
  for (int i = 0; i < side * side; ++i) {
    const int row = i / side, column = i % side;
    const bool inside = row > side / 4 && column > side / 3 && row < side * 3 / 4;
    for (int c = 0; c < 3; ++c) {
      const int shade = inside ? 60 * c + 40 * seed : row * 2 + column * (seed + c);
      file.push_back(static_cast<char>(shade & 255));
    }
  }
  return file;
}

// Three good pictures, a broken one between them, and a file that is none.
std::string Folder() {
  static const std::string folder = [] {
    const std::string path = Scratch("photos");
    fs::create_directories(path);
    WriteFile(path + "/a.ppm", DrawnPicture(60, 1));
    WriteFile(path + "/b.PPM", DrawnPicture(90, 2));
    WriteFile(path + "/d.ppm", DrawnPicture(70, 3));
    WriteFile(path + "/notes.txt", "not a picture");
    return path;
  }();
  return folder;
}
std::string BrokenFolder() {
  static const std::string folder = [] {
    const std::string path = Scratch("broken");
    fs::copy(Folder(), path);
    WriteFile(path + "/c.png", "\x89PNG\r\n\x1a\nthe rest was lost");
    return path;
  }();
  return folder;
}

std::string NameOf(const nlohmann::json& result) {
  return fs::path(result.at("file").get<std::string>()).filename().string();
}

TEST_CASE("classify says what is in the pictures of a folder, in order of their names",
          "[cli][images]") {
  const auto json = Run({"classify", Model("pictures"), Folder(), "--json", "--top", "3"}).Json();
  const auto& results = json.at("results");
  REQUIRE(results.size() == 3);
  const char* names[] = {"a.ppm", "b.PPM", "d.ppm"};
  std::set<std::string> kinds;
  for (size_t i = 0; i < 3; ++i) {
    CHECK(NameOf(results[i]) == names[i]);
    const auto& classes = results[i].at("classes");
    REQUIRE(classes.size() == 3);
    double before = 1;
    for (const auto& each : classes) {
      const double probability = each.at("probability").get<double>();
      CHECK(probability > 0);
      CHECK(probability <= before);
      CHECK_FALSE(each.at("label").get<std::string>().empty());
      before = probability;
    }
  }
  CHECK(json.at("speed").at("pictures") == 3);
  CHECK(json.at("speed").at("arena_peak_bytes") == json.at("speed").at("arena_planned_bytes"));

  const Outcome text = Run({"classify", Model("pictures"), Folder() + "/a.ppm", "--top", "2"});
  CHECK(text.exit_status == 0);
  CHECK_THAT(text.out, ContainsSubstring("a.ppm\n"));
  for (size_t i = 0; i < 2; ++i) {
    const auto& each = results[0].at("classes")[i];
    CHECK_THAT(text.out, ContainsSubstring(each.at("label").get<std::string>()));
  }
  CHECK(std::count(text.out.begin(), text.out.end(), '%') == 2);
  CHECK_THAT(text.err, ContainsSubstring("1 picture, "));
}

TEST_CASE("a batch gives what pictures give one by one", "[cli][images]") {
  const auto one = Run({"classify", Model("pictures"), Folder(), "--json"}).Json();
  const auto two = Run({"classify", Model("pictures"), Folder(), "--json", "--batch", "2"}).Json();
  CHECK(one.at("results") == two.at("results"));
}

TEST_CASE("a broken file among good ones is told, the others are classified", "[cli][images]") {
  for (const char* batch : {"1", "4"}) {
    const Outcome json =
        Run({"classify", Model("pictures"), BrokenFolder(), "--json", "--batch", batch});
    CHECK(json.exit_status == 1);
    const auto results = nlohmann::json::parse(json.out).at("results");
    REQUIRE(results.size() == 4);
    size_t errors = 0;
    for (const auto& result : results) {
      const bool broken = NameOf(result) == "c.png";
      CHECK(result.contains("error") == broken);
      CHECK(result.contains("classes") == !broken);
      errors += broken;
    }
    CHECK(errors == 1);
    CHECK(NameOf(results[2]) == "c.png");  // in its place among the others
    CHECK_THAT(json.err, ContainsSubstring("c.png"));
  }
  const Outcome text = Run({"classify", Model("pictures"), BrokenFolder(), Scratch("absent.png")});
  CHECK(text.exit_status == 1);
  CHECK_THAT(text.out, ContainsSubstring("d.ppm"));
  CHECK_THAT(text.err, ContainsSubstring("absent.png"));
}

TEST_CASE("a picture too large for the session does not cost the others of its batch",
          "[cli][images]") {
  const Outcome outcome = Run({"classify", Model("pictures"), Folder(), "--json", "--batch", "3",
                               "--largest-picture", "80"});
  CHECK(outcome.exit_status == 1);
  const auto results = nlohmann::json::parse(outcome.out).at("results");
  REQUIRE(results.size() == 3);
  for (const auto& result : results) {
    INFO(result.dump());
    CHECK(result.contains("error") == (NameOf(result) == "b.PPM"));
  }
  CHECK_THAT(outcome.err, ContainsSubstring("90 x 90"));
}

TEST_CASE("the input's size can be chosen", "[cli][images]") {
  const auto plan = [](const std::string& size) {
    return Run({"plan", Model("pictures"), "--size", size, "--json"}).Json().at("plan");
  };
  CHECK(plan("96").at("height") == 96);
  CHECK(plan("96").at("width") == 96);
  CHECK(plan("160x96").at("height") == 160);
  CHECK(plan("160x96").at("width") == 96);
  const Outcome run = Run({"classify", Model("pictures"), Folder(), "--size", "160x96", "--json"});
  CHECK(run.exit_status == 0);
  for (const char* wrong : {"0", "x96", "96x", "96x96x96", "huge", "-5"}) {
    INFO(wrong);
    CHECK(Run({"plan", Model("pictures"), std::string("--size=") + wrong}).exit_status == 2);
  }
  CHECK(Run({"classify", Model("pictures"), Folder(), "--size", "17000"}).exit_status != 0);
}

TEST_CASE("a plan of pictures says what is missing, and that much more fits", "[cli][images]") {
  const Outcome small = Run({"plan", Model("pictures"), "--budget", "100K", "--json"});
  CHECK(small.exit_status == 3);
  const auto plan = nlohmann::json::parse(small.out).at("plan");
  CHECK(plan.at("fits") == false);
  CHECK(plan.at("largest_batch") == 0);
  const uint64_t enough = 100 * 1024 + plan.at("missing_bytes").get<uint64_t>();
  const Outcome fits =
      Run({"plan", Model("pictures"), "--budget", std::to_string(enough), "--json"});
  CHECK(fits.exit_status == 0);
  CHECK(nlohmann::json::parse(fits.out).at("plan").at("total_bytes") == enough);
  CHECK(Run({"plan", Model("pictures"), "--budget", std::to_string(enough - 1)}).exit_status == 3);
  const Outcome text = Run({"plan", Model("pictures"), "--budget", "100K"});
  CHECK_THAT(text.out, ContainsSubstring("DOES NOT FIT"));
  CHECK_THAT(text.out, ContainsSubstring("activations"));
  const Outcome classify = Run({"classify", Model("pictures"), Folder(), "--budget", "100K"});
  CHECK(classify.exit_status == 3);
  CHECK_THAT(classify.err, ContainsSubstring("bytes missing"));
}

// The numbers of a .npy file of float32 in C order; checks its shape.
std::vector<float> ReadNpy(const std::string& path, const std::string& shape) {
  const std::string bytes = ReadFile(path);
  REQUIRE(bytes.substr(0, 6) == "\x93NUMPY");
  const size_t header = 10 + static_cast<uint8_t>(bytes[8]) + 256 * static_cast<uint8_t>(bytes[9]);
  CHECK(header % 64 == 0);
  CHECK_THAT(bytes.substr(10, header - 10), ContainsSubstring("'<f4'"));
  CHECK_THAT(bytes.substr(10, header - 10), ContainsSubstring(shape));
  std::vector<float> numbers((bytes.size() - header) / 4);
  std::memcpy(numbers.data(), bytes.data() + header, numbers.size() * 4);
  return numbers;
}

TEST_CASE("features are written as text, as JSON and as .npy alike", "[cli][images]") {
  const auto json = Run({"features", Model("pictures"), Folder(), "--json"}).Json();
  std::vector<float> expected;
  for (const auto& result : json.at("results")) {
    for (const auto& number : result.at("features")) expected.push_back(number.get<float>());
  }
  REQUIRE(json.at("results").size() == 3);
  const size_t width = expected.size() / 3;
  CHECK(width > 1);
  const std::string path = Scratch("features.npy");
  CHECK(Run({"features", Model("pictures"), Folder(), "--out", path}).exit_status == 0);
  CHECK(ReadNpy(path, "(3, " + std::to_string(width) + ")") == expected);
  const Outcome text = Run({"features", Model("pictures"), Folder()});
  CHECK(text.exit_status == 0);
  CHECK(std::count(text.out.begin(), text.out.end(), '\n') == 3);
  CHECK(std::count(text.out.begin(), text.out.end(), '\t') == static_cast<int64_t>(3 * width));
  // A row that is missing would shift those behind it.
  const std::string partial = Scratch("partial.npy");
  const Outcome broken = Run({"features", Model("pictures"), BrokenFolder(), "--out", partial});
  CHECK(broken.exit_status == 1);
  CHECK_FALSE(fs::exists(partial));
}

TEST_CASE("bench measures a vision model", "[cli][images]") {
  const auto json = Run({"bench", Model("pictures"), "--json", "--repetitions", "2", "--batch", "2",
                         "--threads", "1"})
                        .Json();
  const auto& result = json.at("results").at(0);
  CHECK(result.at("batch") == 2);
  CHECK(result.at("median_ms").get<double>() > 0);
  CHECK(result.at("samples_ms").size() == 2);
  CHECK(result.at("arena_peak_bytes") == result.at("arena_planned_bytes"));
  const Outcome text =
      Run({"bench", Model("pictures"), "--repetitions", "2", "--threads", "1", "--size", "64"});
  CHECK(text.exit_status == 0);
  CHECK_THAT(text.out, ContainsSubstring("64x64"));
}

TEST_CASE("pictures for a language model, and folders without any, are refused", "[cli][images]") {
  const Outcome language = Run({"classify", Model("mistral"), Folder()});
  CHECK(language.exit_status != 0);
  CHECK_THAT(language.err, ContainsSubstring("takes no pictures"));
  const std::string empty = Scratch("empty");
  fs::create_directories(empty);
  const Outcome none = Run({"classify", Model("pictures"), empty});
  CHECK(none.exit_status != 0);
  CHECK_THAT(none.err, ContainsSubstring("no pictures"));
  const Outcome run = Run({"run", Model("pictures"), "--prompt", "hello"});
  CHECK(run.exit_status != 0);
  CHECK_THAT(run.err, ContainsSubstring("headroom classify"));
}

TEST_CASE("convert makes a vision model with values of f16", "[cli][images]") {
  const std::string shipped = Source("tools/example/headroom-pictures.hrm");
  const std::string halves = Scratch("halves.hrm");
  const auto made =
      Run({"convert", shipped, "--out", halves, "--activations", "f16", "--json"}).Json();
  CHECK(made.at("in_halves").get<int>() > made.at("convolutions").get<int>() / 2);
  CHECK(made.at("file_bytes") == fs::file_size(halves));
  const auto before = Run({"classify", shipped, Folder(), "--json", "--top", "1"}).Json();
  const auto after = Run({"classify", halves, Folder(), "--json", "--top", "1"}).Json();
  REQUIRE(after.at("results").size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    const auto& a = before.at("results")[i].at("classes")[0];
    const auto& b = after.at("results")[i].at("classes")[0];
    CHECK(a.at("index") == b.at("index"));
    const double apart = a.at("probability").get<double>() - b.at("probability").get<double>();
    CHECK(std::abs(apart) < 0.02);
  }
  const auto refused = [&](std::vector<std::string> arguments, const std::string& why) {
    const Outcome outcome = Run(arguments);
    CHECK(outcome.exit_status != 0);
    CHECK_THAT(outcome.err, ContainsSubstring(why));
  };
  refused({"convert", halves, "--out", Scratch("again.hrm"), "--activations", "f16"},
          "f16 values already");
  refused({"convert", Model("mistral"), "--out", Scratch("no.hrm"), "--activations", "f16"},
          "no vision model");
  refused(
      {"convert", shipped, "--out", Scratch("no.hrm"), "--activations", "f16", "--weights", "int8"},
      "f16 goes with weights of f16");
  refused({"convert", shipped, "--out", Scratch("no.hrm"), "--activations", "f16", "--calibrate",
           Folder()},
          "need no calibration");
  refused(
      {"convert", shipped, "--out", Scratch("no.hrm"), "--activations", "f16", "--head", "int8"},
      "not for vision models");
  const std::string text = TwoLetterCheckpoint("text-halves");
  refused({"convert", text, "--out", Scratch("no.hrm"), "--activations", "f16"},
          "cannot convert " + text + ": the source is no vision model");
  refused(
      {"convert", "--random", "llama-3.2-1b", "--out", Scratch("no.hrm"), "--activations", "f16"},
      "no vision model");
}

// All its logits are 0, and it has neither labels nor features.
std::string IndifferentModel() {
  test::ImageBuilder b;
  b.Value({3});
  model::ImageOp op = test::ImageBuilder::Of(model::ImageOpKind::kConvolution);
  op.weight = b.Tensor("zeros", DType::kF32, {6, 3});
  b.d.image.logits = b.Add(op, {b.GlobalPool(0)}, {6});
  b.d.image.preprocess.crop_height = b.d.image.preprocess.crop_width = 8;
  b.d.metadata = {"indifferent", "Test", "Apache-2.0", "made by a test", 0, 6};
  const std::string path = Scratch("indifferent.hrm");
  REQUIRE(test::WriteModel(path, b.d).ok());
  return path;
}

TEST_CASE("of equal classes the first come first, with numbers where there are no labels",
          "[cli][images]") {
  const std::string model = IndifferentModel();
  const auto json = Run({"classify", model, Folder() + "/a.ppm", "--json", "--top", "4"}).Json();
  const auto& classes = json.at("results").at(0).at("classes");
  REQUIRE(classes.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(classes[i].at("index") == i);
    CHECK_FALSE(classes[i].contains("label"));
    CHECK(std::fabs(classes[i].at("probability").get<double>() - 1.0 / 6) < 1e-6);
  }
  const Outcome text = Run({"classify", model, Folder() + "/a.ppm", "--top", "9"});
  CHECK_THAT(text.out, ContainsSubstring("class 5"));
  const Outcome features = Run({"features", model, Folder() + "/a.ppm"});
  CHECK(features.exit_status != 0);
  CHECK_THAT(features.err, ContainsSubstring("names no features"));
}

}  // namespace
}  // namespace headroom::cli_test
