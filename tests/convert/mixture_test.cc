// Mixtures of experts in every form that checkpoints have them, and what of them is refused.
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

#include "convert/mxfp4.h"
#include "tests/convert/converted.h"

namespace headroom {
namespace {

using convert::WeightFormat;
using test::ConvertFolder;
using test::GoldenFolder;
using test::Replaced;
using test::TempFolder;
using Json = nlohmann::json;

// A checkpoint's tensors in memory.
struct Tensors {
  struct Entry {
    std::string dtype;
    std::vector<uint64_t> shape;
    std::string bytes;
  };
  std::map<std::string, Entry> entries;

  explicit Tensors(const std::string& path) {
    const std::string file = test::ReadText(path);
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file.data(), 8);
    const Json header = Json::parse(file.substr(8, header_bytes));
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") continue;
      const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
      entries[name] = {entry["dtype"], entry["shape"],
                       file.substr(8 + header_bytes + begin, end - begin)};
    }
  }
  void Write(const std::string& path) const {
    Json header = Json::object();
    std::string data;
    for (const auto& [name, entry] : entries) {
      header[name] = {{"dtype", entry.dtype},
                      {"shape", entry.shape},
                      {"data_offsets", {data.size(), data.size() + entry.bytes.size()}}};
      data += entry.bytes;
    }
    test::WriteText(path, test::Safetensors(header.dump(), data));
  }
  // Entries `names` one behind the other as one of `shape`; they disappear.
  void Stack(const std::string& to, const std::vector<std::string>& names,
             std::vector<uint64_t> shape) {
    Entry stacked{"F32", std::move(shape), ""};
    for (const std::string& name : names) {
      REQUIRE(entries.count(name) == 1);
      stacked.bytes += entries[name].bytes;
      entries.erase(name);
    }
    entries[to] = std::move(stacked);
  }
};

// A golden case, changed.
struct Folder {
  explicit Folder(const std::string& name)
      : config(test::ReadText(GoldenFolder(name) + "/config.json")),
        tensors(GoldenFolder(name) + "/model.safetensors") {}
  void Write() const {
    test::WriteText(folder / "config.json", config);
    tensors.Write(folder / "model.safetensors");
  }
  std::unique_ptr<test::Converted> Convert() const {
    Write();
    return ConvertFolder(folder.path(), WeightFormat::kF32);
  }
  Status Refusal() const {
    Write();
    convert::Options options;
    options.source = folder.path();
    options.out = folder / "model.hrm";
    const auto summary = convert::Convert(options);
    REQUIRE_FALSE(summary.ok());
    UNSCOPED_INFO(summary.status().message());
    return summary.status();
  }
  bool Refuses(StatusCode code, const std::string& fact) const {
    const Status status = Refusal();
    return status.code() == code && std::string(status.message()).find(fact) != std::string::npos;
  }

  TempFolder folder;
  std::string config;
  Tensors tensors;
};

void CheckSameMixtures(const test::Converted& a, const test::Converted& b) {
  REQUIRE(a.model->mixtures.size() == b.model->mixtures.size());
  REQUIRE(!a.model->mixtures.empty());
  for (size_t i = 0; i < a.model->mixtures.size(); ++i) {
    const model::MixtureSpec &x = a.model->mixtures[i], &y = b.model->mixtures[i];
    CHECK(x.experts == y.experts);
    CHECK(a.floats(x.router.tensor) == b.floats(y.router.tensor));
    CHECK(a.floats(x.gate_up.tensor) == b.floats(y.gate_up.tensor));
    CHECK(a.floats(x.down.tensor) == b.floats(y.down.tensor));
  }
}

TEST_CASE("experts as single tensors and stacked ones are the same model", "[convert][mixture]") {
  const auto apart = test::ConvertCase("mixtral");
  Folder stacked("mixtral");
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    std::vector<std::string> gate_up, down;
    for (int e = 0; e < 5; ++e) {
      const std::string expert = prefix + "block_sparse_moe.experts." + std::to_string(e);
      gate_up.push_back(expert + ".w1.weight");
      gate_up.push_back(expert + ".w3.weight");
      down.push_back(expert + ".w2.weight");
    }
    stacked.tensors.Stack(prefix + "mlp.experts.gate_up_proj", gate_up, {5, 48, 32});
    stacked.tensors.Stack(prefix + "mlp.experts.down_proj", down, {5, 32, 24});
    stacked.tensors.Stack(prefix + "mlp.gate.weight", {prefix + "block_sparse_moe.gate.weight"},
                          {5, 32});
  }
  CheckSameMixtures(*apart, *stacked.Convert());
}

TEST_CASE("interleaved and transposed experts are put in order", "[convert][mixture]") {
  const auto c = test::ConvertCase("gpt-oss");
  const Tensors source(GoldenFolder("gpt-oss") + "/model.safetensors");
  const auto& entry = source.entries.at("model.layers.1.mlp.experts.gate_up_proj");
  REQUIRE(entry.shape == std::vector<uint64_t>{4, 32, 48});  // E, C, 2F
  std::vector<float> from(entry.bytes.size() / 4);
  std::memcpy(from.data(), entry.bytes.data(), entry.bytes.size());
  const std::vector<float> to = c->floats(c->model->mixtures[1].gate_up.tensor);
  REQUIRE(to.size() == from.size());
  for (size_t e = 0; e < 4; ++e) {
    for (size_t half = 0; half < 2; ++half) {
      for (size_t f = 0; f < 24; ++f) {
        for (size_t k = 0; k < 32; ++k) {
          REQUIRE(to[((e * 2 + half) * 24 + f) * 32 + k] == from[(e * 32 + k) * 48 + 2 * f + half]);
        }
      }
    }
  }
  const model::MixtureSpec& spec = c->model->mixtures[1];
  CHECK(spec.activation == model::Activation::kQuickGelu);
  CHECK(spec.limit == 7.0f);
  CHECK(spec.up_offset == 1.0f);
  CHECK(spec.score == model::ExpertScore::kChosenSoftmax);
  CHECK(c->model->attentions[0].sink_logits != model::kNone);
  CHECK(c->model->attentions[0].left == 7);
  CHECK(c->model->attentions[1].left == kUnlimited);
}

TEST_CASE("layers without experts keep their MLP", "[convert][mixture]") {
  const auto qwen2 = test::ConvertCase("qwen2-moe");  // mlp_only_layers [1] of 3
  CHECK(qwen2->count(model::OpKind::kMixture) == 2);
  CHECK(qwen2->count(model::OpKind::kMultiply) == 2);
  const auto qwen3 = test::ConvertCase("qwen3-moe");  // every second of 2
  CHECK(qwen3->count(model::OpKind::kMixture) == 1);
  CHECK(qwen3->model->mixtures[0].renormalise);
  CHECK_FALSE(qwen2->model->mixtures[0].renormalise);
}

TEST_CASE("windows beside experts are those of the reference", "[convert][mixture]") {
  const auto lefts = [](const std::string& name) {
    const auto c = test::ConvertCase(name);
    std::vector<uint32_t> found;
    for (const model::AttentionSpec& spec : c->model->attentions) found.push_back(spec.left);
    return found;
  };
  constexpr uint32_t kAll = kUnlimited;
  CHECK(lefts("qwen2-moe-window") == std::vector<uint32_t>{7, kAll, kAll});
  CHECK(lefts("qwen2-moe") == std::vector<uint32_t>{kAll, kAll, kAll});  // sliding_window 0
  CHECK(lefts("qwen3-moe-window") == std::vector<uint32_t>{7, 7});
  CHECK(lefts("qwen3-moe") == std::vector<uint32_t>{kAll, kAll});
  const auto without = [](const std::string& key) {
    Folder folder("qwen2-moe-window");
    Json config = Json::parse(folder.config);
    config.erase("layer_types");
    config.erase(key);
    folder.config = config.dump();
    return folder.Refusal();
  };
  CHECK(std::string(without("sliding_window").message()).find("lacks \"sliding_window\"") !=
        std::string::npos);
  CHECK(std::string(without("max_window_layers").message()).find("lacks \"max_window_layers\"") !=
        std::string::npos);
  Folder folder("qwen2-moe-window");  // the same without a list
  Json config = Json::parse(folder.config);
  config.erase("layer_types");
  folder.config = config.dump();
  const auto c = folder.Convert();
  CHECK(c->model->attentions.at(0).left == 7);
  CHECK(c->model->attentions.at(2).left == kAll);
}

TEST_CASE("the router is kept better than the experts", "[convert][mixture]") {
  const auto c = test::ConvertCase("mixtral", WeightFormat::kInt8);
  const model::MixtureSpec& spec = c->model->mixtures[0];
  CHECK(c->tensor(spec.router.tensor).dtype == DType::kF16);
  CHECK(c->tensor(spec.gate_up.tensor).dtype == DType::kI8);
}

TEST_CASE("4-bit experts of a folder are kept without a second rounding", "[convert][mixture]") {
  const auto c = test::ConvertCase("gpt-oss-mxfp4", WeightFormat::kKeep);
  for (const model::MixtureSpec& spec : c->model->mixtures) {
    for (const int32_t tensor : {spec.gate_up.tensor, spec.down.tensor}) {
      CHECK(c->tensor(tensor).dtype == DType::kI8);
      CHECK(c->model->origins[static_cast<size_t>(tensor)].source_type == "MXFP4");
      CHECK(c->model->origins[static_cast<size_t>(tensor)].error == 0.0f);
    }
  }
}

TEST_CASE("mixtures that contradict themselves or their tensors are refused",
          "[convert][mixture]") {
  const auto changed = [](const std::string& name, const std::string& from, const std::string& to) {
    auto folder = std::make_unique<Folder>(name);
    folder->config = Replaced(folder->config, from, to);
    return folder;
  };
  CHECK(changed("mixtral", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 6")
            ->Refuses(StatusCode::kUnsupported, "\"num_experts_per_tok\" is 6, must be 1 to 5"));
  CHECK(changed("mixtral", "\"num_local_experts\": 5", "\"num_local_experts\": 0")
            ->Refuses(StatusCode::kUnsupported, "\"num_local_experts\" is 0"));
  CHECK(changed("mixtral", "\"num_local_experts\": 5", "\"num_local_experts\": 6")
            ->Refuses(StatusCode::kCorrupt,
                      "lacks tensor \"model.layers.0.block_sparse_moe.experts.5.w2"));
  CHECK(changed("mixtral", "\"num_local_experts\": 5", "\"num_local_experts\": 4")
            ->Refuses(StatusCode::kCorrupt, "\"model.layers.0.block_sparse_moe.gate.weight\" is"));
  CHECK(changed("gpt-oss", "\"num_local_experts\": 4", "\"num_local_experts\": 5")
            ->Refuses(StatusCode::kCorrupt, "down_proj\" is of 4 experts, not 5"));
  CHECK(
      changed("mixtral", "\"num_local_experts\": 5", "\"num_local_experts\": 5, \"num_experts\": 4")
          ->Refuses(StatusCode::kCorrupt, "4 num_experts and 5 num_local_experts"));
  CHECK(changed("olmoe", "\"clip_qkv\": null", "\"clip_qkv\": 8.0")
            ->Refuses(StatusCode::kUnsupported, "\"clip_qkv\" (8.0)"));
  CHECK(changed("gpt-oss-mxfp4", "\"quant_method\": \"mxfp4\"", "\"quant_method\": \"gptq\"")
            ->Refuses(StatusCode::kUnsupported, "\"quant_method\" is \"gptq\""));
  Folder missing("mixtral");
  missing.tensors.entries.erase("model.layers.1.block_sparse_moe.experts.3.w3.weight");
  CHECK(missing.Refuses(StatusCode::kCorrupt, "lacks tensor \"model.layers.1"));
  Folder more("mixtral");
  more.tensors.entries["model.layers.1.block_sparse_moe.experts.5.w3.weight"] =
      more.tensors.entries["model.layers.1.block_sparse_moe.experts.4.w3.weight"];
  CHECK(more.Refuses(StatusCode::kUnsupported, "does not use tensor \"model.layers.1"));
}

TEST_CASE("packed experts of another shape, type or scale are refused", "[convert][mixture]") {
  const std::string blocks = "model.layers.0.mlp.experts.down_proj_blocks";
  const std::string scales = "model.layers.0.mlp.experts.down_proj_scales";
  Folder shape("gpt-oss-mxfp4");
  shape.tensors.entries[blocks].shape = {3, 32, 16, 1};
  CHECK(shape.Refuses(StatusCode::kCorrupt, "implies [3, 32, 1, 16]"));
  Folder type("gpt-oss-mxfp4");
  type.tensors.entries[scales].dtype = "I8";
  CHECK(type.Refuses(StatusCode::kUnsupported, "down_proj_scales\" is I8, not U8"));
  Folder without("gpt-oss-mxfp4");
  without.tensors.entries.erase(scales);
  CHECK(without.Refuses(StatusCode::kCorrupt, "lacks tensor \"" + scales));
  Folder nan("gpt-oss-mxfp4");
  nan.tensors.entries[scales].bytes[5] = static_cast<char>(255);
  CHECK(nan.Refuses(StatusCode::kCorrupt, "has the scale 255 at block 5"));
  Folder odd("gpt-oss-mxfp4");
  odd.config = Replaced(odd.config, "\"intermediate_size\": 32", "\"intermediate_size\": 40");
  CHECK(odd.Refuses(StatusCode::kCorrupt, "implies [3, 80, 1]"));
}

TEST_CASE("4-bit floats are decoded exactly", "[convert][mixture]") {
  // E2M1: 1 bit sign, 2 of exponent with bias 1, 1 of mantissa; exponent 0 is subnormal.
  std::vector<uint8_t> codes(48), exponents = {127, 0, 252};
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 37 + 11);
  const auto entry = [](const std::vector<uint8_t>& bytes) {
    return convert::SourceTensor{convert::FindSafetensorsType("U8"),
                                 {},
                                 reinterpret_cast<const std::byte*>(bytes.data()),
                                 bytes.size()};
  };
  std::vector<float> out(64);
  REQUIRE(convert::ReadMxfp4("t", entry(codes), entry(exponents), 32, out).ok());
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t element = 32 + i;
    const int code = codes[element / 2] >> (element % 2 * 4) & 15;
    const int exponent = code >> 1 & 3, mantissa = code & 1;
    const double magnitude =
        exponent == 0 ? mantissa * 0.5 : std::ldexp(1 + mantissa * 0.5, exponent - 1);
    const double exact =
        std::ldexp(code >> 3 != 0 ? -magnitude : magnitude, exponents[element / 32] - 127);
    CHECK(double{out[i]} == exact);
  }
}

}  // namespace
}  // namespace headroom
