// Profiles written into a finished file, and what they come back as.
#include "convert/profiles.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/convert/converted.h"

namespace headroom::test {
namespace {

using Catch::Matchers::ContainsSubstring;
using convert::MeasuredProfile;
using model::Retention;

std::string Bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

MeasuredProfile Profile(const std::string& name, const std::string& policy, float accuracy) {
  return {name, policy, {{fb::Metric::Accuracy, "needles", 4000, accuracy, 1.0f}}};
}

std::unique_ptr<model::Model> Open(const std::string& path) {
  model::OpenOptions open;
  open.verify_checksums = true;
  auto model = model::Model::OpenPath(path.c_str(), open);
  INFO(model.status().message());
  REQUIRE(model.ok());
  return model.Take();
}

// llama-gqa: 2 layers with 2 KV heads each.
std::string Source(const Converted& converted) { return converted.folder / "model.hrm"; }

TEST_CASE("profiles are written with every word of their policies", "[convert][profiles]") {
  const auto before = ConvertFolder(GoldenFolder("llama-gqa"), convert::WeightFormat::kF32);
  const std::string to = before->folder / "tuned.hrm";
  const std::vector<MeasuredProfile> wanted = {
      Profile("full", "f16", 1.0f),
      Profile("half",
              "keys=int8 values=int4/32 rotate exact=7; heads=1.0 int8/32 window rows=64 sinks=3 "
              "relative "
              "keyrank=8 valuerank=16",
              0.9f),
      Profile(
          "least",
          "f32 compensated share=0.25; heads=0.1+1.1 int8 accumulated rows=40 observe=9 pool=3; "
          "heads=1.0 int8 observed rows=50 maxpool=7",
          0.5f)};
  const Status written = convert::WriteProfiles(Source(*before), to, wanted);
  INFO(written.message());
  REQUIRE(written.ok());
  const auto after = Open(to);
  REQUIRE(after->profiles.size() == 3);
  for (size_t i = 0; i < wanted.size(); ++i) {
    INFO(wanted[i].policy);
    const auto parsed = plan::ParseProfile(*after, wanted[i].policy);
    REQUIRE(parsed.ok());
    CHECK(after->profiles[i].name == wanted[i].name);
    for (size_t layer = 0; layer < after->attentions.size(); ++layer) {
      for (uint32_t head = 0; head < 2; ++head) {
        CHECK(after->roles.at(after->profiles[i].roles.at(layer).at(head)) ==
              parsed.value().RoleOf(layer, head));
      }
    }
    REQUIRE(after->profiles[i].quality.size() == 1);
    const model::QualitySpec& quality = after->profiles[i].quality[0];
    CHECK(quality.task == "needles");
    CHECK(quality.metric == model::Metric::kAccuracy);
    CHECK(quality.context_tokens == 4000);
    CHECK(quality.value == wanted[i].quality[0].value);
  }
  // The policies have six different roles, each written once.
  CHECK(after->roles.size() == 6);
}

TEST_CASE("weights stay what they were, and a file can be tuned in place", "[convert][profiles]") {
  const auto before = ConvertFolder(GoldenFolder("llama-gqa"), convert::WeightFormat::kInt8);
  const std::string path = Source(*before);
  const uint64_t digest = before->model->digest;
  // Long names push the weights to another page.
  std::vector<MeasuredProfile> profiles;
  for (int i = 0; i < 200; ++i) {
    profiles.push_back(Profile(std::string(50, 'n') + std::to_string(i), "f16", 1.0f));
  }
  REQUIRE(convert::WriteProfiles(path, path, profiles).ok());
  const auto grown = Open(path);
  CHECK(grown->profiles.size() == 200);
  CHECK(grown->digest != digest);
  CHECK(grown->file_bytes > before->model->file_bytes);
  const auto same_weights = [&](const model::Model& model) {
    REQUIRE(model.tensors.size() == before->model->tensors.size());
    for (size_t i = 0; i < model.tensors.size(); ++i) {
      const TensorView& a = before->model->tensors[i];
      const TensorView& b = model.tensors[i];
      REQUIRE(a.data_bytes == b.data_bytes);
      CHECK(std::memcmp(a.data, b.data, a.data_bytes) == 0);
      CHECK(a.scale_bytes == b.scale_bytes);
      if (a.scale_bytes != 0) CHECK(std::memcmp(a.scales, b.scales, a.scale_bytes) == 0);
    }
  };
  same_weights(*grown);
  // Without profiles it is the file it was before.
  REQUIRE(convert::WriteProfiles(path, path, {}).ok());
  const auto plain = Open(path);
  CHECK(plain->profiles.empty());
  CHECK(plain->digest == digest);
  same_weights(*plain);
}

TEST_CASE("profiles that no loader takes are not written", "[convert][profiles]") {
  const auto before = ConvertFolder(GoldenFolder("llama-gqa"), convert::WeightFormat::kF32);
  const std::string path = Source(*before), bytes = Bytes(path);
  struct Case {
    std::vector<MeasuredProfile> profiles;
    const char* says;
  };
  const std::vector<Case> cases = {
      {{Profile("a", "f17", 1.0f)}, "f17"},
      {{Profile("a", "f16; heads=2.0 int8", 1.0f)}, "2.0"},
      {{Profile("f16", "f16", 1.0f)}, "codec"},
      {{Profile("", "f16", 1.0f)}, "no name"},
      {{Profile("a", "f16", 1.0f), Profile("a", "int8", 0.5f)}, "another"},
      {{Profile("a", "f16", 0.5f), Profile("b", "int8", 0.9f)}, "measured better"},
      {{Profile("a", "f16", static_cast<float>(std::nan("")))}, "quality"},
      {{Profile(std::string(64, 'n'), "f16", 1.0f)}, "64"},
  };
  for (const Case& c : cases) {
    INFO(c.says);
    const Status refused = convert::WriteProfiles(path, path, c.profiles);
    CHECK_FALSE(refused.ok());
    CHECK_THAT(refused.message(), ContainsSubstring(c.says));
    CHECK(Bytes(path) == bytes);
  }
  CHECK(convert::WriteProfiles(path + ".none", path, {}).code() == StatusCode::kNotFound);
  CHECK(convert::WriteProfiles(path, before->folder / "no/such/file", {}).code() ==
        StatusCode::kIo);
}

}  // namespace
}  // namespace headroom::test
