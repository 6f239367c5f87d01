// Labelled pictures, drawn by a program: the same ones on every machine and by every compiler.
#ifndef HEADROOM_TOOLS_EXAMPLE_PICTURES_DRAW_H_
#define HEADROOM_TOOLS_EXAMPLE_PICTURES_DRAW_H_

#include <cstdint>
#include <vector>

#include "example/pictures/parameters.h"

namespace headroom::pictures {

inline constexpr uint32_t kSide = 128;  // pixels
inline constexpr uint32_t kPictureBytes = kSide * kSide * 3;

// Rows from the top, red green blue, one byte each: kPictureBytes. The label follows from the seed
// (see ChooseParameters) and is stored at *label, unless that is null.
std::vector<uint8_t> DrawPicture(uint64_t seed, Split split, uint32_t* label);

}  // namespace headroom::pictures

#endif  // HEADROOM_TOOLS_EXAMPLE_PICTURES_DRAW_H_
