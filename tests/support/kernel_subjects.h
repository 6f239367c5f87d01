// The sets of kernels that this machine can run: the portable one, and our own for each instruction
// set that is compiled in and that the CPU has; with dot products and without where they are an
// addition to a set.
#pragma once

#include <vector>

#include "backends/xnnpack/kernel_targets.h"
#include "hwy/targets.h"

namespace headroom::test {

inline std::vector<xnnpack::Kernels> KernelSubjects() {
  std::vector<xnnpack::Kernels> subjects = {xnnpack::PortableKernels()};
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    subjects.push_back(xnnpack::ResolveKernels());
    xnnpack::Kernels plain = subjects.back();
    xnnpack::FillMixKernels(plain);
    if (plain.mix != subjects.back().mix) subjects.push_back(plain);
  }
  hwy::SetSupportedTargetsForTest(0);
  return subjects;
}

}  // namespace headroom::test
