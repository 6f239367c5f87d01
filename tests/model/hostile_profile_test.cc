// Hostile files: roles and profiles. And what a good file's profiles come back as.
#include <cmath>

#include <catch2/catch_test_macros.hpp>

#include "model/hostile_graph.h"

namespace headroom::test {
namespace {

// Two roles, int8 and a budget of observed rows, and two profiles of them over both attentions.
void AddProfiles(fb::ModelT& g) {
  auto plain = std::make_unique<fb::RoleT>();
  plain->key_codec = std::make_unique<fb::CodecT>();
  plain->key_codec->kind = fb::CodecKind::I8Token;
  plain->retention = std::make_unique<fb::RetentionT>();
  plain->retention->kind = fb::RetentionKind::Ring;
  plain->retention->recent = 9;
  plain->retention->positions = fb::PositionPolicy::Compact;
  auto votes = std::make_unique<fb::RoleT>();
  votes->value_codec = std::make_unique<fb::CodecT>();
  votes->value_codec->kind = fb::CodecKind::Block32I4;
  votes->value_codec->first_f16_tokens = 4;
  votes->value_codec->hadamard = 1;
  votes->retention = std::make_unique<fb::RetentionT>();
  votes->retention->kind = fb::RetentionKind::Budget;
  votes->retention->score = fb::ScoreSource::ObservationWindow;
  votes->retention->observation_window = 16;
  votes->retention->pool = 5;
  votes->retention->sinks = 2;
  votes->retention->share = 0.25f;
  votes->key_rank = 16;
  votes->value_rank = 24;
  g.roles.push_back(std::move(plain));
  g.roles.push_back(std::move(votes));
  for (const auto& [name, role, value] :
       {std::tuple("better", 0, 0.9f), std::tuple("smaller", 1, 0.7f)}) {
    auto profile = std::make_unique<fb::ProfileT>();
    profile->name = name;
    for (uint32_t i = 0; i < g.attentions.size(); ++i) {
      auto lanes = std::make_unique<fb::LaneRolesT>();
      lanes->attention = i;
      lanes->roles.assign(g.attentions[i]->projection->kv_heads, static_cast<uint8_t>(role));
      profile->lanes.push_back(std::move(lanes));
    }
    auto quality = std::make_unique<fb::QualityT>();
    quality->metric = fb::Metric::Accuracy;
    quality->task = "needle";
    quality->context_tokens = 64;
    quality->value = value;
    quality->reference = 1.0f;
    profile->quality.push_back(std::move(quality));
    g.profiles.push_back(std::move(profile));
  }
}

TEST_CASE("profiles come back with their roles and quality", "[model][profile]") {
  OpenedFile file;
  AddProfiles(file.graph);
  const AlignedBytes bytes = file.Assemble();
  auto model = model::Model::OpenMemory(bytes.data(), bytes.size(), {}).Take();
  REQUIRE(model->roles.size() == 2);
  CHECK((model->roles[0].keys == RowCodec::kI8Token && model->roles[0].values == RowCodec::kF16));
  CHECK((model->roles[0].retention == model::Retention::kWindow && model->roles[0].rows == 9));
  CHECK((model->roles[0].relative && !model->roles[1].relative));
  const model::RoleSpec& votes = model->roles[1];
  CHECK((votes.values == RowCodec::kBlock4 && votes.exact_rows == 4 && votes.rotate));
  CHECK((votes.retention == model::Retention::kObserved && votes.observe == 16));
  CHECK((votes.key_rank == 16 && votes.value_rank == 24));
  CHECK((votes.pool == 5 && !votes.pool_max && votes.sinks == 2 && votes.share == 0.25f));
  REQUIRE(model->profiles.size() == 2);
  CHECK(model->profiles[1].name == "smaller");
  CHECK(model->profiles[1].roles[0] == std::vector<uint8_t>{1, 1});
  CHECK((model->profiles[1].quality[0].value == 0.7f &&
         model->profiles[1].quality[0].task == "needle"));
}

TEST_CASE("roles and profiles that say nonsense are refused", "[model][hostile][profile]") {
  const auto with = [](auto change) {
    return [change](fb::ModelT& g) {
      AddProfiles(g);
      change(g);
    };
  };
  const auto retention = [&](auto change) {
    return with([change](fb::ModelT& g) { change(*g.roles[1]->retention); });
  };
  ExpectRefused({
      {"codec none", kCorrupt, "key codec has no kind",
       with([](auto& g) { g.roles[0]->key_codec->kind = fb::CodecKind::None; })},
      {"codec of groups", kUnsupported, "key codec ChannelGroupI4",
       with([](auto& g) { g.roles[0]->key_codec->kind = fb::CodecKind::ChannelGroupI4; })},
      {"codec beyond", kUnsupported, "key codec 99 is unknown",
       with([](auto& g) { g.roles[0]->key_codec->kind = static_cast<fb::CodecKind>(99); })},
      {"exact rows", kCorrupt, "keeps 65 rows exact > 64",
       with([](auto& g) { g.roles[1]->value_codec->first_f16_tokens = 65; })},
      {"residual rows", kUnsupported, "residual rows",
       with([](auto& g) { g.roles[1]->value_codec->residual_tokens = 1; })},
      {"place", kUnsupported, "place Mapped",
       with([](auto& g) { g.roles[0]->place = fb::Place::Mapped; })},
      {"share NaN", kCorrupt, "a share of nan", retention([](auto& r) { r.share = NAN; })},
      {"share above all", kCorrupt, "a share of 1.5", retention([](auto& r) { r.share = 1.5f; })},
      {"no rows", kCorrupt, "0 rows are kept", retention([](auto& r) { r.share = 0; })},
      {"too many rows", kCorrupt, "sinks and 4294967295 rows",
       retention([](auto& r) { r.capacity = 0xffffffff; })},
      {"too many sinks", kCorrupt, "4294967295 sinks",
       retention([](auto& r) { r.sinks = 0xffffffff; })},
      {"nobody votes", kCorrupt, "0 queries vote",
       retention([](auto& r) { r.observation_window = 0; })},
      {"all vote", kCorrupt, "257 queries vote",
       retention([](auto& r) { r.observation_window = 257; })},
      {"even pool", kCorrupt, "pooled over 4 rows", retention([](auto& r) { r.pool = 4; })},
      {"wide pool", kCorrupt, "pooled over 65 rows", retention([](auto& r) { r.pool = 65; })},
      {"no score", kCorrupt, "without a score",
       retention([](auto& r) { r.score = fb::ScoreSource::None; })},
      {"a net", kUnsupported, "score source LearnedNet",
       retention([](auto& r) { r.score = fb::ScoreSource::LearnedNet; })},
      {"merging", kUnsupported, "merged rows", retention([](auto& r) { r.merge = true; })},
      {"slots", kUnsupported, "Slot positions in Budget retention",
       retention([](auto& r) { r.positions = fb::PositionPolicy::Slot; })},
      {"places among voted rows", kUnsupported, "Compact positions in Budget retention",
       retention([](auto& r) { r.positions = fb::PositionPolicy::Compact; })},
      {"places around a mean", kUnsupported, "Compact positions in RingCompensated retention",
       retention([](auto& r) {
         r.kind = fb::RetentionKind::RingCompensated;
         r.positions = fb::PositionPolicy::Compact;
       })},
      {"places among chosen rows", kUnsupported, "CompactStingy positions in Ring retention",
       retention([](auto& r) {
         r.kind = fb::RetentionKind::Ring;
         r.positions = fb::PositionPolicy::CompactStingy;
       })},
      {"positions beyond", kUnsupported, "position policy 99 is unknown",
       retention([](auto& r) { r.positions = static_cast<fb::PositionPolicy>(99); })},
      {"stripes", kUnsupported, "StripeRing retention",
       retention([](auto& r) { r.kind = fb::RetentionKind::StripeRing; })},
      {"a rank of 4", kCorrupt, "key rank 4 is no multiple of 8 up to 512",
       with([](auto& g) { g.roles[0]->key_rank = 4; })},
      {"a rank beyond", kCorrupt, "value rank 520 is no multiple of 8 up to 512",
       with([](auto& g) { g.roles[1]->value_rank = 520; })},
      {"no name", kCorrupt, "profile 0: has no name",
       with([](auto& g) { g.profiles[0]->name = ""; })},
      {"a long name", kCorrupt, "has a name of 64 bytes > 63",
       with([](auto& g) { g.profiles[0]->name = std::string(64, 'a'); })},
      {"name of a codec", kCorrupt, "profile 1: has the name of a codec",
       with([](auto& g) { g.profiles[1]->name = "int8"; })},
      {"one name", kCorrupt, "profile 1: has the name of another",
       with([](auto& g) { g.profiles[1]->name = "better"; })},
      {"a layer left out", kCorrupt, "no roles for attention 1",
       with([](auto& g) { g.profiles[0]->lanes.pop_back(); })},
      {"a layer twice", kCorrupt, "attention 0 is named twice",
       with([](auto& g) { g.profiles[0]->lanes[1]->attention = 0; })},
      {"a head left out", kCorrupt, "roles for 1 heads of attention 0, which has 2",
       with([](auto& g) { g.profiles[0]->lanes[0]->roles.pop_back(); })},
      {"worse first", kCorrupt, "profile 1: is measured better",
       with([](auto& g) { g.profiles[1]->quality[0]->value = 0.95f; })},
      {"no metric", kCorrupt, "without a metric",
       with([](auto& g) { g.profiles[1]->quality[0]->metric = fb::Metric::None; })},
      {"quality NaN", kCorrupt, "a quality of nan",
       with([](auto& g) { g.profiles[1]->quality[0]->value = NAN; })},
  });
}

}  // namespace
}  // namespace headroom::test
