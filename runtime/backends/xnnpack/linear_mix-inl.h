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

inline constexpr size_t kLineFloats = 16;  // of a cache line
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
    CopyEdge<true>();
    if (spec_.decay == Decay::kElement) {
      RunElements<kUpdate>();
    } else {
      RunBlocks<kUpdate>();
    }
    CopyEdge<false>();
  }

 private:
  // Values behind the last whole group: their state is widened to one, with zeros.
  template <bool kIn>
  HWY_INLINE void CopyEdge() {
    const size_t count = call_.values - whole_;
    float *state = call_.state + whole_, *edge = edge_;
    for (uint32_t k = 0; k < spec_.key_width && count > 0; ++k, state += call_.state_stride) {
      HR_UNROLL
      for (size_t v = 0; v < kGroupVectors; ++v) {
        if constexpr (kIn) hn::Store(LoadValues(state, v, count), DF(), edge + v * kLanes);
        if constexpr (!kIn) StoreValues(hn::Load(DF(), edge + v * kLanes), state, v, count);
      }
      edge += kGroup;
    }
  }

  HWY_INLINE ValueGroup GroupAt(size_t column) const {
    if (column < whole_) return {column, kGroup, call_.state + column, call_.state_stride};
    return {column, call_.values - column, edge_, kGroup};
  }

  template <StateUpdate kUpdate>
  HWY_INLINE void RunElements() {
    for (size_t column = 0; column < call_.values; column += kGroup) {
      const ValueGroup group = GroupAt(column);
      for (uint32_t t = 0; t < call_.tokens; ++t)
        ElementToken<kUpdate>(spec_, call_, t, group).Run();
    }
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
    const float* row = rows.row(token);
    for (size_t i = 0; i < width; i += kLineFloats) lines_[listed_++] = row + i;
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
  const float* lines_[kMostLines];
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
