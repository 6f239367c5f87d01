// Vision models that nobody trained: graphs in which anything may meet anything.
#pragma once

#include "convert/hrm_writer.h"

namespace headroom::test {

inline constexpr uint32_t kRandomImageSide = 16;  // other multiples of 4 will do as well

// The same for the same seed. Some values are read many times, some never, some are joined with
// themselves; 8-bit codes here and there. Has features and logits.
convert::ModelDescription RandomImageModel(uint32_t seed);

}  // namespace headroom::test
