#include "convert/image_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

#include "convert/halves.h"
#include "plan/image.h"

namespace headroom::convert {
namespace {

using model::ImageOp;
using model::ImageOpKind;
using model::kNone;

constexpr float kLeastScale = 1e-9f;  // of what is 0 everywhere

// Scale and zero point of codes that reach from `low` to `high`, and hold 0 exactly.
model::ImageValue CodedValue(uint32_t channels, const ValueRange& range) {
  const float low = std::min(range.low, 0.0f), high = std::max(range.high, 0.0f);
  model::ImageValue value;
  value.channels = channels;
  value.dtype = DType::kI8;
  value.scale = std::max((high - low) / 255.0f, kLeastScale);
  value.zero_point = static_cast<int32_t>(
      std::clamp(std::nearbyint(-128.0f - low / value.scale), -128.0f, 127.0f));
  return value;
}

// Which values become codes, or halves, and the graph with conversions between the two.
class CodedGraph {
 public:
  // No ranges: halves.
  CodedGraph(const model::ImageGraph& from, std::vector<plan::ImageExtent> extents,
             std::span<const ValueRange> ranges)
      : from_(from),
        extents_(std::move(extents)),
        ranges_(ranges.begin(), ranges.end()),
        halves_(ranges.empty()) {
    coded_.assign(from.values.size(), false);
    group_.resize(from.values.size());
    std::iota(group_.begin(), group_.end(), 0);
  }

  Status Run() {
    for (const ImageOp& op : from_.ops) coded_[op.output] = BecomesCoded(op);
    for (const ImageOp& op : from_.ops) Join(op);
    HR_RETURN_IF_ERROR(MakeValues());
    for (const ImageOp& op : from_.ops) AddOp(op);
    return missing_ == kNone ? Status{} : NotSeen(missing_);
  }

  bool coded(int32_t value) const { return coded_[value]; }
  ImageDescription description;

 private:
  bool BecomesCoded(const ImageOp& op) const {
    const bool first = coded_[op.inputs[0]];
    switch (op.kind) {
      case ImageOpKind::kConvolution:
        return extents_[op.output].positions() > 1;
      case ImageOpKind::kAdd:
        return first && coded_[op.inputs[1]];
      case ImageOpKind::kActivation:
        return first && (halves_ ||
                         static_cast<model::Activation>(op.activation) == model::Activation::kRelu);
      case ImageOpKind::kMultiply:
      case ImageOpKind::kSlice:
      case ImageOpKind::kFlatten:
        return first;
      case ImageOpKind::kConcat:
        return std::any_of(op.inputs.begin(), op.inputs.end(),
                           [&](int32_t input) { return coded_[input]; });
      default:
        return false;
    }
  }

  int32_t GroupOf(int32_t value) const {
    while (group_[value] != value) value = group_[value];
    return value;
  }

  // What is moved about without being looked at has one scale everywhere.
  void Join(const ImageOp& op) {
    const bool moves = op.kind == ImageOpKind::kSlice || op.kind == ImageOpKind::kFlatten ||
                       op.kind == ImageOpKind::kConcat;
    if (!moves || halves_ || !coded_[op.output]) return;
    for (const int32_t input : op.inputs) {
      if (coded_[input]) {
        group_[GroupOf(input)] = GroupOf(op.output);
      } else if (ranges_[input].known) {  // it will be converted to that scale
        joined_.push_back({op.output, ranges_[input]});
      }
    }
  }

  static bool Seen(const ValueRange& range) {
    return range.known && std::isfinite(range.low) && std::isfinite(range.high);
  }
  Status NotSeen(int32_t value) const {
    const ValueRange& range = ranges_[value];
    return Status::Make(StatusCode::kInvalidArgument, "value %d was not seen, or is %g to %g",
                        value, static_cast<double>(range.low), static_cast<double>(range.high));
  }

  static model::ImageValue Half(uint32_t channels) {
    model::ImageValue value;
    value.channels = channels;
    value.dtype = DType::kF16;
    return value;
  }

  Status MakeValues() {
    if (halves_) {
      for (size_t v = 0; v < coded_.size(); ++v) {
        const model::ImageValue& value = from_.values[v];
        description.values.push_back(coded_[v] ? Half(value.channels) : value);
      }
      return {};
    }
    std::vector<ValueRange> of_group(coded_.size());
    const auto see = [&](int32_t value, const ValueRange& range) {
      if (range.known) of_group[GroupOf(value)].See(range.low, range.high);
    };
    for (size_t v = 0; v < coded_.size(); ++v) {
      if (coded_[v]) see(static_cast<int32_t>(v), ranges_[v]);
    }
    for (const auto& [value, range] : joined_) see(value, range);
    for (size_t v = 0; v < coded_.size(); ++v) {
      const ValueRange& range = of_group[GroupOf(static_cast<int32_t>(v))];
      model::ImageValue value = from_.values[v];
      if (coded_[v]) {
        if (!Seen(range)) return NotSeen(static_cast<int32_t>(v));
        value = CodedValue(value.channels, range);
      }
      description.values.push_back(value);
    }
    return {};
  }

  // `value` as codes like those of `like` (kNone: of its own range), or as floats.
  int32_t As(int32_t value, bool codes, int32_t like) {
    if (coded_[value] == codes) return value;
    const auto key = std::make_tuple(value, like);
    const auto found = twins_.find(key);
    if (found != twins_.end()) return found->second;
    model::ImageValue twin;
    twin.channels = from_.values[value].channels;
    if (codes && !halves_ && !Seen(ranges_[value])) missing_ = value;
    if (codes && halves_) {
      twin = Half(twin.channels);
    } else if (codes && like == kNone) {
      twin = CodedValue(twin.channels, ranges_[value]);
    } else if (codes) {
      twin = description.values[like];
      twin.channels = from_.values[value].channels;
    }
    description.values.push_back(twin);
    const auto made = static_cast<int32_t>(description.values.size() - 1);
    twins_[key] = made;
    ImageOpDescription convert;
    convert.op.kind = ImageOpKind::kConvert;
    convert.op.inputs = {value};
    convert.op.output = made;
    convert.name = !codes ? "to_f32" : halves_ ? "to_f16" : "to_int8";
    description.ops.push_back(convert);
    return made;
  }

  void AddOp(const ImageOp& op) {
    ImageOpDescription made{op, std::string(op.name)};
    const bool codes = coded_[op.output];
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const bool factors = op.kind == ImageOpKind::kMultiply && i == 1;
      const bool mean = op.kind == ImageOpKind::kPool && op.pool == model::PoolKind::kAverage;
      if (mean && coded_[op.inputs[i]]) continue;  // adds up codes, too
      const int32_t like = op.kind == ImageOpKind::kConcat && !halves_ ? op.output : kNone;
      made.op.inputs[i] = As(op.inputs[i], codes && !factors, like);
    }
    description.ops.push_back(made);
  }

  const model::ImageGraph& from_;
  std::vector<plan::ImageExtent> extents_;
  std::vector<ValueRange> ranges_;
  bool halves_;
  std::vector<bool> coded_;
  std::vector<int32_t> group_;  // of values that share a scale
  std::vector<std::pair<int32_t, ValueRange>> joined_;
  std::map<std::tuple<int32_t, int32_t>, int32_t> twins_;
  int32_t missing_ = kNone;  // a value that is converted and was not seen
};

float WeightAt(const TensorView& tensor, uint64_t i) {
  if (tensor.dtype == DType::kF16) {
    return HalfToFloat(reinterpret_cast<const uint16_t*>(tensor.data)[i]);
  }
  return tensor.f32()[i];
}

// Codes -127..127 of each row, its largest number at an end.
Status AppendCoded(const TensorView& tensor, size_t index, HrmWriter& writer) {
  const uint32_t columns = tensor.columns();
  std::vector<int8_t> codes(columns);
  std::vector<float> scales;
  for (uint32_t row = 0; row < tensor.rows(); ++row) {
    float largest = 0.0f;
    const uint64_t first = uint64_t{row} * columns;
    for (uint32_t i = 0; i < columns; ++i) {
      largest = std::max(largest, std::fabs(WeightAt(tensor, first + i)));
    }
    scales.push_back(std::max(largest / 127.0f, kLeastScale));
    for (uint32_t i = 0; i < columns; ++i) {
      codes[i] = static_cast<int8_t>(std::nearbyint(WeightAt(tensor, first + i) / scales.back()));
    }
    HR_RETURN_IF_ERROR(writer.Append(index, std::as_bytes(std::span(codes))));
  }
  return writer.AppendScales(index, std::as_bytes(std::span(scales)));
}

// Of what computes with halves: they are rounded when they are packed.
Status CheckBias(const TensorView& bias) {
  for (uint32_t i = 0; i < bias.data_bytes / sizeof(float); ++i) {
    HR_RETURN_IF_ERROR(CheckHalf(bias.name, bias.f32()[i]));
  }
  return {};
}

// Of convolutions that stay in floats: half the bytes, and 11 bits are enough for them.
Status AppendHalf(const TensorView& tensor, size_t index, HrmWriter& writer) {
  std::vector<uint16_t> halves(tensor.columns());
  for (uint32_t row = 0; row < tensor.rows(); ++row) {
    for (uint32_t i = 0; i < tensor.columns(); ++i) {
      const float number = WeightAt(tensor, uint64_t{row} * tensor.columns() + i);
      HR_RETURN_IF_ERROR(CheckHalf(tensor.name, number));
      halves[i] = FloatToHalf(number);
    }
    HR_RETURN_IF_ERROR(writer.Append(index, std::as_bytes(std::span(halves))));
  }
  return {};
}

Status AppendAsIs(const TensorView& tensor, size_t index, HrmWriter& writer) {
  HR_RETURN_IF_ERROR(writer.Append(index, {tensor.data, tensor.data_bytes}));
  if (tensor.scale_bytes == 0) return {};
  return writer.AppendScales(index, {tensor.scales, tensor.scale_bytes});
}

enum class Stored : uint8_t { kAsIs, kCodes, kHalf };

std::vector<TensorDescription> DescribeTensors(const model::Model& source,
                                               const std::vector<Stored>& stored) {
  std::vector<TensorDescription> tensors;
  for (size_t i = 0; i < source.tensors.size(); ++i) {
    const TensorView& from = source.tensors[i];
    TensorDescription tensor;
    tensor.name = std::string(from.name);
    tensor.dtype = stored[i] == Stored::kCodes  ? DType::kI8
                   : stored[i] == Stored::kHalf ? DType::kF16
                                                : from.dtype;
    tensor.block = stored[i] == Stored::kAsIs ? from.block : 0;
    tensor.extents.assign(from.extents.begin(), from.extents.begin() + from.rank);
    tensors.push_back(tensor);
  }
  return tensors;
}

Status CheckSource(const model::Model& source) {
  if (source.image.empty()) {
    return Status::Make(StatusCode::kInvalidArgument, "the source is no vision model");
  }
  for (const model::ImageValue& value : source.image.values) {
    if (value.dtype == DType::kF32) continue;
    return Status::Make(StatusCode::kInvalidArgument, "the source has %s values already",
                        DTypeName(value.dtype));
  }
  return {};
}

// No ranges: halves.
Result<CodesSummary> WriteNarrow(const model::Model& source, std::span<const ValueRange> ranges,
                                 const std::string& out, const std::string& name) {
  HR_RETURN_IF_ERROR(CheckSource(source));
  const model::PreprocessSpec& input = source.image.preprocess;
  HR_ASSIGN_OR_RETURN(auto extents,
                      plan::ImageExtents(source.image, input.crop_height, input.crop_width));
  CodedGraph graph(source.image, std::move(extents), ranges);
  HR_RETURN_IF_ERROR(graph.Run());
  std::vector<Stored> stored(source.tensors.size(), Stored::kAsIs);
  CodesSummary summary;
  for (const ImageOp& op : source.image.ops) {
    if (op.kind != ImageOpKind::kConvolution) continue;
    ++summary.convolutions;
    const bool coded = graph.coded(op.output);
    if (coded && ranges.empty() && op.bias != kNone) {
      HR_RETURN_IF_ERROR(CheckBias(source.tensors[op.bias]));
    }
    stored[op.weight] = coded && !ranges.empty() ? Stored::kCodes : Stored::kHalf;
    summary.coded += coded;
  }
  ModelDescription description;
  description.tensors = DescribeTensors(source, stored);
  description.image = std::move(graph.description);
  description.image.logits = source.image.logits;
  description.image.features = source.image.features;
  description.image.preprocess = input;
  for (const auto label : source.image.labels) description.image.labels.emplace_back(label);
  const model::Metadata& metadata = source.metadata;
  description.metadata = {name,
                          std::string(metadata.architecture),
                          std::string(metadata.license),
                          std::string(metadata.source),
                          metadata.context_tokens,
                          metadata.vocabulary};
  HR_ASSIGN_OR_RETURN(HrmWriter writer, HrmWriter::Create(out, description));
  for (size_t i = 0; i < source.tensors.size(); ++i) {
    constexpr decltype(&AppendAsIs) kAppend[] = {AppendAsIs, AppendCoded, AppendHalf};
    HR_RETURN_IF_ERROR(kAppend[static_cast<int>(stored[i])](source.tensors[i], i, writer));
  }
  HR_RETURN_IF_ERROR(writer.Finish());
  summary.file_bytes = writer.file_bytes();
  return summary;
}

}  // namespace

Result<CodesSummary> WriteWithCodes(const model::Model& source, std::span<const ValueRange> ranges,
                                    const std::string& out, const std::string& name) {
  if (ranges.size() == source.image.values.size() && !ranges.empty()) {
    return WriteNarrow(source, ranges, out, name);
  }
  HR_RETURN_IF_ERROR(CheckSource(source));
  return Status::Make(StatusCode::kInvalidArgument, "%zu ranges of %zu values", ranges.size(),
                      source.image.values.size());
}

Result<CodesSummary> WriteWithHalves(const model::Model& source, const std::string& out,
                                     const std::string& name) {
  return WriteNarrow(source, {}, out, name);
}

}  // namespace headroom::convert
