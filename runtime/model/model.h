// A model file as plain C++: what the loader hands to the planner. No FlatBuffers type leaves
// model/.
//
// Everything here has been verified when Model::Open* returns: indices are in range, extents agree
// with bytes, attributes are inside their limits, and every plan is one this build can execute
// (otherwise Open refuses by name with kUnsupported). Views point into the mapping, which the Model
// owns.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/platform.h"
#include "base/status.h"
#include "model/image.h"
#include "tensor/dims.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace headroom::model {

inline constexpr int32_t kNone = -1;              // absent tensor or value
inline constexpr uint32_t kMaxTokens = 1u << 30;  // positions fit int32 with room to add

// Rows [row_begin, row_begin + rows) of matrix `tensor`. Several references to adjacent rows of one
// tensor are one dense layer when executed (a fused q/k/v, a fused gate/up).
struct WeightRef {
  int32_t tensor = kNone;
  uint32_t row_begin = 0;
  uint32_t rows = 0;
  int32_t bias = kNone;  // f32 [rows of the whole tensor]
  bool present() const { return tensor != kNone; }
};

enum class NormKind : uint8_t { kRms, kLayer };
struct NormSpec {
  NormKind kind = NormKind::kRms;
  int32_t weight = kNone;  // f32 [width]; the "1 + w" form of Gemma is folded by the converter
  int32_t bias = kNone;    // f32 [width], kLayer only
  float epsilon = 1e-5f;
  // of queries and keys: over all heads together, weight [H * Dk], [G * Dk]
  bool whole_row = false;
  // Of an operation: equal parts of a row that are normed each by itself; the weight is as long as
  // a part where `shared`.
  uint32_t groups = 1;
  bool shared = false;
  bool present() const { return weight != kNone; }
};

enum class RopeLayout : uint8_t { kHalfSplit, kInterleaved };
// Frequencies are data: the converter has already applied llama3, YaRN or linear scaling.
struct RopeSpec {
  uint32_t dims = 0;    // rotated dimensions, even, <= head width; 0 = no rotation
  uint32_t offset = 0;  // first rotated dimension within the head
  RopeLayout layout = RopeLayout::kHalfSplit;
  int32_t inverse_frequencies = kNone;  // f32 [dims / 2], radians per position
  float attention_factor = 1.0f;        // multiplies cos and sin (YaRN)
};

enum class Activation : uint8_t {
  kSilu,
  kGeluErf,
  kGeluTanh,
  kRelu,
  kQuickGelu,
  kSigmoid,
  kTanh,
  kSoftplus,
  kExp,
  kEluPlus1,
  kReluSquared,
};

// A row vector per token and head that is cached.
struct StreamSpec {
  uint32_t heads = 0;  // 0: there is no such stream
  uint32_t width = 0;
  WeightRef weight;  // [heads * width, C]
  NormSpec norm;     // before RoPE; per head, or whole_row
  RopeSpec rope;
  // f32 [heads * width, width]: of each head an orthogonal matrix U. Rotated rows x are kept as
  // U^T x, and queries that meet them become U^T q.
  int32_t basis = kNone;
  bool ordered = false;  // by importance: a role may keep the first numbers of a row alone
  bool present() const { return heads != 0; }
};

// schema/headroom.fbs, Query, says what each kind computes.
enum class QueryKind : uint8_t { kDense, kLowRank, kGated };

// A matrix for every head, which neighbouring heads may share: head h has block h / (H / blocks).
// Blocks are neighbouring rows of one tensor.
struct HeadMatrix {
  WeightRef weight;     // [blocks * rows, columns]
  uint32_t blocks = 0;  // a divisor of H; 0: no matrix
  uint32_t rows = 0;    // of one
  bool present() const { return blocks != 0; }
};

// What is made of the input for each head: [a part that meets `key`][a part that meets `tail`].
struct QuerySpec {
  QueryKind kind = QueryKind::kDense;
  uint32_t width = 0;  // of a head
  WeightRef weight;    // what the input, or of kLowRank the normed low-rank row, is multiplied by
  WeightRef down;      // kLowRank: [rank, C]; kGated: [H * width, F]
  NormSpec down_norm;  // kLowRank; may be absent
  WeightRef gate, up;  // kGated: [F, rows of weight]
  Activation activation = Activation::kSilu;  // kGated
  NormSpec norm;                              // before RoPE; per head over its width, or whole_row
  RopeSpec rope;
  int32_t factors = kNone;  // f32 [width]: multiply the rotated query
  HeadMatrix matrix;        // makes the part for `key` as wide as a row of it
};

// Which heads of the streams make one row of keys and values. Heads without a stream are 0.
struct ViewHeads {
  uint16_t key = 0, tail = 0, value = 0;
  bool operator==(const ViewHeads&) const = default;
};

// One attention layer in its five parts (projection, store, view, mix, output), restricted to what
// this build executes.
struct AttentionSpec {
  // Projection. A key is a row of `key` followed by one of `tail` when there is one. Without heads
  // of `value`, values are the first value.width numbers of the rows of `key`.
  uint32_t query_heads = 0;  // H
  QuerySpec query;
  StreamSpec key, tail, value;
  HeadMatrix value_matrix;  // multiplies what a head has mixed
  HeadMatrix key_matrix;    // query.matrix turned round: makes a head's keys of a latent, or absent
  WeightRef output;         // absent: what the heads have mixed, as it is
  std::vector<ViewHeads> views;    // [G]: the KV heads as queries see them
  std::vector<uint16_t> head_map;  // [H]: view read by each query head
  // An earlier attention whose rows of keys and values this one reads; its streams have no weights.
  int32_t source_attention = kNone;
  uint32_t kv_heads() const { return static_cast<uint32_t>(views.size()); }  // G
  uint32_t key_width() const { return key.width + tail.width; }              // Dk
  uint32_t value_width() const { return value.width; }                       // Dv
  // Of a head's query between its projection and its matrix.
  uint32_t query_part() const { return query.width - tail.width; }
  // Of a head as the output projection reads it.
  uint32_t mixed_width() const {
    return value_matrix.present() ? value_matrix.rows : value_width();
  }
  uint32_t output_width() const {
    return output.present() ? output.rows : query_heads * mixed_width();
  }
  // View
  uint32_t left = kUnlimited;  // rows visible before self, excluding self
  uint32_t sinks = 0;          // first rows that stay visible whatever the window
  // Mix
  float scale = 1.0f;
  float softcap = 0.0f;         // 0 = none
  int32_t sink_logits = kNone;  // f32 [H], learned sinks
};

// How long the rows of a KV head stay.
enum class Retention : uint8_t {
  kAsViewed,     // as long as the view can see them
  kWindow,       // the first `sinks` and the last `rows` (StreamingLLM, DuoAttention)
  kCompensated,  // the same, and one row that stands for all others (RazorAttention)
  kAccumulated,  // the `rows` that got most weight from all queries so far (H2O)
  kObserved,     // the `rows` that got most weight from the last `observe` queries (SnapKV)
};

// How the rows of a KV head are kept. What a file says is a choice for the session, not part of
// what the model computes.
struct RoleSpec {
  RowCodec keys = RowCodec::kF16, values = RowCodec::kF16;
  uint32_t exact_rows = 0;  // first positions, in f16
  bool rotate = false;      // by a Walsh-Hadamard matrix before rows are rounded
  Retention retention = Retention::kAsViewed;
  uint32_t sinks = 0;  // first positions that never leave
  // That stay: of a window those behind the sinks, of votes all. At least `share` of the context.
  uint32_t rows = 0;
  float share = 0.0f;
  uint32_t observe = 0;   // newest queries that vote; their rows stay
  uint32_t pool = 1;      // neighbouring rows share their votes
  bool pool_max = false;  // by their largest, else by their mean
  // First numbers of a row that are kept, multiples of kRankStep; 0: all.
  uint32_t key_rank = 0, value_rank = 0;
  bool relative = false;  // kWindow: positions are places among the rows kept (StreamingLLM)
  bool operator==(const RoleSpec&) const = default;
};

inline constexpr uint32_t kRankStep = 8;
inline constexpr uint32_t kMaxBasisWidth = 512;
inline constexpr uint32_t kMaxObserved = 256;
inline constexpr uint32_t kMaxPool = 63;

// What a quality counts.
enum class Metric : uint8_t { kPerplexity = 1, kAccuracy, kKlDivergence, kRecall };
constexpr bool LargerIsBetter(Metric metric) {
  return metric == Metric::kAccuracy || metric == Metric::kRecall;
}

struct QualitySpec {  // a measurement of a profile; `reference`: with nothing compressed
  std::string_view task;
  Metric metric = Metric::kAccuracy;
  uint32_t context_tokens = 0;
  float value = 0.0f, reference = 0.0f;
};

// A named choice of roles, for every KV head of every attention.
struct ProfileSpec {
  std::string_view name;
  std::vector<std::vector<uint8_t>> roles;  // [attention][KV head] into Model::roles
  std::vector<QualitySpec> quality;
};

// What turns router logits into weights: a softmax over all experts or over the chosen ones, or a
// sigmoid of each.
enum class ExpertScore : uint8_t { kSoftmax, kChosenSoftmax, kSigmoid };

inline constexpr uint32_t kMaxExperts = 1u << 12;
inline constexpr uint32_t kMaxChosen = 1u << 8;  // experts a token

// A routed mixture of experts: schema/headroom.fbs, MixtureOp, says what it computes.
struct MixtureSpec {
  WeightRef router;         // [E, C]
  WeightRef gate_up, down;  // E blocks of 2F and of C rows
  uint32_t experts = 0;     // E
  uint32_t chosen = 0;      // experts a token, <= E
  uint32_t inner = 0;       // F
  ExpertScore score = ExpertScore::kSoftmax;
  bool renormalise = false;
  float scale = 1.0f;
  int32_t choice_bias = kNone;  // f32 [E]
  uint32_t groups = 1, top_groups = 1, group_best = 1;
  Activation activation = Activation::kSilu;
  float limit = 0.0f;  // 0: none
  float up_offset = 0.0f;
};

// What makes a decay: see attention/linear_mix.h and schema/headroom.fbs, LinearAttentionOp. In the
// schema's order, as updates are.
enum class DecayKind : uint8_t {
  kNone,
  kHeadConstant,
  kHeadDynamic,
  kChannelConstant,
  kChannelDynamic,
  kDeltaTimesA,
};
enum class StateUpdate : uint8_t { kAdditive, kDeltaDecayed, kDeltaUndecayed };

inline constexpr uint32_t kMaxStateWidth = 512;  // K
inline constexpr uint32_t kMaxKernel = 8;        // taps of a causal convolution

// Linear attention: a state [K, V] a head.
struct LinearSpec {
  uint32_t key_heads = 0;    // G
  uint32_t heads = 0;        // H
  uint32_t key_width = 0;    // K
  uint32_t value_width = 0;  // V
  DecayKind decay = DecayKind::kNone;
  int32_t log_decay = kNone;  // f32: kHeadConstant [H], kChannelConstant [H * K], kDeltaTimesA
                              // [K, H * V]
  StateUpdate update = StateUpdate::kAdditive;
  int32_t bonus = kNone;  // f32 [H * K]: read before the update
  bool sum_keys = false;
  float epsilon = 0.0f;  // of sum_keys
};

// Inputs of an operation, by their place. kLinearAttention has a place for each, kNone where
// absent.
inline constexpr int kMostInputs = 7;
enum LinearInput { kQueries, kKeys, kValues, kLogDecay, kStrength, kRemovalKeys, kWriteKeys };

enum class OpKind : uint8_t {
  kEmbedding,        // tokens [T] -> [T, C]; weight, scale
  kNorm,             // [T, C] -> [T, C]; norm
  kProjection,       // [T, K] -> [T, N]; weight
  kAttention,        // [T, C] -> [T, C]; attention
  kGatedActivation,  // [T, 2F] -> [T, F]: act(first half) * second half
  kActivation,       // [T, F] -> [T, F]
  kAdd,              // two inputs of one shape
  kScale,            // multiply by `scale`
  kSoftcap,          // scale * tanh(x / scale)
  // tokens [T] -> [T, C]: row `position` of weight, which has metadata.context_tokens rows or more
  kPositionEmbedding,
  kMixture,      // [T, C] -> [T, C]; mixture
  kMultiply,     // [T, C], [T, 1] or [T, C] -> [T, C]: each row by its factor, or number by number
  kMultiplyAdd,  // [T, C] -> [T, C]: x * factor + addend; see factor, addend
  kHeadProduct,  // three of [T, C] -> [T, C]: of each of `heads` parts dot(first, second) * third
  kConvolution,  // [T, C] -> [T, C]: causal, of each column by itself; see kernel
  kLinearAttention,  // see LinearInput; linear
};

struct Op {
  OpKind kind = OpKind::kAdd;
  int32_t inputs[kMostInputs] = {kNone, kNone, kNone, kNone, kNone, kNone, kNone};
  int32_t output = kNone;
  WeightRef weight;
  NormSpec norm;
  Activation activation = Activation::kSilu;
  float scale = 1.0f;
  int32_t attention = kNone;  // index into Model::attentions
  int32_t mixture = kNone;    // index into Model::mixtures
  int32_t linear = kNone;     // index into Model::linears
  // kMultiplyAdd: f32 [C], else an input behind x; kConvolution: weight f32 [kernel, C], addend is
  // its bias [C] or kNone.
  int32_t factor = kNone, addend = kNone;
  uint32_t kernel = 0;     // kConvolution: taps, the last is the token's own
  bool activated = false;  // kConvolution: by `activation`
  uint32_t heads = 0;      // kHeadProduct
  std::string_view name;   // for people: "layers.7.attention"; may be empty
};

// Every value is [T, width] f32, except value 0: the token ids [T].
struct Value {
  uint32_t width = 0;
};

enum class TokenizerKind : uint8_t { kNone, kByteBpe, kCharacterBpe, kUnigram, kLongest };

// As a person calls it.
constexpr const char* TokenizerKindName(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kNone:
      return "none";
    case TokenizerKind::kByteBpe:
      return "byte-level BPE";
    case TokenizerKind::kCharacterBpe:
      return "SentencePiece BPE";
    case TokenizerKind::kUnigram:
      return "SentencePiece unigram";
    case TokenizerKind::kLongest:
      return "longest match";
  }
  return "unknown";
}

// id -> bytes (already decoded from byte glyphs), straight from the mapping: the table costs no
// heap.
class TokenTable {
 public:
  TokenTable() = default;
  // Token i is bytes [i == 0 ? 0 : ends[i - 1], ends[i]). Both borrowed; `ends` does not decrease.
  TokenTable(std::span<const uint32_t> ends, const char* bytes) : ends_(ends), bytes_(bytes) {}

  size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }
  // Precondition: id < size().
  std::string_view operator[](size_t id) const {
    const uint32_t begin = id == 0 ? 0 : ends_[id - 1];
    return {bytes_ + begin, ends_[id] - begin};
  }

 private:
  std::span<const uint32_t> ends_;
  const char* bytes_ = nullptr;
};

// tokens[result] is tokens[left] followed by tokens[right]; the loader has compared the bytes.
struct Merge {
  uint32_t left = 0;
  uint32_t right = 0;
  uint32_t result = 0;
};

// Where a space is put in front of text that has none of its own in the vocabulary's eyes.
enum class NormalForm : uint8_t { kAsIs, kNfc, kNfd, kNfkc, kNfkd };
enum class SpacePrefix : uint8_t {
  kNone,
  kAlways,  // of the text between special tokens, also where it begins with a space
  kFirst,   // of the whole input, unless it begins with a space
};

// A token matched verbatim, with more to say about it than special_tokens can.
struct AddedToken {
  uint32_t token = 0;
  std::string_view text;    // empty: the token's own bytes
  bool special = false;     // may be switched off, and is never made from other text
  bool normalised = false;  // matched after spaces are mapped and prefixed
  bool strip_left = false, strip_right = false;  // takes white space on that side along
  bool single_word = false;  // matched only where nothing of a word stands beside it
};

// One step of bringing text into the form that its pieces have.
enum class NormalStepKind : uint8_t {
  kNormalForm,  // `form`
  kReplace,     // each match of `pattern` by `text`
  kPrepend,     // `text`, unless the text is empty
  kStrip,       // white space on the `left`, on the `right`
  kLowercase,
  kCharsmap,  // SentencePiece's table, as schema/headroom.fbs has it
};
struct NormalStep {
  NormalStepKind kind = NormalStepKind::kNormalForm;
  NormalForm form = NormalForm::kAsIs;
  std::string_view pattern, text, charsmap;
  bool left = false, right = false, graphemes = false;
};

// One cut of text into pieces, by a PCRE2 pattern.
enum class SplitBehaviour : uint8_t {
  kIsolated,            // a match is a piece
  kRemoved,             // a match is left out
  kMergedWithPrevious,  // a match belongs to what is before it
  kMergedWithNext,
  kContiguous,  // neighbouring matches are one piece
};
struct Split {
  std::string_view pattern;  // empty: no cut, here spaces are mapped and prefixed
  SplitBehaviour behaviour = SplitBehaviour::kIsolated;
  bool invert = false;  // what does not match counts as a match
};

// Enough to rebuild the tokenizer without any other file. Views into the mapping.
struct TokenizerSpec {
  TokenizerKind kind = TokenizerKind::kNone;
  TokenTable tokens;                     // size() <= vocabulary
  std::span<const Merge> merges;         // in rank order
  std::vector<uint32_t> special_tokens;  // ids matched verbatim, never merged
  std::vector<Split> splits;             // applied in order; may be empty
  std::vector<uint32_t> end_tokens;      // may be set although kind is kNone
  int32_t begin_token = kNone;           // prepended when add_begin
  bool add_begin = false;
  bool add_prefix_space = false;
  std::vector<NormalStep> normal_steps;  // applied in order; may be empty
  bool ignore_merges = false;  // a pre-token that is itself in the vocabulary is not merged
  std::string_view chat_template;
  std::string_view chat_format;  // name of the runtime's format that the template is; or empty
  // Vocabularies of SentencePiece. Their sign for a space stands as a space in `tokens`.
  std::string_view space;  // that sign: read as a space wherever text has it; empty: no such sign
  SpacePrefix space_prefix = SpacePrefix::kNone;
  uint32_t strip_spaces = 0;  // leading spaces of a text's first token that are not shown
  std::vector<AddedToken> added_tokens;
  std::span<const uint32_t> byte_tokens;  // kCharacterBpe and kUnigram: 256 or none
  bool fuse_unknown = false;              // kCharacterBpe: one unknown token for a run
  int32_t unknown_token = kNone;
  // kUnigram: one of the two has a score for each token.
  std::span<const float> scores;
  std::span<const double> double_scores;
};

// What the model's authors recommend for sampling; zero means not stated.
struct SamplingHints {
  float temperature = 0.0f;
  uint32_t top_k = 0;
  float top_p = 0.0f;
  float min_p = 0.0f;
  float repetition_penalty = 0.0f;
};

struct Metadata {
  std::string_view name, architecture, license, source;
  uint32_t context_tokens = 0;  // trained maximum
  uint32_t vocabulary = 0;      // V
};

// What a tensor's elements were made of.
struct TensorOrigin {
  std::string_view source_type;  // empty: not stated
  float error = -1.0f;           // relative RMS distance from the source; < 0: not measured
};

struct OpenOptions {
  bool verify_checksums = false;  // read every segment and compare; open is otherwise lazy
  Log log;
  // Called with a fraction 0..1 while checksums run; returning false cancels.
  bool (*progress)(void* user_data, float fraction) = nullptr;
  void* progress_user_data = nullptr;
};

class Model {
 public:
  // Errors: kNotFound, kIo, kCorrupt, kNewerFormat (names the required feature), kUnsupported
  // (names the plan, operation or type), kCancelled, kInvalidArgument (window or alignment).
  static Result<std::unique_ptr<Model>> OpenPath(const char* path, const OpenOptions& options);
  // `offset` must be a multiple of 64; length 0 means to the end. `fd` is borrowed for the call
  // only.
  static Result<std::unique_ptr<Model>> OpenFd(int fd, uint64_t offset, uint64_t length,
                                               const OpenOptions& options);
  // `data` must stay valid and unchanged while the model lives, and be 64-byte aligned.
  static Result<std::unique_ptr<Model>> OpenMemory(const void* data, uint64_t bytes,
                                                   const OpenOptions& options);

  struct Segment {
    const std::byte* data;
    uint64_t bytes;
    uint64_t checksum;
  };

  std::vector<Segment> segments;
  std::vector<TensorView> tensors;
  std::vector<TensorOrigin> origins;  // of the tensors, by index
  std::vector<Value> values;          // values[0]: token ids
  std::vector<Op> ops;                // in execution order
  std::vector<AttentionSpec> attentions;
  std::vector<MixtureSpec> mixtures;  // in order of their operations
  std::vector<LinearSpec> linears;    // likewise
  std::vector<RoleSpec> roles;
  std::vector<ProfileSpec> profiles;  // best quality first
  int32_t logits = kNone;             // value [T, V]
  ImageGraph image;                   // of a vision model, in place of all from `values` on
  TokenizerSpec tokenizer;
  SamplingHints sampling;
  Metadata metadata;
  // Reads every segment and compares its checksum, then checks that every scale is finite; once, so
  // that a second call costs nothing. Pages are given back while reading. Errors: kCorrupt,
  // kCancelled.
  Status VerifyContent(bool (*progress)(void* user_data, float fraction), void* user_data);
  // Gives back the pages of a mapped file that were read in passing: whoever reads a piece may
  // bring in what lies around it. They come back when they are read again.
  void ReleaseContent() const;

  uint64_t file_bytes = 0;
  // XXH3-64 of the 64-byte header, which holds the graph's checksum, which holds every segment's:
  // two files with one digest hold the same model.
  uint64_t digest = 0;

 private:
  static Result<std::unique_ptr<Model>> OpenMapping(platform::FileMapping mapping,
                                                    const OpenOptions& options);
  platform::FileMapping mapping_;
  bool mapped_ = false;    // pages may be dropped and come back
  bool verified_ = false;  // VerifyContent has passed
};

}  // namespace headroom::model
