#include "vision/preprocess.h"

#include <algorithm>
#include <cmath>

#include "base/math.h"
#include "vision/resample.h"

namespace headroom::vision {
namespace {

using model::CropRounding;
using model::PreprocessSpec;
using model::ResizeRule;

constexpr uint32_t kChannels = 3, kLevels = 256;

// One side of the picture: what it is resized to, and which part of that the crop takes.
struct Side {
  Axis axis;
  uint32_t crop = 0;
  uint32_t padding = 0;  // black pixels in front
  uint32_t first = 0;    // resized positions first .. first + count - 1 are in the crop
  uint32_t count = 0;
};

Status CutSide(const Axis& axis, uint32_t crop, CropRounding rounding, Side* side) {
  *side = {axis, crop, 0, 0, std::min(axis.out, crop)};
  const uint32_t excess = axis.out - side->count, missing = crop - side->count;
  if (missing % 2 != 0 && rounding == CropRounding::kDown) {
    return Status::Make(StatusCode::kUnsupported,
                        "picture: a side of %u is padded to %u, an odd difference, which published "
                        "preprocessors place differently",
                        axis.out, crop);
  }
  side->padding = missing / 2;
  side->first = excess / 2;
  // Halves to even: of an odd excess 2 k + 1 the half k + 1/2 becomes the even one of k and k + 1.
  if (rounding == CropRounding::kHalfToEven && excess % 4 == 3) ++side->first;
  return Status();
}

struct Geometry {
  Side rows, columns;
  bool rows_first = false;
};

// Pillow's choice: the rows first where they lose over twice as many as the columns do.
bool RowsFirst(const Axis& columns, const Axis& rows) {
  if (columns.in == columns.out || rows.out >= rows.in) return false;
  const int64_t lost_columns = int64_t{columns.in} - columns.out;
  return int64_t{rows.in} - rows.out > 2 * lost_columns;
}

Status Plan(const PixelView& view, const PreprocessSpec& spec, Geometry* geometry) {
  const uint32_t width = UprightWidth(view), height = UprightHeight(view);
  uint64_t to_width = width, to_height = height;
  if (spec.resize == ResizeRule::kExact) {
    to_width = spec.resize_width;
    to_height = spec.resize_height;
  } else if (spec.resize == ResizeRule::kShorterSide) {
    const uint64_t shorter = std::min(width, height), wanted = spec.resize_height;
    to_width = width == shorter ? wanted : wanted * width / shorter;
    to_height = height == shorter ? wanted : wanted * height / shorter;
  }
  if (std::max(to_width, to_height) > kMaxResizedSide) {
    return Status::Make(StatusCode::kUnsupported,
                        "picture: resized to %llu x %llu, side > limit %u",
                        static_cast<unsigned long long>(to_width),
                        static_cast<unsigned long long>(to_height), kMaxResizedSide);
  }
  const Axis columns{width, static_cast<uint32_t>(to_width), spec.filter};
  const Axis rows{height, static_cast<uint32_t>(to_height), spec.filter};
  geometry->rows_first = RowsFirst(columns, rows);
  HR_RETURN_IF_ERROR(CutSide(columns, spec.crop_width, spec.rounding, &geometry->columns));
  return CutSide(rows, spec.crop_height, spec.rounding, &geometry->rows);
}

// How many elements of each kind the scratch holds.
struct Demand {
  uint64_t column_taps = 1, row_taps = 1;  // most of any position
  uint64_t columns = 0;                    // resized columns in the crop
  uint64_t source_columns = 0;             // pixels of an upright row, at most
  uint64_t ring_columns = 0;               // pixels of a row that waits for the pass over rows
};

Demand DemandOf(const Geometry& geometry) {
  Demand demand;
  demand.column_taps = MaxTaps(geometry.columns.axis);
  demand.row_taps = MaxTaps(geometry.rows.axis);
  demand.columns = geometry.columns.count;
  demand.source_columns = geometry.columns.axis.in;
  demand.ring_columns = geometry.rows_first ? demand.source_columns : demand.columns;
  return demand;
}

// Everything a call writes but its output, carved from the caller's bytes.
struct Scratch {
  std::span<float> levels;            // [channel, byte]: what a byte becomes
  std::span<double> room;             // weights in the making
  std::span<Taps> column_taps;        // [column]
  std::span<int32_t> column_weights;  // [column, tap]
  std::span<int32_t> row_weights;     // [tap]
  std::span<int32_t> sums;            // [ring column, channel]
  std::span<uint8_t> source, ring, wide, line;

  // Cuts the pieces from `bytes`; with null only counts. Returns how many bytes there must be.
  uint64_t Carve(const Demand& demand, std::byte* bytes);
};

constexpr uint64_t kAlignment = 64;

template <typename T>
void Cut(uint64_t count, std::byte* bytes, uint64_t* used, std::span<T>* piece) {
  if (bytes != nullptr) *piece = {reinterpret_cast<T*>(bytes + *used), count};
  *used += RoundUp(count * sizeof(T), kAlignment);
}

uint64_t Scratch::Carve(const Demand& demand, std::byte* bytes) {
  uint64_t used = 0;
  const uint64_t ring_row_bytes = kChannels * demand.ring_columns;
  Cut(kChannels * kLevels, bytes, &used, &levels);
  Cut(std::max(demand.column_taps, demand.row_taps), bytes, &used, &room);
  Cut(demand.columns, bytes, &used, &column_taps);
  Cut(demand.columns * demand.column_taps, bytes, &used, &column_weights);
  Cut(demand.row_taps, bytes, &used, &row_weights);
  Cut(ring_row_bytes, bytes, &used, &sums);
  Cut(kChannels * demand.source_columns, bytes, &used, &source);
  Cut(demand.row_taps * ring_row_bytes, bytes, &used, &ring);
  Cut(ring_row_bytes, bytes, &used, &wide);
  Cut(kChannels * demand.columns, bytes, &used, &line);
  return used;
}

uint64_t BytesOf(const Demand& demand) {
  return Scratch().Carve(demand, nullptr) + kAlignment - 1;  // however the caller's bytes begin
}

// The most columns of a picture whose rows are resized first, so that they wait unreduced:
// RowsFirst gives 2 in < rows + 2 out. By kShorterSide it happens only where the columns are the
// shorter side, because the longer one loses at least as many.
uint64_t WidestRowsFirst(const PreprocessSpec& spec, uint32_t longer, uint32_t shorter) {
  if (spec.resize == ResizeRule::kNone) return 0;
  const bool exact = spec.resize == ResizeRule::kExact;
  const uint64_t to_width = exact ? spec.resize_width : spec.resize_height;
  return std::min<uint64_t>(exact ? longer : shorter, longer / 2 + to_width);
}

// The inputs for each output, at most, on an axis of at most `in` inputs.
double GreatestReduction(const PreprocessSpec& spec, uint32_t in, uint32_t shorter, uint32_t to) {
  switch (spec.resize) {
    case ResizeRule::kExact:
      return static_cast<double>(in) / to;
    case ResizeRule::kShorterSide: {
      // The longer side is rounded down, from n + fraction to n >= resize_height: it is reduced by
      // less than 1 + 1 / resize_height times as much as the shorter one.
      const double wanted = spec.resize_height;
      return shorter / wanted * ((wanted + 1.0) / wanted);
    }
    case ResizeRule::kNone:
      break;
  }
  return 1.0;
}

void FillLevels(const PreprocessSpec& spec, std::span<float> levels) {
  for (uint32_t channel = 0; channel < kChannels; ++channel) {
    for (uint32_t level = 0; level < kLevels; ++level) {
      levels[channel * kLevels + level] =
          (static_cast<float>(level) * spec.scale - spec.mean[channel]) / spec.deviation[channel];
    }
  }
}

// One call: rows of the picture go in from the top, rows of the output come out.
class Preprocessing {
 public:
  Preprocessing(const PixelView& view, const PreprocessSpec& spec, const Geometry& geometry,
                const Demand& demand, const Scratch& scratch)
      : view_(view), spec_(spec), geometry_(geometry), demand_(demand), scratch_(scratch) {
    FillLevels(spec, scratch_.levels);
    FillColumns();
  }

  void Run(float* out) {
    AxisWalk walk(geometry_.rows.axis, scratch_.room);
    walk.Skip(geometry_.rows.first);
    const Side& rows = geometry_.rows;
    for (uint32_t y = 0; y < spec_.crop_height; ++y) {
      const bool black = y < rows.padding || y - rows.padding >= rows.count;
      if (!black) MakeLine(walk.Next(scratch_.row_weights.data()));
      Write(black, out + size_t{y} * spec_.crop_width * kChannels);
    }
  }

 private:
  void FillColumns() {
    const Side& columns = geometry_.columns;
    AxisWalk walk(columns.axis, scratch_.room);
    walk.Skip(columns.first);
    source_first_ = columns.axis.in;
    uint32_t source_end = 0;
    for (uint32_t x = 0; x < columns.count; ++x) {
      const Taps taps = walk.Next(&scratch_.column_weights[x * demand_.column_taps]);
      scratch_.column_taps[x] = taps;
      source_first_ = std::min(source_first_, taps.begin);
      source_end = std::max(source_end, taps.begin + taps.count);
    }
    source_count_ = source_end - source_first_;
  }

  void ResampleColumns(const uint8_t* in, uint8_t* out) const {
    ResampleRow(in, source_first_, scratch_.column_taps, scratch_.column_weights.data(),
                static_cast<uint32_t>(demand_.column_taps), out);
  }

  uint8_t* RingRow(uint32_t y) const {
    return &scratch_.ring[y % demand_.row_taps * kChannels * demand_.ring_columns];
  }

  // Row `y` of the upright picture into its place in the ring.
  void Take(uint32_t y) const {
    if (geometry_.rows_first) {
      return ReadUprightRow(view_, y, source_first_, source_count_, RingRow(y));
    }
    ReadUprightRow(view_, y, source_first_, source_count_, scratch_.source.data());
    ResampleColumns(scratch_.source.data(), RingRow(y));
  }

  // The resized row that `taps` over rows of the picture make. Taps never go back, so that what the
  // ring has lost is not asked for again.
  void MakeLine(const Taps& taps) {
    for (taken_ = std::max(taken_, taps.begin); taken_ < taps.begin + taps.count; ++taken_) {
      Take(taken_);
    }
    StartSums(scratch_.sums);
    for (uint32_t i = 0; i < taps.count; ++i) {
      AddRow(RingRow(taps.begin + i), scratch_.row_weights[i], scratch_.sums);
    }
    if (!geometry_.rows_first) return RoundSums(scratch_.sums, scratch_.line.data());
    RoundSums(scratch_.sums, scratch_.wide.data());
    ResampleColumns(scratch_.wide.data(), scratch_.line.data());
  }

  void Write(bool black, float* out) const {
    const Side& columns = geometry_.columns;
    for (uint32_t x = 0; x < spec_.crop_width; ++x, out += kChannels) {
      const uint32_t at = x - columns.padding;  // wraps before the padding's end: out of range, too
      const bool outside = black || at >= columns.count;
      for (uint32_t channel = 0; channel < kChannels; ++channel) {
        const uint32_t from = spec_.bgr ? kChannels - 1 - channel : channel;
        const uint8_t level = outside ? 0 : scratch_.line[at * kChannels + from];
        out[channel] = scratch_.levels[channel * kLevels + level];
      }
    }
  }

  const PixelView& view_;
  const PreprocessSpec& spec_;
  const Geometry& geometry_;
  const Demand& demand_;
  const Scratch& scratch_;
  uint32_t source_first_ = 0, source_count_ = 0;  // columns of the picture that the crop needs
  uint32_t taken_ = 0;                            // rows before this one have been in the ring
};

Status CheckSides(const char* what, uint32_t height, uint32_t width) {
  if (height >= 1 && height <= kMaxSide && width >= 1 && width <= kMaxSide) return Status();
  return Status::Make(StatusCode::kInvalidArgument, "preprocess: %s %u x %u, sides must be 1..%u",
                      what, width, height, kMaxSide);
}

uint32_t InProportion(uint32_t value, uint32_t to, uint32_t from) {
  const uint64_t rounded = (uint64_t{2} * value * to + from) / (uint64_t{2} * from);
  return static_cast<uint32_t>(std::clamp<uint64_t>(rounded, 1, UINT32_MAX));
}

}  // namespace

Status CheckPreprocess(const PreprocessSpec& spec) {
  if (spec.resize > ResizeRule::kExact || spec.filter > model::ResizeFilter::kLanczos ||
      spec.rounding > CropRounding::kDown) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "preprocess: resize %d, filter %d, rounding %d: one is unknown",
                        static_cast<int>(spec.resize), static_cast<int>(spec.filter),
                        static_cast<int>(spec.rounding));
  }
  HR_RETURN_IF_ERROR(CheckSides("crop", spec.crop_height, spec.crop_width));
  const bool exact = spec.resize == ResizeRule::kExact;
  if (spec.resize != ResizeRule::kNone) {
    HR_RETURN_IF_ERROR(CheckSides("resize", spec.resize_height, exact ? spec.resize_width : 1));
  }
  for (uint32_t channel = 0; channel < kChannels; ++channel) {
    const float mean = spec.mean[channel], deviation = spec.deviation[channel];
    if (!std::isfinite(spec.scale) || !std::isfinite(mean) || !std::isfinite(deviation) ||
        deviation == 0.0f) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "preprocess: scale %g, mean %g, deviation %g of channel %u", spec.scale,
                          mean, deviation, channel);
    }
  }
  return Status();
}

PreprocessSpec ScaleTo(const PreprocessSpec& spec, uint32_t height, uint32_t width) {
  PreprocessSpec scaled = spec;
  scaled.crop_height = height;
  scaled.crop_width = width;
  scaled.resize_height = InProportion(spec.resize_height, height, spec.crop_height);
  scaled.resize_width = InProportion(spec.resize_width, width, spec.crop_width);
  if (spec.resize == ResizeRule::kShorterSide) {
    scaled.resize_height =
        std::max(scaled.resize_height, InProportion(spec.resize_height, width, spec.crop_width));
  }
  return scaled;
}

uint64_t PreprocessScratchBytes(const PreprocessSpec& spec, uint32_t max_width,
                                uint32_t max_height) {
  // A quarter turn swaps the sides, so that either may be as long as the longer one.
  const uint32_t longer = std::max(max_width, max_height);
  const uint32_t shorter = std::min(max_width, max_height);
  const auto taps = [&](uint32_t to) {
    if (spec.resize == ResizeRule::kNone) return 1u;
    return std::max(1u, MaxTaps(longer, GreatestReduction(spec, longer, shorter, to), spec.filter));
  };
  Demand demand;
  demand.column_taps = taps(spec.resize_width);
  demand.row_taps = taps(spec.resize_height);
  demand.columns = spec.crop_width;
  demand.source_columns = longer;
  demand.ring_columns = std::max<uint64_t>(spec.crop_width, WidestRowsFirst(spec, longer, shorter));
  return BytesOf(demand);
}

Status Preprocess(const PixelView& view, const PreprocessSpec& spec, std::span<std::byte> scratch,
                  std::span<float> out) {
  HR_RETURN_IF_ERROR(CheckPixels(view));
  HR_RETURN_IF_ERROR(CheckPreprocess(spec));
  const uint64_t numbers = uint64_t{kChannels} * spec.crop_height * spec.crop_width;
  if (out.size() != numbers) {
    return Status::Make(StatusCode::kInvalidArgument, "preprocess: output of %zu numbers, not %llu",
                        out.size(), static_cast<unsigned long long>(numbers));
  }
  Geometry geometry;
  HR_RETURN_IF_ERROR(Plan(view, spec, &geometry));
  const Demand demand = DemandOf(geometry);
  const uint64_t needed = BytesOf(demand);
  if (scratch.size() < needed) {
    return Status::Make(StatusCode::kBufferTooSmall,
                        "preprocess: scratch of %zu bytes < %llu that this picture needs",
                        scratch.size(), static_cast<unsigned long long>(needed));
  }
  const uint64_t begin = reinterpret_cast<uintptr_t>(scratch.data());
  Scratch pieces;
  pieces.Carve(demand, scratch.data() + (RoundUp(begin, kAlignment) - begin));
  Preprocessing(view, spec, geometry, demand, pieces).Run(out.data());
  return Status();
}

}  // namespace headroom::vision
