// The graph of a vision model: every value written once and before it is read, channels and element
// types agreeing with the weights. Rows and columns depend on the size asked for: plan/image.h.
#include <algorithm>
#include <cmath>

#include "model/load_image.h"

namespace headroom::model {
namespace {

constexpr uint32_t kPictures = 0;  // value
constexpr uint32_t kColours = 3;
constexpr uint32_t kRank = 4;
constexpr uint32_t kMaxImageChannels = 1u << 16;
constexpr uint64_t kMaxLabelBytes = 256;

Status LoadElementType(const Where& where, const fb::Value& from, bool pictures, ImageValue* out) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "element type", from.dtype()));
  if (from.dtype() == fb::DType::F32) return {};
  if (from.dtype() == fb::DType::F16 && !pictures) {
    out->dtype = DType::kF16;
    return {};
  }
  if (from.dtype() != fb::DType::I8 || pictures) {
    return Unsupported(where, "%s elements", fb::EnumNameDType(from.dtype()));
  }
  if (!std::isnormal(from.scale()) || from.scale() < 0.0f) {
    return Corrupt(where, "scale %g is not a normal positive number",
                   static_cast<double>(from.scale()));
  }
  out->dtype = DType::kI8;
  out->scale = from.scale();
  out->zero_point = from.zero_point();
  return {};
}

Status LoadImageValue(uint32_t index, const fb::Value& from, ImageValue* out) {
  const Where where("value %u", index);
  std::string_view name;
  HR_RETURN_IF_ERROR(CheckText(where, "name", from.name(), kMaxNameBytes, false, &name));
  HR_RETURN_IF_ERROR(LoadElementType(where, from, index == kPictures, out));
  if (Count(from.dims()) != kRank) {
    return Unsupported(where, "%u dimensions, not %u", Count(from.dims()), kRank);
  }
  constexpr fb::DimSymbol kSymbols[] = {fb::DimSymbol::B, fb::DimSymbol::Spatial,
                                        fb::DimSymbol::Spatial, fb::DimSymbol::Constant};
  for (uint32_t i = 0; i < kRank; ++i) {
    const fb::Dim& dim = *from.dims()->Get(i);
    HR_RETURN_IF_ERROR(CheckKnown(where, "dimension symbol", dim.symbol()));
    if (dim.symbol() != kSymbols[i] || (i + 1 < kRank && dim.size() != 1)) {
      return Unsupported(where, "its dimensions are not [B, Spatial, Spatial, channels]");
    }
  }
  out->channels = from.dims()->Get(kRank - 1)->size();
  if (out->channels == 0 || out->channels > kMaxImageChannels) {
    return Corrupt(where, "%u channels, not 1..%u", out->channels, kMaxImageChannels);
  }
  if (index == kPictures && out->channels != kColours) {
    return Unsupported(where, "pictures of %u channels, not %u", out->channels, kColours);
  }
  return {};
}

Status LoadEdges(const LoadContext& context, const Where& where, const fb::Op& from,
                 std::vector<bool>& written, ImageOp* op) {
  const size_t values = context.model.image.values.size();
  const ImageArity arity = ImageArityOf(from.attributes_type());
  const uint32_t count = Count(from.inputs());
  if (count < arity.least || count > arity.most || Count(from.outputs()) != 1) {
    return Corrupt(where, "%u inputs and %u outputs, not %u to %u and 1", count,
                   Count(from.outputs()), arity.least, arity.most);
  }
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t input = from.inputs()->Get(i);
    HR_RETURN_IF_ERROR(CheckIndex(where, "input value", input, values));
    if (!written[static_cast<size_t>(input)]) {
      return Corrupt(where, "reads value %d before it is written", input);
    }
    op->inputs.push_back(input);
  }
  op->output = from.outputs()->Get(0);
  HR_RETURN_IF_ERROR(CheckIndex(where, "output value", op->output, values));
  if (written[static_cast<size_t>(op->output)]) {
    return Corrupt(where, "writes value %d again", op->output);
  }
  written[static_cast<size_t>(op->output)] = true;
  return {};
}

Status LoadOp(LoadContext& context, uint32_t index, const fb::Op& from, std::vector<bool>& written,
              ImageOp* op) {
  Where where("op %u", index);
  HR_RETURN_IF_ERROR(CheckText(where, "name", from.name(), kMaxNameBytes, false, &op->name));
  where = Where("op %u \"%.*s\"", index, static_cast<int>(std::min<size_t>(op->name.size(), 80)),
                op->name.data());
  HR_RETURN_IF_ERROR(CheckKnown(where, "operation", from.attributes_type()));
  if (from.attributes_type() == fb::OpAttributes::NONE || from.attributes() == nullptr) {
    return Corrupt(where, "no attributes");
  }
  HR_RETURN_IF_ERROR(context.Charge(Count(from.inputs()), sizeof(int32_t), "inputs"));
  HR_RETURN_IF_ERROR(LoadEdges(context, where, from, written, op));
  return LoadImageAttributes(context, where, from, op);
}

Status CheckVectorValue(const LoadContext& context, const char* what, int32_t value) {
  const ImageGraph& image = context.model.image;
  const Where where("%s", what);
  HR_RETURN_IF_ERROR(CheckIndex(where, "value", value, image.values.size()));
  if (value == static_cast<int32_t>(kPictures))
    return Corrupt(where, "are the pictures themselves");
  if (image.values[static_cast<size_t>(value)].dtype != DType::kF32) {
    return Unsupported(where, "f16 or int8 elements");
  }
  return {};
}

Status LoadEnds(LoadContext& context, const std::vector<bool>& written) {
  Model& model = context.model;
  ImageGraph& image = model.image;
  for (size_t i = 0; i < written.size(); ++i) {
    if (!written[i]) return Corrupt(Where("graph"), "value %zu is written by no operation", i);
  }
  image.logits = context.graph.logits();
  image.features = context.graph.vision()->features();
  HR_RETURN_IF_ERROR(CheckVectorValue(context, "logits", image.logits));
  if (image.features != kNone) {
    HR_RETURN_IF_ERROR(CheckVectorValue(context, "features", image.features));
  }
  const uint32_t classes = image.values[static_cast<size_t>(image.logits)].channels;
  if (classes == model.metadata.vocabulary) return {};
  return Corrupt(Where("logits"), "%u classes, the metadata has %u", classes,
                 model.metadata.vocabulary);
}

Status LoadLabels(LoadContext& context, const fb::Vision& from) {
  if (Count(from.labels()) == 0) return {};
  const Where where("labels");
  const uint32_t count = Count(from.labels());
  if (count != context.model.metadata.vocabulary) {
    return Corrupt(where, "%u for %u classes", count, context.model.metadata.vocabulary);
  }
  HR_RETURN_IF_ERROR(context.Charge(count, sizeof(std::string_view), "labels"));
  for (uint32_t i = 0; i < count; ++i) {
    HR_RETURN_IF_ERROR(CheckText(where, "one", from.labels()->Get(i), kMaxLabelBytes, false,
                                 &context.model.image.labels.emplace_back()));
  }
  return {};
}

Status LoadColours(const Where& where, const char* what, const flatbuffers::Vector<float>* from,
                   bool divides, float* out) {
  if (Count(from) != kColours) return Corrupt(where, "%u numbers as %s", Count(from), what);
  for (uint32_t i = 0; i < kColours; ++i) {
    out[i] = from->Get(i);
    if (!std::isfinite(out[i]) || std::fabs(out[i]) > 1e6f || (divides && !(out[i] > 1e-6f))) {
      return Corrupt(where, "%s %g", what, static_cast<double>(out[i]));
    }
  }
  return {};
}

Status CheckSide(const Where& where, const char* what, uint32_t side) {
  if (side >= 1 && side <= kMaxImageSide) return {};
  return Corrupt(where, "%s %u is not 1..%u", what, side, kMaxImageSide);
}

// The enumerations of the file and of image.h have the same numbers.
Status LoadPreprocess(const fb::Preprocess* from, PreprocessSpec* out) {
  const Where where("preprocessing");
  if (from == nullptr) return Corrupt(where, "missing");
  HR_RETURN_IF_ERROR(CheckKnown(where, "resize rule", from->resize()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "filter", from->filter()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "crop rounding", from->rounding()));
  out->resize = static_cast<ResizeRule>(from->resize());
  out->filter = static_cast<ResizeFilter>(from->filter());
  out->rounding = static_cast<CropRounding>(from->rounding());
  out->resize_height = from->resize_height();
  out->resize_width = from->resize_width();
  if (out->resize != ResizeRule::kNone) {
    HR_RETURN_IF_ERROR(CheckSide(where, "resize height", out->resize_height));
  }
  if (out->resize == ResizeRule::kExact) {
    HR_RETURN_IF_ERROR(CheckSide(where, "resize width", out->resize_width));
  }
  out->crop_height = from->crop_height();
  out->crop_width = from->crop_width();
  HR_RETURN_IF_ERROR(CheckSide(where, "crop height", out->crop_height));
  HR_RETURN_IF_ERROR(CheckSide(where, "crop width", out->crop_width));
  out->bgr = from->bgr();
  out->scale = from->scale();
  if (!(out->scale > 0.0f) || !(out->scale <= 1e6f)) {
    return Corrupt(where, "scale %g", static_cast<double>(out->scale));
  }
  HR_RETURN_IF_ERROR(LoadColours(where, "mean", from->mean(), false, out->mean));
  return LoadColours(where, "deviation", from->deviation(), true, out->deviation);
}

}  // namespace

Status LoadImageGraph(LoadContext& context) {
  const fb::Vision& vision = *context.graph.vision();
  const auto* values = context.graph.values();
  const auto* ops = context.graph.ops();
  ImageGraph& image = context.model.image;
  HR_RETURN_IF_ERROR(CheckCount("values", Count(values), kMaxValues));
  HR_RETURN_IF_ERROR(CheckCount("operations", Count(ops), kMaxOps));
  if (Count(values) == 0 || Count(ops) == 0) {
    return Corrupt(Where("graph"), "no values or no operations");
  }
  if (!context.model.attentions.empty()) {
    return Unsupported(Where("graph"), "attention with cached rows in a vision model");
  }
  HR_RETURN_IF_ERROR(context.Charge(values->size(), sizeof(ImageValue) + 1, "values"));
  HR_RETURN_IF_ERROR(context.Charge(ops->size(), sizeof(ImageOp), "operations"));
  HR_RETURN_IF_ERROR(LoadPreprocess(vision.preprocess(), &image.preprocess));
  HR_RETURN_IF_ERROR(LoadLabels(context, vision));
  image.values.resize(values->size());
  for (uint32_t i = 0; i < values->size(); ++i) {
    HR_RETURN_IF_ERROR(LoadImageValue(i, *values->Get(i), &image.values[i]));
  }
  std::vector<bool> written(values->size());
  written[kPictures] = true;
  image.ops.resize(ops->size());
  for (uint32_t i = 0; i < ops->size(); ++i) {
    HR_RETURN_IF_ERROR(LoadOp(context, i, *ops->Get(i), written, &image.ops[i]));
  }
  return LoadEnds(context, written);
}

}  // namespace headroom::model
