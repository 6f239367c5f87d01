// A store rebuilt in its own memory, with shorter lanes or smaller rows.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/math.h"
#include "store/kv_store.h"

namespace headroom::store {

// One lane on its way to a smaller form. Every array of it moves down or stays.
struct KvStore::LaneMove {
  const LaneSpec &from, &to;
  LaneLayout from_layout, to_layout;
  std::byte *from_lane, *to_lane;
  uint64_t rows;   // behind the exact ones, in the old form
  uint64_t exact;  // positions that are exact in the new form, of those there are
  const RowRecoder& recoder;
  std::span<std::byte> scratch;
};

namespace {

bool SameForm(const LaneSpec& a, const LaneSpec& b) {
  auto same = [](const LaneArray& x, const LaneArray& y) {
    return x.width == 0 || x.codec == y.codec;
  };
  return same(a.key, b.key) && same(a.tail, b.tail) && same(a.value, b.value) &&
         a.exact_rows == b.exact_rows;
}

struct ArrayMove {
  LaneArray from, to;
  uint64_t from_data, from_meta, from_exact, to_data, to_meta, to_exact;
};

}  // namespace

// The same form: arrays in their order, so that each is read before anything is written over it.
void KvStore::MoveRows(const LaneMove& move) {
  const LaneLayout &from = move.from_layout, &to = move.to_layout;
  auto array = [&](uint64_t from_begin, uint64_t to_begin, uint64_t bytes) {
    std::memmove(move.to_lane + to_begin, move.from_lane + from_begin, bytes);
  };
  auto data = [&](const LaneArray& rows) {
    return move.rows * RowDataBytes(rows.codec, rows.width);
  };
  auto meta = [&](const LaneArray& rows) {
    return move.rows * RowMetaBytes(rows.codec, rows.width);
  };
  array(from.key, to.key, data(move.from.key));
  array(from.tail, to.tail, data(move.from.tail));
  array(from.value, to.value, data(move.from.value));
  array(from.key_meta, to.key_meta, meta(move.from.key));
  array(from.tail_meta, to.tail_meta, meta(move.from.tail));
  array(from.value_meta, to.value_meta, meta(move.from.value));
  array(from.exact_key, to.exact_key, from.bytes - from.exact_key);
}

// Another form: rows go down in ascending order, so a row is read before anything is written over
// it. New scales and exact rows wait in scratch: their place may still hold rows of the old form.
void KvStore::RecodeRows(const LaneMove& move) {
  const LaneLayout &from = move.from_layout, &to = move.to_layout;
  const ArrayMove arrays[] = {{move.from.key, move.to.key, from.key, from.key_meta, from.exact_key,
                               to.key, to.key_meta, to.exact_key},
                              {move.from.tail, move.to.tail, from.tail, from.tail_meta,
                               from.exact_tail, to.tail, to.tail_meta, to.exact_tail},
                              {move.from.value, move.to.value, from.value, from.value_meta,
                               from.exact_value, to.value, to.value_meta, to.exact_value}};
  struct Waiting {
    std::byte* meta;
    std::byte* exact;
  } waiting[3];
  const uint64_t moved = move.from.exact_rows == move.to.exact_rows ? 0 : move.exact;
  const uint64_t rows = move.rows - moved;
  std::byte* next = move.scratch.data();
  auto take = [&next](uint64_t bytes) {
    std::byte* taken = next;
    next += RoundUp(bytes, 64);
    return taken;
  };
  for (size_t i = 0; i < 3; ++i) {
    const ArrayMove& a = arrays[i];
    if (a.from.width == 0) continue;
    const uint64_t from_bytes = RowDataBytes(a.from.codec, a.from.width);
    const uint64_t from_meta = RowMetaBytes(a.from.codec, a.from.width);
    const uint64_t to_bytes = RowDataBytes(a.to.codec, a.to.width);
    const uint64_t to_meta = RowMetaBytes(a.to.codec, a.to.width);
    const uint64_t exact_bytes = RowDataBytes(RowCodec::kF16, a.to.width);
    auto* row = reinterpret_cast<float*>(take(a.from.width * sizeof(float)));
    waiting[i] = {take(rows * to_meta), take(move.exact * exact_bytes)};
    auto decode = [&](uint64_t r) {
      move.recoder.decode(
          a.from.codec, move.from_lane + a.from_data + r * from_bytes,
          reinterpret_cast<const uint16_t*>(move.from_lane + a.from_meta + r * from_meta),
          a.from.width, row);
    };
    if (moved == 0) {
      std::memcpy(waiting[i].exact, move.from_lane + a.from_exact, move.exact * exact_bytes);
    }
    for (uint64_t r = 0; r < moved; ++r) {
      decode(r);
      move.recoder.encode[static_cast<int>(RowCodec::kF16)](
          row, a.to.width, waiting[i].exact + r * exact_bytes, nullptr);
    }
    const auto encode = move.recoder.encode[static_cast<int>(a.to.codec)];
    for (uint64_t r = 0; r < rows; ++r) {
      decode(moved + r);
      encode(row, a.to.width, move.to_lane + a.to_data + r * to_bytes,
             reinterpret_cast<uint16_t*>(waiting[i].meta + r * to_meta));
    }
  }
  for (size_t i = 0; i < 3; ++i) {
    const ArrayMove& a = arrays[i];
    if (a.from.width == 0) continue;
    std::memcpy(move.to_lane + a.to_meta, waiting[i].meta,
                rows * RowMetaBytes(a.to.codec, a.to.width));
    std::memcpy(move.to_lane + a.to_exact, waiting[i].exact,
                move.exact * RowDataBytes(RowCodec::kF16, a.to.width));
  }
}

void KvStore::ShrinkTo(std::span<const LayerSpec> layers, uint32_t tokens,
                       const RowRecoder& recoder, std::span<std::byte> scratch) {
  uint64_t end = 0;
  for (size_t i = 0; i < groups_.size(); ++i) {
    for (size_t g = 0; g < groups_[i].size(); ++g) {
      const Group from = groups_[i][g];
      LaneGroup& wanted = layers_[i].groups[g];
      wanted = layers[i].groups[g];
      Group& to = groups_[i][g] = MakeGroup(wanted, from.first_head, &end);
      assert(CanShrink(from.spec, to.spec) && from.count == to.count);
      to.kept_from = from.kept_from;
      if (from.spec
              .ring) {  // capacities of rings do not change, so their row order does not either
        std::memmove(Positions(to), memory_.data() + from.positions,
                     from.spec.capacity * sizeof(int32_t));
      }
      for (uint32_t head = 0; head < to.count; ++head) {
        ShrinkLane(from, to, to.first_head + head, {tokens, recoder, scratch});
      }
    }
  }
}

void KvStore::ShrinkLane(const Group& from, const Group& to, uint32_t head,
                         const Shrinking& how) const {
  const uint32_t exact = std::min(how.tokens, from.spec.exact_rows);
  const LaneMove move{from.spec,
                      to.spec,
                      from.layout,
                      to.layout,
                      Lane(from, head),
                      Lane(to, head),
                      std::min(how.tokens - exact, from.spec.capacity),
                      std::min(how.tokens, to.spec.exact_rows),
                      how.recoder,
                      how.scratch};
  if (SameForm(from.spec, to.spec)) {
    MoveRows(move);
  } else {
    RecodeRows(move);
  }
}

}  // namespace headroom::store
