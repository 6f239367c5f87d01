// Profiles put into a finished model file.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "headroom_generated.h"
#include "plan/profile.h"

namespace headroom::convert {

struct MeasuredQuality {
  fb::Metric metric = fb::Metric::None;
  std::string task;
  uint32_t context_tokens = 0;
  float value = 0.0f, reference = 0.0f;
};

struct MeasuredProfile {
  std::string name;
  std::string policy;  // as plan::ParseProfile reads it
  std::vector<MeasuredQuality> quality;
};

// Writes `to`: the file `from` with these profiles, best first, instead of its own; the same path
// is fine. Graph and header are new, weights are copied. Errors: those of opening `from`, of a
// policy, of a result that could not be opened (nothing is written then), kIo.
Status WriteProfiles(const std::string& from, const std::string& to,
                     const std::vector<MeasuredProfile>& profiles);

}  // namespace headroom::convert
