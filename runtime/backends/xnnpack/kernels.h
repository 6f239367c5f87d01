// Our own CPU kernels, written once in Highway and dispatched at run time.
#pragma once

#include "attention/hadamard.h"
#include "attention/linear_mix.h"
#include "attention/row_scores.h"
#include "attention/softmax_mix.h"
#include "ops/image.h"
#include "ops/pointwise.h"

namespace headroom::xnnpack {

struct Kernels {
  attention::MixKernel mix;
  attention::RowScoresKernel row_scores;
  attention::EncodeRowKernel encode_row[kRowCodecs];  // by RowCodec
  attention::DecodeRowsKernel decode_rows;
  attention::MergeKernel merge;
  attention::HadamardKernel hadamard;
  attention::LinearMixKernel linear_mix;
  ops::PointwiseKernels pointwise;
  ops::ImageKernels image;
  const char* isa;  // name of the dispatched instruction set, for reports
  // How few queries multiply with rows of codes, for reports: "f32", "i16", "u8 x i8", "i8 x i8".
  const char* code_products;
};

// Resolved once per process for the CPU it runs on. Thread-safe.
const Kernels& BestKernels();

// Resolved anew: for tests and benchmarks, which restrict Highway's targets and ask again.
Kernels ResolveKernels();

// The portable definitions in the same form, to be tested and compared alike.
Kernels PortableKernels();

}  // namespace headroom::xnnpack
