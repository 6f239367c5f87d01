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

TEST_CASE("the kept buffer never meets the first row of another", "[plan]") {
  std::mt19937 random(11);
  int free_of_charge = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 40; ++i) {
      Buffer buffer;
      buffer.width = 1 + random() % 300;
      buffer.tail = i >= 30;
      buffer.first_step = static_cast<int32_t>(i + random() % 3);
      buffer.last_step = buffer.first_step + static_cast<int32_t>(random() % 6);
      buffers.push_back(buffer);
    }
    buffers.push_back({static_cast<uint32_t>(1 + random() % 2000), true, 44, 50, model::kNone});
    buffers.push_back({buffers.back().width, true, 46, 50, 40});  // in the kept one's place
    const int32_t kept = 41;
    const uint32_t chunk = 1 + random() % 64;
    const Placement placement = PlaceBuffers(buffers, chunk, kept);
    const uint64_t begin = placement.offsets[kept], end = begin + BytesOf(buffers[kept], chunk);
    REQUIRE(end <= placement.total_bytes);
    for (size_t i = 0; i < 40; ++i) {
      const uint64_t other = placement.offsets[i];
      REQUIRE((end <= other || other + BytesOf(buffers[i], 1) <= begin));
      for (size_t j = 0; j < i; ++j) {
        const bool together = buffers[i].first_step <= buffers[j].last_step &&
                              buffers[j].first_step <= buffers[i].last_step;
        const uint64_t third = placement.offsets[j];
        const bool apart = other + BytesOf(buffers[i], chunk) <= third ||
                           third + BytesOf(buffers[j], chunk) <= other;
        REQUIRE((!together || apart));
      }
    }
    free_of_charge += placement.total_bytes == PlaceBuffers(buffers, chunk).total_bytes;
  }
  CHECK(free_of_charge > 100);
}

}  // namespace
}  // namespace headroom::plan
