// The thread pool: every task once, workers told apart, sleep and wake.
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <vector>

#include "backends/xnnpack/dense.h"

namespace headroom::xnnpack {
namespace {

std::unique_ptr<ThreadPool> Pool(uint32_t threads) {
  auto pool = ThreadPool::Create(threads);
  REQUIRE(pool.ok());
  return pool.Take();
}

TEST_CASE("the pool runs each index exactly once", "[pool]") {
  for (const uint32_t threads : {1u, 2u, 3u}) {
    const auto pool = Pool(threads);
    CHECK(pool->threads() == threads);
    for (const uint32_t count : {0u, 1u, 2u, 7u, 1000u}) {
      std::vector<std::atomic<int>> seen(count + 1);
      pool->ParallelFor(
          count,
          [](void* context, size_t i) {
            ++(*static_cast<std::vector<std::atomic<int>>*>(context))[i];
          },
          &seen);
      for (uint32_t i = 0; i < count; ++i) REQUIRE(seen[i] == 1);
      CHECK(seen[count] == 0);
    }
  }
}

TEST_CASE("no two tasks have one worker's number at a time", "[pool]") {
  const auto pool = Pool(3);
  struct Shared {
    std::atomic<int> inside[3] = {};
    std::atomic<int> collisions = 0, outside = 0, total = 0;
  } shared;
  pool->ParallelForWorker(
      500,
      [](void* context, size_t worker, size_t) {
        auto& s = *static_cast<Shared*>(context);
        if (worker >= 3) {
          ++s.outside;
          return;
        }
        if (s.inside[worker]++ != 0) ++s.collisions;
        for (std::atomic<int> spin{0}; spin.fetch_add(1) < 200;) {
        }
        --s.inside[worker];
        ++s.total;
      },
      &shared);
  CHECK(shared.outside == 0);
  CHECK(shared.collisions == 0);
  CHECK(shared.total == 500);
}

TEST_CASE("the pool wakes again after a rest", "[pool]") {
  for (const uint32_t threads : {1u, 2u}) {
    const auto pool = Pool(threads);
    std::atomic<int> total = 0;
    for (int round = 0; round < 20; ++round) {
      pool->ParallelFor(
          10, [](void* context, size_t) { ++*static_cast<std::atomic<int>*>(context); }, &total);
      pool->Rest();
    }
    CHECK(total == 200);
  }
}

TEST_CASE("a pool of no threads or absurdly many is refused", "[pool]") {
  CHECK(ThreadPool::Create(0).status().code() == StatusCode::kInvalidArgument);
  CHECK(ThreadPool::Create(100000).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headroom::xnnpack
