// The profiles of a model with what each would cost in one session.
#pragma once

#include <string>
#include <vector>

#include <headroom/headroom.h>

#include "headroom/report.h"

namespace headroom::cli {

struct ProfileList {
  uint32_t context_tokens = 0;
  uint64_t f16_bytes = 0;  // of the attention state, at this context
  std::string chosen;
  std::vector<std::string> names;     // best first; none: the model has no profiles
  std::vector<hr_plan_report> plans;  // [name]
};

// At the context and prefill chunk of `plan`, without a budget. Empty where the context is none
// that the model was trained for: profiles are not measured there. Throws Failure.
ProfileList ListProfiles(const hr_model* model, const hr_session_options& options,
                         const hr_plan_report& plan);

Json ProfileListJson(const ProfileList& list);
// Lines; none for an empty list.
std::string ProfileTable(const ProfileList& list);

}  // namespace headroom::cli
