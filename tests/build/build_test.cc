// The build itself: each dependency links into one program, is the version we pinned, and works on
// this CPU.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <cpuinfo.h>
#include <hwy/targets.h>
#include <pcre2.h>
#include <pthreadpool.h>
#include <xnnpack.h>
#include <xxhash.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <string>

namespace {

TEST_CASE("cpuinfo and XNNPACK recognise this CPU", "[build]") {
  REQUIRE(cpuinfo_initialize());
  CHECK(cpuinfo_get_processors_count() > 0);
  CHECK(xnn_initialize(nullptr) == xnn_status_success);
}

TEST_CASE("the thread pool runs each task once", "[build]") {
  std::unique_ptr<pthreadpool, decltype(&pthreadpool_destroy)> pool(pthreadpool_create(2),
                                                                    &pthreadpool_destroy);
  std::atomic<size_t> sum{0};
  pthreadpool_parallelize_1d(
      pool.get(),
      [](void* context, size_t i) { static_cast<std::atomic<size_t>*>(context)->fetch_add(i + 1); },
      &sum, 100, 0);
  CHECK(sum == 5050);
}

TEST_CASE("PCRE2 matches Unicode classes", "[build]") {
  uint32_t unicode = 0;
  pcre2_config(PCRE2_CONFIG_UNICODE, &unicode);
  CHECK(unicode == 1);
}

TEST_CASE("xxHash gives the published value of the empty input", "[build]") {
  CHECK(XXH64(nullptr, 0, 0) == 0xEF46DB3751D8E999ULL);
}

TEST_CASE("Highway has a target for this CPU", "[build]") { CHECK(hwy::SupportedTargets() != 0); }

}  // namespace
