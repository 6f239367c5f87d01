// Recurrent state: what linear attention and causal convolutions know of the tokens so far. Its
// size does not grow with them, and it cannot be cut back: so earlier states are kept beside the
// present one, as checkpoints.
//
// In memory: the present state, then `slots` checkpoints of the same size. A state is the parts of
// all operations, one behind another, each f32 and 64-byte aligned; zeros before the first token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace headroom::store {

// Not thread-safe for changes; writing distinct parts from several threads is fine. Only the
// constructor allocates.
class StateStore {
 public:
  StateStore() = default;
  // `part_floats`: of each part. `memory` holds Bytes(part_floats, slots), 64-byte aligned, and
  // outlives the store.
  StateStore(std::span<const uint64_t> part_floats, uint32_t slots, std::span<std::byte> memory);

  // Of one state; with `slots` checkpoints beside it.
  static uint64_t StateBytes(std::span<const uint64_t> part_floats);
  static uint64_t Bytes(std::span<const uint64_t> part_floats, uint32_t slots);

  bool empty() const { return state_bytes_ == 0; }
  float* Part(size_t index) const {
    return reinterpret_cast<float*>(memory_.data() + offsets_[index]);
  }
  std::span<std::byte> present() const { return memory_.first(state_bytes_); }

  // As before the first token, without checkpoints.
  void Clear();
  // Keeps the present state as that at `position`, which is at or behind all that are kept. Where
  // no slot is free, the one goes whose neighbours stand closest for their age, so that what is
  // kept grows sparser the further it lies back. Does nothing at 0, where a state is known anyway.
  void Checkpoint(uint32_t position);
  // The newest position at or before `position` whose state is known; 0 is always.
  uint32_t NewestAt(uint32_t position) const;
  // The newest checkpoint; 0: there is none.
  uint32_t newest() const { return positions_.empty() ? 0 : positions_.back(); }
  // Makes the state at a known position the present one; later checkpoints are forgotten.
  void ReturnTo(uint32_t position);
  // The state at `position` from elsewhere, as `present` gave it there; the only checkpoint.
  void Adopt(std::span<const std::byte> state, uint32_t position);
  // All of a store of the same parts and slots.
  void CopyFrom(const StateStore& other);

 private:
  std::span<std::byte> Slot(uint32_t slot) const {
    return memory_.subspan((1 + uint64_t{slot}) * state_bytes_, state_bytes_);
  }
  size_t LeastMissed(uint32_t position) const;

  std::vector<uint64_t> offsets_;  // of the parts
  uint64_t state_bytes_ = 0;
  uint32_t slots_ = 0;
  std::span<std::byte> memory_;
  // Checkpoints in order of their positions, and the slots they lie in; then the free slots.
  std::vector<uint32_t> positions_, order_;
};

}  // namespace headroom::store
