// The graph of a vision model as plain C++, and how pixels become its input. As in model.h,
// everything here has been verified when a model is open.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace headroom::model {

// To what a picture is resized before it is cropped.
enum class ResizeRule : uint8_t {
  kNone,         // as it is
  kShorterSide,  // the shorter side to `resize_height`, the longer one in proportion, rounded down
  kExact,        // to resize_height x resize_width, whatever its proportions
};

// Of Pillow: a filter as wide as the reduction (antialiased), 8-bit rows between its two passes.
enum class ResizeFilter : uint8_t { kNearest, kBox, kBilinear, kHamming, kBicubic, kLanczos };

// Where the crop begins when an odd number of pixels is cut off.
enum class CropRounding : uint8_t {
  kHalfToEven,  // round((size - crop) / 2), halves to even (torchvision)
  kDown,        // (size - crop) / 2 rounded down (transformers)
};

// Pixels [height, width, 3] of 8 bits become f32 (pixel * scale - mean) / deviation.
struct PreprocessSpec {
  ResizeRule resize = ResizeRule::kNone;
  ResizeFilter filter = ResizeFilter::kBicubic;
  uint32_t resize_height = 0, resize_width = 0;
  uint32_t crop_height = 0, crop_width = 0;  // from the centre: the input's own extents
  CropRounding rounding = CropRounding::kHalfToEven;
  bool bgr = false;  // blue first
  float scale = 1.0f / 255.0f;
  float mean[3] = {0.0f, 0.0f, 0.0f};
  float deviation[3] = {1.0f, 1.0f, 1.0f};
};

// A value [B, rows, columns, channels]; rows and columns follow from the operation that makes it.
// Codes of kI8 stand for (code - zero_point) * scale.
struct ImageValue {
  uint32_t channels = 0;
  DType dtype = DType::kF32;  // or kI8
  float scale = 0.0f;
  int32_t zero_point = 0;
};

enum class ImageOpKind : uint8_t {
  kConvolution,        // window; weight, bias; limit
  kNorm,               // of each position (groups 0), or of each of `groups` over all positions
  kActivation,         // activation; of kI8 kRelu alone
  kAdd,                // two of one shape
  kMultiply,           // two of one shape, or the second one [B, 1, 1, C]
  kPool,               // pool, window
  kResize,             // resize
  kSlice,              // channels [begin, end)
  kRows,               // rows [begin, end)
  kConcat,             // of channels
  kFlatten,            // [B, H, W, C] as [B, H * W, 1, C]
  kSelfAttention,      // attention
  kPositionEmbedding,  // weight [begin + H, C]: `begin` rows are put in front, then all of it added
  kConvert,            // to the output's element type
};

enum class PoolKind : uint8_t { kMax, kAverage };
enum class Limit : uint8_t { kNone, kRelu, kRelu6 };  // what a convolution does to its results

// Rows and columns of each. Padding: top, left, bottom, right.
struct WindowSpec {
  uint32_t kernel[2] = {1, 1};  // kPool: {0, 0} is the whole extent
  uint32_t stride[2] = {1, 1};
  uint32_t dilation[2] = {1, 1};
  uint32_t pad[4] = {0, 0, 0, 0};
  bool adaptive = false;  // kPool: `kernel` is the output's extent, 0 as the input's
};

// schema/headroom.fbs, SelfAttentionOp, says what it computes.
struct SelfAttentionSpec {
  uint32_t heads = 1, query_width = 0, value_width = 0;
  float scale = 1.0f;
  bool relu = false;
  uint32_t input_width() const { return heads * (2 * query_width + value_width); }
  uint32_t output_width() const { return heads * value_width; }
};

struct ImageOp {
  ImageOpKind kind = ImageOpKind::kAdd;
  std::vector<int32_t> inputs;
  int32_t output = -1;
  int32_t weight = -1, bias = -1;  // tensors; kNorm: f32 [C]; kConvolution: bias f32 [N]
  WindowSpec window;
  uint32_t groups = 1;
  Limit limit = Limit::kNone;
  PoolKind pool = PoolKind::kMax;
  uint8_t activation = 0;  // model::Activation
  float epsilon = 1e-5f;   // kNorm
  uint32_t begin = 0, end = 0;
  uint32_t size[2] = {0, 0};  // kResize: output rows and columns, or 0
  uint32_t factor = 0;        // kResize: in place of size
  bool bilinear = true, align_corners = false;
  SelfAttentionSpec attention;
  std::string_view name;
};

inline constexpr uint32_t kMaxConcat = 16;  // inputs
inline constexpr uint32_t kMaxImageSide = 1u << 14;
inline constexpr uint32_t kMaxImageKernel = 64;  // taps of an axis

struct ImageGraph {
  std::vector<ImageValue> values;  // [0]: the pictures, 3 channels
  std::vector<ImageOp> ops;        // in execution order
  int32_t logits = -1, features = -1;
  PreprocessSpec preprocess;  // crop_height x crop_width: the size it was trained on
  std::vector<std::string_view> labels;
  bool empty() const { return ops.empty(); }
};

}  // namespace headroom::model
