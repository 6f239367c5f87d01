#include "store/state_store.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/math.h"

namespace headroom::store {
namespace {

constexpr uint64_t kPartAlignment = 64;

uint64_t PartBytes(uint64_t floats) { return RoundUp(floats * sizeof(float), kPartAlignment); }

void Copy(std::span<std::byte> to, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());  // null is no source
}

}  // namespace

uint64_t StateStore::StateBytes(std::span<const uint64_t> part_floats) {
  uint64_t bytes = 0;
  for (const uint64_t floats : part_floats) bytes = SaturatingAdd(bytes, PartBytes(floats));
  return bytes;
}

uint64_t StateStore::Bytes(std::span<const uint64_t> part_floats, uint32_t slots) {
  uint64_t bytes = 0;
  return CheckedMul(StateBytes(part_floats), uint64_t{slots} + 1, &bytes) ? bytes : UINT64_MAX;
}

StateStore::StateStore(std::span<const uint64_t> part_floats, uint32_t slots,
                       std::span<std::byte> memory)
    : slots_(slots), memory_(memory) {
  for (const uint64_t floats : part_floats) {
    offsets_.push_back(state_bytes_);
    state_bytes_ += PartBytes(floats);
  }
  positions_.reserve(slots);
  order_.resize(slots);
  std::iota(order_.begin(), order_.end(), 0u);
  Clear();
}

void StateStore::Clear() {
  std::fill_n(memory_.data(), state_bytes_, std::byte{0});
  positions_.clear();
}

// By the gap that would be left, over the distance from `position`.
size_t StateStore::LeastMissed(uint32_t position) const {
  size_t least = 0;
  double least_gap = 0.0;
  for (size_t i = 0; i < positions_.size(); ++i) {
    const uint32_t before = i == 0 ? 0 : positions_[i - 1];
    const uint32_t behind = i + 1 == positions_.size() ? position : positions_[i + 1];
    const double gap = static_cast<double>(behind - before) / (position - positions_[i] + 1.0);
    if (i != 0 && gap >= least_gap) continue;
    least = i;
    least_gap = gap;
  }
  return least;
}

void StateStore::Checkpoint(uint32_t position) {
  if (position == 0 || slots_ == 0 || newest() == position) return;
  if (positions_.size() == slots_) {
    const size_t goes = LeastMissed(position);
    positions_.erase(positions_.begin() + static_cast<ptrdiff_t>(goes));
    std::rotate(order_.begin() + static_cast<ptrdiff_t>(goes),
                order_.begin() + static_cast<ptrdiff_t>(goes) + 1, order_.end());
  }
  Copy(Slot(order_[positions_.size()]), present());
  positions_.push_back(position);
}

uint32_t StateStore::NewestAt(uint32_t position) const {
  const auto behind = std::upper_bound(positions_.begin(), positions_.end(), position);
  return behind == positions_.begin() ? 0 : *(behind - 1);
}

void StateStore::ReturnTo(uint32_t position) {
  while (newest() > position) positions_.pop_back();
  if (position == 0) return Clear();
  Copy(present(), Slot(order_[positions_.size() - 1]));
}

void StateStore::Adopt(std::span<const std::byte> state, uint32_t position) {
  positions_.clear();
  Copy(present(), state);
  Checkpoint(position);
}

void StateStore::CopyFrom(const StateStore& other) {
  positions_ = other.positions_;  // its room was reserved: nothing is allocated
  order_ = other.order_;
  Copy(present(), other.present());
  for (size_t i = 0; i < positions_.size(); ++i) Copy(Slot(order_[i]), other.Slot(order_[i]));
}

}  // namespace headroom::store
