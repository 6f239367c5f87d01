#include "convert/image_source.h"

#include <cmath>

#include "convert/json_file.h"

namespace headroom::convert {
namespace {

// FNV-1a: the noise of a tensor depends on its name, not on the order of asking.
uint64_t HashOf(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// SplitMix64, as a number in [-0.5, 0.5).
double NextUniform(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<double>((z ^ z >> 31) >> 11) * 0x1p-53 - 0.5;
}

// Extents of 1 say nothing about a 1 x 1 convolution, which some checkpoints have as a matrix.
std::vector<uint64_t> WithoutUnits(std::vector<uint64_t> shape) {
  while (shape.size() > 2 && shape.back() == 1) shape.pop_back();
  return shape;
}

std::string TextOf(const std::vector<uint64_t>& shape) {
  std::string text;
  for (const uint64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

}  // namespace

Result<std::vector<double>> SourceNumbers::Read() const {
  std::vector<double> out(count_);
  if (tensor_.type == nullptr) {
    uint64_t state = seed_ ^ HashOf(name_);
    const double width = noise_.deviation * std::sqrt(12.0);
    for (double& x : out) x = noise_.mean + width * NextUniform(state);
    return out;
  }
  std::vector<float> floats(count_);
  HR_RETURN_IF_ERROR(ReadFloats(name_, tensor_, 0, floats));
  for (size_t i = 0; i < floats.size(); ++i) {
    if (!std::isfinite(floats[i])) {
      return Status::Make(StatusCode::kCorrupt, "tensor \"%s\": element %zu is %g",
                          Printable(name_).c_str(), i, static_cast<double>(floats[i]));
    }
    out[i] = floats[i];
  }
  return out;
}

std::string SourceNumbers::type() const {
  return tensor_.type == nullptr ? "" : std::string(tensor_.type->name);
}

ImageSource::ImageSource(const Checkpoint& checkpoint,
                         const std::function<std::string(const std::string&)>& rename) {
  for (const auto& [name, tensor] : checkpoint.tensors()) tensors_.emplace(rename(name), tensor);
}

Result<std::vector<uint64_t>> ImageSource::Shape(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second.shape;
  return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" is missing", Printable(name).c_str());
}

Result<SourceNumbers> ImageSource::Need(const std::string& name, const std::vector<uint64_t>& shape,
                                        const Noise& noise) {
  SourceNumbers out;
  out.name_ = name;
  out.seed_ = seed_;
  out.noise_ = noise;
  out.count_ = 1;
  for (const uint64_t extent : shape) out.count_ *= extent;
  if (random_) return out;
  HR_ASSIGN_OR_RETURN(const std::vector<uint64_t> stored, Shape(name));
  if (WithoutUnits(stored) != WithoutUnits(shape)) {
    return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" is %s, the configuration implies %s",
                        Printable(name).c_str(), TextOf(stored).c_str(), TextOf(shape).c_str());
  }
  used_.insert(name);
  out.tensor_ = tensors_.at(name);
  return out;
}

Status ImageSource::RefuseUnused() const {
  for (const auto& [name, tensor] : tensors_) {
    // Counts the steps of training.
    if (used_.contains(name) || name.ends_with(".num_batches_tracked")) continue;
    return Status::Make(StatusCode::kUnsupported,
                        "tensor \"%s\" %s is no part of the architecture that config.json names",
                        Printable(name).c_str(), TextOf(tensor.shape).c_str());
  }
  return {};
}

}  // namespace headroom::convert
