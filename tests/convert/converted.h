// A golden checkpoint or a folder converted and opened again.
#pragma once

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "convert/convert.h"
#include "convert/source_tensor.h"
#include "model/model.h"
#include "tests/convert/fixture.h"

namespace headroom::test {

struct Converted {
  TempFolder folder;
  std::unique_ptr<model::Model> model;
  convert::Summary summary;
  std::vector<std::string> log;

  const TensorView& tensor(int32_t i) const { return model->tensors.at(static_cast<size_t>(i)); }
  std::vector<float> floats(int32_t i) const {
    const TensorView& view = tensor(i);
    REQUIRE(view.dtype == DType::kF32);
    return {view.f32(), view.f32() + view.data_bytes / 4};
  }
  const model::Op& op(model::OpKind kind, size_t nth = 0) const {
    for (const model::Op& op : model->ops) {
      if (op.kind == kind && nth-- == 0) return op;
    }
    FAIL("no such operation");
    return model->ops[0];
  }
  size_t count(model::OpKind kind) const {
    return static_cast<size_t>(std::count_if(model->ops.begin(), model->ops.end(),
                                             [&](const model::Op& op) { return op.kind == kind; }));
  }
};

inline std::unique_ptr<Converted> ConvertFolder(
    const std::string& source, convert::WeightFormat format, uint32_t block = 32,
    std::optional<convert::WeightFormat> head = std::nullopt) {
  auto converted = std::make_unique<Converted>();
  convert::Options options;
  options.source = source;
  options.out = converted->folder / "model.hrm";
  options.weights = format;
  options.block = block;
  options.head = head;
  options.log = [&](const std::string& line) { converted->log.push_back(line); };
  auto summary = convert::Convert(options);
  INFO(source << ": " << summary.status().message());
  REQUIRE(summary.ok());
  converted->summary = summary.Take();
  model::OpenOptions open;
  open.verify_checksums = true;
  auto model = model::Model::OpenPath(options.out.c_str(), open);
  INFO(model.status().message());
  REQUIRE(model.ok());
  converted->model = model.Take();
  return converted;
}

inline std::unique_ptr<Converted> ConvertCase(
    const std::string& name, convert::WeightFormat format = convert::WeightFormat::kF32) {
  return ConvertFolder(GoldenFolder(name), format);
}

// A tensor of a golden checkpoint as floats.
inline std::vector<float> Source(const std::string& name, const std::string& tensor) {
  const auto checkpoint = convert::Checkpoint::Open(GoldenFolder(name));
  REQUIRE(checkpoint.ok());
  const convert::SourceTensor* entry = checkpoint.value().Find(tensor);
  INFO(tensor);
  REQUIRE(entry);
  std::vector<float> values(entry->bytes / 4);
  REQUIRE(convert::ReadFloats(tensor, *entry, 0, values).ok());
  return values;
}

}  // namespace headroom::test
