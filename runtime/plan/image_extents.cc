// Rows and columns of every value of a vision model.
#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "plan/image.h"

namespace headroom::plan {
namespace {

using model::ImageGraph;
using model::ImageOp;
using model::ImageOpKind;
using model::WindowSpec;

[[gnu::format(printf, 2, 3)]] Status TooSmall(const ImageOp& op, const char* format, ...) {
  char text[160];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return Status::Make(StatusCode::kInvalidArgument, "operation \"%.*s\": %s",
                      static_cast<int>(std::min<size_t>(op.name.size(), 60)), op.name.data(), text);
}

// Places of a window along one axis.
Result<uint32_t> Slide(const ImageOp& op, uint32_t size, int axis) {
  const WindowSpec& window = op.window;
  const uint64_t padded = uint64_t{size} + window.pad[axis] + window.pad[axis + 2];
  const uint64_t reach = uint64_t{window.dilation[axis]} * (window.kernel[axis] - 1) + 1;
  if (padded < reach) {
    return TooSmall(op, "a window of %llu on %llu pixels", static_cast<unsigned long long>(reach),
                    static_cast<unsigned long long>(padded));
  }
  return static_cast<uint32_t>((padded - reach) / window.stride[axis] + 1);
}

Result<uint32_t> Pooled(const ImageOp& op, uint32_t size, int axis) {
  const uint32_t kernel = op.window.kernel[axis];
  if (op.window.adaptive) return kernel == 0 ? size : kernel;
  if (kernel == 0) return uint32_t{1};
  return Slide(op, size, axis);
}

Result<ImageExtent> Positions(const ImageOp& op, const ImageExtent& in) {
  if (in.columns == 1 && in.rows + uint64_t{op.begin} == op.end) return ImageExtent{op.end, 1};
  return TooSmall(op, "%u positions and %u in front of them, the model was trained with %u in all",
                  in.rows * in.columns, op.begin, op.end);
}

Result<ImageExtent> Resized(const ImageOp& op, const ImageExtent& in) {
  const uint64_t rows = op.factor == 0 ? op.size[0] : uint64_t{in.rows} * op.factor;
  const uint64_t columns = op.factor == 0 ? op.size[1] : uint64_t{in.columns} * op.factor;
  if (std::max(rows, columns) > model::kMaxImageSide) {
    return TooSmall(op, "%llu x %llu pixels > %u", static_cast<unsigned long long>(rows),
                    static_cast<unsigned long long>(columns), model::kMaxImageSide);
  }
  return ImageExtent{static_cast<uint32_t>(rows), static_cast<uint32_t>(columns)};
}

Result<ImageExtent> Windowed(const ImageOp& op, const ImageExtent& in) {
  const auto along = op.kind == ImageOpKind::kPool ? Pooled : Slide;
  HR_ASSIGN_OR_RETURN(const uint32_t rows, along(op, in.rows, 0));
  HR_ASSIGN_OR_RETURN(const uint32_t columns, along(op, in.columns, 1));
  return ImageExtent{rows, columns};
}

Result<ImageExtent> ExtentOf(const ImageOp& op, const ImageExtent& in) {
  switch (op.kind) {
    case ImageOpKind::kConvolution:
    case ImageOpKind::kPool:
      return Windowed(op, in);
    case ImageOpKind::kResize:
      return Resized(op, in);
    case ImageOpKind::kRows:
      if (op.end <= in.rows) return ImageExtent{op.end - op.begin, in.columns};
      return TooSmall(op, "rows up to %u of %u", op.end, in.rows);
    case ImageOpKind::kFlatten:
      return ImageExtent{in.rows * in.columns, 1};
    case ImageOpKind::kPositionEmbedding:
      return Positions(op, in);
    default:
      return in;
  }
}

// Inputs behind the first have its extent; factors may be one a channel.
Status CheckOthers(const ImageGraph&, const ImageOp& op, const std::vector<ImageExtent>& extents) {
  const ImageExtent& first = extents[op.inputs[0]];
  for (size_t i = 1; i < op.inputs.size(); ++i) {
    const ImageExtent& other = extents[op.inputs[i]];
    if (other.rows == first.rows && other.columns == first.columns) continue;
    if (op.kind == ImageOpKind::kMultiply && other.positions() == 1) continue;
    return TooSmall(op, "%u x %u and %u x %u pixels", first.rows, first.columns, other.rows,
                    other.columns);
  }
  return {};
}

Status CheckEnd(const char* what, int32_t value, const std::vector<ImageExtent>& extents) {
  if (value == kNone || extents[value].positions() == 1) return {};
  return Status::Make(StatusCode::kInvalidArgument, "%s of %u x %u pixels, not of one", what,
                      extents[value].rows, extents[value].columns);
}

}  // namespace

Result<std::vector<ImageExtent>> ImageExtents(const ImageGraph& graph, uint32_t height,
                                              uint32_t width) {
  std::vector<ImageExtent> extents(graph.values.size());
  extents[0] = {height, width};
  for (const ImageOp& op : graph.ops) {
    HR_RETURN_IF_ERROR(CheckOthers(graph, op, extents));
    HR_ASSIGN_OR_RETURN(extents[op.output], ExtentOf(op, extents[op.inputs[0]]));
  }
  HR_RETURN_IF_ERROR(CheckEnd("logits", graph.logits, extents));
  HR_RETURN_IF_ERROR(CheckEnd("features", graph.features, extents));
  return extents;
}

uint64_t ImageMultiplyAdds(const ImageGraph& graph, const std::vector<ImageExtent>& extents) {
  uint64_t total = 0;
  for (const ImageOp& op : graph.ops) {
    const uint64_t positions = extents[op.output].positions();
    if (op.kind == ImageOpKind::kConvolution) {
      const uint64_t taps = uint64_t{op.window.kernel[0]} * op.window.kernel[1];
      total += positions * taps * (graph.values[op.inputs[0]].channels / op.groups) *
               graph.values[op.output].channels;
    } else if (op.kind == ImageOpKind::kSelfAttention) {
      const model::SelfAttentionSpec& spec = op.attention;
      total += positions * positions * spec.heads * (spec.query_width + spec.value_width);
    }
  }
  return total;
}

}  // namespace headroom::plan
