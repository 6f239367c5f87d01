// A conversion while it runs: progress, cancelling, memory.
#include "convert/convert.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/platform.h"
#include "convert/hrm_writer.h"
#include "convert/workers.h"
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

// The small model with an embedding of `rows` x 64 floats at the end of its file, a hole there.
// Returns the file's path.
std::string GrowEmbedding(const TempFolder& folder, uint64_t rows) {
  const std::string golden = GoldenFolder("llama-mqa");
  test::WriteText(folder / "config.json",
                  Replaced(test::ReadText(golden + "/config.json"), "\"vocab_size\": 64",
                           "\"vocab_size\": " + std::to_string(rows)));
  const std::string source = test::ReadText(golden + "/model.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, source.data(), 8);
  std::string header = source.substr(8, header_bytes), data = source.substr(8 + header_bytes);
  const std::string name = "\"model.embed_tokens.weight\":";
  const size_t begin = header.find(name), end = header.find('}', begin);
  header.replace(begin, end - begin + 1,
                 name + R"({"dtype":"F32","shape":[)" + std::to_string(rows) + ",64]," +
                     R"("data_offsets":[)" + std::to_string(data.size()) + "," +
                     std::to_string(data.size() + rows * 256) + "]}");
  const std::string path = folder / "model.safetensors";
  test::WriteText(path, test::Safetensors(header, data));
  std::filesystem::resize_file(path, 8 + header.size() + data.size() + rows * 256);
  return path;
}

// Rows enough for more than one slice of tiles.
TEST_CASE("many threads write what one writes, and all of it", "[convert]") {
  constexpr uint64_t kRows = 20'011;
  TempFolder folder;
  const std::string path = GrowEmbedding(folder, kRows);
  std::vector<float> embedding(kRows * 64);
  for (size_t i = 0; i < embedding.size(); ++i)
    embedding[i] = std::sin(static_cast<float>(i)) * static_cast<float>(1 + i / 64 % 9);
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-static_cast<std::streamoff>(embedding.size() * 4), std::ios::end);
    file.write(reinterpret_cast<const char*>(embedding.data()),
               static_cast<std::streamsize>(embedding.size() * 4));
  }
  const auto c = ConvertFolder(folder.path(), WeightFormat::kF32);
  CHECK((c->floats(c->op(model::OpKind::kEmbedding).weight.tensor) == embedding));
  Options options;
  options.source = folder.path();
  for (const WeightFormat format : {WeightFormat::kF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
    options.weights = format;
    std::string files[2];
    for (size_t i = 0; i < 2; ++i) {
      options.threads = i == 0 ? 1 : 5;
      options.out = folder / "model.hrm";
      REQUIRE(convert::Convert(options).ok());
      files[i] = test::ReadText(options.out);
    }
    CHECK((files[0] == files[1]));
  }
  options.threads = convert::kMaxThreads + 1;
  CHECK(convert::Convert(options).status().code() == StatusCode::kInvalidArgument);
}

// Many tiles fail at once: the first one is reported, as one thread would.
TEST_CASE("of several failures the first one is told", "[convert]") {
  const auto workers = convert::Workers::Start(4);
  REQUIRE(workers.ok());
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> calls = 0;
    const Status status = workers.value()->Run(64, [&](size_t i) -> Status {
      ++calls;
      if (i < 7) return {};
      return Status::Make(StatusCode::kCorrupt, "tile %zu", i);
    });
    REQUIRE(status.message() == std::string("tile 7"));
    REQUIRE(calls == 64);
  }
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
  constexpr uint64_t kRows = 786432;
  GrowEmbedding(folder, kRows);
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
