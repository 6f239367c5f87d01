#include "backends/xnnpack/kernels.h"

#include "backends/xnnpack/kernel_targets.h"

namespace headroom::xnnpack {

Kernels ResolveKernels() {
  Kernels kernels = {};
  FillMixKernels(kernels);
  FillRowCodecKernels(kernels);
  FillPointwiseKernels(kernels);
  return kernels;
}

const Kernels& BestKernels() {
  static const Kernels kernels = ResolveKernels();
  return kernels;
}

Kernels PortableKernels() {
  using attention::PortableEncodeRow;
  using attention::PortableMix;
  return {PortableMix(),
          {PortableEncodeRow(RowCodec::kF32), PortableEncodeRow(RowCodec::kF16),
           PortableEncodeRow(RowCodec::kI8Token)},
          attention::PortableMerge(),
          ops::PortablePointwise(),
          "portable"};
}

}  // namespace headroom::xnnpack
