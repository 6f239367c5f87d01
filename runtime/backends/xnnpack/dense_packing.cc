#include "backends/xnnpack/dense_packing.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/xnnpack/convolution_layer.h"
#include "backends/xnnpack/convolution_panels.h"
#include "base/math.h"

namespace headroom::xnnpack {
namespace {

constexpr size_t kNotFound = SIZE_MAX;  // XNNPACK's word for a miss
constexpr uint16_t kBfloatOne = 0x3f80;

// Bytes of `slice` if XNNPACK packed it in one go.
Result<uint64_t> MeasureOnce(const LayerSlice& slice, const char* name) {
  PackingProvider provider;
  provider.Measure();
  xnn_operator_t op = nullptr;
  const xnn_status status = CreateOperator(slice, provider.callbacks(), &op);
  if (status == xnn_status_success) {
    xnn_delete_operator(op);
    return Status::Make(StatusCode::kInternal, "%s: XNNPACK packed without asking for space", name);
  }
  // Refusing space looks like a lack of memory to XNNPACK; anything else is a real error.
  if (provider.reserved_bytes() != 0) return provider.reserved_bytes();
  return StatusFromXnn(status, "make its operator", name);
}

// XNNPACK reads every block scale before it asks for space, so blocks are measured on a stand-in
// with scales of our own. Its packed size is linear in full groups of kPackRows rows.
Result<uint64_t> MeasureBlocks(const LayerSlice& slice, const char* name) {
  std::vector<uint16_t> scales(size_t{kPackRows} * slice.columns / slice.block, kBfloatOne);
  LayerSlice stand_in = slice;
  stand_in.scales = reinterpret_cast<const std::byte*>(scales.data());
  stand_in.rows = kPackRows;
  HR_ASSIGN_OR_RETURN(const uint64_t group_bytes, MeasureOnce(stand_in, name));
  uint64_t bytes = slice.rows / kPackRows * group_bytes;
  stand_in.rows = slice.rows % kPackRows;
  if (stand_in.rows != 0) {
    HR_ASSIGN_OR_RETURN(const uint64_t rest_bytes, MeasureOnce(stand_in, name));
    bytes += rest_bytes;
  }
  return bytes;
}

Status PackOnce(const LayerSlice& slice, const char* name, std::span<std::byte> destination,
                uint64_t* bytes) {
  HR_RETURN_IF_ERROR(CheckScales(slice, name));
  PackingProvider provider;
  provider.PackInto(destination);
  xnn_operator_t op = nullptr;
  const xnn_status status = CreateOperator(slice, provider.callbacks(), &op);
  if (status == xnn_status_success) xnn_delete_operator(op);
  *bytes = provider.reserved_bytes();
  if (*bytes > destination.size()) {
    return Status::Make(StatusCode::kInternal, "%s: packing asks %llu bytes, measured %llu", name,
                        static_cast<unsigned long long>(*bytes),
                        static_cast<unsigned long long>(destination.size()));
  }
  return StatusFromXnn(status, "pack", name);
}

// XNNPACK's int8 packing reads 8 bytes at a time, past the end of a row whose length is no multiple
// of
// 8. Only behind the last row is that out of bounds, and there it may be the end of the mapping.
bool ReadsPastTheEnd(const LayerSlice& slice) {
  return slice.form == LayerForm::kInt8 && slice.columns % 8 != 0;
}

Status PackTail(const LayerSlice& slice, const char* name, std::span<std::byte> destination,
                uint64_t* bytes) {
  constexpr size_t kSpareBytes = 64;
  const uint64_t weight_bytes = slice.RowBytes() * slice.rows;
  std::vector<std::byte> copy(weight_bytes + kSpareBytes);
  std::memcpy(copy.data(), slice.weights, weight_bytes);
  LayerSlice copied = slice;
  copied.weights = copy.data();
  return PackOnce(copied, name, destination, bytes);
}

// Whole: channels of a group need not follow one another in XNNPACK's order.
Status PackConvolution(const LayerSlice& slice, const char* name, std::span<std::byte> destination,
                       PieceDone done, void* context) {
  HR_RETURN_IF_ERROR(CheckScales(slice, name));
  HR_RETURN_IF_ERROR(CheckConvolution(slice, name));
  const ConvolutionSource source = SourceOf(slice);
  if (InPanels(slice.form)) {
    // What rounding up has added is part of the file.
    std::fill(destination.begin(), destination.end(), std::byte{0});
    PackPanels(static_cast<const float*>(source.weights), slice.bias, slice.rows, slice.columns,
               reinterpret_cast<float*>(destination.data()));
    return done(context, {0, destination.size(), slice});
  }
  PackingProvider provider;
  provider.PackInto(destination);
  xnn_operator_t op = nullptr;
  const xnn_status status = CreateConvolution(slice, source, slice.convolution->channels,
                                              slice.rows, provider.callbacks(), &op);
  if (status == xnn_status_success) xnn_delete_operator(op);
  HR_RETURN_IF_ERROR(StatusFromXnn(status, "pack", name));
  return done(context, {0, destination.size(), slice});
}

// Rows per piece: about kPackChunkBytes of packed bytes, whole groups of kPackRows.
uint32_t PieceRows(const LayerSlice& slice, uint64_t packed_bytes) {
  if (ReadsPastTheEnd(slice)) return kPackRows;  // the copied tail stays small
  const uint64_t row_bytes = CeilDiv(packed_bytes, slice.rows);
  const uint64_t groups = DenseSet::kPackChunkBytes / (row_bytes * kPackRows);
  return static_cast<uint32_t>(std::max<uint64_t>(groups, 1) * kPackRows);
}

// A small matrix with no symmetry: every byte that packing moves or drops changes the digest.
struct Sample {
  static constexpr uint32_t kRows = kPackRows + 3;
  static constexpr uint32_t kColumns = 256;  // a multiple of every block

  Sample() {
    uint64_t state = 1;
    for (std::byte& b : weights) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      b = static_cast<std::byte>(state >> 33);
    }
    for (size_t i = 0; i < std::size(bias); ++i) bias[i] = static_cast<float>(i) + 0.5f;
    // The same bits serve as bf16 and, in pairs, as f32 scales: all normal and positive.
    for (size_t i = 0; i < std::size(scales); ++i) {
      scales[i] = static_cast<uint16_t>(kBfloatOne + i % 97);
    }
  }
  LayerSlice Slice(LayerForm form, uint32_t block, uint32_t rows) const {
    LayerSlice slice;
    slice.form = form;
    slice.block = block;
    slice.rows = rows;
    slice.columns = kColumns;
    slice.weights = weights;
    slice.scales = reinterpret_cast<const std::byte*>(scales);
    slice.bias = bias;
    return slice;
  }
  alignas(4) std::byte weights[size_t{kRows} * kColumns * 4];
  alignas(4) uint16_t scales[size_t{kRows} * kColumns / 32 * 2];
  float bias[kRows];
};

}  // namespace

PackingProvider::PackingProvider() {
  callbacks_.context = this;
  callbacks_.look_up = LookUp;
  callbacks_.reserve_space = ReserveSpace;
  callbacks_.look_up_or_insert = LookUpOrInsert;
  callbacks_.is_finalized = [](void*) { return true; };
  callbacks_.offset_to_addr = OffsetToAddress;
  callbacks_.delete_cache = [](void*) { return xnn_status_success; };
}

void PackingProvider::Measure() { PackInto({}); }

void PackingProvider::PackInto(std::span<std::byte> destination) {
  destination_ = destination;
  found_ = nullptr;
  reserved_bytes_ = 0;
}

void PackingProvider::Find(const std::byte* packed) { found_ = packed; }

void PackingProvider::Switch(const std::byte* packed) {
  found_ = packed;
  switched_ = true;
}

// An "offset" here is simply the address: it fits, and needs no base that could move.
size_t PackingProvider::LookUp(void* context, const xnn_weights_cache_look_up_key*) {
  const auto* self = static_cast<PackingProvider*>(context);
  return self->found_ == nullptr ? kNotFound : reinterpret_cast<size_t>(self->found_);
}

void* PackingProvider::ReserveSpace(void* context, size_t bytes) {
  auto* self = static_cast<PackingProvider*>(context);
  self->reserved_bytes_ = bytes;
  return bytes <= self->destination_.size() ? self->destination_.data() : nullptr;
}

// XNNPACK inserts also what it has found.
size_t PackingProvider::LookUpOrInsert(void* context, const xnn_weights_cache_look_up_key*,
                                       void* packed, size_t) {
  const auto* self = static_cast<PackingProvider*>(context);
  if (self->found_ != nullptr) return reinterpret_cast<size_t>(self->found_);
  return reinterpret_cast<size_t>(packed);
}

void* PackingProvider::OffsetToAddress(void* context, size_t offset) {
  const auto* self = static_cast<PackingProvider*>(context);
  // Reshaping only reads through it.
  if (self->switched_) return const_cast<std::byte*>(self->found_);
  return reinterpret_cast<void*>(offset);
}

Result<uint64_t> MeasureLayer(const LayerSlice& slice, const char* name) {
  if (InPlace(slice.form)) return uint64_t{0};
  if (InPanels(slice.form)) {
    return RoundUp(PanelBytes(slice.rows, slice.columns), kPackedAlignment);
  }
  auto bytes =
      slice.form == LayerForm::kInt4Block ? MeasureBlocks(slice, name) : MeasureOnce(slice, name);
  if (!bytes.ok()) return bytes;
  return RoundUp(bytes.value(), kPackedAlignment);
}

Status PackLayer(const LayerSlice& slice, const char* name, std::span<std::byte> destination,
                 PieceDone done, void* context) {
  if (IsConvolution(slice.form)) return PackConvolution(slice, name, destination, done, context);
  const uint32_t piece_rows = PieceRows(slice, destination.size());
  uint64_t offset = 0;
  for (uint32_t row = 0; row < slice.rows;) {
    // A last piece of fewer than kPackRows rows could be packed by a narrower kernel than the whole
    // layer will run; it joins the piece before it.
    const uint32_t left = slice.rows - row;
    const uint32_t rows = left < piece_rows + kPackRows ? left : piece_rows;
    PackedPiece piece;
    piece.offset = offset;
    piece.source = SubSlice(slice, row, rows);
    const bool tail = row + rows == slice.rows && ReadsPastTheEnd(slice);
    HR_RETURN_IF_ERROR((tail ? PackTail : PackOnce)(piece.source, name, destination.subspan(offset),
                                                    &piece.bytes));
    row += rows;
    offset += piece.bytes;
    if (row == slice.rows) {
      offset = RoundUp(offset, kPackedAlignment);
      piece.bytes = offset - piece.offset;
      if (offset != destination.size()) {
        return Status::Make(StatusCode::kInternal, "%s: packed %llu bytes, measured %llu", name,
                            static_cast<unsigned long long>(offset),
                            static_cast<unsigned long long>(destination.size()));
      }
    }
    HR_RETURN_IF_ERROR(done(context, piece));
  }
  return {};
}

namespace {

// Convolutions of a sample: by 3 x 3 taps and by one, and depthwise.
Status HashConvolutions(const Sample& sample, LayerForm form, XXH3_state_t& state) {
  constexpr uint32_t kShapes[][3] = {
      {3, 16, 1}, {1, 40, 1}, {3, 37, 37}};  // taps, channels, groups
  for (const auto& [taps, channels, groups] : kShapes) {
    if (InPanels(form) && groups != 1) continue;
    ConvolutionSpec spec;
    spec.kernel[0] = spec.kernel[1] = taps;
    spec.channels = channels;
    spec.groups = groups;
    spec.in_scale = spec.out_scale = 1.0f;
    LayerSlice slice = sample.Slice(form, 0, groups == 1 ? Sample::kRows : groups);
    slice.columns = taps * taps * (channels / groups);
    slice.convolution = &spec;
    HR_ASSIGN_OR_RETURN(const uint64_t bytes, MeasureLayer(slice, "sample"));
    std::vector<std::byte> packed(bytes + kPackedAlignment);
    void* begin = packed.data();
    size_t space = packed.size();
    std::align(kPackedAlignment, bytes, begin, space);
    const auto nothing = [](void*, const PackedPiece&) { return Status{}; };
    HR_RETURN_IF_ERROR(PackConvolution(slice, "sample", {static_cast<std::byte*>(begin), bytes},
                                       nothing, nullptr));
    XXH3_64bits_update(&state, begin, bytes);
  }
  return {};
}

}  // namespace

Result<uint64_t> PackingDigest(std::span<const LayerSlice> layers) {
  const auto sample = std::make_unique<Sample>();
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  std::vector<std::pair<LayerForm, uint32_t>> seen;
  for (const LayerSlice& layer : layers) {
    const std::pair kind(layer.form, layer.block);
    if (InPlace(layer.form)) continue;
    if (std::find(seen.begin(), seen.end(), kind) != seen.end()) continue;
    seen.push_back(kind);
  }
  std::sort(seen.begin(), seen.end());  // the order of layers does not matter
  for (const auto& [form, block] : seen) {
    if (IsConvolution(form)) {
      HR_RETURN_IF_ERROR(HashConvolutions(*sample, form, state));
      continue;
    }
    // A single row as well: f32 has a kernel of its own for layers narrower than its tile.
    for (const uint32_t rows : {Sample::kRows, uint32_t{1}}) {
      const LayerSlice slice = sample->Slice(form, block, rows);
      HR_ASSIGN_OR_RETURN(const uint64_t bytes, MeasureLayer(slice, "sample"));
      std::vector<std::byte> packed(bytes + kPackedAlignment);
      void* begin = packed.data();
      size_t space = packed.size();
      std::align(kPackedAlignment, bytes, begin, space);
      uint64_t packed_bytes = 0;
      HR_RETURN_IF_ERROR(
          PackOnce(slice, "sample", {static_cast<std::byte*>(begin), bytes}, &packed_bytes));
      const uint64_t facts[] = {static_cast<uint64_t>(form), block, rows, packed_bytes};
      XXH3_64bits_update(&state, facts, sizeof(facts));
      XXH3_64bits_update(&state, begin, packed_bytes);
    }
  }
  return XXH3_64bits_digest(&state);
}

}  // namespace headroom::xnnpack
