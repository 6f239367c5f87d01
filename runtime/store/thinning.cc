// Rows that leave a lane: into the mean of a ring, or because they have few votes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/math.h"
#include "store/kv_store.h"

namespace headroom::store {
namespace {

// m += (x - m) / n for the row's decoded values.
void AddToMean(const RowRecoder& recoder, const RowSlot& slot, uint32_t width, float share,
               float* row, std::byte* mean) {
  if (slot.data == nullptr) return;
  recoder.decode(slot.codec, slot.data, slot.meta, width, row);
  auto* m = reinterpret_cast<float*>(mean);
  for (uint32_t d = 0; d < width; ++d) m[d] += (row[d] - m[d]) * share;
}

// out[i] = mean or largest of the votes around i, counting rows that do not exist as 0.
void PoolVotes(const VoteSpec& spec, const float* votes, uint32_t count, float* out) {
  const uint32_t reach = spec.pool / 2;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t end = std::min(count, i + reach + 1);
    float sum = 0.0f, largest = 0.0f;
    for (uint32_t j = i < reach ? 0 : i - reach; j < end; ++j) {
      const float vote = votes[j] >= 0.0f ? votes[j] : 0.0f;  // NaN, from a file, is none
      sum += vote;
      largest = std::max(largest, vote);
    }
    out[i] = spec.pool_max ? largest : sum / static_cast<float>(spec.pool);
  }
}

}  // namespace

// Rows of a ring that the positions to come replace become part of its mean: k += (k' - k) / n, and
// a logit bias of log n makes the mean weigh as much as n rows with that key (arXiv 2407.15891).
void KvStore::FoldRows(const Group& group, uint32_t position, uint32_t count) {
  const LaneSpec& spec = group.spec;
  const LaneLayout& at = group.layout;
  const int32_t* positions = Positions(group);
  auto* row = reinterpret_cast<float*>(scratch_.data());
  for (uint32_t p = std::max(position, spec.exact_rows); p < position + count; ++p) {
    if (p - spec.exact_rows < spec.capacity) continue;  // its row is free
    const uint32_t sinks = std::max(spec.sinks, spec.exact_rows);
    const uint32_t ring = spec.capacity - (sinks - spec.exact_rows);
    const uint32_t old = p - ring;
    const uint32_t r = sinks - spec.exact_rows + (p - sinks) % ring;
    if (positions[r] != static_cast<int32_t>(old)) continue;  // never written, or rewound
    for (uint32_t head = group.first_head; head < group.first_head + group.count; ++head) {
      LaneState& state = StateOf(group, head);
      std::byte* lane = Lane(group, head);
      if (state.gone == 0) std::memset(lane + at.mean_key, 0, at.bytes - at.mean_key);
      const float share = 1.0f / static_cast<float>(++state.gone);
      const RowPlace place = PlaceRow(group, head, r);
      AddToMean(recoder_, place.key, spec.key.width, share, row, lane + at.mean_key);
      AddToMean(recoder_, place.tail, spec.tail.width, share, row, lane + at.mean_tail);
      AddToMean(recoder_, place.value, spec.value.width, share, row, lane + at.mean_value);
      *reinterpret_cast<float*>(lane + at.mean_bias) = std::log(static_cast<float>(state.gone));
    }
  }
}

void KvStore::MakeRoom(const Group& group, uint32_t position, uint32_t count) {
  const uint32_t exact = group.spec.exact_rows;
  const uint32_t begin = std::max(position, exact);
  const uint32_t rows = position + count > begin ? position + count - begin : 0;
  for (uint32_t head = group.first_head; head < group.first_head + group.count; ++head) {
    LaneState& state = StateOf(group, head);
    if (state.rows + rows > group.spec.capacity) {
      Thin(group, head);
      state.thinned_at = position;
    }
    state.append_begin = position;
    state.append_row = state.rows;
    std::byte* lane = Lane(group, head);
    auto* positions = reinterpret_cast<int32_t*>(lane + group.layout.positions) + state.rows;
    auto* votes = reinterpret_cast<float*>(lane + group.layout.votes) + state.rows;
    for (uint32_t i = 0; i < rows; ++i) positions[i] = static_cast<int32_t>(begin + i);
    std::fill_n(votes, rows, 0.0f);
    state.rows += rows;
  }
}

float* KvStore::BeginVote(size_t layer, uint32_t kv_head, uint32_t chunk_tokens,
                          uint32_t* queries) {
  if (layers_[layer].source >= 0) return nullptr;
  const Group& group = GroupOf(layer, kv_head);
  const LaneSpec& spec = group.spec;
  if (!spec.voted()) return nullptr;
  LaneState& state = StateOf(group, kv_head);
  auto* votes = reinterpret_cast<float*>(Lane(group, kv_head) + group.layout.votes);
  *queries = std::min(chunk_tokens, spec.vote.observe);
  if (spec.vote.accumulate) return votes;
  // A window that counts is the last one before room must be made: after a chunk that may be now.
  const bool due = chunk_tokens > 1 ? state.rows > spec.vote.rows
                                    : state.rows + spec.vote.observe > spec.capacity;
  if (!due) return nullptr;
  if (chunk_tokens >= spec.vote.observe || state.voting == 0) {
    std::fill_n(votes, state.rows, 0.0f);
  }
  state.voting = 1;
  return votes;
}

// Keeps vote.rows rows in their order: sinks, the newest `observe`, and of the others those with
// the most votes, of equals the oldest.
void KvStore::Thin(const Group& group, uint32_t kv_head) {
  const LaneSpec& spec = group.spec;
  const LaneLayout& at = group.layout;
  LaneState& state = StateOf(group, kv_head);
  std::byte* lane = Lane(group, kv_head);
  auto* positions = reinterpret_cast<int32_t*>(lane + at.positions);
  auto* votes = reinterpret_cast<float*>(lane + at.votes);
  auto* pooled = reinterpret_cast<float*>(scratch_.data());
  auto* order =
      reinterpret_cast<uint32_t*>(scratch_.data() + RoundUp(spec.capacity * sizeof(float), 64));
  state.voting = 0;
  if (state.rows <= spec.vote.rows) return;
  const uint32_t newest = std::min(spec.vote.observe, spec.vote.rows);
  const uint32_t candidates = state.rows - newest;
  PoolVotes(spec.vote, votes, candidates, pooled);
  for (uint32_t i = 0; i < candidates; ++i) {
    order[i] = i;
    if (positions[i] < static_cast<int32_t>(spec.sinks)) pooled[i] = INFINITY;
  }
  const uint32_t kept = spec.vote.rows - newest;
  std::nth_element(order, order + kept, order + candidates, [&](uint32_t a, uint32_t b) {
    return pooled[a] != pooled[b] ? pooled[a] > pooled[b] : a < b;
  });
  std::sort(order, order + kept);
  auto keep = [&](std::byte* base, uint64_t bytes) {
    if (bytes == 0) return;
    for (uint32_t i = 0; i < kept; ++i) {
      if (order[i] != i) std::memcpy(base + i * bytes, base + order[i] * bytes, bytes);
    }
    std::memmove(base + kept * bytes, base + candidates * bytes, newest * bytes);
  };
  auto keep_array = [&](const LaneArray& array, uint64_t data, uint64_t meta) {
    keep(lane + data, RowDataBytes(array.codec, array.width));
    keep(lane + meta, RowMetaBytes(array.codec, array.width));
  };
  keep_array(spec.key, at.key, at.key_meta);
  keep_array(spec.tail, at.tail, at.tail_meta);
  keep_array(spec.value, at.value, at.value_meta);
  keep(lane + at.positions, sizeof(int32_t));
  keep(lane + at.votes, sizeof(float));
  state.rows = spec.vote.rows;
}

}  // namespace headroom::store
