#include "vision/stb_decoder.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace headroom::vision {
namespace {

// In front of each block. All blocks of a call are linked, so that what stb might forget on an
// error path is found again.
struct alignas(std::max_align_t) Block {
  Block* next;
  Block* previous;
  uint64_t bytes;  // of header and body
};

struct Meter {
  uint64_t limit_bytes = 0, used_bytes = 0, peak_bytes = 0;
  bool over_budget = false, refused = false;
  Block blocks{&blocks, &blocks, 0};

  void* Take(size_t body_bytes) {
    const uint64_t bytes = body_bytes + sizeof(Block);
    if (bytes < body_bytes || bytes > limit_bytes - used_bytes) {
      over_budget = true;
      return nullptr;
    }
    // Zeroed: stb reads what a broken file never wrote, and the same file must give the same bytes.
    auto* block = static_cast<Block*>(std::calloc(1, bytes));
    if (block == nullptr) {
      refused = true;
      return nullptr;
    }
    *block = {blocks.next, &blocks, bytes};
    block->next->previous = blocks.next = block;
    used_bytes += bytes;
    peak_bytes = std::max(peak_bytes, used_bytes);
    return block + 1;
  }

  // From now on the block is nobody's but the caller's.
  void Forget(Block* block) {
    block->next->previous = block->previous;
    block->previous->next = block->next;
    used_bytes -= block->bytes;
  }

  void Give(void* body) {
    if (body == nullptr) return;
    Block* block = static_cast<Block*>(body) - 1;
    Forget(block);
    std::free(block);
  }
};

// Set while a call runs: stb's hooks have no argument for it.
thread_local Meter* t_meter = nullptr;

void* Grow(void* body, size_t old_bytes, size_t bytes) {
  void* grown = t_meter->Take(bytes);
  if (grown == nullptr || body == nullptr) return grown;
  std::memcpy(grown, body, std::min(old_bytes, bytes));
  t_meter->Give(body);
  return grown;
}

}  // namespace
}  // namespace headroom::vision

// Our copy is ours alone: apps often carry one of their own.
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_ONLY_PNM
#define STBI_NO_LINEAR
#define STBI_FAILURE_USERMSG
#define STBI_MAX_DIMENSIONS 16384
#define STBI_MALLOC(bytes) ::headroom::vision::t_meter->Take(bytes)
#define STBI_REALLOC_SIZED(body, old_bytes, bytes) ::headroom::vision::Grow(body, old_bytes, bytes)
#define STBI_FREE(body) ::headroom::vision::t_meter->Give(body)
#if defined(__aarch64__)
#define STBI_NEON
#endif
#include "stb_image.h"

namespace headroom::vision {
namespace {

// The file as stb's callbacks see it. It is not given the memory itself, because it then takes a
// missing end for zeros and says nothing.
struct Source {
  std::span<const std::byte> file;
  size_t at = 0;
  bool ended_early = false;

  static int Read(void* user, char* data, int bytes) {
    auto& source = *static_cast<Source*>(user);
    const size_t left = source.file.size() - source.at;
    const size_t count = std::min(left, static_cast<size_t>(bytes));
    if (left == 0) source.ended_early = true;
    if (count > 0) std::memcpy(data, source.file.data() + source.at, count);
    source.at += count;
    return static_cast<int>(count);
  }
  static void Skip(void* user, int bytes) {
    auto& source = *static_cast<Source*>(user);
    source.at += std::min(source.file.size() - source.at, static_cast<size_t>(std::max(bytes, 0)));
  }
  static int Ended(void* user) {
    const auto& source = *static_cast<Source*>(user);
    return source.at == source.file.size();
  }
};

// Runs one call of stb with its memory counted; what it leaves behind is given back.
template <typename Call>
StbOutcome Run(std::span<const std::byte> file, uint64_t limit_bytes, const Call& call) {
  Meter meter;
  meter.limit_bytes = limit_bytes;
  t_meter = &meter;
  Source source{file};
  const stbi_io_callbacks callbacks{Source::Read, Source::Skip, Source::Ended};
  StbOutcome outcome;
  int width = 0, height = 0, channels = 0;
  stbi_convert_iphone_png_to_rgb_thread(1);
  outcome.ok = call(callbacks, source, &width, &height, &channels, &outcome);
  while (meter.blocks.next != &meter.blocks) meter.Give(meter.blocks.next + 1);
  t_meter = nullptr;
  outcome.over_budget = meter.over_budget;
  outcome.refused = meter.refused;
  outcome.ended_early = source.ended_early;
  outcome.peak_bytes = meter.peak_bytes;
  outcome.width = static_cast<uint32_t>(width);
  outcome.height = static_cast<uint32_t>(height);
  if (!outcome.ok && stbi_failure_reason() != nullptr) outcome.reason = stbi_failure_reason();
  return outcome;
}

}  // namespace

void ReleaseStbPixels::operator()(uint8_t* pixels) const {
  if (pixels != nullptr) std::free(reinterpret_cast<Block*>(pixels) - 1);
}

StbOutcome StbReadHeader(std::span<const std::byte> file, uint64_t limit_bytes) {
  return Run(file, limit_bytes,
             [](const auto& callbacks, Source& source, int* width, int* height, int* channels,
                StbOutcome*) {
               return stbi_info_from_callbacks(&callbacks, &source, width, height, channels) != 0;
             });
}

StbOutcome StbDecode(std::span<const std::byte> file, uint64_t limit_bytes) {
  return Run(file, limit_bytes,
             [](const auto& callbacks, Source& source, int* width, int* height, int* channels,
                StbOutcome* outcome) {
               constexpr int kRgb = 3;
               stbi_uc* pixels =
                   stbi_load_from_callbacks(&callbacks, &source, width, height, channels, kRgb);
               if (pixels == nullptr) return false;
               t_meter->Forget(reinterpret_cast<Block*>(pixels) - 1);
               outcome->rgb.reset(pixels);
               return true;
             });
}

}  // namespace headroom::vision
