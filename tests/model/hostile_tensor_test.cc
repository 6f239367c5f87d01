// Hostile files: names, extents, types and bytes of tensors.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "model/container.h"
#include "model/hostile.h"

namespace headroom {
namespace {

using test::ExpectRefused;

using test::kCorrupt;
using test::kUnsupported;

// Tensor 1 is the embedding, int8 [40, 32]; 4 the first fused int4 matrix [64, 32], block 32.
fb::TensorT& Int8(fb::ModelT& graph) { return *graph.tensors[1]; }
fb::TensorT& Int4(fb::ModelT& graph) {
  for (auto& tensor : graph.tensors) {
    if (tensor->dtype == fb::DType::I4) return *tensor;
  }
  std::abort();
}

TEST_CASE("group 5: missing names and duplicates are refused", "[model][hostile]") {
  ExpectRefused({
      {"no name", kCorrupt, "tensor 1: no name", [](auto& g) { g.tensors[1]->name.clear(); }},
      {"twice", kCorrupt, "two are named \"rope.frequencies\"",
       [](auto& g) { g.tensors[2]->name = g.tensors[0]->name; }},
      {"no extents", kCorrupt, "rank 0", [](auto& g) { g.tensors[0]->extents.clear(); }},
      {"no tensors", kCorrupt, "is not in 0..", [](auto& g) { g.tensors.clear(); }},
  });
}

TEST_CASE("group 7: names that could disturb a terminal are refused", "[model][hostile]") {
  const auto name = [](std::string text) {
    return [text](fb::ModelT& g) { g.tensors[1]->name = text; };
  };
  ExpectRefused({
      {"escape", kCorrupt, "control character 0x1b at byte 1", name("a\x1b[2J")},
      {"line break", kCorrupt, "control character 0x0a", name("a\nb")},
      {"NUL", kCorrupt, "control character 0x00 at byte 1", name(std::string("a\0b", 3))},
      {"delete", kCorrupt, "control character 0x7f", name("\x7f")},
      {"C1 control", kCorrupt, "control character 0xc2", name("\xc2\x9b")},
      {"stray tail", kCorrupt, "not UTF-8 at byte 1", name("a\x80")},
      {"cut sequence", kCorrupt, "not UTF-8 at byte 0", name("\xe2\x82")},
      {"overlong", kCorrupt, "not UTF-8", name("\xc0\xaf")},
      {"surrogate", kCorrupt, "not UTF-8", name("\xed\xa0\x80")},
      {"past U+10FFFF", kCorrupt, "not UTF-8", name("\xf4\x90\x80\x80")},
      {"long", kCorrupt, "name of 257 bytes > 256", name(std::string(257, 'a'))},
      {"operation", kCorrupt, "op 0: name has control", [](auto& g) { g.ops[0]->name = "\x1b"; }},
      {"value", kCorrupt, "value 1: name has control", [](auto& g) { g.values[1]->name = "\x1b"; }},
      {"model", kCorrupt, "metadata: name has control", [](auto& g) { g.metadata->name = "\x1b"; }},
      {"source", kCorrupt, "metadata: source is not UTF-8",
       [](auto& g) { g.metadata->source = "\xff"; }},
  });
}

TEST_CASE("names in any script are accepted", "[model]") {
  test::OpenedFile file;
  file.graph.tensors[1]->name = "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80";
  CHECK(test::OpenStatus(file.Assemble().span()).ok());
}

TEST_CASE("group 10: ranks and extents out of range are refused", "[model][hostile]") {
  const auto extents = [](std::vector<uint32_t> list) {
    return [list](fb::ModelT& g) { g.tensors[0]->extents = list; };
  };
  ExpectRefused({
      {"rank 0", kCorrupt, "rank 0 is not 1..4", extents({})},
      {"rank 5", kCorrupt, "rank 5 is not 1..4", extents({1, 1, 1, 1, 4})},
      {"rank 10000", kCorrupt, "rank 10000", extents(std::vector<uint32_t>(10000, 1))},
      {"extent 0", kCorrupt, "extent 0 is 0", extents({0})},
      {"inner extent 0", kCorrupt, "extent 1 is 0", extents({4, 0})},
      {"extent -1", kCorrupt, "extent 0 is 4294967295", extents({0xffffffff})},
      {"extent 2^31", kCorrupt, "extent 0 is 2147483648", extents({0x80000000})},
      {"product wraps 64 bits", kCorrupt, "elements",
       extents({0x7fffffff, 0x7fffffff, 0x7fffffff, 4})},
      {"product wraps 32 bits", kCorrupt, "its extents take", extents({0x10000, 0x10001})},
      {"half a byte", kCorrupt, "row of 33 int4 values", [](auto& g) { Int4(g).extents[1] = 33; }},
      {"half a block", kCorrupt, "whole blocks of 32", [](auto& g) { Int4(g).extents[1] = 48; }},
  });
}

TEST_CASE("group 11: bytes that disagree with extents are refused", "[model][hostile]") {
  ExpectRefused({
      {"one short", kCorrupt, "states 1279 + 160 bytes", [](auto& g) { --Int8(g).data_bytes; }},
      {"one more", kCorrupt, "states 1281 + 160 bytes", [](auto& g) { ++Int8(g).data_bytes; }},
      {"none", kCorrupt, "states 0 + 160 bytes", [](auto& g) { Int8(g).data_bytes = 0; }},
      {"no scales", kCorrupt, "states 1280 + 0 bytes", [](auto& g) { Int8(g).scale_bytes = 0; }},
      {"short scales", kCorrupt, "states 1280 + 156 bytes",
       [](auto& g) { Int8(g).scale_bytes -= 4; }},
      {"scales on f32", kCorrupt, "states 16 + 16 bytes",
       [](auto& g) { g.tensors[0]->scale_bytes = 16; }},
      {"data wraps", kCorrupt, "leaves its segment",
       [](auto& g) { Int8(g).data_offset = ~uint64_t{63}; }},
      {"data behind", kCorrupt, "leaves its segment",
       [](auto& g) { Int8(g).data_offset = g.segments[0].bytes() / 64 * 64; }},
      {"scales wrap", kCorrupt, "scales at 18446744073709551552",
       [](auto& g) { Int8(g).scale_offset = ~uint64_t{63}; }},
      {"unaligned", kCorrupt, "offset 4 is not a multiple of 64",
       [](auto& g) { g.tensors[0]->data_offset = 4; }},
      {"segment", kCorrupt, "segment 9 is not in 0..0", [](auto& g) { Int8(g).segment = 9; }},
  });
}

TEST_CASE("group 11: element types and blocks out of range are refused", "[model][hostile]") {
  ExpectRefused({
      {"no type", kCorrupt, "no element type", [](auto& g) { Int8(g).dtype = fb::DType::None; }},
      {"type 77", kUnsupported, "element type 77",
       [](auto& g) { Int8(g).dtype = static_cast<fb::DType>(77); }},
      {"block 31", kCorrupt, "block 31 is not 0, 32, 64 or 128",
       [](auto& g) { Int4(g).block = 31; }},
      {"block 65535", kCorrupt, "block 65535", [](auto& g) { Int4(g).block = 65535; }},
      {"block 33 on int8", kCorrupt, "block 33 is not 0, 32, 64 or 128",
       [](auto& g) { Int8(g).block = 33; }},
      {"a block the scales are not for", kCorrupt,
       "states 1280 + 160 bytes, its extents take 1280 + 80", [](auto& g) { Int8(g).block = 32; }},
      {"int8 vector", kCorrupt, "int8 of rank 1",
       [](auto& g) { g.tensors[0]->dtype = fb::DType::I8; }},
      {"bf16 matrix", kUnsupported, "bf16",
       [](auto& g) {
         for (auto& tensor : g.tensors) {
           if (tensor->dtype == fb::DType::F16) tensor->dtype = fb::DType::BF16;
         }
       }},
      {"int32 frequencies", kCorrupt, "inverse frequencies is int32",
       [](auto& g) { g.tensors[0]->dtype = fb::DType::I32; }},
  });
}

TEST_CASE("group 11: scales that are no numbers are found by verification", "[model][hostile]") {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    test::OpenedFile file;
    const fb::TensorT& tensor = Int8(file.graph);
    std::memcpy(file.payload.data() + tensor.scale_offset + 8, &value, sizeof(value));
    const fb::Segment& old = file.graph.segments[0];
    file.graph.segments[0] = fb::Segment(
        old.offset(), old.bytes(), model::Checksum(std::span(file.payload).first(old.bytes())));
    test::ExpectStatus("scale", test::OpenStatus(file.Assemble().span()), kCorrupt,
                       "\"embedding\": scale 2 is");
  }
}

TEST_CASE("group 11: block scales that are no numbers are found by verification",
          "[model][hostile]") {
  for (const uint16_t bits : {uint16_t{0x7fc0}, uint16_t{0x7f80}, uint16_t{0xff80}}) {  // NaN, inf
    test::OpenedFile file;
    const fb::TensorT& tensor = Int4(file.graph);
    REQUIRE(tensor.block == 32);
    std::memcpy(file.payload.data() + tensor.scale_offset + 6, &bits, sizeof(bits));
    const fb::Segment& old = file.graph.segments[0];
    file.graph.segments[0] = fb::Segment(
        old.offset(), old.bytes(), model::Checksum(std::span(file.payload).first(old.bytes())));
    test::ExpectStatus("scale", test::OpenStatus(file.Assemble().span()), kCorrupt, ": scale 3 is");
  }
}

TEST_CASE("group 11: an origin that no tensor has is refused", "[model][hostile]") {
  ExpectRefused({
      {"error no number", kCorrupt, "source error nan",
       [](auto& g) { g.tensors[1]->source_error = std::nanf(""); }},
      {"endless error", kCorrupt, "source error inf",
       [](auto& g) { g.tensors[1]->source_error = std::numeric_limits<float>::infinity(); }},
      {"control in the type", kCorrupt, "source type has control",
       [](auto& g) { g.tensors[1]->source_type = "\x1b"; }},
  });
}

TEST_CASE("group 12: tensors that share bytes are refused", "[model][hostile]") {
  ExpectRefused({
      {"data on data", kCorrupt, "overlap",
       [](auto& g) { g.tensors[3]->data_offset = g.tensors[1]->data_offset + 64; }},
      {"scales on data", kCorrupt, "overlap",
       [](auto& g) { Int8(g).scale_offset = Int8(g).data_offset; }},
  });
}

}  // namespace
}  // namespace headroom
