#include "plan/linear.h"

namespace headroom::plan {

// What a file may ask, the kernels' scratch has room for.
static_assert(model::kMaxStateWidth <= attention::kMostKeyWidth);

attention::LinearMixSpec LinearMixOf(const model::LinearSpec& spec) {
  using attention::Decay;
  using attention::StateUpdate;
  static constexpr Decay kDecays[] = {Decay::kNone,    Decay::kHead,    Decay::kHead,
                                      Decay::kChannel, Decay::kChannel, Decay::kElement};
  static constexpr StateUpdate kUpdates[] = {StateUpdate::kAdditive, StateUpdate::kDelta,
                                             StateUpdate::kRemoval};
  attention::LinearMixSpec mix;
  mix.key_width = spec.key_width;
  mix.value_width = spec.value_width;
  mix.decay = kDecays[static_cast<int>(spec.decay)];
  mix.update = kUpdates[static_cast<int>(spec.update)];
  mix.read_before = spec.bonus != model::kNone;
  mix.sum_keys = spec.sum_keys;
  mix.epsilon = spec.epsilon;
  return mix;
}

}  // namespace headroom::plan
