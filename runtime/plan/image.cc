#include "plan/image.h"

#include <algorithm>

namespace headroom::plan {
namespace {

using model::ImageGraph;
using model::ImageOp;
using model::ImageOpKind;
using model::ImageValue;

// Operations of which nothing is left: their outputs are views.
bool IsView(ImageOpKind kind) {
  return kind == ImageOpKind::kSlice || kind == ImageOpKind::kFlatten ||
         kind == ImageOpKind::kConcat;
}

ImageStepKind StepOf(ImageOpKind kind) {
  switch (kind) {
    case ImageOpKind::kConvolution:
      return ImageStepKind::kConvolution;
    case ImageOpKind::kNorm:
      return ImageStepKind::kNorm;
    case ImageOpKind::kActivation:
      return ImageStepKind::kActivation;
    case ImageOpKind::kAdd:
      return ImageStepKind::kAdd;
    case ImageOpKind::kMultiply:
      return ImageStepKind::kMultiply;
    case ImageOpKind::kPool:
      return ImageStepKind::kPool;
    case ImageOpKind::kResize:
      return ImageStepKind::kResize;
    case ImageOpKind::kRows:
      return ImageStepKind::kRows;
    case ImageOpKind::kSelfAttention:
      return ImageStepKind::kSelfAttention;
    case ImageOpKind::kPositionEmbedding:
      return ImageStepKind::kPositionEmbedding;
    case ImageOpKind::kConvert:
      return ImageStepKind::kConvert;
    case ImageOpKind::kSlice:
    case ImageOpKind::kFlatten:
    case ImageOpKind::kConcat:
      break;
  }
  return ImageStepKind::kCopy;
}

// A step may write over an input of the same shape and type that it reads number by number.
bool InPlace(ImageOpKind kind) {
  return kind == ImageOpKind::kAdd || kind == ImageOpKind::kActivation ||
         kind == ImageOpKind::kMultiply || kind == ImageOpKind::kNorm;
}

class ImageLowering {
 public:
  explicit ImageLowering(const ImageGraph& graph) : graph_(graph) {
    const size_t values = graph.values.size();
    joined_.resize(values);
    offset_.resize(values);
    last_use_.assign(values, kNone);
    result_.places.resize(values);
  }

  LoweredImage Run() {
    FindJoins();
    FindLastUses();
    AddBuffer(0);
    for (size_t i = 0; i < graph_.ops.size(); ++i) LowerOp(static_cast<int32_t>(i));
    MarkLiveness();
    return std::move(result_);
  }

 private:
  const ImageValue& ValueAt(int32_t value) const { return graph_.values[value]; }
  ImagePlace& PlaceAt(int32_t value) { return result_.places[value]; }

  // A value is written straight into the first concatenation that takes it, if a step makes it.
  void FindJoins() {
    std::vector<bool> made(graph_.values.size(), false);
    std::fill(joined_.begin(), joined_.end(), kNone);
    for (const ImageOp& op : graph_.ops) {
      made[op.output] = op.kind != ImageOpKind::kSlice && op.kind != ImageOpKind::kFlatten;
      if (op.kind != ImageOpKind::kConcat) continue;
      uint32_t channel = 0;
      for (const int32_t input : op.inputs) {
        if (made[input] && joined_[input] == kNone) {
          joined_[input] = op.output;
          offset_[input] = channel;
        }
        channel += ValueAt(input).channels;
      }
    }
  }

  // Of every value: the last operation that reads it, through views as well.
  void FindLastUses() {
    for (size_t i = graph_.ops.size(); i-- > 0;) {
      const ImageOp& op = graph_.ops[i];
      const int32_t own = static_cast<int32_t>(i);
      const int32_t use = IsView(op.kind) ? std::max(own, last_use_[op.output]) : own;
      for (const int32_t input : op.inputs) last_use_[input] = std::max(last_use_[input], use);
    }
    for (const int32_t kept : {graph_.logits, graph_.features}) {
      if (kept != kNone) last_use_[kept] = static_cast<int32_t>(graph_.ops.size());
    }
  }

  void AddBuffer(int32_t value) {
    result_.buffers.push_back({ValueAt(value).channels, ValueAt(value).dtype, value});
    PlaceAt(value) = {static_cast<int32_t>(result_.buffers.size() - 1), 0};
  }

  // Gives `value` its place, inside of what it is joined into.
  void Place(int32_t value) {
    int32_t whole = value;
    uint32_t channel = 0;
    while (PlaceAt(whole).buffer == kNone && joined_[whole] != kNone) {
      channel += offset_[whole];
      whole = joined_[whole];
    }
    if (PlaceAt(whole).buffer == kNone) AddBuffer(whole);
    PlaceAt(value) = {PlaceAt(whole).buffer, PlaceAt(whole).channel + channel};
  }

  // A whole buffer of the output's shape that nobody reads later.
  bool MayOverwrite(int32_t op, int32_t input, int32_t output) {
    if (input == 0 || joined_[output] != kNone || joined_[input] != kNone) return false;
    const ImageBuffer& buffer = result_.buffers[PlaceAt(input).buffer];
    if (LastUseOfBuffer(PlaceAt(input).buffer) != op) return false;
    return buffer.channels == ValueAt(output).channels &&
           ValueAt(input).channels == buffer.channels && buffer.dtype == ValueAt(output).dtype;
  }

  int32_t LastUseOfBuffer(int32_t buffer) const {
    int32_t last = kNone;
    for (size_t v = 0; v < result_.places.size(); ++v) {
      if (result_.places[v].buffer == buffer) last = std::max(last, last_use_[v]);
    }
    return last;
  }

  void LowerOp(int32_t index) {
    const ImageOp& op = graph_.ops[index];
    const int32_t first = op.inputs[0];
    if (op.kind == ImageOpKind::kSlice || op.kind == ImageOpKind::kFlatten) {
      PlaceAt(op.output) = PlaceAt(first);
      if (op.kind == ImageOpKind::kSlice) PlaceAt(op.output).channel += op.begin;
      return;
    }
    if (op.kind == ImageOpKind::kConcat) return LowerConcat(index);
    if (InPlace(op.kind) && MayOverwrite(index, first, op.output)) {
      PlaceAt(op.output) = PlaceAt(first);
    } else {
      Place(op.output);
    }
    AddStep(index);
  }

  void AddStep(int32_t index) {
    const ImageOp& op = graph_.ops[index];
    ImageStep step;
    step.kind = StepOf(op.kind);
    step.op = index;
    std::copy(op.inputs.begin(), op.inputs.end(), step.inputs);
    step.output = op.output;
    step.target = PlaceAt(op.output);
    if (op.kind == ImageOpKind::kConvolution) {
      step.layer = static_cast<int32_t>(result_.convolutions.size());
      result_.convolutions.push_back(index);
    } else {
      for (const int32_t tensor : {op.weight, op.bias}) {
        if (tensor != kNone) result_.direct_tensors.push_back(tensor);
      }
    }
    result_.steps.push_back(step);
  }

  // Copies what was not written into its place.
  void LowerConcat(int32_t index) {
    const ImageOp& op = graph_.ops[index];
    Place(op.output);
    uint32_t channel = PlaceAt(op.output).channel;
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const int32_t input = op.inputs[i];
      const bool there = joined_[input] == op.output && PlaceAt(input).channel == channel &&
                         PlaceAt(input).buffer == PlaceAt(op.output).buffer;
      if (!there) {
        ImageStep step;
        step.op = index;
        step.inputs[0] = input;
        step.output = op.output;
        step.target = {PlaceAt(op.output).buffer, channel};
        result_.steps.push_back(step);
      }
      channel += ValueAt(input).channels;
    }
  }

  void MarkLiveness() {
    const auto count = static_cast<int32_t>(result_.steps.size());
    const auto touch = [&](int32_t buffer, int32_t step) {
      ImageBuffer& b = result_.buffers[buffer];
      if (b.first_step == kNone) b.first_step = step;
      b.last_step = std::max(b.last_step, step);
    };
    touch(PlaceAt(0).buffer, 0);
    for (int32_t i = 0; i < count; ++i) {
      const ImageStep& step = result_.steps[i];
      for (const int32_t input : step.inputs) {
        if (input != kNone) touch(PlaceAt(input).buffer, i);
      }
      touch(step.target.buffer, i);
    }
    for (const int32_t kept : {graph_.logits, graph_.features}) {
      if (kept != kNone) touch(PlaceAt(kept).buffer, count);
    }
  }

  const ImageGraph& graph_;
  std::vector<int32_t> joined_;   // by value: the concatenation it is written into
  std::vector<uint32_t> offset_;  // its first channel there
  std::vector<int32_t> last_use_;
  LoweredImage result_;
};

}  // namespace

LoweredImage LowerImage(const ImageGraph& graph) { return ImageLowering(graph).Run(); }

}  // namespace headroom::plan
