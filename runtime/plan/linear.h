// Linear attention as its kernel sees it.
#pragma once

#include "attention/linear_mix.h"
#include "model/model.h"

namespace headroom::plan {

attention::LinearMixSpec LinearMixOf(const model::LinearSpec& spec);

}  // namespace headroom::plan
