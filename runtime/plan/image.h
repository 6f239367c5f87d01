// Lowering of vision models: operations become steps on values that lie in buffers, once, when a
// model is opened; and what depends on the size of the pictures.
//
// A slice of channels is a view of its value's buffer, and what is joined by channels is written
// into one buffer at once: neither is a step. Steps that may write over what they read do so where
// that dies in them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "plan/offsets.h"

namespace headroom::plan {

struct ImageSize {
  uint32_t batch = 1, height = 0, width = 0;
};

// Of a value of one picture.
struct ImageExtent {
  uint32_t rows = 0, columns = 0;
  uint64_t positions() const { return uint64_t{rows} * columns; }
};

// Channels [channel, channel + its own) of every position of a buffer.
struct ImagePlace {
  int32_t buffer = kNone;
  uint32_t channel = 0;
};

// [B, positions, channels] of elements of one type.
struct ImageBuffer {
  uint32_t channels = 0;
  DType dtype = DType::kF32;
  int32_t value = kNone;                          // one that lies in it: has its positions
  int32_t first_step = kNone, last_step = kNone;  // inclusive
};

enum class ImageStepKind : uint8_t {
  kConvolution,
  kNorm,
  kActivation,
  kAdd,
  kMultiply,
  kPool,
  kResize,
  kRows,
  kCopy,  // what could not be written where it is joined with others
  kSelfAttention,
  kPositionEmbedding,
  kConvert,
};

struct ImageStep {
  ImageStepKind kind = ImageStepKind::kCopy;
  int32_t op = kNone;                  // index into ImageGraph::ops
  int32_t inputs[2] = {kNone, kNone};  // values
  int32_t output = kNone;
  ImagePlace target;      // kCopy: where its input goes; else the output's place
  int32_t layer = kNone;  // kConvolution: index into LoweredImage::convolutions
};

struct LoweredImage {
  std::vector<ImageStep> steps;
  std::vector<ImageBuffer> buffers;
  std::vector<ImagePlace> places;       // by value
  std::vector<int32_t> convolutions;    // operations, in order of their layers
  std::vector<int32_t> direct_tensors;  // read from the model file at run time
};

LoweredImage LowerImage(const model::ImageGraph& graph);

// Rows and columns of every value, by index, for pictures of one size. Errors: kInvalidArgument for
// a size that an operation cannot take, by its name.
Result<std::vector<ImageExtent>> ImageExtents(const model::ImageGraph& graph, uint32_t height,
                                              uint32_t width);

// Multiply-adds of one picture in convolutions and attention.
uint64_t ImageMultiplyAdds(const model::ImageGraph& graph, const std::vector<ImageExtent>& extents);

}  // namespace headroom::plan
