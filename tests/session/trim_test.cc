// Trim: what it gives back is real, what it cannot give back it says, and the text goes on.
#include <catch2/catch_test_macros.hpp>

#include "session/golden.h"
#include "session/lender.h"

namespace headroom::test {
namespace {

using plan::CodecChoice;
using session::Session;

TEST_CASE("memory of the app's allocator is not said to be freed", "[session][trim]") {
  const Golden& golden = LoadGolden("llama-gqa");
  Lender lender;
  auto engine = EngineWith(lender, ScratchPath("llama-gqa-f32.hrm"));
  auto session = Session::Create(engine, TestLimits(128)).Take();
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  const std::vector<float> logits(session->logits().begin(), session->logits().end());
  const plan::Plan before = session->plan();
  const uint64_t live_bytes = lender.live_bytes;
  uint64_t freed = 1;
  CHECK(session->Trim(before.total_bytes, &freed).ok());  // small enough
  CHECK(freed == 0);
  const Status refused = session->Trim(1, &freed);
  CHECK(refused.code() == StatusCode::kUnsupported);
  CHECK(refused.message()[0] != '\0');
  CHECK(freed == 0);
  CHECK(lender.live_bytes == live_bytes);
  CHECK(session->plan().total_bytes == before.total_bytes);
  CHECK(session->plan().context == before.context);
  CHECK(session->plan().codec == before.codec);
  CHECK(std::equal(logits.begin(), logits.end(), session->logits().begin()));
}

}  // namespace
}  // namespace headroom::test
