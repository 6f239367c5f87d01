// What the writer is told is what the loader says.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <fstream>

#include "model/container.h"
#include "model/model.h"
#include "model/tiny_model.h"

namespace headroom {
namespace {

using convert::ModelDescription;
using model::Model;

std::unique_ptr<Model> Open(const test::AlignedBytes& bytes,
                            const model::OpenOptions& options = {}) {
  Result<std::unique_ptr<Model>> model = Model::OpenMemory(bytes.data(), bytes.size(), options);
  INFO(model.status().message());
  REQUIRE(model.ok());
  return model.Take();
}

void CheckSame(const model::WeightRef& a, const model::WeightRef& b) {
  CHECK(a.tensor == b.tensor);
  CHECK(a.row_begin == b.row_begin);
  CHECK(a.rows == b.rows);
  CHECK(a.bias == b.bias);
}

void CheckSame(const model::NormSpec& a, const model::NormSpec& b) {
  CHECK(a.kind == b.kind);
  CHECK(a.weight == b.weight);
  CHECK(a.bias == b.bias);
  if (a.present()) CHECK(a.epsilon == b.epsilon);
}

TEST_CASE("tensors come back with their names, types, extents and bytes", "[model]") {
  const ModelDescription expected = test::TinyDescription();
  const std::unique_ptr<Model> model = Open(test::TinyFile());
  REQUIRE(model->tensors.size() == expected.tensors.size());
  for (size_t i = 0; i < expected.tensors.size(); ++i) {
    const TensorView& tensor = model->tensors[i];
    INFO(expected.tensors[i].name);
    CHECK(tensor.name == expected.tensors[i].name);
    CHECK(tensor.dtype == expected.tensors[i].dtype);
    CHECK(tensor.block == expected.tensors[i].block);
    REQUIRE(tensor.rank == expected.tensors[i].extents.size());
    for (size_t d = 0; d < tensor.rank; ++d)
      CHECK(tensor.extents[d] == expected.tensors[i].extents[d]);
    CHECK(reinterpret_cast<uintptr_t>(tensor.data) % 64 == 0);
    CHECK((tensor.scales != nullptr) == (tensor.dtype == DType::kI8 || tensor.dtype == DType::kI4));
  }
  CHECK(model->tensors[0].f32()[0] == 1.0f);  // the first rotary frequency
}

TEST_CASE("operations and values come back in order", "[model]") {
  const ModelDescription expected = test::TinyDescription();
  const std::unique_ptr<Model> model = Open(test::TinyFile());
  REQUIRE(model->values.size() == expected.values.size());
  for (size_t i = 0; i < expected.values.size(); ++i)
    CHECK(model->values[i].width == expected.values[i].width);
  REQUIRE(model->ops.size() == expected.ops.size());
  for (size_t i = 0; i < expected.ops.size(); ++i) {
    const model::Op& op = model->ops[i];
    INFO(expected.ops[i].name);
    CHECK(op.name == expected.ops[i].name);
    CHECK(op.kind == expected.ops[i].op.kind);
    CHECK(op.inputs[0] == expected.ops[i].op.inputs[0]);
    CHECK(op.inputs[1] == expected.ops[i].op.inputs[1]);
    CHECK(op.output == expected.ops[i].op.output);
    CHECK(op.activation == expected.ops[i].op.activation);
    CHECK(op.scale == expected.ops[i].op.scale);
    CHECK(op.attention == expected.ops[i].op.attention);
    CHECK(op.mixture == expected.ops[i].op.mixture);
    CheckSame(op.weight, expected.ops[i].op.weight);
    CheckSame(op.norm, expected.ops[i].op.norm);
  }
  CHECK(model->logits == expected.logits);
}

TEST_CASE("mixtures of experts come back whole", "[model][mixture]") {
  const model::MixtureSpec b = test::TinyDescription().mixtures.at(0);
  const std::unique_ptr<Model> model = Open(test::TinyFile());
  REQUIRE(model->mixtures.size() == 1);
  const model::MixtureSpec& a = model->mixtures[0];
  CheckSame(a.router, b.router);
  CheckSame(a.gate_up, b.gate_up);
  CheckSame(a.down, b.down);
  CHECK(a.experts == b.experts);
  CHECK(a.chosen == b.chosen);
  CHECK(a.inner == b.inner);
  CHECK(a.score == b.score);
  CHECK(a.renormalise == b.renormalise);
  CHECK(a.scale == b.scale);
  CHECK(a.choice_bias == b.choice_bias);
  CHECK(a.groups == b.groups);
  CHECK(a.top_groups == b.top_groups);
  CHECK(a.group_best == b.group_best);
  CHECK(a.activation == b.activation);
  CHECK(a.limit == b.limit);
  CHECK(a.up_offset == b.up_offset);
}

TEST_CASE("attention plans come back whole", "[model]") {
  const ModelDescription expected = test::TinyDescription();
  const std::unique_ptr<Model> model = Open(test::TinyFile());
  REQUIRE(model->attentions.size() == expected.attentions.size());
  for (size_t i = 0; i < expected.attentions.size(); ++i) {
    const model::AttentionSpec& a = model->attentions[i];
    const model::AttentionSpec& b = expected.attentions[i];
    CHECK(a.query_heads == b.query_heads);
    CHECK(a.views == b.views);
    CHECK(a.key.heads == b.key.heads);
    CHECK(a.key.width == b.key.width);
    CHECK(a.value.heads == b.value.heads);
    CHECK(a.value.width == b.value.width);
    CheckSame(a.query.weight, b.query.weight);
    CheckSame(a.key.weight, b.key.weight);
    CheckSame(a.value.weight, b.value.weight);
    CheckSame(a.output, b.output);
    CheckSame(a.query.norm, b.query.norm);
    CheckSame(a.key.norm, b.key.norm);
    CHECK(a.key.rope.dims == b.key.rope.dims);
    CHECK(a.key.rope.offset == b.key.rope.offset);
    CHECK(a.key.rope.layout == b.key.rope.layout);
    CHECK(a.key.rope.inverse_frequencies == b.key.rope.inverse_frequencies);
    CHECK(a.key.rope.attention_factor == b.key.rope.attention_factor);
    CHECK(a.head_map == b.head_map);
    CHECK(a.left == b.left);
    CHECK(a.sinks == b.sinks);
    CHECK(a.scale == b.scale);
    CHECK(a.softcap == b.softcap);
    CHECK(a.sink_logits == b.sink_logits);
  }
}

TEST_CASE("the tokenizer comes back, merges with their results", "[model]") {
  const convert::TokenizerDescription expected = test::TinyDescription().tokenizer;
  const std::unique_ptr<Model> model = Open(test::TinyFile());
  const model::TokenizerSpec& tokenizer = model->tokenizer;
  CHECK(tokenizer.kind == model::TokenizerKind::kByteBpe);
  REQUIRE(tokenizer.tokens.size() == expected.tokens.size());
  for (size_t i = 0; i < expected.tokens.size(); ++i)
    CHECK(tokenizer.tokens[i] == expected.tokens[i]);
  REQUIRE(tokenizer.merges.size() == expected.merges.size());
  for (size_t i = 0; i < expected.merges.size(); ++i) {
    CHECK(tokenizer.merges[i].left == expected.merges[i].left);
    CHECK(tokenizer.merges[i].right == expected.merges[i].right);
  }
  CHECK(tokenizer.merges[2].result == 29);
  CHECK(tokenizer.special_tokens == expected.special_tokens);
  REQUIRE(tokenizer.splits.size() == 1);
  CHECK(tokenizer.splits[0].pattern == expected.splits[0].pattern);
  CHECK(tokenizer.end_tokens == expected.end_tokens);
  CHECK(tokenizer.begin_token == expected.begin_token);
  CHECK(tokenizer.add_begin);
  CHECK_FALSE(tokenizer.add_prefix_space);
  CHECK_FALSE(tokenizer.ignore_merges);
  CHECK(tokenizer.chat_template == expected.chat_template);
}

TEST_CASE("what vocabularies of SentencePiece have comes back", "[model]") {
  ModelDescription description = test::TinyDescription();
  convert::TokenizerDescription& expected = description.tokenizer;
  expected.kind = model::TokenizerKind::kUnigram;
  expected.space = "\u2581";
  expected.space_prefix = model::SpacePrefix::kFirst;
  expected.strip_spaces = 1;
  expected.unknown_token = 31;
  expected.added_tokens = {{{30, {}, true, true, false, true}, " <begin>"},
                           {{29, {}, false, false, true, false}, ""}};
  expected.scores.assign(expected.tokens.size(), -1.25);
  for (const bool exact : {true, false}) {
    if (!exact) expected.scores[5] = -0.1;
    const test::AlignedBytes bytes = test::WriteToMemory(description);
    const std::unique_ptr<Model> model = Open(bytes);
    const model::TokenizerSpec& tokenizer = model->tokenizer;
    CHECK(tokenizer.kind == model::TokenizerKind::kUnigram);
    CHECK(tokenizer.space == expected.space);
    CHECK(tokenizer.space_prefix == expected.space_prefix);
    CHECK(tokenizer.strip_spaces == 1);
    CHECK(tokenizer.unknown_token == 31);
    REQUIRE(tokenizer.added_tokens.size() == 2);
    CHECK(tokenizer.added_tokens[0].text == " <begin>");
    CHECK(tokenizer.added_tokens[0].token == 30);
    CHECK(tokenizer.added_tokens[0].special);
    CHECK(tokenizer.added_tokens[0].normalised);
    CHECK(tokenizer.added_tokens[0].strip_right);
    CHECK(tokenizer.added_tokens[1].text.empty());
    CHECK(tokenizer.added_tokens[1].strip_left);
    CHECK(tokenizer.scores.size() == (exact ? expected.scores.size() : 0));
    REQUIRE(tokenizer.double_scores.size() == (exact ? 0 : expected.scores.size()));
    if (!exact) CHECK(tokenizer.double_scores[5] == -0.1);
  }
}

TEST_CASE("metadata and sampling hints come back", "[model]") {
  const std::unique_ptr<Model> model = Open(test::TinyFile());
  CHECK(model->metadata.name == "tiny");
  CHECK(model->metadata.architecture == "Test");
  CHECK(model->metadata.license == "Apache-2.0\n");
  CHECK(model->metadata.source == "made by a test");
  CHECK(model->metadata.context_tokens == 512);
  CHECK(model->metadata.vocabulary == 40);
  CHECK(model->sampling.temperature == 0.7f);
  CHECK(model->sampling.top_k == 20);
  CHECK(model->sampling.top_p == 0.9f);
  CHECK(model->sampling.min_p == 0.05f);
  CHECK(model->sampling.repetition_penalty == 1.1f);
  CHECK(model->file_bytes == test::TinyFile().size());
}

TEST_CASE("a model without a tokenizer keeps its end tokens", "[model]") {
  ModelDescription description = test::TinyDescription();
  description.tokenizer = {};
  description.tokenizer.end_tokens = {39};
  const test::AlignedBytes bytes = test::WriteToMemory(description);
  const std::unique_ptr<Model> model = Open(bytes);
  CHECK(model->tokenizer.kind == model::TokenizerKind::kNone);
  CHECK(model->tokenizer.tokens.empty());
  CHECK(model->tokenizer.end_tokens == std::vector<uint32_t>{39});
}

TEST_CASE("a model opens by path, descriptor window and memory alike", "[model]") {
  const test::TemporaryPath path("open.hrm");
  REQUIRE(test::WriteModel(path.text(), test::TinyDescription()).ok());
  const Result<std::unique_ptr<Model>> by_path = Model::OpenPath(path.text().c_str(), {});
  REQUIRE(by_path.ok());
  // The same model in the middle of a larger file, as in an app's package.
  const test::TemporaryPath package("package");
  {
    std::ofstream out(package.text(), std::ios::binary);
    const std::string before(128, 'x');
    out << before;
    out.write(reinterpret_cast<const char*>(test::TinyFile().data()),
              static_cast<std::streamsize>(test::TinyFile().size()));
    out << "behind";
  }
  const int fd = open(package.text().c_str(), O_RDONLY);
  REQUIRE(fd >= 0);
  const Result<std::unique_ptr<Model>> by_fd = Model::OpenFd(fd, 128, test::TinyFile().size(), {});
  const Result<std::unique_ptr<Model>> skewed = Model::OpenFd(fd, 100, test::TinyFile().size(), {});
  close(fd);
  REQUIRE(by_fd.ok());
  CHECK(by_fd.value()->digest == by_path.value()->digest);
  CHECK(by_fd.value()->digest == Open(test::TinyFile())->digest);
  CHECK(skewed.status().code() == StatusCode::kInvalidArgument);
  CHECK(Model::OpenPath("/nonexistent/model.hrm", {}).status().code() == StatusCode::kNotFound);
  CHECK(Model::OpenPath("/dev/zero", {}).status().code() == StatusCode::kIo);
}

TEST_CASE("the digest changes with any weight", "[model]") {
  test::OpenedFile file;
  const uint64_t before = Open(file.Assemble())->digest;
  file.graph.segments[0] =
      fb::Segment(file.graph.segments[0].offset(), file.graph.segments[0].bytes(),
                  file.graph.segments[0].checksum() ^ 1);
  CHECK(Open(file.Assemble())->digest != before);
}

TEST_CASE("verification passes on what was written and reports its progress", "[model]") {
  model::OpenOptions options;
  float last = 0.0f;
  options.verify_checksums = true;
  options.progress_user_data = &last;
  options.progress = [](void* user_data, float fraction) {
    *static_cast<float*>(user_data) = fraction;
    return true;
  };
  Open(test::TinyFile(), options);
  CHECK(last == 1.0f);
}

TEST_CASE("verification stops when its progress callback says so", "[model]") {
  model::OpenOptions options;
  options.verify_checksums = true;
  options.progress = [](void*, float) { return false; };
  const auto model = Model::OpenMemory(test::TinyFile().data(), test::TinyFile().size(), options);
  CHECK(model.status().code() == StatusCode::kCancelled);
}

TEST_CASE("large models are cut into several segments", "[model]") {
  ModelDescription description = test::TinyDescription();
  for (int i = 0; i < 3; ++i) {
    description.tensors.push_back({"large." + std::to_string(i), DType::kI8, 0, {1024, 20 << 10}});
  }
  const test::TemporaryPath path("large.hrm");
  REQUIRE(test::WriteModel(path.text(), description).ok());
  model::OpenOptions options;
  options.verify_checksums = true;
  const auto model = Model::OpenPath(path.text().c_str(), options);
  INFO(model.status().message());
  REQUIRE(model.ok());
  CHECK(model.value()->file_bytes > 60u << 20);
}

// Every byte of tensor i is i + 1.
Status WriteNumbered(const std::string& path, const ModelDescription& description) {
  HR_ASSIGN_OR_RETURN(convert::HrmWriter writer, convert::HrmWriter::Create(path, description));
  for (size_t i = 0; i < description.tensors.size(); ++i) {
    const auto number = static_cast<std::byte>(i + 1);
    const std::vector<std::byte> data(writer.data_bytes(i), number);
    const std::vector<std::byte> scales(writer.scale_bytes(i), number);
    HR_RETURN_IF_ERROR(writer.Append(i, data));
    HR_RETURN_IF_ERROR(writer.AppendScales(i, scales));
  }
  return writer.Finish();
}

// As norms between matrices. The last two are the largest small one and the smallest large one.
ModelDescription SmallBetweenLarge() {
  ModelDescription description = test::TinyDescription();
  const auto add = [&](const std::string& name, DType dtype, std::vector<uint32_t> extents) {
    description.tensors.push_back({name, dtype, 0, std::move(extents)});
  };
  for (const char* i : {"0", "1"}) {
    add(std::string("large.") + i, DType::kI8, {1024, 20 << 10});
    add(std::string("small.") + i, DType::kF32, {4096});
  }
  add("large.2", DType::kF32, {16384});
  add("small.2", DType::kF32, {16383});
  return description;
}

TEST_CASE("small tensors lie side by side ahead of large ones", "[model]") {
  const ModelDescription description = SmallBetweenLarge();
  const test::TemporaryPath path("small.hrm");
  REQUIRE(WriteNumbered(path.text(), description).ok());
  model::OpenOptions options;
  options.verify_checksums = true;
  const auto opened = Model::OpenPath(path.text().c_str(), options);
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const Model& model = *opened.value();
  REQUIRE(model.tensors.size() == description.tensors.size());
  const std::byte* small_end = model.segments[0].data;
  uint64_t small_bytes = 0;
  size_t large = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {  // in the order they were described
    const TensorView& tensor = model.tensors[i];
    INFO(i << " " << tensor.name);
    CHECK(tensor.name == description.tensors[i].name);
    CHECK(tensor.data[0] == static_cast<std::byte>(i + 1));
    CHECK(tensor.data[tensor.data_bytes - 1] == static_cast<std::byte>(i + 1));
    if (tensor.scale_bytes != 0) CHECK(tensor.scales[0] == static_cast<std::byte>(i + 1));
    if (tensor.name.starts_with("large")) {
      ++large;
      continue;
    }
    small_end =
        std::max({small_end, tensor.data + tensor.data_bytes,
                  tensor.scale_bytes == 0 ? small_end : tensor.scales + tensor.scale_bytes});
    small_bytes += tensor.data_bytes + tensor.scale_bytes + 2 * model::kTensorAlignment;
  }
  CHECK(large == 3);
  CHECK(static_cast<uint64_t>(small_end - model.segments[0].data) <= small_bytes);
  for (const TensorView& tensor : model.tensors) {
    if (tensor.name.starts_with("large")) CHECK(tensor.data >= small_end);
  }
}

TEST_CASE("the writer refuses incomplete and overfull tensors and leaves no file", "[model]") {
  const test::TemporaryPath path("partial.hrm");
  {
    Result<convert::HrmWriter> writer =
        convert::HrmWriter::Create(path.text(), test::TinyDescription());
    REQUIRE(writer.ok());
    const std::vector<std::byte> bytes(17);
    CHECK(writer.value().Append(0, std::span(bytes).first(16)).ok());
    CHECK(writer.value().Append(0, std::span(bytes).first(1)).code() ==
          StatusCode::kInvalidArgument);
    CHECK(writer.value().Finish().code() == StatusCode::kWrongState);
  }
  CHECK(access(path.text().c_str(), F_OK) != 0);
}

TEST_CASE("what older builds would overlook makes them refuse the file", "[model]") {
  const auto features = [](auto edit) {
    ModelDescription description = test::TinyDescription();
    edit(description.tokenizer);
    const test::AlignedBytes file = test::WriteToMemory(description);
    return model::ReadHeader(file.span()).value().required_features;
  };
  CHECK(features([](auto&) {}) == 0);
  CHECK(features([](auto& t) { t.normal_steps.resize(1); }) == 0);  // as is
  CHECK(features([](auto& t) {
          t.normal_steps.resize(1);
          t.normal_steps[0].step.form = model::NormalForm::kNfc;
        }) == 4);
  CHECK(features([](auto& t) { t.normal_steps.resize(2); }) == 8);
  CHECK(features([](auto& t) { t.splits[0].behaviour = model::SplitBehaviour::kRemoved; }) == 8);
  CHECK(features([](auto& t) {
          t.added_tokens.push_back({{31, {}, true, false, false, false, true}, ""});
        }) == 8);
}

TEST_CASE("the writer refuses a merge that makes no token", "[model]") {
  ModelDescription description = test::TinyDescription();
  description.tokenizer.merges.push_back({0, 0, 1});
  const test::TemporaryPath path("merge.hrm");
  const auto writer = convert::HrmWriter::Create(path.text(), description);
  CHECK(writer.status().code() == StatusCode::kInvalidArgument);
  CHECK(std::string(writer.status().message()).find("merge 3") != std::string::npos);
}

}  // namespace
}  // namespace headroom
