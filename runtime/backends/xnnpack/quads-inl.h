// Dot products of four bytes at once, summed in 32 bits: AVX-512 VNNI multiplies unsigned by signed
// bytes, Arm's SDOT signed by signed ones. All that differs between the two stands here.
//
// One factor are codes of rows; the other is signed and broadcast: four bytes of a query, or the
// weights of four rows. Codes of 8 bits are stored signed: x86 flips their sign bit, which adds 128
// to each; whoever sums takes 128 times the sum of the other factor off again, exactly.
#if defined(HR_QUADS_INL_H_) == defined(HWY_TARGET_TOGGLE)  // NOLINT: include guard per target
#ifdef HR_QUADS_INL_H_
#undef HR_QUADS_INL_H_
#else
#define HR_QUADS_INL_H_
#endif

#include <cstring>

#include "backends/xnnpack/simd-inl.h"

// HR_ARM_DOT_PASS: this is softmax_mix_dot.cc, which has the instruction where Highway's target
// lacks it.
#undef HR_QUADS
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3_DL
#define HR_QUADS 1
#elif HWY_ARCH_ARM_A64 && \
    (HWY_TARGET == HWY_NEON_BF16 || defined(__ARM_FEATURE_DOTPROD) || defined(HR_ARM_DOT_PASS))
#define HR_QUADS 1
#else
#define HR_QUADS 0
#endif

#if HR_QUADS
HWY_BEFORE_NAMESPACE();
namespace headroom::xnnpack {
namespace HWY_NAMESPACE {  // NOLINT: required by Highway

using DU8 = hn::Repartition<uint8_t, DI>;
using DI8 = hn::Repartition<int8_t, DI>;
using VU8 = hn::Vec<DU8>;
using VI8 = hn::Vec<DI8>;

// Exclusive-or of stored signed codes for the instruction.
inline constexpr uint8_t kQuadFlip = HWY_ARCH_X86 ? 0x80 : 0;

HWY_INLINE VI8 BroadcastQuad(const int8_t* bytes) {
  int32_t quad;
  std::memcpy(&quad, bytes, sizeof(quad));
  return hn::BitCast(DI8(), hn::Set(DI(), quad));
}

// sum += for each lane the products of its four codes with those of `factors`.
HWY_INLINE VI MulAddQuads(VU8 codes, VI8 factors, VI sum) {
#if HWY_ARCH_X86
  return hn::SumOfMulQuadAccumulate(DI(), codes, factors, sum);
#else
  return VI(vdotq_s32(sum.raw, vreinterpretq_s8_u8(codes.raw), factors.raw));
#endif
}

// Sixteen signed factors, of which four at a time meet the codes of every lane. x86 broadcasts from
// memory, Arm from a register.
struct FourQuads {
#if HWY_ARCH_X86
  static HWY_INLINE FourQuads Load(const int8_t* bytes) { return {bytes}; }
  HWY_INLINE VI MulAdd(VU8 codes, size_t quad, VI sum) const {
    return MulAddQuads(codes, BroadcastQuad(bytes + 4 * quad), sum);
  }
  const int8_t* bytes;
#else
  static HWY_INLINE FourQuads Load(const int8_t* bytes) { return {vld1q_s8(bytes)}; }
  HWY_INLINE VI MulAdd(VU8 codes, size_t quad, VI sum) const {
    const int8x16_t signed_codes = vreinterpretq_s8_u8(codes.raw);
    switch (quad) {  // the instruction takes the number of the quad as a constant
      case 0:
        return VI(vdotq_laneq_s32(sum.raw, signed_codes, bytes, 0));
      case 1:
        return VI(vdotq_laneq_s32(sum.raw, signed_codes, bytes, 1));
      case 2:
        return VI(vdotq_laneq_s32(sum.raw, signed_codes, bytes, 2));
      default:
        return VI(vdotq_laneq_s32(sum.raw, signed_codes, bytes, 3));
    }
  }
  int8x16_t bytes;
#endif
};

// x = 256 * high + low, both in signed bytes.
HWY_INLINE void StoreBytes(VI x, int8_t* high, int8_t* low) {
  const hn::RebindToUnsigned<DI> du;
  const hn::Rebind<uint8_t, DI> d8;
  const VI top = hn::ShiftRight<8>(hn::Add(x, hn::Set(DI(), 128)));
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, top)), d8, reinterpret_cast<uint8_t*>(high));
  hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, x)), d8, reinterpret_cast<uint8_t*>(low));
}

// Sums of products with high and low bytes, as numbers.
HWY_INLINE VF JoinSums(VI high, VI low) {
  return hn::ConvertTo(DF(), hn::Add(hn::ShiftLeft<8>(high), low));
}

// Four rows' dwords j of every 128-bit block of v[0 .. 3] into v[j].
HWY_INLINE void TransposeInBlocks(VI* v) {
  const DI di;
  const hn::RepartitionToWide<DI> dw;
  const auto ab0 = hn::BitCast(dw, hn::InterleaveLower(di, v[0], v[1]));
  const auto ab1 = hn::BitCast(dw, hn::InterleaveUpper(di, v[0], v[1]));
  const auto cd0 = hn::BitCast(dw, hn::InterleaveLower(di, v[2], v[3]));
  const auto cd1 = hn::BitCast(dw, hn::InterleaveUpper(di, v[2], v[3]));
  v[0] = hn::BitCast(di, hn::InterleaveLower(dw, ab0, cd0));
  v[1] = hn::BitCast(di, hn::InterleaveUpper(dw, ab0, cd0));
  v[2] = hn::BitCast(di, hn::InterleaveLower(dw, ab1, cd1));
  v[3] = hn::BitCast(di, hn::InterleaveUpper(dw, ab1, cd1));
}

}  // namespace HWY_NAMESPACE
}  // namespace headroom::xnnpack
HWY_AFTER_NAMESPACE();
#endif  // HR_QUADS

#endif  // HR_QUADS_INL_H_
