// A conversion while it runs: progress, cancelling, memory.
#include "convert/convert.h"

#include <catch2/catch_test_macros.hpp>

#include "base/platform.h"
#include "convert/hrm_writer.h"
#include "tests/convert/converted.h"

namespace headroom {
namespace {

using convert::Options;
using convert::WeightFormat;
using test::ConvertCase;
using test::ConvertFolder;
using test::GoldenFolder;
using test::Replaced;
using test::TempFolder;

TEST_CASE("progress runs to the end and can cancel without leaving a file", "[convert]") {
  TempFolder folder;
  Options options;
  options.source = GoldenFolder("llama-gqa");
  options.out = folder / "model.hrm";
  uint64_t calls = 0, last = 0, total = 0;
  options.progress = [&](const convert::Progress& p) {
    CHECK(p.done_bytes >= last);
    last = p.done_bytes;
    total = p.total_bytes;
    return ++calls < 5;
  };
  CHECK(convert::Convert(options).status().code() == StatusCode::kCancelled);
  CHECK(std::filesystem::is_empty(folder.path()));
  calls = 0;
  last = 0;
  options.progress = [&](const convert::Progress& p) {
    last = p.done_bytes;
    total = p.total_bytes;
    return true;
  };
  CHECK(convert::Convert(options).ok());
  CHECK(last > total * 9 / 10);
  CHECK(last <= total);
}

// A sanitizer keeps freed memory and would be what is measured.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

// The largest tensor is 192 MiB of floats (a sparse file: it costs no disk); what the process needs
// beyond what it had must be far less.
TEST_CASE("memory stays at a slice, not a tensor", "[convert]") {
  if (kSanitized) SKIP("measured without sanitizers");
  TempFolder folder;
  constexpr uint64_t kRows = 786432, kColumns = 64;
  test::WriteText(folder / "config.json",
                  Replaced(test::ReadText(GoldenFolder("llama-mqa") + "/config.json"),
                           "\"vocab_size\": 64", "\"vocab_size\": " + std::to_string(kRows)));
  const std::string path = folder / "model.safetensors";
  const std::string source = test::ReadText(GoldenFolder("llama-mqa") + "/model.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, source.data(), 8);
  std::string header = source.substr(8, header_bytes), data = source.substr(8 + header_bytes);
  // The embedding moves to the end and grows.
  const std::string name = "\"model.embed_tokens.weight\":";
  const size_t begin = header.find(name), end = header.find('}', begin);
  header.replace(begin, end - begin + 1,
                 name + R"({"dtype":"F32","shape":[)" + std::to_string(kRows) + ",64]," +
                     R"("data_offsets":[)" + std::to_string(data.size()) + "," +
                     std::to_string(data.size() + kRows * kColumns * 4) + "]}");
  test::WriteText(path, test::Safetensors(header, data));
  std::filesystem::resize_file(path, 8 + header.size() + data.size() + kRows * kColumns * 4);
  const uint64_t before = platform::ReadProcessMemory().peak_resident_bytes;
  const auto c = ConvertFolder(folder.path(), WeightFormat::kInt8);
  const uint64_t after = platform::ReadProcessMemory().peak_resident_bytes;
  REQUIRE(after > 0);
  CHECK(c->summary.vocabulary == kRows);
  INFO("peak grew by " << (after - before) / 1048576 << " MiB");
  CHECK(after - before < 96u << 20);
}

TEST_CASE("many small tensors do not add up in memory", "[convert]") {
  if (kSanitized) SKIP("measured without sanitizers");
  TempFolder folder;
  const auto small = ConvertCase("llama-gqa");  // what a conversion needs anyway
  convert::ModelDescription description;
  description.values.push_back({0});
  constexpr size_t kTensors = 128, kFloats = 512 * 1024;
  for (size_t i = 0; i < kTensors; ++i) {
    description.tensors.push_back({"t" + std::to_string(i), DType::kF32, 0, {kFloats}});
  }
  auto writer = convert::HrmWriter::Create(folder / "x.hrm", description);
  REQUIRE(writer.ok());
  const std::vector<float> values(kFloats, 1.0f);
  const uint64_t before = platform::ReadProcessMemory().resident_bytes;
  for (size_t i = 0; i < kTensors; ++i) {
    REQUIRE(writer.value().Append(i, std::as_bytes(std::span(values))).ok());
    REQUIRE(platform::ReadProcessMemory().resident_bytes < before + (48u << 20));  // of 256
  }
  REQUIRE(writer.value().Finish().ok());
}

}  // namespace
}  // namespace headroom
