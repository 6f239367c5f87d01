// Files of released schema versions load forever and say the same.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "model/model.h"
#include "model/tiny_model.h"

namespace headroom {
namespace {

std::string Golden(const char* name) {
  const char* root = std::getenv("HEADROOM_SOURCE_DIR");
  return std::string(root == nullptr ? "." : root) + "/schema/golden/" + name;
}

TEST_CASE("the golden file of format 1 loads and says what it always said", "[model][golden]") {
  model::OpenOptions options;
  options.verify_checksums = true;
  const auto opened = model::Model::OpenPath(Golden("v1_tiny.hrm").c_str(), options);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const model::Model& model = *opened.value();
  CHECK(model.metadata.name == "tiny");
  CHECK(model.metadata.vocabulary == 40);
  CHECK(model.values.size() == 21);
  CHECK(model.ops.size() == 20);
  REQUIRE(model.attentions.size() == 2);
  CHECK(model.attentions[0].left == 15);
  CHECK(model.attentions[0].sinks == 2);
  CHECK(model.attentions[0].softcap == 30.0f);
  CHECK(model.attentions[0].head_map == std::vector<uint16_t>{0, 0, 1, 1});
  CHECK(model.attentions[1].left == kUnlimited);
  CHECK(model.attentions[1].key.weight.row_begin == 32);
  CHECK(model.tensors[0].name == "rope.frequencies");
  CHECK(std::abs(model.tensors[0].f32()[1] - 0.1f) < 1e-6f);
  CHECK(model.tensors[1].dtype == DType::kI8);
  CHECK(model.tokenizer.tokens.size() == 32);
  CHECK(model.tokenizer.tokens[29] == " the");
  CHECK(model.tokenizer.merges.size() == 3);
  CHECK(model.sampling.top_k == 20);
}

}  // namespace
}  // namespace headroom
