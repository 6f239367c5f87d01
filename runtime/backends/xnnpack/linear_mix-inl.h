// Linear attention over any number of tokens and values.
#if defined(HR_LINEAR_MIX_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: per target
#ifdef HR_LINEAR_MIX_INL_H_
#undef HR_LINEAR_MIX_INL_H_
#else
#define HR_LINEAR_MIX_INL_H_
#endif

#include <cstring>
#include <utility>

#include "backends/xnnpack/linear_mix_element-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

// kElement: tokens whose values are fetched ahead, and from how many on rows are brought together.
inline constexpr uint32_t kElementsAhead = 4, kTokensToGather = 4;
inline constexpr int kLineBits = 6;  // of a cache line's bytes
inline constexpr size_t kLineFloats = (size_t{1} << kLineBits) / sizeof(float);
// Values of a token that are fetched ahead, at most, and the lines of a block's tokens.
inline constexpr uint32_t kMostLineValues = attention::kMostCallValues;
inline constexpr size_t kMostLines = 4 * (5 * (attention::kMostKeyWidth / kLineFloats + 1) +
                                          2 * (kMostLineValues / kLineFloats + 1));

// A call and its scratch.
class LinearRun {
 public:
  LinearRun(const LinearMixSpec& spec, const LinearMixCall& call, std::byte* scratch)
      : spec_(spec),
        call_(call),
        whole_(call.values / kGroup * kGroup),
        now_(reinterpret_cast<BlockCoefficients*>(scratch)),
        next_(now_ + 1) {
    const bool blocks = spec.decay != Decay::kElement;
    edge_ = reinterpret_cast<float*>(scratch + (blocks ? 2 * sizeof(BlockCoefficients) : 0));
    reads_ = edge_ + size_t{spec.key_width} * kGroup;
    read_stride_ = (call.values + kGroup - 1) / kGroup * kGroup;
  }

  template <StateUpdate kUpdate>
  HWY_INLINE void Run() {
    if (spec_.decay == Decay::kElement) return RunElements<kUpdate>();
    // Values behind the last whole group have their state in rows of one.
    const size_t behind = call_.values - whole_;
    float* const state = call_.state + whole_;
    if (behind > 0) Gather(state, call_.state_stride, behind, edge_);
    RunBlocks<kUpdate>();
    if (behind > 0) Scatter(edge_, state, call_.state_stride, behind);
  }

 private:
  // `count` values of each key's row, to rows of whole groups, with zeros behind them, and back.
  HWY_INLINE void Gather(const float* rows, size_t stride, size_t count, float* to) const {
    for (uint32_t k = 0; k < spec_.key_width; ++k, rows += stride, to += kGroup) {
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        hn::Store(LoadValues(rows, v, count), DF(), to + v * kLanes);
      }
    }
  }
  HWY_INLINE void Scatter(const float* from, float* rows, size_t stride, size_t count) const {
    for (uint32_t k = 0; k < spec_.key_width; ++k, rows += stride, from += kGroup) {
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        StoreValues(hn::Load(DF(), from + v * kLanes), rows, v, count);
      }
    }
  }

  HWY_INLINE ValueGroup GroupAt(size_t column) const {
    if (column < whole_) return {column, kGroup, call_.state + column, call_.state_stride};
    return {column, call_.values - column, edge_, kGroup};
  }

  // Rows of all values lie pages apart and would take each other's place in the first cache: for
  // many tokens, and at the edge, each group's are brought together.
  template <StateUpdate kUpdate>
  HWY_INLINE void RunElements() {
    float* const rates = edge_ + size_t{spec_.key_width} * kGroup;
    for (size_t column = 0; column < call_.values; column += kGroup) {
      const size_t count = std::min(kGroup, call_.values - column);
      float* const state = call_.state + column;
      const float* const rate = call_.rate + column;
      if (count == kGroup && call_.tokens < kTokensToGather) {
        RunGroup<kUpdate>({column, count, state, call_.state_stride}, rate, call_.rate_stride);
        continue;
      }
      Gather(state, call_.state_stride, count, edge_);
      Gather(rate, call_.rate_stride, count, rates);
      RunGroup<kUpdate>({column, count, edge_, kGroup}, rates, kGroup);
      Scatter(edge_, state, call_.state_stride, count);
    }
  }

  template <StateUpdate kUpdate>
  HWY_INLINE void RunGroup(const ValueGroup& group, const float* rates, size_t rate_stride) {
    for (uint32_t t = 0; t < call_.tokens; ++t) {
      FetchElements(t + kElementsAhead, group.column);
      ElementToken<kUpdate>(spec_, call_, t, group, rates, rate_stride).Run();
    }
  }

  HWY_INLINE void FetchElements(uint32_t token, size_t column) const {
    if (token >= call_.tokens) return;
    hwy::Prefetch(call_.value.row(token) + column);
    if (call_.strength.data != nullptr) hwy::Prefetch(call_.strength.row(token) + column);
    hwy::Prefetch(call_.out + uint64_t{token} * call_.out_stride + column);
  }

  // Blocks of many tokens, then of one.
  template <StateUpdate kUpdate>
  HWY_INLINE void RunBlocks() {
    constexpr uint32_t kMany = kBlockTokens<kUpdate>;
    const uint32_t blocked = call_.tokens / kMany * kMany;
    if constexpr (kUpdate == StateUpdate::kAdditive) {
      for (uint32_t t = 0; t < blocked; t += kMany) AddBlock<kMany>(t);
      for (uint32_t t = blocked; t < call_.tokens; ++t) AddBlock<1>(t);
    } else {
      RecallBlocks<kUpdate, kMany>(blocked);
      for (uint32_t t = blocked; t < call_.tokens; ++t) RecallToken<kUpdate>(t);
    }
  }

  // Tokens' rows lie pages apart where heads lie side by side, so that the CPU cannot foresee them.
  HWY_INLINE void ListRow(const TokenRows& rows, uint32_t token, size_t width) {
    if (rows.stride == 0) return;
    const hn::ScalableTag<uint64_t> d;
    const size_t count = (width + kLineFloats - 1) / kLineFloats;
    const auto apart = hn::ShiftLeft<kLineBits>(hn::Iota(d, 0));
    const uint64_t row = reinterpret_cast<uintptr_t>(rows.row(token));
    // What is stored too much, the next row replaces.
    for (size_t i = 0; i < count; i += hn::Lanes(d)) {
      hn::StoreU(hn::Add(hn::Set(d, row + (i << kLineBits)), apart), d, lines_ + listed_ + i);
    }
    listed_ += count;
  }
  HWY_NOINLINE LinesAhead ListAhead(uint32_t token, uint32_t count) {
    const uint32_t end = std::min(token + count, call_.tokens);
    const size_t keys = spec_.key_width, values = std::min(call_.values, kMostLineValues);
    for (listed_ = 0; token < end; ++token) {
      ListRow(call_.query, token, keys);
      ListRow(call_.key, token, keys);
      if (spec_.decay == Decay::kChannel) ListRow(call_.log_decay, token, keys);
      if (spec_.update == StateUpdate::kRemoval) {
        ListRow(call_.removal, token, keys);
        ListRow(call_.write, token, keys);
      }
      ListRow(call_.value, token, values);
      ListRow(TokenRows{call_.out, call_.out_stride}, token, values);
    }
    return {lines_, listed_};
  }

  template <size_t kTokens>
  HWY_NOINLINE void AddBlock(uint32_t token) {
    constexpr StateUpdate kUpdate = StateUpdate::kAdditive;
    using Block = BlockValues<kUpdate, kTokens>;
    BlockCoefficients& c = *now_;
    LinesAhead ahead = ListAhead(token + 2 * kTokens, kTokens);
    PrepareBlock<kUpdate, kTokens>(spec_, call_, token, c);
    const Block block(spec_, call_, token, c);
    for (size_t column = 0; column < call_.values; column += kGroup) {
      const ValueGroup group = GroupAt(column);
      typename Block::Reads reads;
      typename Block::Writes writes;
      block.Write(group, reads, writes);
      UpdateRows<Reading::kOld, Block::Shape::kReads, Block::Shape::kWrites>(
          c, c, spec_.key_width, group, writes, ahead, reads);
      ahead = ahead.Behind(spec_.key_width);
      block.Output(group, reads, writes);
    }
  }

  // One token alone: the rows are read, then written.
  template <StateUpdate kUpdate>
  HWY_NOINLINE void RecallToken(uint32_t token) {
    using Block = BlockValues<kUpdate, 1>;
    BlockCoefficients& c = *now_;
    PrepareBlock<kUpdate, 1>(spec_, call_, token, c);
    const Block block(spec_, call_, token, c);
    for (size_t column = 0; column < call_.values; column += kGroup) {
      const ValueGroup group = GroupAt(column);
      typename Block::Reads reads;
      typename Block::Writes writes;
      ReadRows<Block::Shape::kReads>(c, spec_.key_width, group, reads);
      block.Write(group, reads, writes);
      block.Output(group, reads, writes);
      UpdateRows<Reading::kNone, Block::Shape::kReads, Block::Shape::kWrites>(
          c, c, spec_.key_width, group, writes, {}, reads);
    }
  }

  template <StateUpdate kUpdate, size_t kTokens>
  HWY_INLINE void RecallBlocks(uint32_t end) {
    using Block = BlockValues<kUpdate, kTokens>;
    if (end == 0) return;
    PrepareBlock<kUpdate, kTokens>(spec_, call_, 0, *now_);
    for (size_t column = 0; column < call_.values; column += kGroup) {
      typename Block::Reads reads;
      ReadRows<Block::Shape::kReads>(*now_, spec_.key_width, GroupAt(column), reads);
      KeepReads<Block::Shape::kReads>(column, reads);
    }
    for (uint32_t t = 0; t < end; t += kTokens) {
      if (t + kTokens < end) {
        PrepareBlock<kUpdate, kTokens>(spec_, call_, t + kTokens, *next_);
        RecallBlock<kUpdate, kTokens, Reading::kNew>(t);
      } else {
        RecallBlock<kUpdate, kTokens, Reading::kNone>(t);
      }
      std::swap(now_, next_);
    }
  }

  template <StateUpdate kUpdate, size_t kTokens, Reading kReading>
  HWY_NOINLINE void RecallBlock(uint32_t token) {
    using Block = BlockValues<kUpdate, kTokens>;
    const Block block(spec_, call_, token, *now_);
    LinesAhead ahead = ListAhead(token + 3 * kTokens, kTokens);
    for (size_t column = 0; column < call_.values; column += kGroup) {
      const ValueGroup group = GroupAt(column);
      typename Block::Reads reads;
      typename Block::Writes writes;
      TakeReads<Block::Shape::kReads>(column, reads);
      block.Write(group, reads, writes);
      block.Output(group, reads, writes);
      UpdateRows<kReading, Block::Shape::kReads, Block::Shape::kWrites>(
          *now_, *next_, spec_.key_width, group, writes, ahead, reads);
      ahead = ahead.Behind(spec_.key_width);
      if constexpr (kReading == Reading::kNew) KeepReads<Block::Shape::kReads>(column, reads);
    }
  }

  // Reads for the block behind, between blocks.
  template <size_t kReads>
  HWY_INLINE void KeepReads(size_t column, const Vectors<kReads>& reads) {
    HR_UNROLL
    for (size_t r = 0; r < kReads; ++r) {
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        hn::Store(reads[r][v], DF(), reads_ + r * read_stride_ + column + v * kLanes);
      }
    }
  }
  template <size_t kReads>
  HWY_INLINE void TakeReads(size_t column, Vectors<kReads>& reads) const {
    HR_UNROLL
    for (size_t r = 0; r < kReads; ++r) {
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        reads[r][v] = hn::Load(DF(), reads_ + r * read_stride_ + column + v * kLanes);
      }
    }
  }

  const LinearMixSpec& spec_;
  const LinearMixCall& call_;
  size_t whole_;             // values in whole groups
  BlockCoefficients* now_;   // of a block
  BlockCoefficients* next_;  // of that behind it
  float* edge_;              // [K][kGroup]
  uint64_t lines_[kMostLines + hn::MaxLanes(hn::ScalableTag<uint64_t>())];
  size_t listed_ = 0;
  float* reads_;  // [reads][read_stride_]
  size_t read_stride_;
};

inline void LinearMix(const LinearMixSpec& spec, const LinearMixCall& call, std::byte* scratch) {
  LinearRun run(spec, call, scratch);
  if (spec.update == StateUpdate::kAdditive) return run.Run<StateUpdate::kAdditive>();
  if (spec.update == StateUpdate::kDelta) return run.Run<StateUpdate::kDelta>();
  run.Run<StateUpdate::kRemoval>();
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();

#endif  // HR_LINEAR_MIX_INL_H_
