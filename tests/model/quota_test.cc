// Heap taken while opening stays a small multiple of the file, whatever the file claims.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <vector>

#include "model/container.h"
#include "model/hostile.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<size_t> total_bytes{0};

}  // namespace

// Not inlined, or gcc compares the malloc in one with the free in the other and sees a mismatch.
[[gnu::noinline]] void* operator new(size_t bytes) {
  if (counting) total_bytes += bytes;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace headroom {
namespace {

struct Opened {
  Status status;
  size_t heap_bytes = 0;
};

Opened Open(const test::AlignedBytes& file) {
  total_bytes = 0;
  counting = true;
  Opened opened;
  opened.status = model::Model::OpenMemory(file.data(), file.size(), {}).status();
  counting = false;
  opened.heap_bytes = total_bytes;
  return opened;
}

// Floor and factor as documented in model/load.h, with room for the Model object itself.
size_t Allowance(size_t file_bytes) { return (size_t{1} << 20) + 16 * file_bytes + 4096; }

test::AlignedBytes BareFile(const flatbuffers::FlatBufferBuilder& builder) {
  test::AlignedBytes file(model::kHeaderBytes + builder.GetSize());
  std::memcpy(file.data() + model::kHeaderBytes, builder.GetBufferPointer(), builder.GetSize());
  model::Header header;
  header.graph_bytes = builder.GetSize();
  model::WriteHeader(header, file.span().first<model::kHeaderBytes>());
  test::FixChecksums(file.span());
  return file;
}

TEST_CASE("an honest file costs less heap than it has bytes", "[model][quota]") {
  const Opened opened = Open(test::TinyFile());
  CHECK(opened.status.ok());
  CHECK(opened.heap_bytes > 0);
  CHECK(opened.heap_bytes < test::TinyFile().size());
}

TEST_CASE("lists that repeat one element cannot multiply the file in memory", "[model][quota]") {
  flatbuffers::FlatBufferBuilder builder;
  const auto metadata = fb::CreateMetadata(builder, 0, 0, 0, 0, 16, 16);
  const auto value = fb::CreateValue(builder);
  const auto op = fb::CreateOp(builder);
  const auto values = builder.CreateVector(&value, 1);
  const auto ops = builder.CreateVector(std::vector<flatbuffers::Offset<fb::Op>>(16000, op));
  fb::ModelBuilder model(builder);
  model.add_metadata(metadata);
  model.add_values(values);
  model.add_ops(ops);
  fb::FinishModelBuffer(builder, model.Finish());
  const test::AlignedBytes file = BareFile(builder);
  const Opened opened = Open(file);
  test::ExpectStatus("16000 operations", opened.status, StatusCode::kCorrupt, "bytes of heap");
  CHECK(opened.heap_bytes <= Allowance(file.size()));
}

TEST_CASE("plans that share one wide description cannot either", "[model][quota]") {
  test::OpenedFile tiny;
  flatbuffers::FlatBufferBuilder builder;
  const auto plan = fb::AttentionPlan::Pack(builder, tiny.graph.attentions[0].get());
  const auto plans =
      builder.CreateVector(std::vector<flatbuffers::Offset<fb::AttentionPlan>>(4096, plan));
  const auto metadata = fb::CreateMetadata(builder, 0, 0, 0, 0, 16, 16);
  fb::ModelBuilder model(builder);
  model.add_metadata(metadata);
  model.add_attentions(plans);
  fb::FinishModelBuffer(builder, model.Finish());
  const test::AlignedBytes file = BareFile(builder);
  const Opened opened = Open(file);
  CHECK(opened.status.code() == StatusCode::kCorrupt);
  CHECK(opened.heap_bytes <= Allowance(file.size()));
}

TEST_CASE("truncated files never cost more than their bytes allow", "[model][quota]") {
  const std::span<const std::byte> tiny = test::TinyFile().span();
  for (size_t bytes = 0; bytes < tiny.size(); bytes += 256) {
    test::AlignedBytes file(tiny.first(bytes));
    test::FixChecksums(file.span());
    const Opened opened = Open(file);
    INFO(bytes);
    CHECK_FALSE(opened.status.ok());
    CHECK(opened.heap_bytes <= Allowance(bytes));
  }
}

}  // namespace
}  // namespace headroom
