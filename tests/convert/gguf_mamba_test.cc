// State space models in GGUF files: what stands otherwise in them than in a folder, and what is
// refused.
#include <catch2/catch_test_macros.hpp>

#include "convert/gguf.h"
#include "tests/convert/converted.h"
#include "tests/convert/gguf_fixture.h"
#include "tests/convert/refusal.h"

namespace headroom::test {
namespace {

using convert::GgufType;

std::string FileOf(const std::string& name) { return GoldenFolder("gguf/" + name) + "/model.gguf"; }

std::unique_ptr<Converted> Convert(const std::string& name) {
  return ConvertFolder(FileOf(name), convert::WeightFormat::kF32);
}

// A tensor of a golden file as floats.
std::vector<float> Stored(const std::string& name, const std::string& tensor) {
  const auto opened = convert::OpenGguf(FileOf(name));
  REQUIRE(opened.ok());
  const auto& tensors = opened.value().gguf.tensors;
  INFO(tensor);
  REQUIRE(tensors.count(tensor) == 1);
  std::vector<float> values(tensors.at(tensor).bytes / 4);
  REQUIRE(convert::ReadFloats(tensor, tensors.at(tensor), 0, values).ok());
  return values;
}

const model::Op& Named(const Converted& converted, const std::string& name) {
  for (const model::Op& op : converted.model->ops) {
    if (op.name == name) return op;
  }
  FAIL("no operation " << name);
  return converted.model->ops[0];
}

TEST_CASE("a GGUF file of Mamba holds the rates themselves", "[convert][gguf][linear]") {
  constexpr uint32_t kState = 6, kInner = 48;
  const auto c = Convert("mamba");
  const auto a = Stored("mamba", "blk.1.ssm_a");
  const auto rates = c->floats(c->model->linears.at(1).log_decay);
  REQUIRE(rates.size() == kState * kInner);
  for (uint32_t k = 0; k < kState; ++k) {
    for (uint32_t v = 0; v < kInner; ++v) CHECK(rates[k * kInner + v] == a[v * kState + k]);
  }
  CHECK(a[0] < 0.0f);
  // Without output.weight the head is the embedding.
  const model::Op& head =
      c->op(model::OpKind::kProjection, c->count(model::OpKind::kProjection) - 1);
  CHECK(c->floats(head.weight.tensor) == Stored("mamba", "token_embd.weight"));
}

TEST_CASE("a GGUF file of Mamba-2 is normed by group", "[convert][gguf][linear]") {
  constexpr uint32_t kHeads = 4, kValue = 12;
  const auto c = Convert("mamba2");
  const std::string from = "layers.1.attention.";
  CHECK(c->floats(Named(*c, from + "decay.log").factor) == Stored("mamba2", "blk.1.ssm_a"));
  const auto skip = Stored("mamba2", "blk.1.ssm_d");
  const auto repeated = c->floats(Named(*c, from + "skip").factor);
  REQUIRE(repeated.size() == kHeads * kValue);
  for (uint32_t i = 0; i < repeated.size(); ++i) CHECK(repeated[i] == skip[i / kValue]);
  CHECK(c->floats(Named(*c, from + "decay").weight.bias) == Stored("mamba2", "blk.1.ssm_dt.bias"));
  const model::NormSpec& norm = Named(*c, from + "output_norm").norm;
  CHECK(norm.groups == 2);
  CHECK(c->floats(norm.weight) == Stored("mamba2", "blk.1.ssm_norm.weight"));
  const model::LinearSpec& spec = c->model->linears.at(1);
  CHECK((spec.heads == kHeads && spec.key_heads == 2));
  CHECK((spec.key_width == 12 && spec.value_width == kValue));
}

// The refusal of a golden file, one piece of which was put in another's place.
Status RefusalOf(const std::string& name, const std::string& from, const std::string& to) {
  const TempFolder folder;
  REQUIRE(from.size() == to.size());
  convert::Options options;
  options.source = folder / "model.gguf";
  WriteText(options.source, Replaced(ReadText(FileOf(name)), from, to));
  options.out = folder / "model.hrm";
  const auto summary = convert::Convert(options);
  REQUIRE_FALSE(summary.ok());
  return summary.status();
}

Status WithNumber(const std::string& name, const std::string& key, uint32_t from, uint32_t to) {
  const std::string begin = name + "." + key + Raw(static_cast<uint32_t>(GgufType::kU32));
  return RefusalOf(name, begin + Raw(from), begin + Raw(to));
}

TEST_CASE("state space models in GGUF files that do not fit together are refused",
          "[convert][gguf][linear][hostile]") {
  const std::string normed = "mamba.ssm.dt_b_c_rms" + Raw(static_cast<uint32_t>(GgufType::kBool));
  CHECK(Says(RefusalOf("mamba", normed + '\0', normed + '\1'), "\"mamba.ssm.dt_b_c_rms\" is true"));
  CHECK(Says(RefusalOf("mamba", "mamba.ssm.state_size", "mamba.ssm.state_sizx"),
             "lacks \"mamba.ssm.state_size\""));
  CHECK(Says(RefusalOf("mamba", "mamba.ssm.dt_b_c_rms", "mamba.ssm.dt_b_c_rmx"),
             "\"mamba.ssm.dt_b_c_rmx\" may change the result"));
  CHECK(Says(RefusalOf("mamba", "blk.1.ssm_a", "blk.1.ssm_b"), "lacks tensor \"blk.1.ssm_a\""));
  CHECK(Says(RefusalOf("mamba2", "blk.0.ssm_dt.bias", "blk.0.ssm_in.bias"), "blk.0.ssm_dt.bias"));
  CHECK(Says(WithNumber("mamba", "ssm.conv_kernel", 3, 4),
             "ssm_conv1d.weight\" is [48, 1, 3], the configuration implies [48, 1, 4]"));
  CHECK(Says(WithNumber("mamba", "ssm.time_step_rank", 5, 0), "time_step_rank\" is 0"));
  CHECK(Says(WithNumber("mamba", "ssm.state_size", 6, 100000), "\"state_size\" is 100000"));
  CHECK(Says(WithNumber("mamba", "vocab_size", 64, 63), "not the 64 rows"));
  CHECK(Says(WithNumber("mamba2", "ssm.group_count", 2, 3),
             "4 heads of a state are no multiple of 3 of keys"));
  CHECK(Says(WithNumber("mamba2", "ssm.time_step_rank", 4, 10),
             "10 heads of 4 values are not 48 values together"));
  CHECK(Says(WithNumber("mamba2", "ssm.inner_size", 48, 0), "\"intermediate_size\" is 0"));
  CHECK(Says(WithNumber("mamba2", "block_count", 2, 3), "lacks tensor \"blk.2.ssm_out.weight\""));
}

}  // namespace
}  // namespace headroom::test
