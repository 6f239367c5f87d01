// Experts of GGUF files: as llama.cpp's converter writes them, and files that lie about them.
#include <nlohmann/json.hpp>

#include "tests/convert/converted.h"
#include "tests/convert/gguf_fixture.h"

namespace headroom {
namespace {

using test::Raw;
using test::Replaced;

std::string Golden(const std::string& name) {
  return test::GoldenFolder("gguf/" + name + "/model.gguf");
}

// Where the value of a key lies.
size_t ValueOf(const std::string& file, const std::string& key) {
  const size_t at = file.find(test::GgufText(key));
  REQUIRE(at != std::string::npos);
  return at + 8 + key.size() + 4;
}

std::string WithU32(std::string file, const std::string& key, uint32_t value) {
  return file.replace(ValueOf(file, key), 4, Raw(value));
}

// Where the rank of a tensor lies; its extents, fastest first, follow.
size_t RankOf(const std::string& file, const std::string& tensor) {
  const size_t at = file.find(test::GgufText(tensor));
  REQUIRE(at != std::string::npos);
  return at + 8 + tensor.size();
}

std::string WithExtent(std::string file, const std::string& tensor, size_t i, uint64_t extent) {
  return file.replace(RankOf(file, tensor) + 4 + 8 * i, 8, Raw(extent));
}

// The last extent of a matrix of one row taken away, and its bytes given to the model's name, so
// that everything behind stays where it is.
std::string WithoutLastExtent(std::string file, const std::string& tensor) {
  const size_t rank = RankOf(file, tensor);
  file.replace(rank, 4, Raw<uint32_t>(1));
  file.erase(rank + 4 + 8, 8);
  const size_t name = ValueOf(file, "general.name");
  uint64_t bytes = 0;
  std::memcpy(&bytes, file.data() + name, 8);
  file.replace(name, 8, Raw<uint64_t>(bytes + 8));
  return file.insert(name + 8, "one row ");
}

struct Lie {
  std::string bytes;
  bool Refused(StatusCode code, const std::string& fact) const {
    const test::TempFolder folder;
    convert::Options options;
    options.source = folder / "x.gguf";
    options.out = folder / "x.hrm";
    test::WriteText(options.source, bytes);
    const auto summary = convert::Convert(options);
    REQUIRE_FALSE(summary.ok());
    CHECK_FALSE(std::filesystem::exists(options.out));
    UNSCOPED_INFO(summary.status().message());
    return summary.status().code() == code &&
           std::string(summary.status().message()).find(fact) != std::string::npos;
  }
};

constexpr StatusCode kCorrupt = StatusCode::kCorrupt;

TEST_CASE("4-bit experts of a GGUF file are those of the checkpoint it was made of",
          "[convert][gguf][mixture]") {
  const auto c = test::ConvertFolder(Golden("gpt-oss-mxfp4"), convert::WeightFormat::kKeep);
  const model::MixtureSpec& spec = c->model->mixtures.at(0);
  for (const model::WeightRef& weight : {spec.gate_up, spec.down}) {
    const auto i = static_cast<size_t>(weight.tensor);
    CHECK(c->model->tensors[i].dtype == DType::kI8);
    CHECK(c->model->tensors[i].block == 32);
    CHECK(c->model->origins[i].source_type == "MXFP4");
    CHECK(c->model->origins[i].error == 0.0f);
  }
  CHECK(c->model->attentions.at(0).sink_logits != model::kNone);
}

TEST_CASE("integers of experts are kept as the file has them", "[convert][gguf][mixture]") {
  const auto check = [](const std::string& name, DType dtype, const char* type, float high) {
    const auto c = test::ConvertFolder(Golden(name), convert::WeightFormat::kKeep);
    REQUIRE(c->model->mixtures.size() == 2);
    for (const model::MixtureSpec& spec : c->model->mixtures) {
      for (const model::WeightRef& weight : {spec.gate_up, spec.down}) {
        const auto i = static_cast<size_t>(weight.tensor);
        CHECK(c->model->tensors[i].dtype == dtype);
        CHECK(c->model->origins[i].source_type == type);
        CHECK(c->model->origins[i].error <= high);
      }
      CHECK(c->tensor(spec.router.tensor).dtype == DType::kF32);  // as it is in the file
    }
  };
  check("qwen2-moe-q8_0", DType::kI8, "Q8_0", 0.0f);
  check("qwen2-moe-q4_0", DType::kI4, "Q4_0", 0x1p-9f);
}

TEST_CASE("the gate of a shared expert may be a vector", "[convert][gguf][mixture]") {
  const std::string file = test::ReadText(Golden("qwen2-moe"));
  const test::TempFolder folder;
  test::WriteText(folder / "x.gguf", WithoutLastExtent(file, "blk.1.ffn_gate_inp_shexp.weight"));
  const auto vector = test::ConvertFolder(folder / "x.gguf", convert::WeightFormat::kF32);
  const auto matrix = test::ConvertFolder(Golden("qwen2-moe"), convert::WeightFormat::kF32);
  REQUIRE(vector->model->tensors.size() == matrix->model->tensors.size());
  size_t seen = 0;
  for (size_t i = 0; i < matrix->model->tensors.size(); ++i) {
    if (!matrix->model->tensors[i].name.ends_with("mlp.shared.weight")) continue;
    CHECK(vector->floats(static_cast<int32_t>(i)) == matrix->floats(static_cast<int32_t>(i)));
    ++seen;
  }
  CHECK(seen == 2);
}

TEST_CASE("GGUF files that lie about their experts are refused", "[convert][gguf][mixture]") {
  const std::string file = test::ReadText(Golden("mixtral"));
  const std::string down = "blk.1.ffn_down_exps.weight", gate = "blk.1.ffn_gate_exps.weight";
  CHECK(Lie{WithU32(file, "llama.expert_count", 6)}.Refused(
      kCorrupt, "\"blk.0.ffn_down_exps.weight\" is of 5 experts, not 6"));
  CHECK(Lie{WithU32(file, "llama.expert_count", 1u << 31)}.Refused(
      StatusCode::kUnsupported, "\"llama.expert_count\" is 2147483648"));
  CHECK(Lie{WithExtent(file, down, 2, 4)}.Refused(kCorrupt, "\"" + down + "\" is of 4 experts"));
  CHECK(Lie{WithExtent(file, gate, 2, 4)}.Refused(
      kCorrupt, "\"" + gate + "\" is [4, 24, 32], the configuration implies [5, 24, 32]"));
  CHECK(Lie{WithExtent(file, gate, 2, uint64_t{1} << 61)}.Refused(kCorrupt, gate));
  CHECK(Lie{WithExtent(file, gate, 2, 0)}.Refused(kCorrupt, gate));
  CHECK(Lie{Replaced(file, down, "blk.1.ffn_dxwn_exps.weight")}.Refused(
      kCorrupt, "lacks tensor \"" + down + "\""));
  CHECK(Lie{Replaced(file, gate, "blk.1.ffn_gxte_exps.weight")}.Refused(
      kCorrupt, "lacks tensor \"" + gate + "\""));
  CHECK(Lie{Replaced(file, "blk.0.ffn_gate_inp.weight", "blk.0.ffn_gxte_inp.weight")}.Refused(
      kCorrupt, "lacks tensor \"blk.0.ffn_gate_inp.weight\""));
  const std::string oss = test::ReadText(Golden("gpt-oss"));
  CHECK(Lie{Replaced(oss, "blk.0.ffn_up_exps.bias", "blk.0.ffn_up_exps.bixs")}.Refused(
      kCorrupt, "lacks tensor \"blk.0.ffn_up_exps.bias\""));
  CHECK(Lie{Replaced(oss, "blk.1.attn_sinks.weight", "blk.1.attn_sxnks.weight")}.Refused(
      kCorrupt, "lacks tensor \"blk.1.attn_sinks.weight\""));
}

// A plan of 4096 layers of thousands of experts would take gigabytes: what is not in the file is
// found missing before there is one.
TEST_CASE("layers of experts that a file only claims are refused before they are planned",
          "[convert][gguf][mixture]") {
  const std::string file = test::ReadText(Golden("mixtral"));
  CHECK(Lie{WithU32(file, "llama.block_count", 4096)}.Refused(
      kCorrupt, "lacks tensor \"blk.2.attn_output.weight\""));
}

}  // namespace
}  // namespace headroom
