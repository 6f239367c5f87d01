// What two rotations of an attention have in common.
#pragma once

#include "model/model.h"

namespace headroom::model {

// Whether queries are turned by the angles of the keys they meet; attention factors may differ.
bool RotatesAlike(const Model& model, const AttentionSpec& attention);

}  // namespace headroom::model
