// The tensors of a vision model's checkpoint, or random ones in their place: what is asked for is
// checked against its shape, and what nobody asked for is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Random numbers stand for a tensor: mean +- 1.7 deviation, evenly.
struct Noise {
  double deviation = 0.0;
  double mean = 0.0;
};

// A tensor that is there, or noise; read when it is wanted, so that few are held at a time.
class SourceNumbers {
 public:
  // kUnsupported: a type that cannot be widened; kCorrupt: a number that is not finite.
  Result<std::vector<double>> Read() const;
  std::string type() const;  // the element type's name; "" of noise

 private:
  friend class ImageSource;
  std::string name_;
  SourceTensor tensor_;  // no type: noise
  uint64_t count_ = 0, seed_ = 0;
  Noise noise_;
};

class ImageSource {
 public:
  // `rename` gives each tensor of the checkpoint the name that it is asked for by.
  ImageSource(const Checkpoint& checkpoint,
              const std::function<std::string(const std::string&)>& rename);
  explicit ImageSource(uint64_t seed) : random_(true), seed_(seed) {}

  bool random() const { return random_; }
  bool Has(const std::string& name) const { return tensors_.contains(name); }  // noise: never
  // Extents as the checkpoint has them. kCorrupt: it is missing.
  Result<std::vector<uint64_t>> Shape(const std::string& name) const;
  // Of exactly this shape; extents of 1 behind the first two count for nothing. Errors: kCorrupt.
  Result<SourceNumbers> Need(const std::string& name, const std::vector<uint64_t>& shape,
                             const Noise& noise);
  void Ignore(const std::string& name) { used_.insert(name); }
  // kUnsupported names a tensor that nobody asked for.
  Status RefuseUnused() const;

 private:
  std::map<std::string, SourceTensor> tensors_;
  std::set<std::string> used_;
  bool random_ = false;
  uint64_t seed_ = 0;
};

}  // namespace headroom::convert
