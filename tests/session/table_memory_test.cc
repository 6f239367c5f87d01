// What an embedding table costs that is read where it lies in the file, by the kernel's accounting.
#include "session/attention_shapes.h"
#include "support/resident.h"

namespace headroom::test {
namespace {

using session::Engine;
using session::Session;

constexpr uint32_t kRows = 700000;  // 67 MB of table

// The head is a matrix of its own, packed elsewhere.
convert::ModelDescription WideTable() {
  AttentionShapes s;
  s.d.tensors[0].extents = {kRows, kShapeChannels};
  s.d.ops[0].op.weight.rows = kRows;
  s.Attend(LatentByGroups(s));
  convert::ModelDescription description = s.Done();
  description.tensors.back().extents = {kRows, kShapeChannels};
  description.tensors.back().dtype = DType::kI8;
  description.ops.back().op.weight.rows = kRows;
  description.values.back().width = kRows;
  description.metadata.vocabulary = kRows;
  description.metadata.context_tokens = 2048;
  return description;
}

// Every 683rd row: less than the 64 KiB that systems map around a byte at least.
std::vector<int32_t> SpreadTokens() {
  std::vector<int32_t> tokens(1024);
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * (kRows / 1024));
  return tokens;
}

std::shared_ptr<Engine> MappedEngine(const std::string& path) {
  auto model = model::Model::OpenPath(path.c_str(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  session::EngineOptions options;
  options.weights_are_mapped = true;
  return Engine::Create(model.Take(), options).Take();
}

TEST_CASE("looking up rows all over a table keeps a few pieces of it", "[session][memory]") {
  const TemporaryPath path("wide.hrm");
  REQUIRE(WriteModel(path.text(), WideTable()).ok());
  const auto engine = MappedEngine(path.text());
  const TensorView& table = engine->model().tensors[0];
  const auto resident = [&] { return ResidentBytes(table.data, table.data_bytes); };
  auto session = Session::Create(engine, TestLimits(1024, 64));
  INFO(session.status().message());
  REQUIRE(session.ok());
  REQUIRE(session.value()->Append(SpreadTokens(), nullptr).ok());
  const uint64_t after = resident();
  INFO(after << " bytes of " << table.data_bytes);
  CHECK(after > 0);
  CHECK(after <= plan::EmbeddingBytes(table));

  // The test sees pages that are there.
  volatile float sum = 0;
  for (uint64_t at = 0; at < table.data_bytes; at += 4096) sum = sum + table.f32()[at / 4];
  CHECK(resident() > plan::EmbeddingBytes(table));
}

}  // namespace
}  // namespace headroom::test
