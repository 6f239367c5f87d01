// From a picture to the input of a vision model: resize, crop from the centre, normalise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "model/image.h"
#include "vision/pixels.h"

namespace headroom::vision {

// Sides that a resize may have: keeps nearest's running sum exact enough to stay inside.
constexpr uint32_t kMaxResizedSide = 1u << 20;

// kInvalidArgument: a crop or resize side outside 1..kMaxSide, an unknown enumerator, a deviation
// that is 0, a number that is not finite.
Status CheckPreprocess(const model::PreprocessSpec& spec);

// The same for an input of height x width: what a picture is resized to scales with it, rounded to
// nearest. kShorterSide has one number: it follows the side that grows more, so that the crop still
// fits. The spec must pass CheckPreprocess.
model::PreprocessSpec ScaleTo(const model::PreprocessSpec& spec, uint32_t height, uint32_t width);

// Enough for any picture of stored sides up to these, however it is turned; never falls when either
// grows. The spec must pass CheckPreprocess.
uint64_t PreprocessScratchBytes(const model::PreprocessSpec& spec, uint32_t max_width,
                                uint32_t max_height);

// out: [crop_height, crop_width, 3] f32, each (pixel * scale - mean) / deviation of its channel;
// mean and deviation are in the order of `out`'s channels, blue first where the spec says so. May
// not overlap the picture or the scratch. Allocates nothing; reads each pixel row at most once, and
// keeps of the resized picture only the rows that one output row needs.
//
// Resizing gives the bytes of Pillow's Image.resize for RGB pictures (resample.h), in the order
// that Pillow 13 has: columns first, but rows first where rows are reduced and lose over twice as
// many as the columns do (a screenshot of a phone). Before 13 that was so only above 100 times as
// high as wide; where the orders differ, some bytes differ by a level.
//
// A side that is smaller than the crop is padded with black pixels, as torchvision and transformers
// do: where the difference is odd, the smaller half comes first (torchvision; kHalfToEven). With
// kDown that is kUnsupported, because transformers' two ways of cropping do it differently.
//
// kInvalidArgument: a view or spec that its check refuses, `out` of another size. kUnsupported: as
// above, or a resized side over kMaxResizedSide. kBufferTooSmall: scratch, with what it must be.
Status Preprocess(const PixelView& view, const model::PreprocessSpec& spec,
                  std::span<std::byte> scratch, std::span<float> out);

}  // namespace headroom::vision
