// Linear attention: a state of fixed size in place of cached rows.
//
// A head's state S is f32 [K, V], row = key index. For each token t, with queries q, keys k [K] and
// values v [V]:
//   S' = D_t . S_{t-1}                     decay, number by number, D = exp(log decay) in (0, 1]
//   S_t = S' + k (x) b v                   kAdditive; b: write strength
//   S_t = S' + k (x) b (v - S'^T k)        kDelta (Gated DeltaNet, arXiv 2412.06464 eq. 10)
//   S_t = S' + w (x) (S_{t-1}^T a) + k (x) b v
//                                          kRemoval: removal key a and write key w of their own,
//                                          read before the decay (RWKV-7, arXiv 2503.14456 eq. 17)
//   y = S_t^T q                            or, read_before, (S_{t-1} + diag(bonus) k (x) b v)^T q
//                                          (RWKV-5 and 6, arXiv 2404.05892 eq. 9)
//   y = y / (q . z_t + epsilon)            with sum_keys: z_t = D_t . z_{t-1} + k, whatever b is
//                                          (arXiv 2006.16236 eq. 9)
// All of it f32. Log decays above 0 count as 0. Deviation: none.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headroom::attention {

// What the decay of a number S[k, v] depends on besides head and token.
enum class Decay : uint8_t {
  kNone,     // there is none
  kHead,     // nothing: one number a head
  kChannel,  // k
  kElement,  // both: b[v] * A[k, v], Mamba-1's (arXiv 2312.00752 eq. 4); b is one number a value
};

enum class StateUpdate : uint8_t { kAdditive, kDelta, kRemoval };

struct LinearMixSpec {
  uint32_t key_width = 0;    // K
  uint32_t value_width = 0;  // V
  Decay decay = Decay::kNone;
  StateUpdate update = StateUpdate::kAdditive;
  bool read_before = false;  // kAdditive only
  bool sum_keys = false;     // decays kNone, kHead, kChannel
  float epsilon = 0.0f;      // of sum_keys
};

inline constexpr uint32_t kMostKeyWidth = 512;

// A vector a token: token t's at data + t * stride. A stride of 0: all tokens share one.
struct TokenRows {
  const float* data = nullptr;  // null: there is none
  uint32_t stride = 0;
  const float* row(uint32_t token) const { return data + uint64_t{token} * stride; }
};

// A head, or neighbouring values of one, over `tokens` tokens.
struct LinearMixCall {
  uint32_t tokens = 0;
  uint32_t values = 0;           // of the head's V that this call is about
  TokenRows query, key;          // [K]
  TokenRows value;               // [values]
  TokenRows log_decay;           // kHead [1], kChannel [K]
  TokenRows strength;            // [1], with kElement [values]; null: 1
  TokenRows removal, write;      // kRemoval: [K]
  const float* bonus = nullptr;  // read_before: [K]
  const float* rate = nullptr;   // kElement: A [K, values], <= 0
  uint32_t rate_stride = 0;      // floats from one of its rows to the next
  float* state = nullptr;        // [K, values], updated
  uint32_t state_stride = 0;     // floats from one row to the next
  float* key_sum = nullptr;      // sum_keys: z [K], updated
  float* out = nullptr;          // [values] a token
  uint32_t out_stride = 0;
};

// Runs the tokens one after another, or in chunks where that is faster: same result but for
// rounding. `scratch`: LinearMixScratchBytes, 64-byte aligned, private to the call. out may not
// overlap what is read. Cannot fail: all checks were made when loading and planning.
using LinearMixKernel = void (*)(const LinearMixSpec& spec, const LinearMixCall& call,
                                 std::byte* scratch);

// Values in a call without sum_keys, at most.
inline constexpr uint32_t kMostCallValues = 128;

// Of a block of tokens that a fast kernel takes together: vectors that read the state and that are
// written to it, floats from one vector of coefficients to the next, widest group of values.
inline constexpr uint32_t kLinearMostReads = 8;
inline constexpr uint32_t kLinearMostWrites = 4;
inline constexpr uint32_t kLinearRow = kMostKeyWidth + 16;
inline constexpr uint32_t kLinearMostGroup = 32;

// The same bound serves every backend's kernel.
uint64_t LinearMixScratchBytes(const LinearMixSpec& spec);

// The definition of correct inside the product: plain C++, one token after another.
LinearMixKernel PortableLinearMix();

}  // namespace headroom::attention
