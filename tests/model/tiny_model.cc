#include "model/tiny_model.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>
#include <random>
#include <stdexcept>

#include "base/half.h"
#include "base/math.h"
#include "model/container.h"

namespace headroom::test {
namespace {

using convert::ModelDescription;
using model::OpKind;

constexpr uint32_t kChannels = 32, kInner = 32, kVocabulary = 40;
constexpr uint32_t kExperts = 6, kChosen = 2, kGroups = 3;
constexpr uint32_t kQueryHeads = 4, kKvHeads = 2, kHeadWidth = 8;

// Builds the description step by step; every Add returns the index of what it added.
class Builder {
 public:
  int32_t Tensor(const std::string& name, DType dtype, std::vector<uint32_t> extents,
                 uint16_t block = 0) {
    description.tensors.push_back({name, dtype, block, std::move(extents)});
    return static_cast<int32_t>(description.tensors.size()) - 1;
  }
  model::WeightRef Matrix(const std::string& name, DType dtype, uint32_t rows, uint32_t columns,
                          uint16_t block = 0, bool bias = false) {
    model::WeightRef weight;
    weight.tensor = Tensor(name, dtype, {rows, columns}, block);
    weight.rows = rows;
    if (bias) weight.bias = Tensor(name + ".bias", DType::kF32, {rows});
    return weight;
  }
  model::NormSpec Norm(const std::string& name, uint32_t width) {
    model::NormSpec norm;
    norm.weight = Tensor(name, DType::kF32, {width});
    norm.epsilon = 1e-6f;
    return norm;
  }
  int32_t Value(uint32_t width) {
    description.values.push_back({width});
    return static_cast<int32_t>(description.values.size()) - 1;
  }
  int32_t Op(const std::string& name, model::Op op, int32_t input, uint32_t width) {
    op.inputs[0] = input;
    op.output = Value(width);
    description.ops.push_back({op, name});
    return op.output;
  }
  int32_t Residual(const std::string& name, int32_t a, int32_t b) {
    model::Op op;
    op.kind = OpKind::kAdd;
    op.inputs[1] = b;
    return Op(name, op, a, kChannels);
  }
  int32_t Layer(const std::string& name, int32_t x, bool windowed);
  int32_t Attention(const std::string& name, int32_t x, bool windowed);
  int32_t Mlp(const std::string& name, int32_t x);
  int32_t Mixture(const std::string& name, int32_t x);
  int32_t Gated(const std::string& name, int32_t x, int32_t by);

  ModelDescription description;
  int32_t frequencies = model::kNone;
};

int32_t Builder::Attention(const std::string& name, int32_t x, bool windowed) {
  model::AttentionSpec spec;
  spec.query_heads = kQueryHeads;
  spec.key.heads = spec.value.heads = kKvHeads;
  spec.key.width = spec.value.width = kHeadWidth;
  spec.views = {{0, 0, 0}, {1, 0, 1}};
  // One fused matrix: query rows, then key rows, then value rows.
  const uint32_t q = kQueryHeads * kHeadWidth, kv = kKvHeads * kHeadWidth;
  model::WeightRef& query = spec.query.weight;
  query = Matrix(name + ".qkv", DType::kI4, q + 2 * kv, kChannels, 32, true);
  query.rows = q;
  spec.key.weight = {query.tensor, q, kv, query.bias};
  spec.value.weight = {query.tensor, q + kv, kv, query.bias};
  spec.output = Matrix(name + ".o", DType::kI8, kChannels, q);
  spec.query.norm = Norm(name + ".q_norm", kHeadWidth);
  spec.key.norm = Norm(name + ".k_norm", kHeadWidth);
  spec.query.rope.dims = 8;
  spec.query.rope.inverse_frequencies = frequencies;
  spec.key.rope = spec.query.rope;
  spec.head_map = {0, 0, 1, 1};
  spec.scale = 0.35f;
  if (windowed) {
    spec.left = 15;
    spec.sinks = 2;
    spec.softcap = 30.0f;
    spec.sink_logits = Tensor(name + ".sinks", DType::kF32, {kQueryHeads});
  }
  model::Op op;
  op.kind = OpKind::kAttention;
  op.attention = static_cast<int32_t>(description.attentions.size());
  description.attentions.push_back(spec);
  return Op(name, op, x, kChannels);
}

int32_t Builder::Mlp(const std::string& name, int32_t x) {
  model::Op op;
  op.kind = OpKind::kProjection;
  op.weight = Matrix(name + ".gate_up", DType::kI4, 2 * kInner, kChannels);
  const int32_t inner = Op(name + ".gate_up", op, x, 2 * kInner);
  op = {};
  op.kind = OpKind::kGatedActivation;
  op.activation = model::Activation::kGeluTanh;
  const int32_t gated = Op(name + ".act", op, inner, kInner);
  op = {};
  op.kind = OpKind::kProjection;
  op.weight = Matrix(name + ".down", DType::kF16, kChannels, kInner);
  return Op(name + ".down", op, gated, kChannels);
}

int32_t Builder::Mixture(const std::string& name, int32_t x) {
  model::MixtureSpec spec;
  spec.experts = kExperts;
  spec.chosen = kChosen;
  spec.inner = kInner;
  spec.router = Matrix(name + ".router", DType::kF16, kExperts, kChannels, 0, true);
  spec.gate_up = Matrix(name + ".gate_up", DType::kI4, kExperts * 2 * kInner, kChannels, 32, true);
  spec.down = Matrix(name + ".down", DType::kI8, kExperts * kChannels, kInner, 0, true);
  spec.score = model::ExpertScore::kSigmoid;
  spec.renormalise = true;
  spec.scale = 1.5f;
  spec.choice_bias = Tensor(name + ".choice_bias", DType::kF32, {kExperts});
  spec.groups = kGroups;
  spec.top_groups = 2;
  spec.group_best = 2;
  spec.activation = model::Activation::kQuickGelu;
  spec.limit = 2.0f;
  spec.up_offset = 1.0f;
  model::Op op;
  op.kind = OpKind::kMixture;
  op.mixture = static_cast<int32_t>(description.mixtures.size());
  description.mixtures.push_back(spec);
  return Op(name, op, x, kChannels);
}

// x * sigmoid(row . by)
int32_t Builder::Gated(const std::string& name, int32_t x, int32_t by) {
  model::Op op;
  op.kind = OpKind::kProjection;
  op.weight = Matrix(name + ".weight", DType::kF16, 1, kChannels);
  const int32_t logit = Op(name + ".weight", op, by, 1);
  op = {};
  op.kind = OpKind::kActivation;
  op.activation = model::Activation::kSigmoid;
  const int32_t factor = Op(name + ".sigmoid", op, logit, 1);
  op = {};
  op.kind = OpKind::kMultiply;
  op.inputs[1] = factor;
  return Op(name + ".multiply", op, x, kChannels);
}

int32_t Builder::Layer(const std::string& name, int32_t x, bool windowed) {
  model::Op op;
  op.kind = OpKind::kNorm;
  op.norm = Norm(name + ".norm1", kChannels);
  const int32_t normed = Op(name + ".norm1", op, x, kChannels);
  x = Residual(name + ".add1", x, Attention(name + ".attention", normed, windowed));
  op.norm = Norm(name + ".norm2", kChannels);
  const int32_t again = Op(name + ".norm2", op, x, kChannels);
  if (windowed) return Residual(name + ".add2", x, Mlp(name + ".mlp", again));
  const int32_t shared = Gated(name + ".shared", Mlp(name + ".shared", again), again);
  x = Residual(name + ".add_shared", x, shared);
  return Residual(name + ".add2", x, Mixture(name + ".mixture", again));
}

convert::TokenizerDescription TinyTokenizer() {
  convert::TokenizerDescription tokenizer;
  tokenizer.kind = model::TokenizerKind::kByteBpe;
  for (char c = 'a'; c <= 'z'; ++c) tokenizer.tokens.emplace_back(1, c);
  tokenizer.tokens.insert(tokenizer.tokens.end(), {" ", "th", "the", " the", "<begin>", "<end>"});
  tokenizer.merges = {{'t' - 'a', 'h' - 'a', 27}, {27, 'e' - 'a', 28}, {26, 28, 29}};
  tokenizer.special_tokens = {30, 31};
  tokenizer.splits = {{R"(\s?\p{L}+|\s)"}};
  tokenizer.end_tokens = {31};
  tokenizer.begin_token = 30;
  tokenizer.add_begin = true;
  tokenizer.chat_template = "{% for m in messages %}\n{{ m }}\n{% endfor %}";
  return tokenizer;
}

// Orthogonal matrices one below the other, none of them symmetric: x - 2 v (v . x) for one v, then
// for another.
std::vector<std::byte> Bases(const convert::TensorDescription& tensor, std::mt19937& random) {
  const uint32_t width = tensor.extents[1], rows = tensor.extents[0];
  std::normal_distribution<double> normal;
  std::vector<std::byte> out;
  for (uint32_t begin = 0; begin < rows; begin += width) {
    std::vector<std::vector<double>> basis(width, std::vector<double>(width, 0.0));
    for (uint32_t i = 0; i < width; ++i) basis[i][i] = 1.0;
    for (int reflection = 0; reflection < 2; ++reflection) {
      std::vector<double> v(width);
      double squares = 0;
      for (double& x : v) x = normal(random);
      for (const double x : v) squares += x * x;
      for (auto& row : basis) {
        double dot = 0;
        for (uint32_t i = 0; i < width; ++i) dot += v[i] * row[i];
        for (uint32_t i = 0; i < width; ++i) row[i] -= 2 * dot / squares * v[i];
      }
    }
    for (const auto& row : basis) {
      for (const double x : row) {
        const auto bytes = std::bit_cast<std::array<std::byte, 4>>(static_cast<float>(x));
        out.insert(out.end(), bytes.begin(), bytes.end());
      }
    }
  }
  return out;
}

// Elements or scales of one tensor.
std::vector<std::byte> Contents(const convert::TensorDescription& tensor, uint64_t bytes,
                                bool scales, std::mt19937& random) {
  if (!scales && tensor.name.find("basis") != std::string::npos) return Bases(tensor, random);
  std::vector<std::byte> out(bytes);
  std::uniform_real_distribution<float> value(-0.5f, 0.5f);
  const bool zeros = tensor.name.find("zeros") != std::string::npos;
  const bool frequencies = tensor.name.find("frequencies") != std::string::npos;
  const bool decays = tensor.name.find("log_decay") != std::string::npos;
  const auto next = [&](size_t i) {
    if (zeros) return 0.0f;
    if (decays) return -0.02f - std::abs(value(random));
    if (scales) return 0.01f + 0.01f * std::abs(value(random));
    return frequencies ? std::pow(10000.0f, -static_cast<float>(i) / 4.0f) : value(random);
  };
  const bool f32 =
      scales ? tensor.dtype == DType::kI8 || tensor.block == 0 : tensor.dtype == DType::kF32;
  if (f32) {
    for (size_t i = 0; i < bytes / 4; ++i) {
      const float x = next(i);
      std::memcpy(out.data() + 4 * i, &x, 4);
    }
  } else if (scales || tensor.dtype == DType::kF16) {
    for (size_t i = 0; i < bytes / 2; ++i) {
      const uint16_t x = scales ? FloatToBfloat(next(i)) : FloatToHalf(next(i));
      std::memcpy(out.data() + 2 * i, &x, 2);
    }
  } else {
    for (std::byte& b : out) b = static_cast<std::byte>(random() & 0xff);
  }
  return out;
}

void Check(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

constexpr size_t kAlignment = 64;

}  // namespace

ModelDescription TinyDescription() {
  Builder builder;
  builder.Value(0);  // the tokens
  builder.frequencies = builder.Tensor("rope.frequencies", DType::kF32, {4});
  model::Op op;
  op.kind = OpKind::kEmbedding;
  op.weight = builder.Matrix("embedding", DType::kI8, kVocabulary, kChannels);
  op.scale = 2.0f;
  const model::WeightRef table = op.weight;
  int32_t x = builder.Op("embedding", op, 0, kChannels);
  x = builder.Layer("layers.0", x, true);
  x = builder.Layer("layers.1", x, false);
  op = {};
  op.kind = OpKind::kNorm;
  op.norm = builder.Norm("norm", kChannels);
  x = builder.Op("norm", op, x, kChannels);
  op = {};
  op.kind = OpKind::kProjection;
  op.weight = table;
  x = builder.Op("logits", op, x, kVocabulary);
  op = {};
  op.kind = OpKind::kSoftcap;
  op.scale = 20.0f;
  builder.description.logits = builder.Op("softcap", op, x, kVocabulary);
  builder.description.tokenizer = TinyTokenizer();
  builder.description.sampling = {0.7f, 20, 0.9f, 0.05f, 1.1f};
  builder.description.metadata = {"tiny",           "Test", "Apache-2.0\n",
                                  "made by a test", 512,    kVocabulary};
  return std::move(builder.description);
}

AlignedBytes::AlignedBytes(size_t bytes) : bytes_(bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) throw std::bad_alloc();
  storage_.reset(static_cast<std::byte*>(memory));
  if (bytes != 0) std::memset(memory, 0, bytes);
}

AlignedBytes::AlignedBytes(std::span<const std::byte> bytes) : AlignedBytes(bytes.size()) {
  if (!bytes.empty()) std::memcpy(data(), bytes.data(), bytes.size());
}

Status WriteModel(const std::string& path, const ModelDescription& description) {
  HR_ASSIGN_OR_RETURN(convert::HrmWriter writer, convert::HrmWriter::Create(path, description));
  std::mt19937 random(7);
  for (size_t i = 0; i < description.tensors.size(); ++i) {
    const convert::TensorDescription& tensor = description.tensors[i];
    HR_RETURN_IF_ERROR(writer.Append(i, Contents(tensor, writer.data_bytes(i), false, random)));
    HR_RETURN_IF_ERROR(
        writer.AppendScales(i, Contents(tensor, writer.scale_bytes(i), true, random)));
  }
  return writer.Finish();
}

AlignedBytes WriteToMemory(const ModelDescription& description) {
  const TemporaryPath path("memory.hrm");
  Check(WriteModel(path.text(), description));
  std::ifstream file(path.text(), std::ios::binary);
  AlignedBytes bytes(std::filesystem::file_size(path.text()));
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw std::runtime_error("cannot read back " + path.text());
  return bytes;
}

const AlignedBytes& TinyFile() {
  static const AlignedBytes file = WriteToMemory(TinyDescription());
  return file;
}

OpenedFile::OpenedFile(const AlignedBytes& made) {
  const std::span<const std::byte> file = made.span();
  const Result<model::Header> header = model::ReadHeader(file);
  Check(header.status());
  fb::GetModel(file.data() + header.value().graph_offset)->UnPackTo(&graph);
  const auto tail = file.subspan(graph.segments.front().offset());
  payload.assign(tail.begin(), tail.end());
}

AlignedBytes OpenedFile::Assemble() const {
  const auto serialise = [](const fb::ModelT& model) {
    flatbuffers::FlatBufferBuilder builder;
    fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &model));
    return builder.Release();
  };
  flatbuffers::DetachedBuffer bytes = serialise(graph);
  uint64_t first = model::kSegmentAlignment;
  if (model::kHeaderBytes + bytes.size() > first) {
    fb::ModelT moved;
    fb::GetModel(bytes.data())->UnPackTo(&moved);
    first = RoundUp(model::kHeaderBytes + bytes.size(), model::kSegmentAlignment);
    for (fb::Segment& segment : moved.segments) {
      segment = fb::Segment(segment.offset() + first - model::kSegmentAlignment, segment.bytes(),
                            segment.checksum());
    }
    bytes = serialise(moved);
  }
  AlignedBytes file(first + payload.size());
  std::memcpy(file.data() + model::kHeaderBytes, bytes.data(), bytes.size());
  std::memcpy(file.data() + first, payload.data(), payload.size());
  model::Header header;
  header.graph_bytes = bytes.size();
  header.file_bytes = file.size();
  header.graph_checksum =
      model::Checksum(file.span().subspan(header.graph_offset, header.graph_bytes));
  model::WriteHeader(header, file.span().first<model::kHeaderBytes>());
  return file;
}

void FixChecksums(std::span<std::byte> file) {
  model::Header header;
  if (file.size() < model::kHeaderBytes) return;
  std::memcpy(&header.required_features, file.data() + 16, 8);
  std::memcpy(&header.graph_offset, file.data() + 24, 8);
  std::memcpy(&header.graph_bytes, file.data() + 32, 8);
  header.file_bytes = file.size();
  if (header.graph_offset > file.size() || header.graph_bytes > file.size() - header.graph_offset)
    return;
  header.graph_checksum = model::Checksum(file.subspan(header.graph_offset, header.graph_bytes));
  model::WriteHeader(header, file.first<model::kHeaderBytes>());
}

TemporaryPath::TemporaryPath(const std::string& name)
    : path_((std::filesystem::temp_directory_path() /
             ("headroom-" + std::to_string(getpid()) + "-" + name))
                .string()) {}

TemporaryPath::~TemporaryPath() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace headroom::test
