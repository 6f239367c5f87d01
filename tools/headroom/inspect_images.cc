#include "headroom/inspect_images.h"

#include <cstdio>
#include <map>
#include <string>

#include "plan/image.h"

namespace headroom::cli {
namespace {

using model::ImageOp;
using model::ImageOpKind;

const char* KindName(ImageOpKind kind) {
  static constexpr const char* kNames[] = {"convolution",
                                           "norm",
                                           "activation",
                                           "add",
                                           "multiply",
                                           "pool",
                                           "resize",
                                           "slice",
                                           "rows",
                                           "concat",
                                           "flatten",
                                           "self_attention",
                                           "position_embedding",
                                           "convert"};
  return kNames[static_cast<int>(kind)];
}

const char* RuleName(model::ResizeRule rule) {
  static constexpr const char* kNames[] = {"none", "shorter_side", "exact"};
  return kNames[static_cast<int>(rule)];
}

const char* FilterName(model::ResizeFilter filter) {
  static constexpr const char* kNames[] = {"nearest", "box",     "bilinear",
                                           "hamming", "bicubic", "lanczos"};
  return kNames[static_cast<int>(filter)];
}

std::string WeightName(const model::Model& model, const ImageOp& op) {
  if (op.weight == model::kNone) return "";
  return std::string(model.tensors[static_cast<size_t>(op.weight)].name);
}

std::string Details(const ImageOp& op) {
  const model::WindowSpec& w = op.window;
  if (op.kind == ImageOpKind::kConvolution || op.kind == ImageOpKind::kPool) {
    std::string text = Format("%ux%u", w.kernel[0], w.kernel[1]);
    if (w.stride[0] != 1 || w.stride[1] != 1) text += Format("/%ux%u", w.stride[0], w.stride[1]);
    if (op.groups != 1) text += Format(" groups %u", op.groups);
    if (op.limit != model::Limit::kNone)
      text += op.limit == model::Limit::kRelu ? " relu" : " relu6";
    if (op.kind == ImageOpKind::kPool) text += op.pool == model::PoolKind::kMax ? " max" : " mean";
    return text;
  }
  if (op.kind == ImageOpKind::kSlice || op.kind == ImageOpKind::kRows) {
    return Format("%u to %u", op.begin, op.end);
  }
  if (op.kind == ImageOpKind::kSelfAttention) {
    const model::SelfAttentionSpec& a = op.attention;
    return Format("%u head%s of %u and %u", a.heads, a.heads == 1 ? "" : "s", a.query_width,
                  a.value_width);
  }
  return "";
}

Json OpJson(const model::Model& model, const ImageOp& op) {
  Json json = {
      {"kind", KindName(op.kind)}, {"name", op.name}, {"inputs", op.inputs}, {"output", op.output}};
  if (const std::string weight = WeightName(model, op); !weight.empty()) json["weight"] = weight;
  if (const std::string details = Details(op); !details.empty()) json["details"] = details;
  return json;
}

Json ValueJson(const model::ImageValue& value) {
  Json json = {{"channels", value.channels}, {"type", DTypeName(value.dtype)}};
  if (value.dtype == DType::kI8) {
    json["scale"] = value.scale;
    json["zero_point"] = value.zero_point;
  }
  return json;
}

Json PreprocessJson(const model::PreprocessSpec& spec) {
  return {{"resize", RuleName(spec.resize)},
          {"filter", FilterName(spec.filter)},
          {"resize_height", spec.resize_height},
          {"resize_width", spec.resize_width},
          {"crop_height", spec.crop_height},
          {"crop_width", spec.crop_width},
          {"order", spec.bgr ? "bgr" : "rgb"},
          {"scale", spec.scale},
          {"mean", spec.mean},
          {"deviation", spec.deviation}};
}

// Multiply-adds of a picture of the trained size.
uint64_t MultiplyAdds(const model::ImageGraph& graph) {
  const auto extents =
      plan::ImageExtents(graph, graph.preprocess.crop_height, graph.preprocess.crop_width);
  return extents.ok() ? plan::ImageMultiplyAdds(graph, extents.value()) : 0;
}

}  // namespace

Json ImageGraphJson(const model::Model& model) {
  const model::ImageGraph& graph = model.image;
  if (graph.empty()) return nullptr;
  Json ops = Json::array(), values = Json::array();
  for (const ImageOp& op : graph.ops) ops.push_back(OpJson(model, op));
  for (const model::ImageValue& value : graph.values) values.push_back(ValueJson(value));
  return {{"preprocess", PreprocessJson(graph.preprocess)},
          {"multiply_adds", MultiplyAdds(graph)},
          {"labels", graph.labels},
          {"logits", graph.logits},
          {"features", graph.features},
          {"values", values},
          {"ops", ops}};
}

void PrintImageSummary(const model::Model& model) {
  const model::ImageGraph& graph = model.image;
  const model::PreprocessSpec& spec = graph.preprocess;
  std::printf("%-14s %u x %u, resize %s, %s; %s multiply-adds\n", "pictures", spec.crop_height,
              spec.crop_width, RuleName(spec.resize), FilterName(spec.filter),
              FormatCount(MultiplyAdds(graph)).c_str());
  std::printf("%-14s %u, %s\n", "classes", model.metadata.vocabulary,
              graph.labels.empty() ? "without names" : "with names");
  std::map<std::string, size_t> kinds;
  for (const ImageOp& op : graph.ops) ++kinds[KindName(op.kind)];
  std::printf("%-14s", "operations");
  for (const auto& [kind, count] : kinds) std::printf(" %zu %s", count, kind.c_str());
  std::printf("\n");
}

void PrintImageOps(const model::Model& model) {
  std::printf("\n%5s  %-18s %-16s %-22s %s\n", "op", "kind", "values", "", "with");
  for (size_t i = 0; i < model.image.ops.size(); ++i) {
    const ImageOp& op = model.image.ops[i];
    std::string values;
    for (const int32_t input : op.inputs) {
      values += (values.empty() ? "" : " + ") + std::to_string(input);
    }
    values += " > " + std::to_string(op.output);
    std::printf("%5zu  %-18s %-16s %-22s %s\n", i, KindName(op.kind), values.c_str(),
                Details(op).c_str(), EscapeControls(WeightName(model, op)).c_str());
  }
}

}  // namespace headroom::cli
