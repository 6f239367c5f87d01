#include "base/status.h"

#include <memory>
#include <string>

#include <catch2/catch_test_macros.hpp>

#include "base/log.h"
#include "base/math.h"
#include "headroom/headroom.h"

namespace headroom {
namespace {

Result<int> Half(int value) {
  if (value % 2 != 0) {
    return Status::Make(StatusCode::kInvalidArgument, "value %d is odd", value);
  }
  return value / 2;
}

Result<int> Quarter(int value) {
  HR_ASSIGN_OR_RETURN(const int half, Half(value));
  return Half(half);
}

TEST_CASE("errors travel through the macros with their text", "[base][status]") {
  CHECK(Quarter(12).value() == 3);
  const auto refused = Quarter(6);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  CHECK(std::string(refused.status().message()) == "value 3 is odd");
}

TEST_CASE("a result built from ok is an internal error, not a missing value", "[base][status]") {
  const Result<int> result{Status{}};
  CHECK_FALSE(result.ok());
  CHECK(result.status().code() == StatusCode::kInternal);
}

TEST_CASE("long messages are cut, never overrun", "[base][status]") {
  const std::string text(1000, 'x');
  const Status status = Status::Make(StatusCode::kIo, "%s", text.c_str());
  CHECK(std::string(status.message()).size() == Status::kMessageBytes - 1);
}

TEST_CASE("C and C++ status codes are the same numbers", "[base][status]") {
  CHECK(static_cast<int>(StatusCode::kContextFull) == HR_CONTEXT_FULL);
  CHECK(static_cast<int>(StatusCode::kMismatch) == HR_MISMATCH);
  CHECK(static_cast<int>(StatusCode::kOverBudget) == HR_OVER_BUDGET);
  CHECK(static_cast<int>(StatusCode::kOutOfMemory) == HR_OUT_OF_MEMORY);
  CHECK(static_cast<int>(StatusCode::kInternal) == HR_INTERNAL);
  CHECK(std::string(StatusCodeName(static_cast<StatusCode>(12345))) == "unknown status");
}

TEST_CASE("checked arithmetic refuses what does not fit", "[base][math]") {
  uint64_t out = 0;
  CHECK(CheckedAdd(~0ull - 1, 1, &out));
  CHECK_FALSE(CheckedAdd(~0ull, 1, &out));
  CHECK_FALSE(CheckedMul(1ull << 33, 1ull << 31, &out));
  CHECK(CheckedMul(1ull << 32, 1ull << 31, &out));
  CHECK(RoundUp(65, 64) == 128);
  CHECK(CeilDiv(65, 64) == 2);
}

TEST_CASE("log lines reach the hook, and nobody without one", "[base][log]") {
  std::string seen;
  Log log;
  log.Line(LogLevel::kError, "lost");
  log.write = [](void* user_data, int32_t level, const char* message) {
    *static_cast<std::string*>(user_data) = std::to_string(level) + message;
  };
  log.user_data = &seen;
  log.Line(LogLevel::kWarning, " value %d", 7);
  CHECK(seen == "1 value 7");
}

}  // namespace
}  // namespace headroom
