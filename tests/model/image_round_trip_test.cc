// What the writer is told of a vision model is what the loader says.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <set>

#include "model/container.h"
#include "model/image_model.h"
#include "model/tiny_model.h"

namespace headroom::test {
namespace {

using model::ImageGraph;
using model::ImageOp;
using model::ImageOpKind;

struct Opened {
  convert::ModelDescription description = ImageModel();
  AlignedBytes file = WriteToMemory(description);
  std::unique_ptr<model::Model> model;
  Opened() {
    auto opened = model::Model::OpenMemory(file.data(), file.size(), {});
    INFO(opened.status().message());
    REQUIRE(opened.ok());
    model = opened.Take();
  }
  const ImageGraph& graph() const { return model->image; }
  const convert::ImageDescription& said() const { return description.image; }
};

void CheckSame(const model::WindowSpec& a, const model::WindowSpec& b) {
  CHECK(std::ranges::equal(a.kernel, b.kernel));
  CHECK(std::ranges::equal(a.stride, b.stride));
  CHECK(std::ranges::equal(a.dilation, b.dilation));
  CHECK(std::ranges::equal(a.pad, b.pad));
  CHECK(a.adaptive == b.adaptive);
}

void CheckSame(const model::SelfAttentionSpec& a, const model::SelfAttentionSpec& b) {
  CHECK(a.heads == b.heads);
  CHECK(a.query_width == b.query_width);
  CHECK(a.value_width == b.value_width);
  CHECK(a.scale == b.scale);
  CHECK(a.relu == b.relu);
}

void CheckSame(const ImageOp& a, const ImageOp& b) {
  CHECK(a.kind == b.kind);
  CHECK(a.inputs == b.inputs);
  CHECK(a.output == b.output);
  CHECK(a.weight == b.weight);
  CHECK(a.bias == b.bias);
  CheckSame(a.window, b.window);
  CHECK(a.groups == b.groups);
  CHECK(a.limit == b.limit);
  CHECK(a.pool == b.pool);
  CHECK(a.activation == b.activation);
  CHECK(a.epsilon == b.epsilon);
  CHECK(a.begin == b.begin);
  CHECK(a.end == b.end);
  CHECK(std::ranges::equal(a.size, b.size));
  CHECK(a.factor == b.factor);
  CHECK(a.bilinear == b.bilinear);
  CHECK(a.align_corners == b.align_corners);
  CheckSame(a.attention, b.attention);
}

TEST_CASE("values and operations on pictures come back in order", "[model][images]") {
  const Opened opened;
  const ImageGraph& graph = opened.graph();
  REQUIRE(graph.values.size() == opened.said().values.size());
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const model::ImageValue &a = graph.values[i], &b = opened.said().values[i];
    INFO("value " << i);
    CHECK(a.channels == b.channels);
    CHECK(a.dtype == b.dtype);
    CHECK(a.scale == b.scale);
    CHECK(a.zero_point == b.zero_point);
  }
  REQUIRE(graph.ops.size() == opened.said().ops.size());
  std::set<ImageOpKind> kinds;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    INFO(opened.said().ops[i].name);
    CHECK(graph.ops[i].name == opened.said().ops[i].name);
    CheckSame(graph.ops[i], opened.said().ops[i].op);
    kinds.insert(graph.ops[i].kind);
  }
  CHECK(kinds.size() == static_cast<size_t>(ImageOpKind::kConvert) + 1);  // every one there is
  CHECK(graph.logits == opened.said().logits);
  CHECK(graph.features == opened.said().features);
  CHECK(opened.model->ops.empty());
}

TEST_CASE("labels and preprocessing come back", "[model][images]") {
  const Opened opened;
  const ImageGraph& graph = opened.graph();
  CHECK(std::ranges::equal(graph.labels, opened.said().labels));
  CHECK(graph.labels.size() == kImageClasses);
  const model::PreprocessSpec &a = graph.preprocess, &b = opened.said().preprocess;
  CHECK(a.resize == b.resize);
  CHECK(a.filter == b.filter);
  CHECK(a.resize_height == b.resize_height);
  CHECK(a.resize_width == b.resize_width);
  CHECK(a.crop_height == b.crop_height);
  CHECK(a.crop_width == b.crop_width);
  CHECK(a.rounding == b.rounding);
  CHECK(a.bgr == b.bgr);
  CHECK(a.scale == b.scale);
  CHECK(std::ranges::equal(a.mean, b.mean));
  CHECK(std::ranges::equal(a.deviation, b.deviation));
}

TEST_CASE("a vision model's file sets the bit that older builds refuse", "[model][images]") {
  const Opened opened;
  CHECK(model::ReadHeader(opened.file.span()).value().required_features == model::kFeatureImages);
  CHECK(model::ReadHeader(TinyFile().span()).value().required_features == 0);
}

}  // namespace
}  // namespace headroom::test
