// Reading every byte of a model file and comparing it with what the file says of itself.
#include <xxhash.h>

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "model/load.h"

namespace headroom::model {
namespace {

float ScaleAt(const TensorView& tensor, uint64_t i) {
  if (tensor.block == 0) return reinterpret_cast<const float*>(tensor.scales)[i];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(tensor.scales)[i];
  return tensor.dtype == DType::kI8 ? HalfToFloat(bits) : BfloatToFloat(bits);
}

Status CheckScales(const TensorView& tensor) {
  const uint64_t count =
      tensor.scale_bytes / (tensor.block == 0 ? sizeof(float) : sizeof(uint16_t));
  for (uint64_t i = 0; i < count; ++i) {
    const float scale = ScaleAt(tensor, i);
    if (std::isfinite(scale)) continue;
    return Corrupt(
        Where("tensor \"%.*s\"", static_cast<int>(std::min<size_t>(tensor.name.size(), 80)),
              tensor.name.data()),
        "scale %llu is %g", Number(i), static_cast<double>(scale));
  }
  return {};
}

struct VerifyProgress {
  bool (*report)(void* user_data, float fraction);
  void* user_data;
  uint64_t done = 0;
  uint64_t total = 1;

  Status Advance(uint64_t bytes) {
    done += bytes;
    if (report == nullptr) return {};
    const float fraction =
        static_cast<float>(static_cast<double>(done) / static_cast<double>(total));
    if (report(user_data, fraction)) return {};
    return Status::Make(StatusCode::kCancelled, "verification was cancelled at %llu of %llu bytes",
                        Number(done), Number(total));
  }
};

Status VerifySegment(const Model::Segment& segment, size_t index, bool mapped,
                     VerifyProgress& progress) {
  constexpr uint64_t kChunkBytes = 4u << 20;
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset(&state);
  for (uint64_t done = 0; done < segment.bytes;) {
    const uint64_t bytes = std::min(kChunkBytes, segment.bytes - done);
    XXH3_64bits_update(&state, segment.data + done, bytes);
    if (mapped) platform::Advise(segment.data + done, bytes, platform::Advice::kRelease);
    done += bytes;
    HR_RETURN_IF_ERROR(progress.Advance(bytes));
  }
  const uint64_t actual = XXH3_64bits_digest(&state);
  if (actual == segment.checksum) return {};
  return Corrupt(Where("segment %zu", index), "checksum %016llx, stored %016llx", Number(actual),
                 Number(segment.checksum));
}

}  // namespace

Status Model::VerifyContent(bool (*progress)(void* user_data, float fraction), void* user_data) {
  if (verified_) return {};
  VerifyProgress verify{progress, user_data};
  uint64_t total = 0;
  for (const Segment& segment : segments) total += segment.bytes;  // disjoint: cannot wrap
  verify.total = std::max<uint64_t>(total, 1);
  for (size_t i = 0; i < segments.size(); ++i) {
    HR_RETURN_IF_ERROR(VerifySegment(segments[i], i, mapped_, verify));
  }
  for (const TensorView& tensor : tensors) HR_RETURN_IF_ERROR(CheckScales(tensor));
  ReleaseContent();
  verified_ = true;
  return {};
}

void Model::ReleaseContent() const {
  for (const Segment& segment : segments) {
    if (mapped_) platform::Advise(segment.data, segment.bytes, platform::Advice::kRelease);
  }
}

}  // namespace headroom::model
