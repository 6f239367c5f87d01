// Layers of vision models as a file has them: batch norms folded, taps of a kernel beside their
// channels.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "convert/image_source.h"

namespace headroom::convert {

// The numbers of one tensor of the file, made when they are written.
using MakeNumbers = std::function<Result<std::vector<double>>()>;

// Of a convolution with square kernels, or a matrix (kernel 1): `in` channels of each group.
struct KernelShape {
  uint32_t out = 0, in = 0, kernel = 1;
  uint64_t taps() const { return uint64_t{kernel} * kernel; }
  uint64_t columns() const { return taps() * in; }
};

struct ImageLayer {
  KernelShape shape;
  MakeNumbers weight;       // [out, kernel * kernel * in]
  MakeNumbers bias;         // [out]
  std::string source_type;  // of the weight
};

// A norm's weight and bias, [width] each.
struct ImageNorm {
  uint32_t width = 0;
  MakeNumbers weight, bias;
};

// A convolution NAME.c and its batch norm NAME.bn, or NAME where the two are one. `gain`: of noise.
Result<ImageLayer> NormedConvolution(ImageSource& source, const std::string& name,
                                     const KernelShape& shape, double gain);

// The same of a depthwise convolution NAME.m whose input is added to its output: 1 more in the
// middle of each kernel. NAME itself, where the sum has been folded already.
Result<ImageLayer> ResidualDepthwise(ImageSource& source, const std::string& name,
                                     const KernelShape& shape, double gain);

// A layer of its own: NAME.weight and NAME.bias, both times `factor`. Without a bias: zeros.
struct PlainOptions {
  double factor = 1.0;
  bool bias = true;
};
Result<ImageLayer> PlainLayer(ImageSource& source, const std::string& name,
                              const KernelShape& shape, double gain,
                              const PlainOptions& options = {});

// Of several layers of the same inputs one: their rows one below the other.
ImageLayer StackedLayers(std::vector<ImageLayer> layers);

// A batch norm NAME.bn in front of a matrix NAME.l, or NAME where the two are one; of several their
// mean.
Result<ImageLayer> NormedClassifier(ImageSource& source, const std::vector<std::string>& names,
                                    const KernelShape& shape);

Result<ImageNorm> ReadImageNorm(ImageSource& source, const std::string& name, uint32_t width);

}  // namespace headroom::convert
