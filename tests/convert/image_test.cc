// Vision models: what is folded, what the graph says, what is refused.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>
#include <functional>

#include "convert/json_file.h"
#include "tests/convert/converted.h"
#include "tests/convert/refusal.h"

namespace headroom::test {
namespace {

using convert::Json;
using model::ImageOp;
using model::ImageOpKind;

constexpr double kEpsilon = 1e-5;  // of batch norms

std::unique_ptr<Converted> ConvertVision(const std::string& name) {
  return ConvertFolder(GoldenFolder("vision/" + name), convert::WeightFormat::kF32);
}
std::vector<float> From(const std::string& name, const std::string& tensor) {
  return Source("vision/" + name, tensor);
}

const ImageOp& OpNamed(const Converted& of, const std::string& name) {
  for (const ImageOp& op : of.model->image.ops) {
    if (op.name == name) return op;
  }
  FAIL("no operation " << name);
  return of.model->image.ops[0];
}

void CheckNear(const std::vector<float>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i);
    CHECK(std::abs(static_cast<double>(got[i]) - want[i]) <= 1e-7 * (1.0 + std::abs(want[i])));
  }
}

// A batch norm as scale and shift.
struct Norm {
  std::vector<double> scale, shift;
  Norm(const std::string& name, const std::string& prefix) {
    const auto weight = From(name, prefix + ".weight"), bias = From(name, prefix + ".bias"),
               mean = From(name, prefix + ".running_mean"),
               variance = From(name, prefix + ".running_var");
    for (size_t i = 0; i < weight.size(); ++i) {
      scale.push_back(static_cast<double>(weight[i]) /
                      std::sqrt(static_cast<double>(variance[i]) + kEpsilon));
      shift.push_back(static_cast<double>(bias[i]) - static_cast<double>(mean[i]) * scale[i]);
    }
  }
};

TEST_CASE("a convolution takes its batch norm in", "[convert][images]") {
  const auto converted = ConvertVision("shvit");
  const ImageOp& op = OpNamed(*converted, "patch_embed.4");
  const auto weight = From("shvit", "patch_embed.4.c.weight");  // [4, 2, 3, 3]
  const Norm norm("shvit", "patch_embed.4.bn");
  std::vector<double> want(weight.size());
  for (size_t n = 0; n < 4; ++n) {
    for (size_t c = 0; c < 2; ++c) {
      for (size_t tap = 0; tap < 9; ++tap) {
        want[(n * 9 + tap) * 2 + c] =
            norm.scale[n] * static_cast<double>(weight[(n * 2 + c) * 9 + tap]);
      }
    }
  }
  CheckNear(converted->floats(op.weight), want);
  CheckNear(converted->floats(op.bias), norm.shift);
  CHECK(op.window.stride[0] == 2);
  CHECK(op.window.pad[3] == 1);
  CHECK(op.limit == model::Limit::kRelu);
  CHECK(OpNamed(*converted, "patch_embed.6").limit == model::Limit::kNone);
}

TEST_CASE("a depthwise convolution takes the sum around it in", "[convert][images]") {
  const auto converted = ConvertVision("shvit");
  const std::string name = "stages.1.blocks.0.conv";
  const ImageOp& op = OpNamed(*converted, name);
  const auto weight = From("shvit", name + ".m.c.weight");
  const Norm norm("shvit", name + ".m.bn");
  std::vector<double> want;
  for (size_t i = 0; i < weight.size(); ++i) {
    want.push_back(norm.scale[i / 9] * static_cast<double>(weight[i]) + (i % 9 == 4 ? 1.0 : 0.0));
  }
  CheckNear(converted->floats(op.weight), want);
  CheckNear(converted->floats(op.bias), norm.shift);
  CHECK(op.groups == 16);
  // The one that merges patches is no sum.
  const std::string merge = "stages.1.downsample.2.conv2";
  const auto merged = converted->floats(OpNamed(*converted, merge).weight);
  const Norm other("shvit", merge + ".bn");
  CHECK(std::abs(static_cast<double>(merged[4]) -
                 other.scale[0] * static_cast<double>(From("shvit", merge + ".c.weight")[4])) <
        1e-6);
}

// Mean of W diag(scale), and of b + W shift.
void CheckHead(const std::string& name, const std::vector<std::string>& heads, size_t classes) {
  const auto converted = ConvertVision(name);
  const ImageOp& op = OpNamed(*converted, "head");
  std::vector<double> want_weight, want_bias(classes);
  for (const std::string& head : heads) {
    const auto weight = From(name, head + ".l.weight"), bias = From(name, head + ".l.bias");
    const Norm norm(name, head + ".bn");
    const size_t columns = norm.scale.size();
    want_weight.resize(weight.size());
    const double share = 1.0 / static_cast<double>(heads.size());
    for (size_t i = 0; i < weight.size(); ++i) {
      const auto w = static_cast<double>(weight[i]);
      want_weight[i] += share * w * norm.scale[i % columns];
      want_bias[i / columns] += share * w * norm.shift[i % columns];
    }
    for (size_t i = 0; i < classes; ++i) want_bias[i] += share * static_cast<double>(bias[i]);
  }
  CheckNear(converted->floats(op.weight), want_weight);
  CheckNear(converted->floats(op.bias), want_bias);
}

TEST_CASE("a classifier takes its batch norm in, two are averaged", "[convert][images]") {
  CheckHead("shvit", {"head"}, 12);
  CheckHead("shvit-authors", {"head", "head_dist"}, 12);
}

TEST_CASE("a folded checkpoint gives the same file", "[convert][images]") {
  const auto folded = ConvertVision("shvit-folded"), whole = ConvertVision("shvit");
  REQUIRE(folded->model->tensors.size() == whole->model->tensors.size());
  for (size_t i = 0; i < folded->model->tensors.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    INFO(folded->tensor(index).name);
    CHECK(folded->tensor(index).name == whole->tensor(index).name);
    const auto want = whole->floats(index);
    CheckNear(folded->floats(index), {want.begin(), want.end()});
  }
  CHECK(folded->summary.parameters == whole->summary.parameters);
}

TEST_CASE("a block with attention is these operations", "[convert][images]") {
  const auto converted = ConvertVision("shvit");
  const model::ImageGraph& graph = converted->model->image;
  const std::string block = "stages.1.blocks.0.";
  std::vector<ImageOpKind> kinds;
  for (const ImageOp& op : graph.ops) {
    if (op.name.starts_with(block)) kinds.push_back(op.kind);
  }
  using enum ImageOpKind;
  const std::vector<ImageOpKind> want = {
      kConvolution, kSlice,       kNorm, kConvolution, kSelfAttention, kSlice, kActivation,
      kConcat,      kConvolution, kAdd,  kConvolution, kConvolution,   kAdd};
  CHECK(kinds == want);
  const ImageOp& norm = OpNamed(*converted, block + "mixer.m.pre_norm");
  CHECK(norm.groups == 1);
  CHECK(norm.epsilon == 1e-5f);
  const model::SelfAttentionSpec& attention =
      OpNamed(*converted, block + "mixer.m.attention").attention;
  CHECK(attention.heads == 1);
  CHECK(attention.query_width == 16);
  CHECK(attention.value_width == 7);
  CHECK(attention.scale == 0.25f);
  CHECK(attention.relu);
  const ImageOp& sum = OpNamed(*converted, block + "mixer");
  CHECK(sum.inputs[0] == OpNamed(*converted, block + "conv").output);
  CHECK(OpNamed(*converted, "features").output == graph.features);
  CHECK(OpNamed(*converted, "stages.1.downsample.2.se").kind == kMultiply);
}

TEST_CASE("stages of one width are joined by the authors alone", "[convert][images]") {
  const auto joins = [](const Converted& of, const std::string& name) {
    return std::ranges::any_of(of.model->image.ops,
                               [&](const ImageOp& op) { return op.name.starts_with(name); });
  };
  const auto even = ConvertVision("shvit-even"), authors = ConvertVision("shvit-authors");
  CHECK_FALSE(joins(*even, "stages.1.downsample"));
  CHECK(joins(*even, "stages.2.downsample"));
  CHECK(joins(*authors, "stages.2.downsample"));
  CHECK(OpNamed(*even, "stages.0.blocks.0.mixer.m.attention").attention.query_width == 8);
}

TEST_CASE("how pictures become input comes along", "[convert][images]") {
  const auto squashed = ConvertVision("shvit"), even = ConvertVision("shvit-even");
  const model::PreprocessSpec& a = squashed->model->image.preprocess;
  CHECK(a.resize == model::ResizeRule::kExact);
  CHECK(a.resize_height == 73);  // floor(64 / 0.875)
  CHECK(a.resize_width == 73);
  CHECK(a.crop_height == 64);
  CHECK(a.filter == model::ResizeFilter::kBicubic);
  CHECK(a.rounding == model::CropRounding::kHalfToEven);
  CHECK(a.scale == 1.0f / 255.0f);
  CHECK(a.mean[0] == 0.485f);
  CHECK(a.deviation[2] == 0.225f);
  CHECK(squashed->model->image.labels.at(11) == "kind 11");
  const model::PreprocessSpec& b = even->model->image.preprocess;
  CHECK(b.resize == model::ResizeRule::kShorterSide);
  CHECK(b.resize_height == 71);  // floor(64 / 0.9)
  CHECK(b.filter == model::ResizeFilter::kBilinear);
  CHECK(even->model->image.labels.empty());
  const auto vit = ConvertVision("vit"), deit = ConvertVision("deit");
  const model::PreprocessSpec& c = vit->model->image.preprocess;
  CHECK(c.resize == model::ResizeRule::kExact);
  CHECK(c.resize_height == 32);
  CHECK(c.filter == model::ResizeFilter::kBilinear);
  CHECK(c.rounding == model::CropRounding::kDown);
  CHECK(c.mean[1] == 0.5f);
  CHECK(vit->model->image.labels.at(6) == "kind 6");
  const model::PreprocessSpec& d = deit->model->image.preprocess;
  CHECK(d.resize_height == 38);
  CHECK(d.crop_height == 32);
  CHECK(d.filter == model::ResizeFilter::kBicubic);
  CHECK(deit->model->image.labels.empty());  // the library's own: LABEL_0 ..
}

TEST_CASE("tokens of ViT and DeiT become rows of the position table", "[convert][images]") {
  const auto converted = ConvertVision("deit-teacher");
  const ImageOp& op = OpNamed(*converted, "positions");
  CHECK(op.begin == 2);
  const auto table = converted->floats(op.weight);
  const auto stored = From("deit-teacher", "deit.embeddings.position_embeddings");
  std::vector<double> want(stored.begin(), stored.end());
  const size_t width = 24;
  REQUIRE(want.size() == 18 * width);
  const auto first = From("deit-teacher", "deit.embeddings.cls_token"),
             second = From("deit-teacher", "deit.embeddings.distillation_token");
  for (size_t i = 0; i < width; ++i) {
    want[i] += static_cast<double>(first[i]);
    want[width + i] += static_cast<double>(second[i]);
  }
  CheckNear(table, want);
}

TEST_CASE("queries, keys and values are one matrix in this order", "[convert][images]") {
  const auto converted = ConvertVision("vit");
  const ImageOp& op = OpNamed(*converted, "layers.1.attention.qkv");
  std::vector<double> want;
  for (const char* part : {"query", "key", "value"}) {
    const auto rows =
        From("vit", std::string("vit.encoder.layer.1.attention.attention.") + part + ".weight");
    want.insert(want.end(), rows.begin(), rows.end());
  }
  CheckNear(converted->floats(op.weight), want);
  const model::SelfAttentionSpec& spec = OpNamed(*converted, "layers.1.attention").attention;
  CHECK(spec.heads == 3);
  CHECK(spec.query_width == 8);
  CHECK(spec.scale == static_cast<float>(1.0 / std::sqrt(8.0)));
  CHECK_FALSE(spec.relu);
  const auto teacher = ConvertVision("deit-teacher");
  const auto halved = teacher->floats(OpNamed(*teacher, "distillation_classifier").weight);
  CHECK(halved[3] == 0.5f * From("deit-teacher", "distillation_classifier.weight")[3]);
}

TEST_CASE("f16 matrices say what they lost", "[convert][images]") {
  const auto converted = ConvertFolder(GoldenFolder("vision/shvit"), convert::WeightFormat::kF16);
  CHECK(converted->tensor(OpNamed(*converted, "head").weight).dtype == DType::kF16);
  CHECK(converted->tensor(OpNamed(*converted, "head").bias).dtype == DType::kF32);
  CHECK(converted->summary.largest_error > 1e-5f);
  CHECK(converted->summary.largest_error < 1e-3f);
  CHECK(converted->summary.vision);
  CHECK(converted->model->metadata.vocabulary == 12);
  CHECK(converted->model->metadata.context_tokens == 0);
}

// ------------------------------------------------------------------------------------ refusals

// Of a case with its configuration and the bytes of its tensors changed.
struct Change {
  std::function<void(Json& config)> config = [](Json&) {};
  std::function<void(std::string& header, std::string& data, const Json& index)> tensors =
      [](std::string&, std::string&, const Json&) {};
  std::function<void(convert::Options&)> options = [](convert::Options&) {};
};

Status VisionRefusal(const std::string& name, const Change& change) {
  TempFolder folder;
  const std::string from = GoldenFolder("vision/" + name) + "/";
  Json config = Json::parse(ReadText(from + "config.json"));
  change.config(config);
  WriteText(folder / "config.json", config.dump());
  if (convert::Exists(from + "preprocessor_config.json"))
    WriteText(folder / "preprocessor_config.json", ReadText(from + "preprocessor_config.json"));
  const std::string file = ReadText(from + "model.safetensors");
  uint64_t bytes = 0;
  std::memcpy(&bytes, file.data(), 8);
  std::string header = file.substr(8, bytes), data = file.substr(8 + bytes);
  change.tensors(header, data, Json::parse(header));
  WriteText(folder / "model.safetensors", Safetensors(header, data));
  convert::Options options;
  options.source = folder.path();
  options.out = folder / "model.hrm";
  options.weights = convert::WeightFormat::kF32;
  change.options(options);
  const auto summary = convert::Convert(options);
  if (summary.ok()) return {};
  CHECK_FALSE(std::filesystem::exists(options.out));
  return summary.status();
}

void ExpectVisionRefusal(const std::string& name, const Change& change, StatusCode code,
                         const std::string& text) {
  const Status status = VisionRefusal(name, change);
  INFO(name << ": " << StatusCodeName(status.code()) << ", " << status.message());
  CHECK(status.code() == code);
  CHECK(std::string(status.message()).find(text) != std::string::npos);
}

Change Configured(std::function<void(Json&)> change) {
  Change made;
  made.config = std::move(change);
  return made;
}

TEST_CASE("changed configurations of SHViT are refused", "[convert][images]") {
  const auto refuse = [](std::function<void(Json&)> change, StatusCode code, const char* text) {
    ExpectVisionRefusal("shvit", Configured(std::move(change)), code, text);
  };
  constexpr StatusCode kCorrupt = StatusCode::kCorrupt, kUnsupported = StatusCode::kUnsupported;
  refuse([](Json&) {}, StatusCode::kOk, "");
  refuse([](Json& c) { c["model_args"]["embed_dim"][1] = 20; }, kCorrupt,
         "is [16, 32, 1, 1], the configuration implies [20, 32, 1, 1]");
  refuse([](Json& c) { c["model_args"]["depth"][2] = 3; }, kCorrupt,
         "tensor \"stages.2.blocks.2.conv.weight\" is missing");
  refuse([](Json& c) { c["model_args"]["depth"][2] = 1; }, kUnsupported,
         "tensor \"stages.2.blocks.1.conv.m.bn.bias\" [24] is no part");
  refuse([](Json& c) { c["model_args"]["types"][0] = "s"; }, kCorrupt,
         "stages.0.blocks.0.mixer.m.pre_norm.weight\" is missing");
  refuse([](Json& c) { c["model_args"]["types"][0] = "x"; }, kUnsupported, "type \"x\"");
  refuse([](Json& c) { c["model_args"]["types"] = {"i"}; }, kUnsupported, "1 \"types\" for 3");
  refuse([](Json& c) { c["model_args"]["partial_dim"][1] = 16; }, kUnsupported,
         "partial_dim 16 is not below embed_dim 16");
  refuse(
      [](Json& c) {
        c["model_args"]["qk_dim"] = {16, 16, 8};
      },
      kCorrupt, "the configuration implies [21, 5, 1, 1]");
  refuse([](Json& c) { c["model_args"]["qk_dim"] = {16}; }, kUnsupported, "1 numbers for 3 stages");
  refuse([](Json& c) { c["model_args"]["depth"][1] = 1.5; }, kCorrupt, "\"depth\" holds 1.5");
  refuse([](Json& c) { c["model_args"]["act_layer"] = "gelu"; }, kUnsupported, "act_layer");
  refuse([](Json& c) { c["num_classes"] = 13; }, kCorrupt, "tensor \"head.l.weight\" is [12, 24]");
  refuse([](Json& c) { c["num_classes"] = 0; }, kUnsupported, "num_classes");
  refuse([](Json& c) { c["global_pool"] = "max"; }, kUnsupported, "global_pool \"max\"");
  refuse([](Json& c) { c["drop_rate"] = 0.1; }, kUnsupported, "drop_rate");
  refuse(
      [](Json& c) {
        c["architecture"] = "resnet50";
        c.erase("model_args");
      },
      kUnsupported, "architecture \"resnet50\" without model_args.embed_dim; known are shvit_s1");
}

TEST_CASE("preprocessing that is not there is refused", "[convert][images]") {
  const auto refuse = [](std::function<void(Json&)> change, const char* text) {
    ExpectVisionRefusal("shvit", Configured([&](Json& c) { change(c["pretrained_cfg"]); }),
                        StatusCode::kUnsupported, text);
  };
  refuse([](Json& c) { c["crop_mode"] = "border"; }, "crop_mode \"border\"");
  refuse([](Json& c) { c["interpolation"] = "random"; }, "interpolation \"random\"");
  refuse([](Json& c) { c["crop_pct"] = 0.0; }, "crop_pct");
  refuse([](Json& c) { c["input_size"] = {1, 64, 64}; }, "is not [3, height, width]");
  refuse([](Json& c) { c["mean"] = {0.5}; }, "\"mean\" has 1 numbers, not 3");
  refuse([](Json& c) { c["std"] = {0.5, 0.5, 0.0}; }, "std");
  refuse([](Json& c) { c["label_names"] = {"one"}; }, "1 labels for 12 classes");
  refuse(
      [](Json& c) {
        c["crop_mode"] = "center";
        c["input_size"] = {3, 64, 96};
      },
      "only squares are");
}

// Sets one number of a tensor.
Change WithNumber(const std::string& tensor, size_t element, float number) {
  Change change;
  change.tensors = [=](std::string&, std::string& data, const Json& index) {
    const auto at = index[tensor]["data_offsets"][0].get<size_t>() + 4 * element;
    std::memcpy(data.data() + at, &number, 4);
  };
  return change;
}

Change Renamed(const std::string& from, const std::string& to) {
  Change change;
  change.tensors = [=](std::string& header, std::string&, const Json&) {
    header = Replaced(header, "\"" + from + "\"", "\"" + to + "\"");
  };
  return change;
}

TEST_CASE("damaged vision checkpoints are refused", "[convert][images]") {
  constexpr StatusCode kCorrupt = StatusCode::kCorrupt, kUnsupported = StatusCode::kUnsupported;
  ExpectVisionRefusal("shvit", WithNumber("head.l.weight", 7, NAN), kCorrupt,
                      "tensor \"head.l.weight\": element 7 is nan");
  ExpectVisionRefusal("shvit", WithNumber("patch_embed.0.bn.running_var", 0, -1.0f), kCorrupt,
                      "tensor \"patch_embed.0.bn.running_var\": variance -1 < 0");
  ExpectVisionRefusal("shvit", WithNumber("patch_embed.0.c.weight", 0, INFINITY), kCorrupt,
                      "element 0 is inf");
  ExpectVisionRefusal("shvit", Renamed("head.bn.running_var", "head.bn.running_vat"), kCorrupt,
                      "tensor \"head.bn.running_var\" is missing");
  ExpectVisionRefusal("shvit", Renamed("head.bn.num_batches_tracked", "extra"), kUnsupported,
                      "tensor \"extra\" [] is no part");
  ExpectVisionRefusal("vit", Renamed("vit.embeddings.cls_token", "vit.embeddings.cls"), kCorrupt,
                      "tensor \"vit.embeddings.cls_token\" is missing");
  ExpectVisionRefusal("shvit-folded", Renamed("patch_embed.2.bias", "patch_embed.2.bios"), kCorrupt,
                      "tensor \"patch_embed.2.bias\" is missing");
  Change halves = WithNumber("patch_embed.0.bn.weight", 0, 1e38f);
  halves.options = [](auto& o) { o.weights = convert::WeightFormat::kF16; };
  ExpectVisionRefusal("shvit", halves, kUnsupported, "> 65504, the f16 limit");
}

TEST_CASE("changed configurations of ViT are refused", "[convert][images]") {
  const auto refuse = [](std::function<void(Json&)> change, StatusCode code, const char* text) {
    ExpectVisionRefusal("vit", Configured(std::move(change)), code, text);
  };
  constexpr StatusCode kCorrupt = StatusCode::kCorrupt, kUnsupported = StatusCode::kUnsupported;
  refuse([](Json&) {}, StatusCode::kOk, "");
  refuse([](Json& c) { c["hidden_act"] = "mish"; }, kUnsupported, "hidden_act \"mish\"");
  refuse([](Json& c) { c["num_attention_heads"] = 5; }, kUnsupported, "no multiple of 5 heads");
  refuse([](Json& c) { c["patch_size"] = 5; }, kUnsupported, "no multiple of patch_size 5");
  refuse([](Json& c) { c["image_size"] = 40; }, kUnsupported,
         "pictures of 32 x 32 for an input of 40 x 40");
  refuse([](Json& c) { c["num_channels"] = 1; }, kUnsupported, "num_channels");
  refuse([](Json& c) { c["num_hidden_layers"] = 3; }, kCorrupt, "layer.2.layernorm_before.weight");
  refuse([](Json& c) { c.erase("hidden_size"); }, kCorrupt, "lacks \"hidden_size\"");
  refuse([](Json& c) { c["qkv_bias"] = false; }, kUnsupported,
         "attention.attention.key.bias\" [24] is no part");
  refuse([](Json& c) { c["use_swiglu_ffn"] = true; }, kUnsupported, "use_swiglu_ffn");
  refuse([](Json& c) { c["id2label"].erase("3"); }, kUnsupported, "id2label lacks number 3");
}

TEST_CASE("options of language models are refused for vision models", "[convert][images]") {
  const auto refuse = [](std::function<void(convert::Options&)> change, const char* text) {
    Change made;
    made.options = std::move(change);
    ExpectVisionRefusal("shvit", made, StatusCode::kInvalidArgument, text);
  };
  for (const auto format :
       {convert::WeightFormat::kInt8, convert::WeightFormat::kInt4, convert::WeightFormat::kKeep}) {
    refuse([&](auto& o) { o.weights = format; }, "weights of a vision model are f32 or f16");
  }
  refuse([](auto& o) { o.head = convert::WeightFormat::kF16; }, "type of the output matrix");
  refuse([](auto& o) { o.context = 64; }, "a number of tokens");
  refuse([](auto& o) { o.chat_format = "chatml"; }, "a chat format");
}

TEST_CASE("a vision preset is the same for the same seed", "[convert][images]") {
  TempFolder folder;
  const auto bytes = [&](uint64_t seed) {
    convert::Options options;
    options.preset = "vit-tiny";
    options.out = folder / ("seed" + std::to_string(seed));
    options.seed = seed;
    const auto summary = convert::Convert(options);
    INFO(summary.status().message());
    REQUIRE(summary.ok());
    // As published for patches of 16, but that the token is part of its position.
    CHECK(summary.value().parameters == 5717416 - 192);
    return ReadText(options.out);
  };
  const std::string first = bytes(1);
  CHECK(first == bytes(1));
  CHECK(first != bytes(2));
}

}  // namespace
}  // namespace headroom::test
