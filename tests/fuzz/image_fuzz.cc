// The first bytes make a preprocessing and a limit of memory, the rest is a file of a picture: it
// is refused, or decodes within the limit, and then becomes the input of a model wherever the spec
// can be met.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "vision/decode.h"
#include "vision/preprocess.h"

namespace {

using namespace headroom;

constexpr size_t kSpecBytes = 8;

model::PreprocessSpec SpecOf(const uint8_t* bytes) {
  model::PreprocessSpec spec;
  spec.resize = static_cast<model::ResizeRule>(bytes[0] % 4);    // one of them unknown
  spec.filter = static_cast<model::ResizeFilter>(bytes[1] % 7);  // and so here
  spec.rounding = static_cast<model::CropRounding>(bytes[2] & 1);
  spec.bgr = bytes[2] & 2;
  spec.resize_height = bytes[3];
  spec.resize_width = bytes[4];
  spec.crop_height = bytes[5] % 64;
  spec.crop_width = bytes[6] % 64;
  return spec;
}

// Every number that was asked for is written, and is one that a pixel can become.
void Preprocess(const vision::PixelView& view, const model::PreprocessSpec& spec) {
  std::vector<std::byte> scratch(vision::PreprocessScratchBytes(spec, view.width, view.height));
  scratch.shrink_to_fit();
  std::vector<float> out(size_t{3} * spec.crop_height * spec.crop_width, NAN);
  const Status status = vision::Preprocess(view, spec, scratch, out);
  if (status.code() == StatusCode::kUnsupported) return;
  if (!status.ok()) __builtin_trap();  // the bound on scratch must be enough
  if (!std::all_of(out.begin(), out.end(), [](float x) { return x >= 0.0f && x <= 1.0f; })) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  if (bytes < kSpecBytes) return 0;
  const model::PreprocessSpec spec = SpecOf(data);
  const uint64_t limit_bytes = (uint64_t{1} << (10 + data[7] % 14)) + data[7];
  auto decoded = vision::Decode(
      {reinterpret_cast<const std::byte*>(data + kSpecBytes), bytes - kSpecBytes}, limit_bytes);
  if (!decoded.ok()) return 0;
  if (decoded.value().peak_bytes > limit_bytes) __builtin_trap();
  const vision::PixelView view = decoded.value().View();
  if (!vision::CheckPixels(view).ok()) __builtin_trap();
  if (vision::CheckPreprocess(spec).ok()) Preprocess(view, spec);
  return 0;
}
