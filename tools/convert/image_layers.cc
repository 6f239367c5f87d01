#include "convert/image_layers.h"

#include <cmath>
#include <optional>

#include "convert/json_file.h"

namespace headroom::convert {
namespace {

constexpr double kBatchNormEpsilon = 1e-5;  // PyTorch's default, which no published model changes
constexpr Noise kBiasNoise = {0.05}, kGainNoise = {0.1, 1.0};

// y = scale * x + shift, of each channel.
struct Affine {
  std::vector<double> scale, shift;
};

// A batch norm in use: (x - mean) / sqrt(variance + epsilon) * weight + bias.
class BatchNorm {
 public:
  static Result<BatchNorm> Find(ImageSource& source, const std::string& name, uint64_t width) {
    BatchNorm norm;
    norm.name_ = name;
    HR_ASSIGN_OR_RETURN(norm.weight_, source.Need(name + ".weight", {width}, kGainNoise));
    HR_ASSIGN_OR_RETURN(norm.bias_, source.Need(name + ".bias", {width}, kBiasNoise));
    HR_ASSIGN_OR_RETURN(norm.mean_, source.Need(name + ".running_mean", {width}, kBiasNoise));
    HR_ASSIGN_OR_RETURN(norm.variance_, source.Need(name + ".running_var", {width}, kGainNoise));
    return norm;
  }
  Result<Affine> Read() const {
    Affine out;
    HR_ASSIGN_OR_RETURN(out.scale, weight_.Read());
    HR_ASSIGN_OR_RETURN(out.shift, bias_.Read());
    HR_ASSIGN_OR_RETURN(const std::vector<double> mean, mean_.Read());
    HR_ASSIGN_OR_RETURN(const std::vector<double> variance, variance_.Read());
    for (size_t i = 0; i < mean.size(); ++i) {
      if (variance[i] < 0.0) {
        return Status::Make(StatusCode::kCorrupt, "tensor \"%s.running_var\": variance %g < 0",
                            Printable(name_).c_str(), variance[i]);
      }
      out.scale[i] /= std::sqrt(variance[i] + kBatchNormEpsilon);
      out.shift[i] -= mean[i] * out.scale[i];
    }
    return out;
  }

 private:
  std::string name_;
  SourceNumbers weight_, bias_, mean_, variance_;
};

// [out, in, rows, columns] to [out, rows, columns, in].
std::vector<double> ChannelsLast(const std::vector<double>& from, const KernelShape& shape) {
  std::vector<double> to(from.size());
  const size_t taps = shape.taps();
  for (size_t n = 0; n < shape.out; ++n) {
    for (size_t c = 0; c < shape.in; ++c) {
      for (size_t tap = 0; tap < taps; ++tap) {
        to[(n * taps + tap) * shape.in + c] = from[(n * shape.in + c) * taps + tap];
      }
    }
  }
  return to;
}

void ScaleRows(const std::vector<double>& scale, std::vector<double>& rows) {
  const size_t columns = rows.size() / scale.size();
  for (size_t i = 0; i < rows.size(); ++i) rows[i] *= scale[i / columns];
}

std::vector<uint64_t> StoredShape(const KernelShape& shape) {
  return {shape.out, shape.in, shape.kernel, shape.kernel};
}

Noise WeightNoise(const KernelShape& shape, double gain) {
  return {gain / std::sqrt(static_cast<double>(shape.columns()))};
}

// Adds a depthwise convolution's input to its output.
MakeNumbers WithMiddle(MakeNumbers make, const KernelShape& shape) {
  return [make = std::move(make), shape]() -> Result<std::vector<double>> {
    HR_ASSIGN_OR_RETURN(std::vector<double> weight, make());
    const size_t taps = shape.taps();
    for (size_t n = 0; n < shape.out; ++n) weight[n * taps + taps / 2] += 1.0;
    return weight;
  };
}

// One classifier of those whose mean is taken.
struct Head {
  SourceNumbers weight, bias;
  std::optional<BatchNorm> norm;
};

Result<Head> FindHead(ImageSource& source, const std::string& name, const KernelShape& shape) {
  Head head;
  const bool normed = source.Has(name + ".l.weight");
  const std::string from = normed ? name + ".l" : name;
  HR_ASSIGN_OR_RETURN(
      head.weight, source.Need(from + ".weight", {shape.out, shape.in}, WeightNoise(shape, 1.0)));
  HR_ASSIGN_OR_RETURN(head.bias, source.Need(from + ".bias", {shape.out}, kBiasNoise));
  if (!normed) return head;
  HR_ASSIGN_OR_RETURN(head.norm, BatchNorm::Find(source, name + ".bn", shape.in));
  return head;
}

// W (s x + t) + b = (W diag(s)) x + (b + W t)
Status FoldHead(const Head& head, std::vector<double>* weight, std::vector<double>* bias) {
  HR_ASSIGN_OR_RETURN(*weight, head.weight.Read());
  HR_ASSIGN_OR_RETURN(*bias, head.bias.Read());
  if (!head.norm) return {};
  HR_ASSIGN_OR_RETURN(const Affine norm, head.norm->Read());
  const size_t columns = norm.scale.size();
  for (size_t i = 0; i < weight->size(); ++i) {
    (*bias)[i / columns] += (*weight)[i] * norm.shift[i % columns];
    (*weight)[i] *= norm.scale[i % columns];
  }
  return {};
}

MakeNumbers MeanOfHeads(std::vector<Head> heads, bool biases) {
  return [heads = std::move(heads), biases]() -> Result<std::vector<double>> {
    std::vector<double> sum;
    for (const Head& head : heads) {
      std::vector<double> weight, bias;
      HR_RETURN_IF_ERROR(FoldHead(head, &weight, &bias));
      const std::vector<double>& part = biases ? bias : weight;
      sum.resize(part.size());
      for (size_t i = 0; i < part.size(); ++i) {
        sum[i] += part[i] / static_cast<double>(heads.size());
      }
    }
    return sum;
  };
}

}  // namespace

Result<ImageLayer> PlainLayer(ImageSource& source, const std::string& name,
                              const KernelShape& shape, double gain, const PlainOptions& options) {
  ImageLayer layer;
  layer.shape = shape;
  HR_ASSIGN_OR_RETURN(const SourceNumbers weight,
                      source.Need(name + ".weight", StoredShape(shape), WeightNoise(shape, gain)));
  layer.source_type = weight.type();
  const double factor = options.factor;
  layer.weight = [weight, shape, factor]() -> Result<std::vector<double>> {
    HR_ASSIGN_OR_RETURN(std::vector<double> numbers, weight.Read());
    for (double& x : numbers) x *= factor;
    return ChannelsLast(numbers, shape);
  };
  if (!options.bias) {
    layer.bias = [shape]() -> Result<std::vector<double>> {
      return std::vector<double>(shape.out, 0.0);
    };
    return layer;
  }
  HR_ASSIGN_OR_RETURN(const SourceNumbers bias,
                      source.Need(name + ".bias", {shape.out}, kBiasNoise));
  layer.bias = [bias, factor]() -> Result<std::vector<double>> {
    HR_ASSIGN_OR_RETURN(std::vector<double> numbers, bias.Read());
    for (double& x : numbers) x *= factor;
    return numbers;
  };
  return layer;
}

Result<ImageLayer> NormedConvolution(ImageSource& source, const std::string& name,
                                     const KernelShape& shape, double gain) {
  if (!source.Has(name + ".c.weight")) return PlainLayer(source, name, shape, gain);
  ImageLayer layer;
  layer.shape = shape;
  HR_ASSIGN_OR_RETURN(const SourceNumbers weight,
                      source.Need(name + ".c.weight", StoredShape(shape), {}));
  HR_ASSIGN_OR_RETURN(const BatchNorm norm, BatchNorm::Find(source, name + ".bn", shape.out));
  layer.source_type = weight.type();
  layer.weight = [weight, norm, shape]() -> Result<std::vector<double>> {
    HR_ASSIGN_OR_RETURN(const std::vector<double> numbers, weight.Read());
    HR_ASSIGN_OR_RETURN(const Affine affine, norm.Read());
    std::vector<double> out = ChannelsLast(numbers, shape);
    ScaleRows(affine.scale, out);
    return out;
  };
  layer.bias = [norm]() -> Result<std::vector<double>> {
    HR_ASSIGN_OR_RETURN(Affine affine, norm.Read());
    return std::move(affine.shift);
  };
  return layer;
}

Result<ImageLayer> ResidualDepthwise(ImageSource& source, const std::string& name,
                                     const KernelShape& shape, double gain) {
  const std::string inner = name + ".m";
  const bool apart = source.Has(inner + ".c.weight") || source.Has(inner + ".weight");
  HR_ASSIGN_OR_RETURN(ImageLayer layer,
                      NormedConvolution(source, apart ? inner : name, shape, gain));
  if (apart || source.random()) layer.weight = WithMiddle(std::move(layer.weight), shape);
  return layer;
}

ImageLayer StackedLayers(std::vector<ImageLayer> layers) {
  ImageLayer stacked = layers.front();
  stacked.shape.out = 0;
  std::vector<MakeNumbers> weights, biases;
  for (const ImageLayer& layer : layers) {
    stacked.shape.out += layer.shape.out;
    weights.push_back(layer.weight);
    biases.push_back(layer.bias);
  }
  const auto stack = [](std::vector<MakeNumbers> parts) -> MakeNumbers {
    return [parts = std::move(parts)]() -> Result<std::vector<double>> {
      std::vector<double> out;
      for (const MakeNumbers& make : parts) {
        HR_ASSIGN_OR_RETURN(const std::vector<double> part, make());
        out.insert(out.end(), part.begin(), part.end());
      }
      return out;
    };
  };
  stacked.weight = stack(std::move(weights));
  stacked.bias = stack(std::move(biases));
  return stacked;
}

Result<ImageLayer> NormedClassifier(ImageSource& source, const std::vector<std::string>& names,
                                    const KernelShape& shape) {
  std::vector<Head> heads;
  for (const std::string& name : names) {
    HR_ASSIGN_OR_RETURN(Head head, FindHead(source, name, shape));
    heads.push_back(std::move(head));
  }
  ImageLayer layer;
  layer.shape = shape;
  layer.source_type = heads.front().weight.type();
  layer.weight = MeanOfHeads(heads, false);
  layer.bias = MeanOfHeads(std::move(heads), true);
  return layer;
}

Result<ImageNorm> ReadImageNorm(ImageSource& source, const std::string& name, uint32_t width) {
  ImageNorm norm;
  norm.width = width;
  HR_ASSIGN_OR_RETURN(const SourceNumbers weight,
                      source.Need(name + ".weight", {width}, kGainNoise));
  HR_ASSIGN_OR_RETURN(const SourceNumbers bias, source.Need(name + ".bias", {width}, kBiasNoise));
  norm.weight = [weight] { return weight.Read(); };
  norm.bias = [bias] { return bias.Read(); };
  return norm;
}

}  // namespace headroom::convert
