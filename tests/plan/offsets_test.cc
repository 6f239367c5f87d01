#include "plan/offsets.h"

#include <random>

#include <catch2/catch_test_macros.hpp>

namespace headroom::plan {
namespace {

uint64_t BytesOf(const Buffer& buffer, uint32_t chunk) {
  return uint64_t{buffer.width} * (buffer.tail ? 1 : chunk) * 4;
}

TEST_CASE("buffers alive together never overlap, and the rest share", "[plan]") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 40; ++i) {
      Buffer buffer;
      buffer.width = 1 + random() % 300;
      buffer.tail = random() % 4 == 0;
      buffer.first_step = static_cast<int32_t>(random() % 50);
      buffer.last_step = buffer.first_step + static_cast<int32_t>(random() % 6);
      buffers.push_back(buffer);
    }
    const uint32_t chunk = 1 + random() % 16;
    const Placement placement = PlaceBuffers(buffers, chunk);
    uint64_t sum = 0;
    for (size_t i = 0; i < buffers.size(); ++i) {
      const uint64_t begin = placement.offsets[i], end = begin + BytesOf(buffers[i], chunk);
      sum += end - begin;
      REQUIRE(begin % 64 == 0);
      REQUIRE(end <= placement.total_bytes);
      for (size_t j = 0; j < i; ++j) {
        const bool together = buffers[i].first_step <= buffers[j].last_step &&
                              buffers[j].first_step <= buffers[i].last_step;
        const uint64_t other = placement.offsets[j];
        const bool apart = end <= other || other + BytesOf(buffers[j], chunk) <= begin;
        REQUIRE((!together || apart));
      }
    }
    REQUIRE(placement.total_bytes < sum);
  }
}

TEST_CASE("an alias lies where its owner lies", "[plan]") {
  std::vector<Buffer> buffers(2);
  buffers[0] = {64, false, 0, 5, model::kNone};
  buffers[1] = {64, false, 2, 5, 0};
  const Placement placement = PlaceBuffers(buffers, 4);
  CHECK(placement.offsets[0] == placement.offsets[1]);
  CHECK(placement.total_bytes == 64 * 4 * 4);
}

}  // namespace
}  // namespace headroom::plan
