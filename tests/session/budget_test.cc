// The budget is a contract: refused to the byte, allocated once, never leaked.
#include <catch2/catch_test_macros.hpp>

#include "session/golden.h"
#include "session/lender.h"

namespace headroom::test {
namespace {

using session::Session;

TEST_CASE("creation succeeds at the planned byte and not one below", "[session][budget]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto limits = TestLimits();
  const plan::Plan plan = session::PlanSession(*golden.engine, limits).Take();
  uint64_t refusals = 0;
  for (uint64_t budget = plan.total_bytes - 8 * 64; budget <= plan.total_bytes; budget += 8) {
    limits.budget_bytes = budget;
    const auto session = Session::Create(golden.engine, limits);
    REQUIRE(session.ok() == (budget == plan.total_bytes));
    if (session.ok()) continue;
    ++refusals;
    REQUIRE(session.status().code() == StatusCode::kOverBudget);
    const std::string missing = std::to_string(plan.total_bytes - budget) + " bytes missing";
    REQUIRE(std::string(session.status().message()).find(missing) != std::string::npos);
    REQUIRE(std::string(session.status().message()).find("private: no limit") != std::string::npos);
  }
  CHECK(refusals == 64);
}

TEST_CASE("arenas hold exactly the plan, and their peak is the plan", "[session][budget]") {
  for (const char* name : {"llama-gqa", "mistral", "gemma2", "qwen2-moe"}) {
    const Golden& golden = LoadGolden(name);
    auto session = MakeSession(golden, TestLimits());
    REQUIRE(session->Append(golden.tokens, nullptr).ok());
    const uint64_t planned = session->plan().arena_bytes() + session->plan().state_bytes;
    CHECK(session->arena().capacity_bytes() == planned);
    CHECK(session->arena().peak_bytes() == planned);
  }
}

TEST_CASE("the app's allocator lends the planned private bytes and gets all back",
          "[session][budget]") {
  LoadGolden("llama-gqa", "int8");
  const std::string path = ScratchPath("llama-gqa-int8.hrm");
  Lender lender;
  plan::Plan plan;
  {
    auto engine = EngineWith(lender, path);
    auto session = Session::Create(engine, TestLimits()).Take();
    plan = session->plan();
    const uint64_t calls = lender.calls;
    for (int32_t token = 0; token < 30; ++token)
      REQUIRE(session->Append({&token, 1}, nullptr).ok());
    CHECK(lender.calls == calls);
  }
  CHECK(lender.live.empty());
  CHECK(lender.peak_bytes == plan.arena_bytes() + plan.state_bytes + plan.packed_bytes);
}

TEST_CASE("every refusal of the allocator is a clean error", "[session][budget]") {
  LoadGolden("llama-gqa", "int8");
  const std::string path = ScratchPath("llama-gqa-int8.hrm");
  Lender count;
  { REQUIRE(Session::Create(EngineWith(count, path), TestLimits()).ok()); }
  REQUIRE(count.calls >= 2);  // packed weights, arena
  for (uint64_t refuse_at = 0; refuse_at < count.calls; ++refuse_at) {
    Lender lender;
    lender.refuse_at = refuse_at;
    {
      const auto session = Session::Create(EngineWith(lender, path), TestLimits());
      REQUIRE_FALSE(session.ok());
      CHECK(session.status().code() == StatusCode::kOutOfMemory);
    }
    CHECK(lender.live.empty());
  }
}

TEST_CASE("packed weights that find no cache file do not outgrow the budget", "[session][budget]") {
  LoadGolden("llama-gqa", "int8");
  Lender lender;
  // A file where a folder should be: no user, not even root, can make a folder there.
  const std::string path = ScratchPath("llama-gqa-int8.hrm");
  auto engine = EngineWith(lender, path, path);
  auto limits = TestLimits();
  const plan::Plan mapped = session::PlanSession(*engine, limits).Take();
  REQUIRE(mapped.packed_bytes != 0);
  REQUIRE(mapped.private_bytes + mapped.mapped_bytes == mapped.total_bytes);
  limits.private_budget_bytes = mapped.private_bytes;  // fits with a cache file only
  const auto refused = Session::Create(engine, limits);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kOverBudget);
  INFO(refused.status().message());
  CHECK(lender.calls == 0);  // nothing was taken, not even on the way

  // With room for them they are private, and the plan says so from then on.
  limits.private_budget_bytes = mapped.total_bytes;
  const auto session = Session::Create(engine, limits);
  REQUIRE(session.ok());
  const plan::Plan& plan = session.value()->plan();
  CHECK(plan.private_bytes == mapped.private_bytes + plan.packed_bytes);
  CHECK(lender.live_bytes == plan.arena_bytes() + plan.state_bytes + plan.packed_bytes);
  const std::string missing = std::to_string(plan.packed_bytes) + " bytes missing";
  CHECK(std::string(refused.status().message()).find(missing) != std::string::npos);
  // Another session that has no room for them is refused by its plan.
  const uint64_t calls = lender.calls;
  limits.private_budget_bytes = mapped.private_bytes;
  CHECK(Session::Create(engine, limits).status().code() == StatusCode::kOverBudget);
  CHECK(lender.calls == calls);
}

}  // namespace
}  // namespace headroom::test
