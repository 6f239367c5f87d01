// Writes .hrm files. The converter, the tests and the seeds of the fuzzer use it; it says
// everything that model/model.h can express and checks little: what it wrote is for the loader to
// judge.
//
//   HrmWriter writer = HrmWriter::Create("out.hrm", description);   // lays the file out, reserves
//   the disk for each tensor: writer.Append(i, chunk) ...; writer.AppendScales(i, chunk) ...;
//   writer.Finish();                                                // checksums, header, rename
//
// The file appears under its name only in Finish. Tensors may be written in any order and
// interleaved; memory stays small because pages are written back and dropped as they fill. Not
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace headroom::convert {

struct TensorDescription {
  std::string name;
  DType dtype = DType::kF32;
  uint16_t block = 0;             // kI4 only: 0, 32, 64, 128
  std::vector<uint32_t> extents;  // [N, K] or [N]
  std::string source_type = {};   // what the elements are made of; empty: not stated
};

// AddedToken::text of `token` is ignored: `text` owns it.
struct AddedTokenDescription {
  model::AddedToken token;
  std::string text;
};

// The views of `step` are ignored: the texts are owned here.
struct NormalStepDescription {
  model::NormalStep step;
  std::string pattern = {}, text = {}, charsmap = {};
};

struct SplitDescription {
  std::string pattern;  // empty: spaces are mapped and prefixed here
  model::SplitBehaviour behaviour = model::SplitBehaviour::kIsolated;
  bool invert = false;
};

struct TokenizerDescription {
  model::TokenizerKind kind = model::TokenizerKind::kNone;
  std::vector<std::string> tokens;   // id -> bytes
  std::vector<model::Merge> merges;  // rank order; the result's bytes must be the halves' joined
  std::vector<uint32_t> special_tokens;
  std::vector<SplitDescription> splits;
  std::vector<uint32_t> end_tokens;
  int32_t begin_token = model::kNone;
  bool add_begin = false;
  bool add_prefix_space = false;
  bool ignore_merges = false;
  std::vector<NormalStepDescription> normal_steps;
  std::string chat_template;
  std::string chat_format;
  // As in model::TokenizerSpec.
  std::string space;
  model::SpacePrefix space_prefix = model::SpacePrefix::kNone;
  uint32_t strip_spaces = 0;
  std::vector<AddedTokenDescription> added_tokens;
  std::vector<uint32_t> byte_tokens;
  int32_t unknown_token = model::kNone;
  bool fuse_unknown = false;
  std::vector<double> scores;  // stored as floats where that loses nothing
};

struct MetadataDescription {
  std::string name, architecture, license, source;
  uint32_t context_tokens = 0;
  uint32_t vocabulary = 0;
};

// Op::name of `op` is ignored: `name` owns it.
struct OpDescription {
  model::Op op;
  std::string name;
};

// ImageOp::name of `op` is ignored: `name` owns it. Weights are whole tensors.
struct ImageOpDescription {
  model::ImageOp op;
  std::string name;
};

// As model::ImageGraph.
struct ImageDescription {
  std::vector<model::ImageValue> values;  // [0] stands for the pictures
  std::vector<ImageOpDescription> ops;
  int32_t logits = model::kNone, features = model::kNone;
  model::PreprocessSpec preprocess;
  std::vector<std::string> labels;
  bool empty() const { return values.empty(); }
};

struct ModelDescription {
  std::vector<TensorDescription> tensors;
  std::vector<model::Value> values;  // [0] stands for the token ids
  std::vector<OpDescription> ops;
  std::vector<model::AttentionSpec> attentions;
  std::vector<model::MixtureSpec> mixtures;
  std::vector<model::LinearSpec> linears;
  int32_t logits = model::kNone;
  ImageDescription image;  // of a vision model, in place of all from `values` to here
  TokenizerDescription tokenizer;
  model::SamplingHints sampling;
  MetadataDescription metadata;
};

class HrmWriter {
 public:
  // Errors: kInvalidArgument (a tensor that cannot exist, a merge whose result is no token), kIo.
  static Result<HrmWriter> Create(const std::string& path, const ModelDescription& description);
  // A file that says all of this and whose tensors are a hole: for looking at what would be, and
  // planning with it. Takes no disk but the graph's. Returns its length. Errors: as Create.
  static Result<uint64_t> WriteOutline(const std::string& path,
                                       const ModelDescription& description);
  HrmWriter(HrmWriter&&) noexcept;
  HrmWriter& operator=(HrmWriter&&) noexcept;
  ~HrmWriter();  // without Finish, nothing is left behind

  // What the tensor takes in all; see model::TensorBytesOf.
  uint64_t data_bytes(size_t tensor) const;
  uint64_t scale_bytes(size_t tensor) const;
  uint64_t file_bytes() const;

  // The next bytes of the tensor's elements or scales. kInvalidArgument when more than it takes.
  Status Append(size_t tensor, std::span<const std::byte> bytes);
  Status AppendScales(size_t tensor, std::span<const std::byte> bytes);

  // Of a tensor with a source type: its relative RMS distance from it, >= 0.
  void SetSourceError(size_t tensor, float error);

  // kWrongState when a tensor is incomplete (names it).
  Status Finish();

 private:
  HrmWriter();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headroom::convert
