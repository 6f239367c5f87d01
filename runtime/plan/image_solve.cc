#include "plan/image_solve.h"

#include <algorithm>

#include "ops/image.h"
#include "plan/budget.h"

namespace headroom::plan {
namespace {

using model::ImageGraph;
using model::ImageOp;
using model::ImageOpKind;

constexpr uint64_t kRuntimeBytesPerLayer = 6 * 1024;
// A kernel of XNNPACK computes at most so many positions at a time, and reads at most so many taps
// more than there are.
constexpr uint64_t kMostTile = 16;
constexpr uint64_t kMostSpareTaps = 32;
constexpr uint64_t kUnipassTaps = 25;  // larger depthwise kernels, if any, sum up in a buffer
constexpr uint64_t kPointerBytes = 8;

bool Pointwise(const ImageOp& op) {
  const model::WindowSpec& window = op.window;
  return window.kernel[0] * window.kernel[1] == 1 && window.stride[0] * window.stride[1] == 1 &&
         (window.pad[0] | window.pad[1] | window.pad[2] | window.pad[3]) == 0;
}

uint64_t BufferBytes(const ImageBuffer& buffer, const ImageExtent& extent, uint32_t batch) {
  const uint64_t elements = uint64_t{batch} * extent.positions() * buffer.channels;
  return std::min(elements * (DTypeBits(buffer.dtype) / 8) + kSpareInputBytes, kMostBytes);
}

uint64_t TensorBytes(const TensorView& tensor) { return tensor.data_bytes + tensor.scale_bytes; }

class ImagePricing {
 public:
  ImagePricing(const model::Model& model, const LoweredImage& lowered, const BackendFacts& facts,
               const ImageLimits& limits)
      : graph_(model.image), model_(model), lowered_(lowered), facts_(facts), limits_(limits) {}

  Result<ImagePlan> Price(const ImageSize& size) const {
    ImagePlan plan;
    plan.size = size;
    plan.threads = limits_.threads;
    HR_ASSIGN_OR_RETURN(plan.extents, ImageExtents(graph_, size.height, size.width));
    plan.multiply_adds = ImageMultiplyAdds(graph_, plan.extents);
    PlaceValues(&plan);
    LayOutScratch(&plan);
    AddUp(&plan);
    return plan;
  }

  bool Fits(const ImageSize& size) const {
    const auto plan = Price(size);
    return plan.ok() && plan.value().fits;
  }

 private:
  void PlaceValues(ImagePlan* plan) const {
    std::vector<Lifetime> lifetimes;
    for (const ImageBuffer& buffer : lowered_.buffers) {
      lifetimes.push_back({BufferBytes(buffer, plan->extents[buffer.value], plan->size.batch),
                           buffer.first_step, buffer.last_step});
    }
    plan->values = PlaceLifetimes(lifetimes);
  }

  void LayOutScratch(ImagePlan* plan) const {
    uint64_t workspace = 0, attention = 0;
    for (const ImageStep& step : lowered_.steps) {
      const ImageOp& op = graph_.ops[step.op];
      const ImageExtent& out = plan->extents[step.output];
      if (step.kind == ImageStepKind::kConvolution) {
        workspace = std::max(workspace, BytesOf(op, out).workspace);
      } else if (step.kind == ImageStepKind::kSelfAttention) {
        const uint64_t bytes = ops::SelfAttentionScratchBytes(
            op.attention.heads, op.attention.query_width, out.positions(), plan->threads);
        attention = std::max(attention, std::min(bytes, kMostBytes));
      }
    }
    uint64_t end = 0;
    const RegionPlacer place(&end);
    place(&plan->value_region, plan->values.total_bytes);
    plan->activation_bytes = end;
    place(&plan->workspace_region, workspace);
    place(&plan->attention_region, attention);
    const bool asked = limits_.caller_scratch_bytes != nullptr;
    place(&plan->caller_region,
          asked ? limits_.caller_scratch_bytes(limits_.caller_context, plan->size) : 0);
    plan->scratch_bytes = end - plan->activation_bytes;
  }

  ConvolutionBytes BytesOf(const ImageOp& op, const ImageExtent& out) const {
    return ConvolutionBytesOf(op, graph_.values[op.inputs[0]].channels,
                              graph_.values[op.output].channels, out, limits_.threads);
  }

  void AddUp(ImagePlan* plan) const {
    plan->packed_bytes = facts_.packed_total_bytes;
    for (const int32_t tensor : lowered_.direct_tensors) {
      plan->weight_bytes += TensorBytes(model_.tensors[tensor]);
    }
    plan->runtime_bytes = kRuntimeBytes + kRuntimeBytesPerThread * plan->threads +
                          kRuntimeBytesPerLayer * lowered_.convolutions.size();
    for (size_t i = 0; i < lowered_.convolutions.size(); ++i) {
      const ImageOp& op = graph_.ops[lowered_.convolutions[i]];
      const bool keeps = facts_.keeps_pointers.empty() || facts_.keeps_pointers[i] != 0;
      if (keeps) plan->runtime_bytes += BytesOf(op, plan->extents[op.output]).kept;
    }
    plan->private_bytes = plan->arena_bytes() + plan->runtime_bytes;
    plan->mapped_bytes = plan->weight_bytes;
    (facts_.packed_is_mapped ? plan->mapped_bytes : plan->private_bytes) += plan->packed_bytes;
    plan->total_bytes = plan->private_bytes + plan->mapped_bytes;
    plan->missing_bytes = MissingBytes(*plan, limits_);
    plan->fits = plan->missing_bytes == 0;
  }

  const ImageGraph& graph_;
  const model::Model& model_;
  const LoweredImage& lowered_;
  const BackendFacts& facts_;
  const ImageLimits& limits_;
};

// The largest n in [0, most] with fits(n), which holds for all below one for which it does.
template <typename Fits>
uint32_t Largest(uint32_t most, const Fits& fits) {
  uint32_t good = 0, bad = most + 1;
  for (uint32_t n = 1; n < bad;) {
    if (!fits(n)) {
      bad = n;
      break;
    }
    good = n;
    n = std::min(n * 2, most);
    if (good == most) return most;
  }
  while (bad - good > 1) {
    const uint32_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

// A table of positions is of the trained size.
bool HasOneSize(const ImageGraph& graph) {
  return std::any_of(graph.ops.begin(), graph.ops.end(),
                     [](const ImageOp& op) { return op.kind == ImageOpKind::kPositionEmbedding; });
}

// Of the sides that the model can take, with which bytes grow; those it cannot lie below, above and
// between them.
uint32_t LargestSide(const ImageGraph& graph, const ImagePricing& pricing, uint32_t batch) {
  std::vector<uint32_t> sides;
  for (uint32_t side = kSideStep; side <= model::kMaxImageSide; side += kSideStep) {
    if (ImageExtents(graph, side, side).ok()) sides.push_back(side);
  }
  const uint32_t fitting = Largest(static_cast<uint32_t>(sides.size()), [&](uint32_t count) {
    return pricing.Fits({batch, sides[count - 1], sides[count - 1]});
  });
  return fitting == 0 ? 0 : sides[fitting - 1];
}

Status CheckSize(const ImageSize& size) {
  constexpr uint32_t kMost = model::kMaxImageSide;
  if (size.batch == 0 || size.batch > kMaxBatch) {
    return Status::Make(StatusCode::kInvalidArgument, "batch %u is not 1..%u", size.batch,
                        kMaxBatch);
  }
  if (size.height == 0 || size.height > kMost || size.width == 0 || size.width > kMost) {
    return Status::Make(StatusCode::kInvalidArgument, "pictures of %u x %u pixels, not 1..%u",
                        size.height, size.width, kMost);
  }
  return {};
}

}  // namespace

ConvolutionBytes ConvolutionBytesOf(const ImageOp& op, uint32_t channels, uint32_t out_channels,
                                    const ImageExtent& out, uint32_t threads) {
  ConvolutionBytes bytes;
  // XNNPACK's depthwise kernels make one channel of each, and take pointers even for one tap.
  const bool depthwise = op.groups == channels && op.groups == out_channels;
  if (Pointwise(op) && !depthwise) return bytes;
  const uint64_t rows = op.window.kernel[0], columns = op.window.kernel[1];
  const uint64_t taps = rows * columns;
  const uint64_t zeros = (uint64_t{channels} + 64) * sizeof(float);
  // Neighbouring windows share pointers only where a depthwise kernel moves by less than it spans.
  const uint64_t step =
      op.window.dilation[1] > 1 ? columns : std::min<uint64_t>(op.window.stride[1], columns);
  const uint64_t of_rows = kMostSpareTaps + out.rows * (taps + (out.columns - 1) * step * rows);
  const uint64_t of_positions = taps * (out.positions() + kMostTile);
  uint64_t pointers = depthwise ? of_rows : of_positions;
  // Some CPUs have depthwise kernels of so many taps, on the others it is one of many groups.
  if (taps > kUnipassTaps) pointers = std::max(pointers, of_positions);
  bytes.kept = kPointerBytes * pointers + 64 + zeros;
  if (depthwise && taps > kUnipassTaps) bytes.workspace = threads * zeros + 64;
  return bytes;
}

Result<ImagePlan> SolveImage(const model::Model& model, const LoweredImage& lowered,
                             const BackendFacts& facts, const ImageLimits& limits) {
  const ImagePricing pricing(model, lowered, facts, limits);
  ImageSize size = limits.size;
  if (size.height == 0) size.height = model.image.preprocess.crop_height;
  if (size.width == 0) size.width = model.image.preprocess.crop_width;
  HR_RETURN_IF_ERROR(CheckSize(size));
  HR_ASSIGN_OR_RETURN(ImagePlan plan, pricing.Price(size));
  plan.largest_batch = Largest(kMaxBatch, [&](uint32_t batch) {
    return pricing.Fits({batch, size.height, size.width});
  });
  if (HasOneSize(model.image)) {
    plan.largest_side = plan.fits ? std::min(size.height, size.width) : 0;
    return plan;
  }
  plan.largest_side = LargestSide(model.image, pricing, size.batch);
  return plan;
}

}  // namespace headroom::plan
