// The rank search of headroom tune, on a model that is known to need no more than a part of its
// rows.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstring>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;
using nlohmann::json;

// Losses below are of rounding to f16; cuts that take something away cost more than the other.
constexpr double kNothing = 1e-5, kMuch = 1e-4;

// Two layers with two KV heads, 16 wide.
struct Checkpoint {
  std::string folder, bytes;
  json tensors;
  size_t data = 0;

  explicit Checkpoint(const std::string& name) : folder(TwoLetterCheckpoint(name)) {
    bytes = ReadFile(folder + "/model.safetensors");
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof(header));
    tensors = json::parse(bytes.substr(8, header));
    data = 8 + header;
  }
  // Row `row` of the matrix makes nothing.
  void Zero(const std::string& matrix, size_t row) {
    const json& tensor = tensors.at("model.layers." + matrix + "_proj.weight");
    const size_t row_bytes = tensor.at("shape")[1].get<size_t>() * sizeof(float);
    std::memset(&bytes[data + tensor.at("data_offsets")[0].get<size_t>() + row * row_bytes], 0,
                row_bytes);
  }
};

std::string Converted(const Checkpoint& from, const std::vector<std::string>& more) {
  WriteFile(from.folder + "/model.safetensors", from.bytes);
  std::vector<std::string> arguments = {"convert",   from.folder, "--out", from.folder + ".hrm",
                                        "--weights", "f32"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Outcome outcome = Run(arguments);
  INFO(outcome.err);
  REQUIRE(outcome.exit_status == 0);
  return from.folder + ".hrm";
}

Outcome Tune(const std::string& model, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"tune",     model, "--text", TwoLetterText("letters.txt"),
                                        "--window", "64",  "--json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return Run(arguments);
}

// Of the head in this role.
double Loss(const json& tuned, size_t head, const std::string& role) {
  for (size_t i = 0; i < tuned.at("roles").size(); ++i) {
    if (tuned.at("roles")[i] == role) return tuned.at("units").at(head).at("kl").at(i);
  }
  FAIL("no role " << role);
  return 0;
}

TEST_CASE("tune finds the ranks that keys and values really have", "[cli][tune][ranks]") {
  Checkpoint checkpoint("low-rank");
  // Keys of head 0.0: half of the pairs that RoPE turns. Values of 1.1: every other number.
  for (size_t pair = 4; pair < 8; ++pair) {
    checkpoint.Zero("0.self_attn.k", pair);
    checkpoint.Zero("0.self_attn.k", pair + 8);
    checkpoint.Zero("1.self_attn.v", 16 + 2 * pair - 8);
    checkpoint.Zero("1.self_attn.v", 16 + 2 * pair);
  }
  const std::string tuned = Scratch("low-rank-tuned.hrm");
  const json found =
      Tune(Converted(checkpoint, {"--kv-basis", TwoLetterText("letters.txt")}), {"--out", tuned})
          .Json();
  CHECK(Loss(found, 0, "f16 keyrank=8") < kNothing);
  CHECK(Loss(found, 3, "f16 valuerank=8") < kNothing);
  for (size_t head : {1, 2, 3}) CHECK(Loss(found, head, "f16 keyrank=8") > kMuch);
  CHECK(Loss(found, 2, "f16 valuerank=8") > kMuch);

  // What takes those away and nothing else is a profile, and as good as the full cache.
  double full = 0;
  bool there = false;
  for (const json& profile : found.at("profiles")) {
    const std::string kv = profile.at("kv");
    if (profile.at("name") == "full") full = profile.at("kl");
    if (kv.find("rank") == std::string::npos || profile.at("kl") > full + kNothing) continue;
    there = true;
    CHECK_THAT(kv, ContainsSubstring("heads=0.0 f16 keyrank=8"));
    CHECK_THAT(kv, ContainsSubstring("valuerank=8") && !ContainsSubstring("1.0 f16 valuerank"));
    CHECK(profile.at("share") <= 0.75);
    const auto plan = Run({"plan", tuned, "--kv", profile.at("name"), "--context", "64", "--json"})
                          .Json()
                          .at("plan");
    const auto whole = Run({"plan", tuned, "--kv", "f16", "--context", "64", "--json"}).Json();
    CHECK(plan.at("state_bytes").get<double>() <=
          0.75 * whole.at("plan").at("state_bytes").get<double>());
  }
  CHECK(there);
}

TEST_CASE("losses of both sides and of rounding add up", "[cli][tune][ranks]") {
  const json found =
      Tune(Converted(Checkpoint("basis"), {"--kv-basis", TwoLetterText("letters.txt")}), {}).Json();
  const size_t measured = found.at("measured_roles");
  REQUIRE(found.at("roles").size() == measured + 4);  // f16 with both, int8 with one, other, both
  for (size_t head = 0; head < 4; ++head) {
    const double keys = Loss(found, head, "f16 keyrank=8");
    const double values = Loss(found, head, "f16 valuerank=8");
    const double rounded = Loss(found, head, "int8");
    CHECK(keys > kMuch);  // no key of this model has a lower rank
    CHECK(Loss(found, head, "f16 keyrank=8 valuerank=8") == keys + values);
    CHECK(Loss(found, head, "int8 keyrank=8") == rounded + keys);
    CHECK(Loss(found, head, "int8 valuerank=8") == rounded + values);
    CHECK(Loss(found, head, "int8 keyrank=8 valuerank=8") == rounded + keys + values);
  }
}

TEST_CASE("a model in no basis has no ranks, and says so when asked", "[cli][tune][ranks]") {
  const std::string plain = Converted(Checkpoint("plain-ranks"), {});
  const json found = Tune(plain, {}).Json();
  CHECK(found.at("roles").size() == found.at("measured_roles"));
  for (const json& role : found.at("roles")) {
    CHECK_THAT(role.get<std::string>(), !ContainsSubstring("rank"));
  }
  const Outcome asked = Tune(plain, {"--role", "int8", "--role", "int8 keyrank=8"});
  CHECK(asked.exit_status == 1);
  CHECK_THAT(asked.out, ContainsSubstring("keyrank=8") && ContainsSubstring("--kv-basis"));
}

}  // namespace
}  // namespace headroom::cli_test
