// The text of cache policies.
#include "plan/profile.h"

#include <catch2/catch_test_macros.hpp>

namespace headroom::plan {
namespace {

using model::Retention;
using model::RoleSpec;

TEST_CASE("words of a policy say how rows are kept", "[plan][profile]") {
  const RoleSpec plain = ParseRole("int8/32").Take();
  CHECK((plain.keys == RowCodec::kBlock8 && plain.values == RowCodec::kBlock8));
  CHECK((plain.retention == Retention::kAsViewed && plain.sinks == 0 && !plain.rotate));
  const RoleSpec mixed = ParseRole("keys=int8  values=int4/32 rotate exact=16").Take();
  CHECK((mixed.keys == RowCodec::kI8Token && mixed.values == RowCodec::kBlock4));
  CHECK((mixed.rotate && mixed.exact_rows == 16));
  const RoleSpec window = ParseRole("window rows=64").Take();
  CHECK((window.retention == Retention::kWindow && window.rows == 64 && window.sinks == 4));
  CHECK((window.keys == RowCodec::kF16 && !window.relative));
  CHECK(ParseRole("relative window rows=64").Take().relative);
  const RoleSpec votes = ParseRole("f16 observed share=0.25 sinks=0 observe=16 maxpool=7").Take();
  CHECK((votes.retention == Retention::kObserved && votes.share == 0.25f && votes.sinks == 0));
  CHECK((votes.observe == 16 && votes.pool == 7 && votes.pool_max));
  const RoleSpec sums = ParseRole("accumulated rows=9").Take();
  CHECK((sums.observe == 32 && sums.pool == 1));
}

TEST_CASE("words that are none are named", "[plan][profile]") {
  for (const auto& [text, word] : std::initializer_list<std::pair<const char*, const char*>>{
           {"int9", "int9"},
           {"int8 exact=65", "exact=65"},
           {"int8 exact=-1", "exact=-1"},
           {"window rows=0", "rows=0"},
           {"window rows=99999999999", "rows=99999999999"},
           {"observed share=1.5", "share=1.5"},
           {"observed share=nan", "share=nan"},
           {"observed rows=8 pool=4", "pool=4"},
           {"observed rows=8 observe=0", "observe=0"},
           {"observed rows=8 observe=257", "observe=257"},
           {"keys=int3", "keys=int3"},
           {"keys=", "keys="},
           {"=", "="},
           {"rotate=1", "rotate=1"},
           {"window", "window without rows=N or share=X"},
           {"int8 relative", "not those of rows kept as viewed"},
           {"compensated relative rows=5", "not those of rows kept compensated"},
           {"observed relative rows=5", "not those of rows kept observed"},
           {"accumulated relative rows=5", "not those of rows kept accumulated"},
           {"int8 rows=5", "but not which rows stay"}}) {
    const auto role = ParseRole(text);
    INFO(text);
    REQUIRE_FALSE(role.ok());
    CHECK(role.status().code() == StatusCode::kInvalidArgument);
    CHECK(std::string(role.status().message()).find(word) != std::string::npos);
  }
}

TEST_CASE("roles of some heads", "[plan][profile]") {
  model::Model model;
  model.attentions.resize(3);
  for (auto& attention : model.attentions) attention.views = {{0, 0, 0}, {1, 0, 1}};
  const Profile profile =
      ParseProfile(model, "int8; heads=0.1+2.0 f16 window rows=8;heads=2.1 int4/32").Take();
  CHECK(profile.roles.size() == 3);
  CHECK(profile.RoleOf(0, 0).keys == RowCodec::kI8Token);
  CHECK(profile.RoleOf(0, 1).retention == Retention::kWindow);
  CHECK(profile.RoleOf(1, 1).keys == RowCodec::kI8Token);
  CHECK(profile.RoleOf(2, 0).rows == 8);
  CHECK(profile.RoleOf(2, 1).values == RowCodec::kBlock4);
  CHECK(ParseProfile(model, "").Take().RoleOf(2, 1).keys == RowCodec::kF16);
  for (const char* text : {"int8; f16", "int8; heads=3.0 f16", "int8; heads=0.2 f16",
                           "int8; heads=0 f16", "int8; heads= f16", "int8; heads=0.0+ f16",
                           "int8; heads=0.-1 f16", "int8; heads=0.0 f17", "heads=0.0 int8", ";;"}) {
    INFO(text);
    const auto refused = ParseProfile(model, text);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  }
}

TEST_CASE("a lane has the rows its role says", "[plan][profile]") {
  model::AttentionSpec attention;
  attention.key = {1, 64, {}, {}, {}};
  attention.value = {1, 64, {}, {}, {}};
  attention.views = {{0, 0, 0}};
  const auto lane = [&](const char* text, uint32_t context) {
    return LaneOf(attention, 0, ParseRole(text).Take(), context, 16);
  };
  CHECK(lane("observed share=0.25 rows=10", 1024).vote.rows == 256);
  CHECK(lane("observed share=0.25 rows=300", 1024).vote.rows == 300);
  CHECK(lane("observed share=0.25", 1024).capacity == 256 + 16);  // and a chunk
  CHECK_FALSE(lane("observed rows=1010", 1024).voted());          // a chunk more would be all
  CHECK(lane("int8 exact=8 observed rows=100", 1024).vote.rows == 92);
  CHECK(lane("f16 exact=8 observed rows=100", 1024).exact_rows == 0);  // all are exact
  CHECK(lane("compensated rows=100", 1024).mean);
  CHECK_FALSE(lane("compensated rows=100", 64).mean);
  CHECK(lane("compensated rows=100", 64).left == kUnlimited);
  CHECK(lane("int8 rotate", 64).rotated);
  CHECK_FALSE(lane("f16 rotate", 64).rotated);
  CHECK(lane("window relative rows=8", 64).relative);
  CHECK_FALSE(lane("window relative rows=8 sinks=0", 64).relative);
  attention.value = {0, 48, {}, {}, {}};  // of a latent of 64
  CHECK_FALSE(lane("int8 rotate", 64).rotated);
  attention.value.width = 64;
  CHECK(lane("int8 rotate", 64).rotated);
  attention.left = 31;  // a window of the model's own stays, and is not widened
  CHECK(lane("window rows=100", 1024).left == 31);
  CHECK(lane("window rows=8", 1024).left == 7);
  CHECK(lane("window rows=8", 1024).sinks == 0);
  CHECK_FALSE(lane("window relative rows=100", 1024).relative);
  CHECK_FALSE(lane("observed rows=100", 1024).voted());
  CHECK(lane("int8 observed rows=100", 1024).key.codec == RowCodec::kI8Token);
}

}  // namespace
}  // namespace headroom::plan
