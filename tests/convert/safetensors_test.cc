// Hostile and damaged safetensors are refused with words; nothing outside the file is touched.
#include "convert/safetensors.h"

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <random>

#include "base/half.h"
#include "tests/convert/fixture.h"

namespace headroom {
namespace {

using convert::Checkpoint;
using convert::ParseSafetensors;
using convert::TensorIndex;
using test::Safetensors;

// Parses an exact heap copy, so that a sanitizer sees any byte read outside.
Result<TensorIndex> Parse(const std::string& file) {
  static std::vector<std::unique_ptr<std::byte[]>> kept;  // entries point into it
  kept.push_back(std::make_unique<std::byte[]>(file.size()));
  std::memcpy(kept.back().get(), file.data(), file.size());
  return ParseSafetensors({kept.back().get(), file.size()}, "x.safetensors");
}

std::string Refusal(const std::string& file) {
  const auto parsed = Parse(file);
  REQUIRE_FALSE(parsed.ok());
  return parsed.status().message();
}

bool Says(const std::string& message, const std::string& part) {
  UNSCOPED_INFO(message);
  return message.find(part) != std::string::npos;
}

const std::string kGood =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]}})";

TEST_CASE("a sound file gives its tensors", "[convert][safetensors]") {
  const auto parsed = Parse(Safetensors(kGood, std::string(28, '\x11')));
  REQUIRE(parsed.ok());
  REQUIRE(parsed.value().size() == 2);
  CHECK(parsed.value().at("a").shape == std::vector<uint64_t>{2, 3});
  CHECK(parsed.value().at("b").bytes == 4);
}

TEST_CASE("every truncation is refused", "[convert][safetensors]") {
  const std::string file = Safetensors(kGood, std::string(28, 'x'));
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    INFO(bytes);
    REQUIRE_FALSE(Parse(file.substr(0, bytes)).ok());
  }
}

TEST_CASE("headers that lie are refused by what they lie about", "[convert][safetensors]") {
  const auto one = [](const std::string& entry) {
    return Safetensors("{\"t\":" + entry + "}", std::string(64, 'x'));
  };
  CHECK(Says(Refusal(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + "{}"), "> 2"));
  CHECK(Says(Refusal(Safetensors("[]", "")), "no object"));
  CHECK(Says(Refusal(Safetensors("{nonsense", "")), "not JSON"));
  CHECK(Says(Refusal(Safetensors(std::string(70, '['), "")), "nested deeper"));
  CHECK(Says(Refusal(one("5")), "needs dtype"));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[1]})")), "needs dtype"));
  CHECK(Says(Refusal(one(R"({"dtype":"Q9","shape":[1],"data_offsets":[0,4]})")), "type \"Q9\""));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})")), "extent"));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})")), "extent"));
  CHECK(Says(
      Refusal(one(R"({"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]})")),
      "overflows"));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})")),
             "rank 9"));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,4]})")), "8..4"));
  CHECK(
      Says(Refusal(one(R"({"dtype":"F32","shape":[2],"data_offsets":[60,68]})")), "60..68 of 64"));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})")), "offset"));
  CHECK(
      Says(Refusal(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})")), "needs 12 bytes"));
  CHECK(Says(Refusal(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]})")),
             "of 64"));
}

TEST_CASE("overlaps and doubled names are refused", "[convert][safetensors]") {
  CHECK(Says(Refusal(Safetensors(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]},)"
                                 R"("b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})",
                                 std::string(12, 'x'))),
             "overlaps"));
  CHECK(Says(Refusal(Safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                 R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                 "xx")),
             "twice"));
}

TEST_CASE("names are made fit for a message", "[convert][safetensors]") {
  const std::string message = Refusal(
      Safetensors("{\"\\u001b[31mred" + std::string(500, 'n') + "\":{\"dtype\":\"?\"}}", ""));
  CHECK(message.find('\x1b') == std::string::npos);
  CHECK(message.size() < 200);
}

TEST_CASE("random damage never reads outside the file", "[convert][safetensors]") {
  std::mt19937 random(8);
  const std::string file = Safetensors(kGood, std::string(28, 'x'));
  int refused = 0;
  for (int n = 0; n < 2000; ++n) {
    std::string damaged = file;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto parsed = Parse(damaged);
    refused += !parsed.ok();
    if (!parsed.ok()) continue;
    for (const auto& [name, entry] : parsed.value()) {
      std::vector<float> values(entry.type->name == "F32" ? entry.bytes / 4 : 0);
      if (!values.empty()) REQUIRE(convert::ReadFloats(name, entry, 0, values).ok());
    }
  }
  CHECK(refused > 500);
}

TEST_CASE("floats of all three types are read from any place", "[convert][safetensors]") {
  const float f32[2] = {1.5f, -2.25f};
  const uint16_t bf16[2] = {FloatToBfloat(3.0f), FloatToBfloat(-0.5f)};
  const uint16_t f16[2] = {FloatToHalf(0.333f), FloatToHalf(-7.0f)};
  std::string data = "z";  // everything after it is unaligned
  data.append(reinterpret_cast<const char*>(f32), 8);
  data.append(reinterpret_cast<const char*>(bf16), 4);
  data.append(reinterpret_cast<const char*>(f16), 4);
  const auto parsed =
      Parse(Safetensors(R"({"z":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},)"
                        R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[9,13]},)"
                        R"("h":{"dtype":"F16","shape":[2],"data_offsets":[13,17]}})",
                        data));
  REQUIRE(parsed.ok());
  const auto read = [&](const std::string& name, uint64_t begin, size_t count) {
    std::vector<float> out(count);
    const Status status = convert::ReadFloats(name, parsed.value().at(name), begin, out);
    REQUIRE(status.ok());
    return out;
  };
  CHECK(read("f", 0, 2) == std::vector<float>{1.5f, -2.25f});
  CHECK(read("f", 1, 1) == std::vector<float>{-2.25f});
  CHECK(read("b", 0, 2) == std::vector<float>{3.0f, -0.5f});
  CHECK(read("h", 1, 1) == std::vector<float>{-7.0f});
  std::vector<float> out(2);
  CHECK_FALSE(convert::ReadFloats("f", parsed.value().at("f"), 1, out).ok());
  const Status status =
      convert::ReadFloats("z", parsed.value().at("z"), 0, std::span(out).first(1));
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(Says(status.message(), "is U8"));
}

TEST_CASE("a sharded checkpoint is one, and its index is not trusted", "[convert][safetensors]") {
  test::TempFolder folder;
  const std::string entry = R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  test::WriteText(folder / "one.safetensors", Safetensors("{\"a" + entry, "aaaa"));
  test::WriteText(folder / "two.safetensors", Safetensors("{\"b" + entry, "bbbb"));
  const auto index = [&](const std::string& map) {
    test::WriteText(folder / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
    return Checkpoint::Open(folder.path());
  };
  const auto good = index(R"("a":"one.safetensors","b":"two.safetensors")");
  REQUIRE(good.ok());
  CHECK(good.value().Find("a"));
  CHECK(good.value().Find("b"));
  CHECK_FALSE(good.value().Find("c"));
  CHECK(Says(index(R"("a":"two.safetensors")").status().message(), "is missing"));
  CHECK(Says(index(R"("a":"../one.safetensors")").status().message(), "is said to be in"));
  CHECK(Says(index(R"("a":7)").status().message(), "is said to be in"));
  CHECK(Says(index(R"("a":"three.safetensors")").status().message(), "lacks three.safetensors"));
}

TEST_CASE("a folder without weights says so", "[convert][safetensors]") {
  test::TempFolder folder;
  CHECK(Says(Checkpoint::Open(folder.path()).status().message(), "0 safetensors files"));
  test::WriteText(folder / "pytorch_model.bin", "PK");
  CHECK(Says(Checkpoint::Open(folder.path()).status().message(), "pickle files"));
  CHECK(Checkpoint::Open(folder / "nothing").status().code() == StatusCode::kNotFound);
}

}  // namespace
}  // namespace headroom
