// The operations of a graph plan: each reads values and makes one.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "convert/hrm_writer.h"

namespace headroom::convert {

// Adds operations to a description, which is borrowed. Each returns its output.
class OpWriter {
 public:
  explicit OpWriter(ModelDescription& description) : description_(description) {}

  ModelDescription& description() { return description_; }
  uint32_t width(int32_t value) const {
    return description_.values[static_cast<size_t>(value)].width;
  }

  int32_t AddValue(uint32_t width);
  // Inputs in their order; model::kNone where a place stays empty.
  int32_t Add(const std::string& name, model::Op op, uint32_t width,
              std::initializer_list<int32_t> inputs);

  int32_t Norm(const std::string& name, const model::NormSpec& norm, int32_t x);
  int32_t Project(const std::string& name, const model::WeightRef& weight, int32_t x);
  int32_t Activate(const std::string& name, model::Activation activation, int32_t x);
  // act(first half) * second half
  int32_t ActivateGated(const std::string& name, model::Activation activation, int32_t x);
  int32_t Sum(const std::string& name, int32_t x, int32_t y);
  int32_t Scale(const std::string& name, float scale, int32_t x);        // x itself where it is 1
  int32_t Multiply(const std::string& name, int32_t x, int32_t factor);  // of its width, or of 1

 private:
  ModelDescription& description_;
};

}  // namespace headroom::convert
