// From the plain description to the FlatBuffer's object form; separate, so that tests can bend the
// result into files that no writer would make.
#pragma once

#include "base/status.h"
#include "convert/hrm_writer.h"
#include "headroom_generated.h"

namespace headroom::convert {

// Everything but tensors' places and segments. Errors: kInvalidArgument.
Result<fb::ModelT> BuildGraph(const ModelDescription& description);

fb::DType ToSchema(DType dtype);
fb::ActivationKind ToSchema(model::Activation activation);

}  // namespace headroom::convert
