#include "backends/xnnpack/kernels.h"

#include "backends/xnnpack/kernel_targets.h"

namespace headroom::xnnpack {

Kernels ResolveKernels() {
  Kernels kernels = {};
  FillMixKernels(kernels);
  FillDotMixKernels(kernels);
  FillRowCodecKernels(kernels);
  FillHadamardKernels(kernels);
  FillLinearMixKernels(kernels);
  FillPointwiseKernels(kernels);
  FillImageKernels(kernels);
  return kernels;
}

const Kernels& BestKernels() {
  static const Kernels kernels = ResolveKernels();
  return kernels;
}

Kernels PortableKernels() {
  using attention::PortableEncodeRow;
  return {attention::PortableMix(),
          attention::PortableRowScores(),
          {PortableEncodeRow(RowCodec::kF32), PortableEncodeRow(RowCodec::kF16),
           PortableEncodeRow(RowCodec::kI8Token), PortableEncodeRow(RowCodec::kBlock8),
           PortableEncodeRow(RowCodec::kBlock4)},
          attention::PortableDecodeRows(),
          attention::PortableMerge(),
          attention::PortableHadamard(),
          attention::PortableLinearMix(),
          ops::PortablePointwise(),
          ops::PortableImage(),
          "portable",
          "f32"};
}

}  // namespace headroom::xnnpack
