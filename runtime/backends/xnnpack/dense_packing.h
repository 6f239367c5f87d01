// Packing layers into memory of our choosing, by way of XNNPACK's weights-cache callbacks. Private
// to this folder.
#pragma once

#include <xnnpack.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "backends/xnnpack/dense_layer.h"

namespace headroom::xnnpack {

// Packed layers begin at multiples of this; also the unit that PackedBytes is rounded to.
inline constexpr uint64_t kPackedAlignment = 64;

// A whole number of every row group XNNPACK packs by (its widest today is 64), and enough that its
// bytes are a multiple of any alignment XNNPACK asks for. Packing this many rows at a time
// therefore gives the bytes that packing all of them would, minus the wait and the dirty pages.
inline constexpr uint32_t kPackRows = 128;

// The six callbacks. XNNPACK asks `look_up` first; when that fails it packs into what
// `reserve_space` returns. Keys are ignored: the caller says beforehand which layer is meant.
class PackingProvider {
 public:
  PackingProvider();
  PackingProvider(const PackingProvider&) = delete;  // operators keep its address
  PackingProvider& operator=(const PackingProvider&) = delete;

  xnn_weights_cache_provider* callbacks() { return &callbacks_; }

  // The next operator learns only its packed size and fails; reserved_bytes() tells it.
  void Measure();
  // The next operator packs into `destination`; it fails when it needs more.
  void PackInto(std::span<std::byte> destination);
  // The next operator finds its packed weights at `packed` and packs nothing. Operators made so
  // keep using this provider until they are deleted.
  void Find(const std::byte* packed);
  // As Find; operators made so, which are reshaped next, work on `packed` from then on. One
  // operator a provider.
  void Switch(const std::byte* packed);

  uint64_t reserved_bytes() const { return reserved_bytes_; }

 private:
  static size_t LookUp(void* context, const xnn_weights_cache_look_up_key* key);
  static void* ReserveSpace(void* context, size_t bytes);
  static size_t LookUpOrInsert(void* context, const xnn_weights_cache_look_up_key* key,
                               void* packed, size_t bytes);
  static void* OffsetToAddress(void* context, size_t offset);

  xnn_weights_cache_provider callbacks_ = {};
  std::span<std::byte> destination_;
  const std::byte* found_ = nullptr;
  bool switched_ = false;
  uint64_t reserved_bytes_ = 0;
};

// Exact packed bytes of a layer, a multiple of kPackedAlignment; 0 for forms in place. Reads
// neither weights nor scales.
Result<uint64_t> MeasureLayer(const LayerSlice& slice, const char* name);

// Called when some rows are packed: their place in the layer's packed bytes, and their source.
// An error stops the packing and is returned.
struct PackedPiece {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  LayerSlice source;
};
using PieceDone = Status (*)(void* context, const PackedPiece& piece);

// Packs a layer into `destination`, exactly MeasureLayer bytes, piece by piece.
Status PackLayer(const LayerSlice& slice, const char* name, std::span<std::byte> destination,
                 PieceDone done, void* context);

// A digest of how this CPU and this XNNPACK pack the forms these layers use: equal digests mean
// that one's packed bytes are the other's. Found by packing small matrices of every form and
// hashing them, so no list of CPU features can fall behind XNNPACK's choice of kernels.
Result<uint64_t> PackingDigest(std::span<const LayerSlice> layers);

}  // namespace headroom::xnnpack
