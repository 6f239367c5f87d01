// The graph of a vision model under construction: tensors, values and operations on pictures.
#pragma once

#include <string>
#include <vector>

#include "convert/convert.h"
#include "convert/hrm_writer.h"
#include "convert/image_layers.h"

namespace headroom::convert {

// What a conversion writes: `tensors` make those of the description.
struct ImagePlan {
  ModelDescription description;  // without names
  std::vector<MakeNumbers> tensors;
  uint32_t layers = 0, channels = 0;  // to report
};

// Adds to a plan, which is borrowed; its first value are the pictures. Each operation returns its
// output. Matrices are stored as `format`, everything else in f32.
class ImageGraphWriter {
 public:
  ImageGraphWriter(WeightFormat format, ImagePlan& plan);

  struct Window {
    uint32_t stride = 1, pad = 0, groups = 1;
  };
  int32_t Convolve(const std::string& name, const ImageLayer& layer, const Window& window,
                   model::Limit limit, int32_t x);
  int32_t Project(const std::string& name, const ImageLayer& layer, int32_t x,
                  model::Limit limit = model::Limit::kNone) {
    return Convolve(name, layer, {}, limit, x);
  }
  // groups 0: of each position.
  int32_t Norm(const std::string& name, const ImageNorm& norm, uint32_t groups, float epsilon,
               int32_t x);
  int32_t Activate(const std::string& name, model::Activation activation, int32_t x);
  int32_t Sum(const std::string& name, int32_t x, int32_t y);
  int32_t Multiply(const std::string& name, int32_t x, int32_t factor);
  int32_t Mean(const std::string& name, int32_t x);  // of all positions
  int32_t Channels(const std::string& name, int32_t x, uint32_t begin, uint32_t end);
  int32_t Concat(const std::string& name, int32_t x, int32_t y);
  int32_t Attend(const std::string& name, const model::SelfAttentionSpec& spec, int32_t x);
  int32_t Flatten(const std::string& name, int32_t x);
  int32_t Row(const std::string& name, uint32_t row, int32_t x);
  // `prefix` rows in front, then the table [rows, channels of x].
  int32_t AddPositions(const std::string& name, MakeNumbers table, uint32_t rows, uint32_t prefix,
                       int32_t x);

  uint32_t channels(int32_t value) const {
    return plan_.description.image.values[static_cast<size_t>(value)].channels;
  }
  ImageDescription& image() { return plan_.description.image; }

 private:
  int32_t Add(const std::string& name, model::ImageOp op, std::vector<int32_t> inputs,
              uint32_t channels);
  int32_t AddTensor(TensorDescription tensor, MakeNumbers make);

  WeightFormat format_;
  ImagePlan& plan_;
};

}  // namespace headroom::convert
