// A small vision model of everything that graphs on pictures are made of.
#pragma once

#include "convert/hrm_writer.h"

namespace headroom::test {

inline constexpr uint32_t kImageSide = 16;  // the position table fits pictures of this alone
inline constexpr uint32_t kImageClasses = 10;

// A strided and a dilated depthwise convolution, one of 8-bit codes, single-head attention on part
// of the channels, squeeze-and-excitation, every pool and resize, positions behind a row in front,
// attention of two heads; f32, f16 and int8 weights. Has labels and features.
convert::ModelDescription ImageModel();

}  // namespace headroom::test
