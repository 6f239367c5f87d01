#include "backends/xnnpack/kernels.h"

namespace headroom::xnnpack {
namespace {

Kernels PortableKernels() {
  using attention::PortableEncodeRow;
  using attention::PortableMix;
  return {{PortableMix(RowCodec::kF32), PortableMix(RowCodec::kF16),
           PortableMix(RowCodec::kI8Token)},
          {PortableEncodeRow(RowCodec::kF32), PortableEncodeRow(RowCodec::kF16),
           PortableEncodeRow(RowCodec::kI8Token)},
          attention::PortableMerge(),
          ops::PortablePointwise(),
          "portable"};
}

}  // namespace

const Kernels& BestKernels() {
  static const Kernels kernels = PortableKernels();
  return kernels;
}

}  // namespace headroom::xnnpack
