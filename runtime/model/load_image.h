// Inside model/: the operations of a vision model, one by one.
#pragma once

#include "model/load.h"

namespace headroom::model {

struct ImageArity {
  uint32_t least = 1, most = 1;
};
ImageArity ImageArityOf(fb::OpAttributes kind);

// `op` has its inputs and output; sets all else.
Status LoadImageAttributes(const LoadContext& context, const Where& where, const fb::Op& from,
                           ImageOp* op);

}  // namespace headroom::model
