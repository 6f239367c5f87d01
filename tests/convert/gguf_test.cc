// Hostile and damaged GGUF files are refused with words; nothing outside the file is touched.
#include "convert/gguf.h"

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <random>

#include "tests/convert/fixture.h"
#include "tests/convert/gguf_fixture.h"

namespace headroom {
namespace {

using convert::GgufFile;
using convert::GgufType;
using test::GgufArray;
using test::GgufBytes;
using test::GgufEntry;
using test::GgufKey;
using test::GgufText;
using test::Raw;

// Parses an exact heap copy, so that a sanitizer sees any byte read outside.
Result<GgufFile> Parse(const std::string& file) {
  static std::vector<std::unique_ptr<std::byte[]>> kept;  // values point into it
  kept.push_back(std::make_unique<std::byte[]>(file.size()));
  std::memcpy(kept.back().get(), file.data(), file.size());
  return convert::ParseGguf({kept.back().get(), file.size()}, "x.gguf");
}

bool Refused(const std::string& file, const std::string& part,
             StatusCode code = StatusCode::kCorrupt) {
  const auto parsed = Parse(file);
  REQUIRE_FALSE(parsed.ok());
  UNSCOPED_INFO(parsed.status().message());
  return parsed.status().code() == code &&
         std::string(parsed.status().message()).find(part) != std::string::npos;
}

bool Unsupported(const std::string& file, const std::string& part) {
  return Refused(file, part, StatusCode::kUnsupported);
}

constexpr uint32_t kF32 = 0, kQ8 = 8;

GgufBytes Good() {
  GgufBytes good;
  good.keys = {
      GgufKey("general.architecture", GgufType::kText, GgufText("llama")),
      GgufKey("llama.block_count", GgufType::kU32, Raw<uint32_t>(2)),
      GgufKey("half", GgufType::kF32, Raw(0.5f)),
      GgufKey("yes", GgufType::kBool, "\1"),
      GgufKey("list", GgufType::kArray,
              GgufArray(GgufType::kI16, 2, Raw<int16_t>(-3) + Raw<int16_t>(7))),
      GgufKey("words", GgufType::kArray,
              GgufArray(GgufType::kText, 3, GgufText("a") + GgufText("") + GgufText("bc")))};
  good.entries = {GgufEntry("t", {4, 3}, kF32, 0), GgufEntry("q", {32}, kQ8, 64)};
  good.data.assign(64 + 34, '\x11');
  return good;
}

TEST_CASE("a sound GGUF file gives its metadata and tensors", "[convert][gguf]") {
  for (const uint32_t version : {2u, 3u}) {
    GgufBytes bytes = Good();
    bytes.version = version;
    const auto parsed = Parse(bytes.File());
    INFO(parsed.status().message());
    REQUIRE(parsed.ok());
    const GgufFile& file = parsed.value();
    CHECK(file.Find("general.architecture")->Texts()[0] == "llama");
    CHECK(file.Find("llama.block_count")->Numbers() == std::vector<double>{2});
    CHECK(file.Find("half")->Numbers() == std::vector<double>{0.5});
    CHECK(file.Find("yes")->Numbers() == std::vector<double>{1});
    CHECK(file.Find("list")->Numbers() == std::vector<double>{-3, 7});
    CHECK(file.Find("words")->Texts() == std::vector<std::string_view>{"a", "", "bc"});
    CHECK(file.Find("list")->Texts().empty());
    CHECK(file.Find("words")->Numbers().empty());
    CHECK(file.Find("no such key") == nullptr);
    REQUIRE(file.tensors.size() == 2);
    CHECK(file.tensors.at("t").shape == std::vector<uint64_t>{3, 4});
    CHECK(file.tensors.at("t").bytes == 48);
    CHECK(file.tensors.at("q").type->name == "Q8_0");
    CHECK(file.tensors.at("q").bytes == 34);
  }
}

TEST_CASE("every truncation of a GGUF file is refused", "[convert][gguf]") {
  const std::string file = Good().File();
  for (size_t bytes = 0; bytes < file.size(); ++bytes) {
    INFO(bytes);
    REQUIRE_FALSE(Parse(file.substr(0, bytes)).ok());
  }
}

TEST_CASE("other GGUF versions, byte orders and magics are refused by name", "[convert][gguf]") {
  GgufBytes bytes = Good();
  bytes.magic = "GGML";
  CHECK(Refused(bytes.File(), "does not begin with GGUF"));
  bytes = Good();
  bytes.version = 1;
  CHECK(Unsupported(bytes.File(), "GGUF version 1;"));
  bytes.version = 4;
  CHECK(Unsupported(bytes.File(), "GGUF version 4;"));
  bytes.version = 0;
  CHECK(Unsupported(bytes.File(), "GGUF version 0;"));
  bytes.version = 3u << 24;
  CHECK(Unsupported(bytes.File(), "big-endian"));
}

TEST_CASE("GGUF counts beyond the file are refused before anything is reserved",
          "[convert][gguf]") {
  const GgufBytes good = Good();
  CHECK(Refused(good.File(UINT64_MAX, 6), "18446744073709551615 tensors in"));
  CHECK(Refused(good.File(uint64_t{1} << 60, 6), "tensors in"));
  CHECK(Refused(good.File(2, uint64_t{1} << 60), "metadata keys in"));
  CHECK_FALSE(Parse(good.File(3, 6)).ok());
  CHECK_FALSE(Parse(good.File(2, 7)).ok());
}

TEST_CASE("GGUF metadata that lies is refused by its key", "[convert][gguf]") {
  const auto one = [](const std::string& key) {
    GgufBytes bytes;
    bytes.keys = {key};
    return bytes.File() + std::string(64, '\0');
  };
  const auto u32 = GgufType::kU32;
  CHECK(Refused(one(Raw<uint64_t>(UINT64_MAX) + "key"), "metadata key of 18446744073709551615"));
  CHECK(Refused(one(GgufKey("", u32, Raw<uint32_t>(1))), "key is empty"));
  CHECK(Unsupported(one(GgufKey("k", GgufType{13}, "")), "\"k\" has the unknown type 13"));
  CHECK(Unsupported(one(GgufKey("k", GgufType{0xffffffff}, "")), "unknown type 4294967295"));
  CHECK(Refused(one(GgufKey("k", GgufType::kText, Raw<uint64_t>(uint64_t{1} << 40))),
                "\"k\": text 0 of 1099511627776 bytes"));
  CHECK(Refused(one(GgufKey("k", GgufType::kBool, "\2")), "\"k\" is 2, not true or false"));
  CHECK(Refused(one(GgufKey("k", GgufType::kArray, GgufArray(u32, uint64_t{1} << 62, ""))),
                "elements of \"k\" in"));
  CHECK(Refused(
      one(GgufKey("k", GgufType::kArray, GgufArray(GgufType::kText, uint64_t{1} << 61, ""))),
      "elements of \"k\" in"));
  CHECK(Refused(one(GgufKey("k", GgufType::kArray,
                            GgufArray(GgufType::kText, 2, GgufText("a") + Raw<uint64_t>(9999)))),
                "\"k\": text 1 of 9999 bytes"));
  CHECK(Unsupported(
      one(GgufKey("k", GgufType::kArray, GgufArray(GgufType::kArray, 1, GgufArray(u32, 0, "")))),
      "\"k\" is an array of arrays"));
  CHECK(Unsupported(one(GgufKey("k", GgufType::kArray, GgufArray(GgufType{77}, 1, ""))),
                    "unknown type 77"));
  GgufBytes twice = Good();
  twice.keys.push_back(twice.keys[1]);
  CHECK(Refused(twice.File(), "\"llama.block_count\" stands twice"));
}

TEST_CASE("GGUF alignments other than powers of two are refused", "[convert][gguf]") {
  const auto with = [](const std::string& value, GgufType type = GgufType::kU32) {
    GgufBytes bytes = Good();
    bytes.keys.push_back(GgufKey("general.alignment", type, value));
    return bytes.File();
  };
  CHECK(Refused(with(Raw<uint32_t>(0)), "general.alignment 0"));
  CHECK(Refused(with(Raw<uint32_t>(48)), "general.alignment 48"));
  CHECK(Refused(with(Raw<float>(32), GgufType::kF32), "general.alignment"));
  CHECK(Refused(with(Raw<uint32_t>(1u << 31)), "no multiple of 2147483648"));
  CHECK(Parse(with(Raw<uint32_t>(32))).ok());
  GgufBytes bytes = Good();
  bytes.alignment = 64;
  bytes.keys.push_back(GgufKey("general.alignment", GgufType::kU32, Raw<uint32_t>(64)));
  CHECK(Parse(bytes.File()).ok());
}

TEST_CASE("GGUF tensors whose shape, type or place is a lie are refused", "[convert][gguf]") {
  const auto one = [](const std::string& entry) {
    GgufBytes bytes;
    bytes.entries = {entry};
    bytes.data.assign(1024, 'x');
    return bytes.File();
  };
  CHECK(Refused(one(GgufEntry("", {4}, kF32, 0)), "name is empty"));
  CHECK(Refused(one(GgufEntry(std::string(300, 'n'), {4}, kF32, 0)), "300 bytes > 255"));
  CHECK(Refused(one(GgufEntry("t", {}, kF32, 0)), "rank 0"));
  CHECK(Refused(one(GgufEntry("t", {1, 1, 1, 1, 1}, kF32, 0)), "rank 5"));
  CHECK(Refused(one(GgufText("t") + Raw<uint32_t>(10000) + std::string(24, '\0')), "rank 10000"));
  CHECK(Refused(one(GgufEntry("t", {0}, kF32, 0)), "extent of 0"));
  CHECK(Refused(one(GgufEntry("t", {4, 0}, kF32, 0)), "extent of 0"));
  CHECK(Refused(one(GgufEntry("t", {uint64_t{1} << 32, uint64_t{1} << 32, 4}, kF32, 0)),
                "overflows"));
  CHECK(Refused(one(GgufEntry("t", {UINT64_MAX - 31, 1}, kQ8, 0)), "overflows"));
  CHECK(Refused(one(GgufEntry("t", {uint64_t{1} << 62}, kF32, 0)), "overflows"));
  CHECK(Refused(one(GgufEntry("t", {(uint64_t{1} << 31) - 1}, kF32, 0)), "ends behind"));
  CHECK(Refused(one(GgufEntry("t", {33}, kQ8, 0)), "not whole blocks of 32 (Q8_0)"));
  CHECK(Refused(one(GgufEntry("t", {32, 8}, 14, 0)), "not whole blocks of 256 (Q6_K)"));
  CHECK(Unsupported(one(GgufEntry("t", {4}, 4, 0)), "\"t\" has the unknown type 4"));
  CHECK(Unsupported(one(GgufEntry("t", {4}, 0xffffffff, 0)), "unknown type 4294967295"));
  CHECK(Refused(one(GgufEntry("t", {4}, kF32, 8)), "at 8, no multiple of 32"));
  CHECK(Refused(one(GgufEntry("t", {4}, kF32, 1024)), "ends behind"));
  CHECK(Refused(one(GgufEntry("t", {257}, kF32, 0)), "ends behind"));
  CHECK(Refused(one(GgufEntry("t", {4}, kF32, UINT64_MAX - 31)), "ends behind"));
}

TEST_CASE("GGUF tensors that overlap or share a name are refused", "[convert][gguf]") {
  GgufBytes bytes = Good();
  bytes.entries[1] = GgufEntry("q", {32}, kQ8, 32);
  CHECK(Refused(bytes.File(), "overlaps"));
  bytes.entries[1] = GgufEntry("t", {32}, kQ8, 64);
  CHECK(Refused(bytes.File(), "tensor \"t\" stands twice"));
}

TEST_CASE("GGUF names are made fit for a message", "[convert][gguf]") {
  GgufBytes bytes;
  bytes.keys = {GgufKey(std::string("\x1b[31m\0red", 9) + std::string(500, 'n'), GgufType{99}, "")};
  const auto parsed = Parse(bytes.File() + std::string(64, '\0'));
  REQUIRE_FALSE(parsed.ok());
  const std::string message = parsed.status().message();
  CHECK(message.find('\x1b') == std::string::npos);
  CHECK(message.find("unknown type 99") != std::string::npos);
  CHECK(message.size() < 200);
}

TEST_CASE("random damage to a GGUF file never reads outside it", "[convert][gguf]") {
  std::mt19937 random(8);
  const std::string file = Good().File();
  int refused = 0;
  for (int n = 0; n < 3000; ++n) {
    std::string damaged = file;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto parsed = Parse(damaged);
    refused += !parsed.ok();
    if (!parsed.ok()) continue;
    for (const auto& [key, value] : parsed.value().metadata) {
      CHECK(value.Numbers().size() + value.Texts().size() == value.count());
    }
    for (const auto& [name, tensor] : parsed.value().tensors) {
      std::vector<float> values(tensor.bytes / tensor.type->block_bytes * tensor.type->block);
      if (tensor.type->widen) CHECK(convert::ReadFloats(name, tensor, 0, values).ok());
    }
  }
  CHECK(refused > 500);
}

// ---- split models

std::string Part(int number, int parts, const std::string& tensor, int tensors) {
  GgufBytes bytes;
  bytes.keys = {GgufKey("split.no", GgufType::kU16, Raw<uint16_t>(static_cast<uint16_t>(number))),
                GgufKey("split.count", GgufType::kU16, Raw<uint16_t>(static_cast<uint16_t>(parts))),
                GgufKey("split.tensors.count", GgufType::kI32, Raw<int32_t>(tensors))};
  bytes.entries = {GgufEntry(tensor, {1}, kF32, 0)};
  bytes.data = Raw(static_cast<float>(number) + 0.5f);
  return bytes.File();
}

TEST_CASE("a split GGUF model is read through its first file", "[convert][gguf]") {
  test::TempFolder folder;
  const std::string first = folder / "m-00001-of-00002.gguf";
  test::WriteText(first, Part(0, 2, "a", 2));
  const auto message = [&] { return std::string(convert::OpenGguf(first).status().message()); };
  const auto says = [&](const std::string& part) {
    const std::string text = message();
    UNSCOPED_INFO(text);
    return text.find(part) != std::string::npos;
  };
  CHECK(convert::OpenGguf(first).status().code() == StatusCode::kNotFound);
  const std::string second = folder / "m-00002-of-00002.gguf";
  test::WriteText(second, Part(1, 2, "b", 2));
  const auto opened = convert::OpenGguf(first);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  float value = 0.0f;
  const convert::SourceTensor& tensor = opened.value().gguf.tensors.at("b");
  REQUIRE(convert::ReadFloats("b", tensor, 0, {&value, 1}).ok());
  CHECK(value == 1.5f);
  CHECK(convert::OpenGguf(second).status().code() == StatusCode::kInvalidArgument);
  test::WriteText(second, Part(0, 2, "b", 2));
  CHECK(says("is not part 2"));
  test::WriteText(second, Part(1, 3, "b", 2));
  CHECK(says("is not part 2"));
  test::WriteText(second, Part(1, 2, "a", 2));
  CHECK(says("is in two files"));
  test::WriteText(second, Part(1, 2, "b", 2));
  test::WriteText(first, Part(0, 2, "a", 3));
  CHECK(says("split.tensors.count 3, the files hold 2"));
  test::WriteText(first, Part(0, 60000, "a", 2));
  CHECK(says("split.count"));
}

}  // namespace
}  // namespace headroom
