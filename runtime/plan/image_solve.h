// The budget solver of vision models: from a lowered model, limits and a size of pictures to one
// plan in bytes. Pure, as solve.h.
#pragma once

#include <vector>

#include "plan/image.h"
#include "plan/region.h"
#include "plan/solve.h"

namespace headroom::plan {

struct ImageLimits {
  uint64_t budget_bytes = 0;          // 0: none
  uint64_t private_budget_bytes = 0;  // 0: none
  ImageSize size;                     // height and width 0: as trained
  uint32_t threads = 1;
  // Scratch that rooms above want planned for pictures of this size (preprocessing them).
  uint64_t (*caller_scratch_bytes)(const void* context, const ImageSize& size) = nullptr;
  const void* caller_context = nullptr;
};

inline constexpr uint32_t kMaxBatch = 1u << 12;
inline constexpr uint32_t kSideStep = 32;  // sides are searched in steps of it

struct ImagePlan {
  bool fits = false;
  uint64_t missing_bytes = 0;
  ImageSize size;
  uint32_t threads = 1;
  std::vector<ImageExtent> extents;  // by value
  Placement values;                  // by buffer
  // Activation arena, in order. Workspace: of the convolution that needs most.
  Region value_region, workspace_region, attention_region, caller_region;
  uint64_t weight_bytes = 0, packed_bytes = 0, activation_bytes = 0, scratch_bytes = 0,
           runtime_bytes = 0;
  uint64_t mapped_bytes = 0, private_bytes = 0, total_bytes = 0;
  uint64_t multiply_adds = 0;  // of one picture
  // What would fit, else as asked for: pictures at once of this size; and the longest side of a
  // square, a multiple of kSideStep, with this batch. 0: nothing does.
  uint32_t largest_batch = 0, largest_side = 0;

  uint64_t arena_bytes() const { return activation_bytes + scratch_bytes; }
};

// Bytes XNNPACK takes for a convolution of this size: pointers to its input, which it keeps, and
// what it needs while it runs. At most, whatever the CPU.
struct ConvolutionBytes {
  uint64_t kept = 0, workspace = 0;
};
ConvolutionBytes ConvolutionBytesOf(const model::ImageOp& op, uint32_t channels,
                                    uint32_t out_channels, const ImageExtent& out,
                                    uint32_t threads);

// The plan of exactly the size asked for, or why that size cannot be. With fits == false it says
// what is missing.
Result<ImagePlan> SolveImage(const model::Model& model, const LoweredImage& lowered,
                             const BackendFacts& facts, const ImageLimits& limits);

}  // namespace headroom::plan
