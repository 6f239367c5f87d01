#include "backends/xnnpack/convolution_panels.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "backends/xnnpack/dense.h"
#include "backends/xnnpack/kernel_targets.h"
#include "base/math.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/xnnpack/convolution_panels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "backends/xnnpack/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {

constexpr size_t kWidth = 2 * kLanes;  // of a panel
// Sums of a tile, two vectors each, stay in registers beside a row of the panel: 16 or 32 of them.
constexpr size_t kTileRows = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE2 ? 6 : 8;

size_t Width() { return kWidth; }

// Floats that lie together for every pixel of a tile: so many runs of them, of one length.
struct Runs {
  size_t count, length;
};

// The pixels of tiles, one tile behind another. Line: a convolution has one tap, on the pixel
// itself.
class Line {
 public:
  Line(const PanelLayer& layer, const float* x, size_t begin)
      : stride_(layer.in_stride), floats_(layer.columns), x_(x + begin * stride_) {}

  void Take(size_t rows) {
    x_ = next_ == nullptr ? x_ : next_;
    next_ = x_ + rows * stride_;
  }
  template <size_t kRows>
  Runs RunsOf() const {
    return {1, floats_};
  }
  template <size_t kRows>
  void PointAt(const Runs&, size_t, const float** from) const {
    HR_UNROLL
    for (size_t r = 0; r < kRows; ++r) from[r] = x_ + r * stride_;
  }

 private:
  size_t stride_, floats_;
  const float* x_;
  const float* next_ = nullptr;
};

// Any taps. Runs are rows of the kernel, or single taps in tiles where those stick out to the left
// or right.
class Taps {
 public:
  Taps(const PanelLayer& layer, const float* x, size_t begin)
      : layer_(layer),
        together_(layer.spec.dilation[1] == 1 && layer.in_stride == layer.spec.channels),
        row_(begin / layer.out_columns % layer.out_rows),
        column_(begin % layer.out_columns) {
    picture_ = x + begin / (size_t{layer.out_columns} * layer.out_rows) * PictureFloats();
  }

  void Take(size_t rows) {
    for (size_t r = 0; r < rows; ++r) pixels_[r] = Next();
  }
  template <size_t kRows>
  Runs RunsOf() const {
    const ConvolutionSpec& spec = layer_.spec;
    const ptrdiff_t last = ptrdiff_t{layer_.size.columns} - spec.kernel[1];
    bool whole = together_;
    for (size_t r = 0; r < kRows; ++r) whole = whole && pixels_[r].x >= 0 && pixels_[r].x <= last;
    if (whole) return {spec.kernel[0], size_t{spec.kernel[1]} * spec.channels};
    return {size_t{spec.kernel[0]} * spec.kernel[1], spec.channels};
  }
  template <size_t kRows>
  void PointAt(const Runs& runs, size_t run, const float** from) const {
    const ConvolutionSpec& spec = layer_.spec;
    const size_t per_row = runs.count / spec.kernel[0];
    const auto down = static_cast<ptrdiff_t>(run / per_row * spec.dilation[0]);
    const auto right = static_cast<ptrdiff_t>(run % per_row * spec.dilation[1]);
    const ptrdiff_t rows = layer_.size.rows, columns = layer_.size.columns;
    for (size_t r = 0; r < kRows; ++r) {
      const ptrdiff_t y = pixels_[r].y + down, x = pixels_[r].x + right;
      const bool there = y >= 0 && y < rows && x >= 0 && x < columns;
      const size_t at = static_cast<size_t>(y * columns + x) * layer_.in_stride;
      from[r] = there ? pixels_[r].picture + at : layer_.zeros;
    }
  }

 private:
  // The first tap, which may lie outside the picture.
  struct Pixel {
    const float* picture;
    ptrdiff_t y, x;
  };

  size_t PictureFloats() const {
    return size_t{layer_.size.rows} * layer_.size.columns * layer_.in_stride;
  }
  ptrdiff_t Origin(size_t at, size_t axis) const {
    return static_cast<ptrdiff_t>(at * layer_.spec.stride[axis]) - ptrdiff_t{layer_.spec.pad[axis]};
  }
  Pixel Next() {
    const Pixel pixel{picture_, Origin(row_, 0), Origin(column_, 1)};
    if (++column_ < layer_.out_columns) return pixel;
    column_ = 0;
    if (++row_ < layer_.out_rows) return pixel;
    row_ = 0;
    picture_ += PictureFloats();
    return pixel;
  }

  const PanelLayer& layer_;
  bool together_;  // taps of a row follow one another in memory
  const float* picture_;
  size_t row_, column_;
  Pixel pixels_[kTileRows];
};

// Where results of a tile go, and the panel that it meets.
struct TilePlace {
  float* out;
  const float* panel;
  size_t width;  // output channels that there are: at most what the panel has room for
};

template <size_t kRows, size_t kVectors>
void Store(const PanelLayer& layer, const VF (&sums)[kRows][kVectors], const TilePlace& at) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const DF d;
  const bool limited = layer.spec.limited();
  const VF low = hn::Set(d, limited ? layer.spec.low : -kInfinity);
  const VF high = hn::Set(d, limited ? layer.spec.high : kInfinity);
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) {
      if (v * kLanes >= at.width) break;
      // Not by Min and Max, which on Arm prefer the number to NaN.
      const VF above = hn::IfThenElse(hn::Lt(sums[r][v], low), low, sums[r][v]);
      const VF y = hn::IfThenElse(hn::Gt(above, high), high, above);
      float* out = at.out + r * layer.out_stride + v * kLanes;
      if (at.width >= (v + 1) * kLanes) {
        hn::StoreU(y, d, out);
      } else {
        hn::StoreN(y, d, out, at.width - v * kLanes);
      }
    }
  }
}

template <size_t kRows, size_t kVectors, class Pixels>
void Tile(const PanelLayer& layer, const Pixels& pixels, const TilePlace& at) {
  constexpr size_t kFloats = kVectors * kLanes;
  const DF d;
  VF sums[kRows][kVectors];
  HR_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    HR_UNROLL
    for (size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::LoadU(d, at.panel + v * kLanes);
  }
  const float* weights = at.panel + kFloats;
  const Runs runs = pixels.template RunsOf<kRows>();
  for (size_t run = 0; run < runs.count; ++run) {
    const float* from[kRows];
    pixels.template PointAt<kRows>(runs, run, from);
    for (size_t k = 0; k < runs.length; ++k, weights += kFloats) {
      VF w[kVectors];
      HR_UNROLL
      for (size_t v = 0; v < kVectors; ++v) w[v] = hn::LoadU(d, weights + v * kLanes);
      HR_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        const VF x = hn::Set(d, from[r][k]);
        HR_UNROLL
        for (size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(x, w[v], sums[r][v]);
      }
    }
  }
  Store<kRows, kVectors>(layer, sums, at);
}

template <class Pixels>
using TileFunction = void (*)(const PanelLayer&, const Pixels&, const TilePlace&);
template <size_t kVectors, class Pixels, size_t... kRows>
constexpr std::array<TileFunction<Pixels>, sizeof...(kRows)> TilesOf(
    std::index_sequence<kRows...>) {
  return {Tile<kRows + 1, kVectors, Pixels>...};
}

// One panel against some pixels, in tiles of equal height or one less.
template <class Pixels>
void RunPixels(const PanelLayer& layer, Pixels pixels, TilePlace at, size_t left) {
  static constexpr auto kWhole = TilesOf<2, Pixels>(std::make_index_sequence<kTileRows>());
  static constexpr auto kHalf = TilesOf<1, Pixels>(std::make_index_sequence<kTileRows>());
  const auto& tiles = at.width > kLanes ? kWhole : kHalf;
  for (size_t count = (left + kTileRows - 1) / kTileRows; count > 0; --count) {
    const size_t rows = (left + count - 1) / count;
    pixels.Take(rows);
    tiles[rows - 1](layer, pixels, at);
    at.out += rows * layer.out_stride;
    left -= rows;
  }
}

void RunPanel(const PanelLayer& layer, size_t index, const float* x, float* out, size_t begin,
              size_t end) {
  const size_t channel = index * kWidth;
  const TilePlace at{out + begin * layer.out_stride + channel,
                     layer.panels + channel * (size_t{layer.columns} + 1),
                     std::min<size_t>(kWidth, layer.rows - channel)};
  if (layer.spec.pointwise()) {
    RunPixels(layer, Line(layer, x, begin), at, end - begin);
  } else {
    RunPixels(layer, Taps(layer, x, begin), at, end - begin);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headroom::xnnpack {
namespace {

HWY_EXPORT(RunPanel);
HWY_EXPORT(Width);

constexpr uint32_t kMostZeros = 4096;
alignas(64) constexpr float kZeros[kMostZeros] = {};

// What all tasks of one convolution share. A task is a panel and a part of the pixels.
struct Job {
  const PanelLayer* layer;
  const float* x;
  float* out;
  uint64_t pixels;
  uint32_t panels, parts;
};

void RunTask(void* context, size_t /*worker*/, size_t index) {
  const Job& job = *static_cast<const Job*>(context);
  const uint64_t part = index / job.panels;
  HWY_DYNAMIC_DISPATCH(RunPanel)
  (*job.layer, index % job.panels, job.x, job.out, part * job.pixels / job.parts,
   (part + 1) * job.pixels / job.parts);
}

// Pixels of one part at most: their numbers stay in the second-level cache while panels pass by.
constexpr uint64_t kPartPixels = 512;

}  // namespace

bool UsesPanels(const ConvolutionSpec& spec) {
  const bool zeros = !spec.padded() || spec.channels <= kMostZeros / spec.kernel[1];
  return HWY_ARCH_X86 && spec.groups == 1 && zeros;
}

uint32_t PanelWidth() { return static_cast<uint32_t>(HWY_DYNAMIC_DISPATCH(Width)()); }

// The last panel is half as wide if that is enough.
static uint32_t WidthAt(uint32_t channel, uint32_t rows) {
  const uint32_t width = PanelWidth();
  return rows - channel > width / 2 ? width : width / 2;
}

uint64_t PanelBytes(uint32_t rows, uint32_t columns) {
  return CeilDiv(rows, PanelWidth() / 2) * (PanelWidth() / 2) * (uint64_t{columns} + 1) *
         sizeof(float);
}

void PackPanels(const float* weights, const float* bias, uint32_t rows, uint32_t columns,
                float* panels) {
  for (uint32_t first = 0, width; first < rows; first += width) {
    width = WidthAt(first, rows);
    for (uint32_t i = 0; i < width; ++i) {
      const uint32_t row = first + i;
      const bool there = row < rows;
      panels[i] = there && bias != nullptr ? bias[row] : 0.0f;
      for (uint32_t k = 0; k < columns; ++k) {
        panels[(uint64_t{k} + 1) * width + i] = there ? weights[uint64_t{row} * columns + k] : 0.0f;
      }
    }
    panels += (uint64_t{columns} + 1) * width;
  }
}

void SetSize(const ConvolutionSize& size, PanelLayer* layer) {
  const ConvolutionSpec& spec = layer->spec;
  const auto extent = [&](uint32_t in, int axis) {
    const uint32_t padded = in + spec.pad[axis] + spec.pad[axis + 2];
    return (padded - (spec.kernel[axis] - 1) * spec.dilation[axis] - 1) / spec.stride[axis] + 1;
  };
  layer->size = size;
  layer->zeros = kZeros;
  layer->out_rows = extent(size.rows, 0);
  layer->out_columns = extent(size.columns, 1);
}

void RunPanels(const PanelLayer& layer, const float* x, float* out, ThreadPool& pool) {
  const uint64_t pixels = uint64_t{layer.size.batch} * layer.out_rows * layer.out_columns;
  Job job{&layer, x, out, pixels, 0, 1};
  job.panels = static_cast<uint32_t>(CeilDiv(layer.rows, PanelWidth()));
  job.parts = static_cast<uint32_t>(CeilDiv(pixels, kPartPixels));
  const uint64_t operations = pixels * layer.rows * layer.columns;
  if (pool.HandleFor(operations) != nullptr) {  // enough tasks to even out threads of unequal speed
    const uint64_t wanted = CeilDiv(uint64_t{pool.threads()} * 4, job.panels);
    job.parts = static_cast<uint32_t>(
        std::clamp<uint64_t>(wanted, job.parts, std::max<uint64_t>(CeilDiv(pixels, 8), job.parts)));
  }
  pool.ParallelForFlushed(job.panels * job.parts, operations, RunTask, &job);
}

}  // namespace headroom::xnnpack
#endif  // HWY_ONCE
