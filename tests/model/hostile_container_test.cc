// Hostile files: header, FlatBuffer and segments.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "base/math.h"
#include "model/container.h"
#include "model/hostile.h"

namespace headroom {
namespace {

using test::AlignedBytes;
using test::ExpectRefused;
using test::ExpectStatus;
using test::OpenStatus;

using test::kCorrupt;
constexpr StatusCode kNewer = StatusCode::kNewerFormat;

model::Header TinyHeader() { return model::ReadHeader(test::TinyFile().span()).value(); }

// The tiny file with a changed, correctly checksummed header.
Status OpenWithHeader(const std::function<void(model::Header&)>& change) {
  AlignedBytes file(test::TinyFile().span());
  model::Header header = TinyHeader();
  change(header);
  model::WriteHeader(header, file.span().first<model::kHeaderBytes>());
  return OpenStatus(file.span());
}

// The tiny file whose graph bytes `change` may damage; checksums are made right again.
Status OpenWithGraph(const std::function<void(std::span<std::byte> graph)>& change) {
  AlignedBytes file(test::TinyFile().span());
  const model::Header header = TinyHeader();
  change(file.span().subspan(header.graph_offset, header.graph_bytes));
  test::FixChecksums(file.span());
  return OpenStatus(file.span());
}

// A file that is nothing but a header and this graph.
Status OpenBareGraph(std::span<const std::byte> graph) {
  AlignedBytes file(model::kHeaderBytes + graph.size());
  std::copy(graph.begin(), graph.end(), file.data() + model::kHeaderBytes);
  model::Header header;
  header.graph_bytes = graph.size();
  model::WriteHeader(header, file.span().first<model::kHeaderBytes>());
  test::FixChecksums(file.span());
  return OpenStatus(file.span());
}

std::span<const std::byte> BuilderBytes(const flatbuffers::FlatBufferBuilder& builder) {
  return std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()));
}

// Where `pointer`, taken from the tiny file's graph, lies within the graph.
size_t OffsetInGraph(const void* pointer) {
  return static_cast<size_t>(static_cast<const std::byte*>(pointer) - test::TinyFile().data()) -
         TinyHeader().graph_offset;
}

const fb::Model& TinyGraph() {
  return *fb::GetModel(test::TinyFile().data() + TinyHeader().graph_offset);
}

void Put32(std::span<std::byte> bytes, size_t offset, uint32_t value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

TEST_CASE("group 1: every truncation is refused", "[model][hostile]") {
  const std::span<const std::byte> file = test::TinyFile().span();
  for (size_t bytes = 0; bytes < file.size(); bytes += bytes < 64 ? 1 : 64) {
    const Status status = OpenStatus(file.first(bytes));
    ExpectStatus("truncated", status, kCorrupt, bytes < 64 ? "a header has 64" : "its header says");
    if (bytes < 64) continue;
    AlignedBytes repaired(file.first(bytes));
    test::FixChecksums(repaired.span());
    INFO("header repaired, " << bytes << " bytes");
    CHECK(OpenStatus(repaired.span()).code() == kCorrupt);
  }
}

TEST_CASE("group 1: a graph of 8 bytes whose root lies outside is refused", "[model][hostile]") {
  const uint32_t graph[2] = {0x00ffffff, 0};
  ExpectStatus("8 bytes", OpenBareGraph(std::as_bytes(std::span(graph))), kCorrupt,
               "not a FlatBuffer");
  ExpectStatus("0 bytes", OpenBareGraph({}), kCorrupt, "graph of 0 bytes");
}

TEST_CASE("group 2: every flipped bit of the header is refused", "[model][hostile]") {
  for (size_t bit = 0; bit < 8 * model::kHeaderBytes; ++bit) {
    AlignedBytes file(test::TinyFile().span());
    file.data()[bit / 8] ^= std::byte{1} << bit % 8;
    const StatusCode code = OpenStatus(file.span()).code();
    INFO("bit " << bit);
    CHECK((code == kCorrupt || code == kNewer));
  }
}

TEST_CASE("group 2: identity, version and byte order are told apart", "[model][hostile]") {
  AlignedBytes magic(test::TinyFile().span());
  magic.data()[0] = std::byte{'h'};
  ExpectStatus("magic", OpenStatus(magic.span()), kCorrupt, "not a Headroom model");
  ExpectStatus("version 0", OpenWithHeader([](auto& h) { h.format_version = 0; }), kCorrupt,
               "version 0x00000000");
  ExpectStatus("big endian", OpenWithHeader([](auto& h) { h.format_version = 0x01000000; }),
               kCorrupt, "big-endian");
  ExpectStatus("version 2", OpenWithHeader([](auto& h) { h.format_version = 2; }), kNewer,
               "format version 2 > 1");
}

TEST_CASE("group 2: a required feature this build lacks is refused by name or bit",
          "[model][hostile]") {
  ExpectStatus("bit 0", OpenWithHeader([](auto& h) { h.required_features = 1; }), kNewer,
               "\"external segments\"");
  ExpectStatus("bit 1", OpenWithHeader([](auto& h) { h.required_features = 2; }), kNewer,
               "\"compressed segments\"");
  ExpectStatus("bit 7", OpenWithHeader([](auto& h) { h.required_features = 1u << 7; }), kNewer,
               "feature bit 7");
  ExpectStatus("bit 63", OpenWithHeader([](auto& h) { h.required_features = 1ull << 63; }), kNewer,
               "feature bit 63");
}

TEST_CASE("group 3: a damaged graph is noticed by its checksum", "[model][hostile]") {
  AlignedBytes file(test::TinyFile().span());
  file.data()[TinyHeader().graph_offset + TinyHeader().graph_bytes / 2] ^= std::byte{0x10};
  ExpectStatus("flip", OpenStatus(file.span()), kCorrupt, "graph checksum");
}

TEST_CASE("group 3: root, vtables and vectors outside the graph are refused", "[model][hostile]") {
  const size_t root = OffsetInGraph(&TinyGraph());
  const size_t tensors = OffsetInGraph(TinyGraph().tensors());
  const size_t name = OffsetInGraph(TinyGraph().tensors()->Get(0)->name());
  for (const uint32_t value : {0x7fffffffu, 0xffffffffu, 0x80000000u, 0xfffffff0u}) {
    for (const size_t offset : {size_t{0}, root, tensors, tensors + 4, name}) {
      INFO("value " << value << " at " << offset);
      const Status status = OpenWithGraph([&](auto graph) { Put32(graph, offset, value); });
      ExpectStatus("offset", status, kCorrupt, "not a FlatBuffer");
    }
  }
  ExpectStatus("identifier", OpenWithGraph([&](auto graph) { Put32(graph, 4, 0x41414141); }),
               kCorrupt, "\"HRMG\"");
}

TEST_CASE("group 3: a misaligned list of 64-bit numbers is refused", "[model][hostile]") {
  // A list of one segment whose length is 8-aligned, so that its elements are not.
  const std::span<const std::byte> tiny = test::TinyFile().span();
  const model::Header header = TinyHeader();
  const auto old_graph = tiny.subspan(header.graph_offset, header.graph_bytes);
  const size_t list = RoundUp(old_graph.size(), 8);
  std::vector<std::byte> graph(old_graph.begin(), old_graph.end());
  graph.resize(list + 4 + sizeof(fb::Segment) + 16);
  Put32(graph, list, 1);
  const size_t field =
      OffsetInGraph(&TinyGraph()) + reinterpret_cast<const flatbuffers::Table*>(&TinyGraph())
                                        ->GetOptionalFieldOffset(fb::Model::VT_SEGMENTS);
  Put32(graph, field, static_cast<uint32_t>(list - field));
  ExpectStatus("misaligned", OpenBareGraph(graph), kCorrupt, "not aligned to 8 bytes");
}

TEST_CASE("group 3: lists that repeat one table a million times are refused quickly",
          "[model][hostile]") {
  flatbuffers::FlatBufferBuilder builder;
  const auto op = fb::CreateOp(builder);
  const auto ops = builder.CreateVector(std::vector<flatbuffers::Offset<fb::Op>>(1000000, op));
  fb::ModelBuilder model(builder);
  model.add_ops(ops);
  fb::FinishModelBuffer(builder, model.Finish());
  const auto start = std::chrono::steady_clock::now();
  ExpectStatus("a million", OpenBareGraph(BuilderBytes(builder)), kCorrupt, "tables");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(1));
}

TEST_CASE("group 4: weights beyond 4 GiB are addressed", "[model][hostile]") {
  const test::TemporaryPath path("sparse.hrm");
  constexpr uint64_t kFirst = (uint64_t{5} << 30) + (1 << 20);
  test::OpenedFile file;
  for (fb::Segment& segment : file.graph.segments) {
    segment = fb::Segment(segment.offset() - model::kSegmentAlignment + kFirst, segment.bytes(),
                          segment.checksum());
  }
  flatbuffers::FlatBufferBuilder builder;
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &file.graph));
  model::Header header;
  header.graph_bytes = builder.GetSize();
  header.graph_checksum = model::Checksum(BuilderBytes(builder));
  header.file_bytes = kFirst + file.payload.size();
  std::array<std::byte, model::kHeaderBytes> front;
  model::WriteHeader(header, front);
  const int fd = open(path.text().c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
  REQUIRE(fd >= 0);
  REQUIRE(pwrite(fd, front.data(), front.size(), 0) == static_cast<ssize_t>(front.size()));
  REQUIRE(pwrite(fd, builder.GetBufferPointer(), builder.GetSize(), 64) ==
          static_cast<ssize_t>(builder.GetSize()));
  REQUIRE(pwrite(fd, file.payload.data(), file.payload.size(), static_cast<off_t>(kFirst)) ==
          static_cast<ssize_t>(file.payload.size()));
  close(fd);
  model::OpenOptions options;
  options.verify_checksums = true;
  const auto model = model::Model::OpenPath(path.text().c_str(), options);
  INFO(model.status().message());
  REQUIRE(model.ok());
  CHECK(model.value()->tensors[0].f32()[0] == 1.0f);
}

TEST_CASE("group 4: a graph too large for 32-bit positions is refused", "[model][hostile]") {
  ExpectStatus("2 GiB", OpenWithHeader([](auto& h) { h.graph_bytes = uint64_t{2} << 30; }),
               kCorrupt, "graph of 2147483648 bytes > 1073741824");
}

TEST_CASE("group 6: a graph that wraps, is unaligned, overlaps the header or leaves the file",
          "[model][hostile]") {
  ExpectStatus("offset 0", OpenWithHeader([](auto& h) { h.graph_offset = 0; }), kCorrupt,
               "graph offset 0");
  ExpectStatus("offset 65", OpenWithHeader([](auto& h) { h.graph_offset = 65; }), kCorrupt,
               "graph offset 65");
  ExpectStatus("offset -64", OpenWithHeader([](auto& h) { h.graph_offset = ~uint64_t{63}; }),
               kCorrupt, "leaves the file");
  ExpectStatus("too long", OpenWithHeader([](auto& h) { h.graph_bytes = h.file_bytes; }), kCorrupt,
               "leaves the file");
  ExpectStatus("longer file", OpenWithHeader([](auto& h) { ++h.file_bytes; }), kCorrupt,
               "its header says");
}

void SetSegment(fb::ModelT& graph, uint64_t offset, uint64_t bytes) {
  graph.segments[0] = fb::Segment(offset, bytes, graph.segments[0].checksum());
}

TEST_CASE("group 6: segments that wrap, overlap, leave the file or are unaligned are refused",
          "[model][hostile]") {
  const uint64_t good = TinyGraph().segments()->Get(0)->bytes();
  ExpectRefused({
      {"offset -1", kCorrupt, "not a multiple of 16384",
       [=](auto& g) { SetSegment(g, ~0ull, good); }},
      {"offset + size wraps", kCorrupt, "leaves the file",
       [=](auto& g) { SetSegment(g, ~uint64_t{16383}, good); }},
      {"size -1", kCorrupt, "leaves the file", [](auto& g) { SetSegment(g, 16384, ~0ull); }},
      {"beyond the end", kCorrupt, "leaves the file",
       [=](auto& g) { SetSegment(g, 16384, good + 1); }},
      {"size 0", kCorrupt, "0 bytes", [](auto& g) { SetSegment(g, 16384, 0); }},
      {"4 KiB aligned only", kCorrupt, "not a multiple of 16384",
       [](auto& g) { SetSegment(g, 20480, 64); }},
      {"over the header", kCorrupt, "inside what ends at", [](auto& g) { SetSegment(g, 0, 64); }},
      {"twice the same", kCorrupt, "segment 1: starts at 16384 inside",
       [](auto& g) { g.segments.push_back(g.segments[0]); }},
      {"none", kCorrupt, "segment 0 is not in", [](auto& g) { g.segments.clear(); }},
      {"wrong checksum", kCorrupt, "segment 0: checksum",
       [=](auto& g) { g.segments[0] = fb::Segment(16384, good, 1); }},
  });
}

TEST_CASE("group 6: a flipped weight is found by verification", "[model][hostile]") {
  test::OpenedFile file;
  file.payload[100] ^= std::byte{4};
  const AlignedBytes bytes = file.Assemble();
  ExpectStatus("flip", OpenStatus(bytes.span()), kCorrupt, "segment 0: checksum");
  // Opening is lazy: without verification the weights are not read.
  CHECK(model::Model::OpenMemory(bytes.data(), bytes.size(), {}).ok());
}

TEST_CASE("group 8: counts larger than the file are refused", "[model][hostile]") {
  const fb::Model& graph = TinyGraph();
  for (const void* list :
       {static_cast<const void*>(graph.tensors()), static_cast<const void*>(graph.ops()),
        static_cast<const void*>(graph.values()), static_cast<const void*>(graph.segments()),
        static_cast<const void*>(graph.attentions()),
        static_cast<const void*>(graph.tokenizer()->token_ends()),
        static_cast<const void*>(graph.tokenizer()->token_bytes()),
        static_cast<const void*>(graph.tokenizer()->merges()),
        static_cast<const void*>(graph.tokenizer()->patterns()),
        static_cast<const void*>(graph.tensors()->Get(0)->extents()),
        static_cast<const void*>(graph.tensors()->Get(0)->name())}) {
    for (const uint32_t count : {0xffffffffu, 0x80000000u, 0x40000000u, 0x10000000u, 0x00100000u}) {
      const Status status =
          OpenWithGraph([&](auto bytes) { Put32(bytes, OffsetInGraph(list), count); });
      ExpectStatus("count", status, kCorrupt, "not a FlatBuffer");
    }
  }
}

TEST_CASE("group 8: more of a list than the limit is refused", "[model][hostile]") {
  flatbuffers::FlatBufferBuilder builder;
  const auto tensor = fb::CreateTensor(builder);
  const auto tensors =
      builder.CreateVector(std::vector<flatbuffers::Offset<fb::Tensor>>(70000, tensor));
  fb::ModelBuilder model(builder);
  model.add_tensors(tensors);
  fb::FinishModelBuffer(builder, model.Finish());
  ExpectStatus("70000 tensors", OpenBareGraph(BuilderBytes(builder)), kCorrupt,
               "70000 tensors > 65536");
}

TEST_CASE("group 9: only regular files are opened", "[model][hostile]") {
  ExpectStatus("folder", model::Model::OpenPath("/tmp", {}).status(), StatusCode::kIo, "regular");
  const test::TemporaryPath pipe("pipe.hrm");
  REQUIRE(mkfifo(pipe.text().c_str(), 0600) == 0);
  ExpectStatus("pipe", model::Model::OpenPath(pipe.text().c_str(), {}).status(), StatusCode::kIo,
               "regular");
  const test::TemporaryPath empty("empty.hrm");
  close(open(empty.text().c_str(), O_CREAT | O_WRONLY, 0600));
  ExpectStatus("empty", model::Model::OpenPath(empty.text().c_str(), {}).status(), kCorrupt,
               "empty");
}

TEST_CASE("memory that is null or unaligned is the caller's error", "[model][hostile]") {
  const AlignedBytes& tiny = test::TinyFile();
  AlignedBytes shifted(tiny.size() + 64);
  std::memcpy(shifted.data() + 8, tiny.data(), tiny.size());
  ExpectStatus("shifted", model::Model::OpenMemory(shifted.data() + 8, tiny.size(), {}).status(),
               StatusCode::kInvalidArgument, "multiple of 64");
  ExpectStatus("null", model::Model::OpenMemory(nullptr, 64, {}).status(),
               StatusCode::kInvalidArgument, "null");
}

}  // namespace
}  // namespace headroom
