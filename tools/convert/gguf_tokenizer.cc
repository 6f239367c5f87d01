#include "convert/gguf_tokenizer.h"

#include "convert/rwkv_vocabulary.h"

#include <algorithm>
#include <array>
#include <optional>

#include "convert/json_file.h"
#include "convert/sentencepiece_model.h"

namespace headroom::convert {
namespace {

// ---- what llama.cpp's names of pre-tokenizers stand for (src/llama-vocab.cpp), in the patterns
// that the tokenizer.json of those models has

constexpr const char* kDigit = R"(\p{N})";
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr const char* kThreeDigits = R"(\p{N}{1,3})";
constexpr const char* kKanaOrHan = R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
constexpr const char* kDeepSeek3Pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kNewline = R"([\r\n])";
constexpr const char* kSpacedLetters = R"(\s?\p{L}+)";
constexpr const char* kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr const char* kHanToHangul = R"([\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
constexpr const char* kFalconPunctuation = R"([\p{P}$+<=>^~|`]+)";
constexpr const char* kThreeAsciiDigits = "[0-9][0-9][0-9]";

struct PreTokenizer {
  std::string_view name;
  std::array<const char*, 5> patterns;
  bool ignore_merges = false;
  bool add_begin = false;  // where the file does not say
  bool nfc = false;        // likewise: text is brought into normal form C
};

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", {kGpt2Pattern}},
    {"phi-2", {kGpt2Pattern}},
    {"mpt", {kGpt2Pattern}, false, false, true},
    {"olmo", {kGpt2Pattern}, false, false, true},
    {"jais", {kGpt2Pattern}},
    {"starcoder", {kDigit, kGpt2Pattern}},
    {"refact", {kDigit, kGpt2Pattern}},
    {"command-r", {kDigit, kGpt2Pattern}, false, false, true},
    {"smollm", {kDigit, kGpt2Pattern}},
    {"codeshell", {kDigit, kGpt2Pattern}},
    {"exaone", {kDigit, kGpt2Pattern}},
    {"minerva-7b", {kDigit, kGpt2Pattern}},
    {"llama3", {kLlama3Pattern}, true, true},
    {"llama-v3", {kLlama3Pattern}, true, true},
    {"llama-bpe", {kLlama3Pattern}, true, true},
    {"falcon3", {kLlama3Pattern}, true, true},
    {"dbrx", {kLlama3Pattern}},
    {"smaug-bpe", {kLlama3Pattern}},
    {"qwen2", {kQwen2Pattern}, false, false, true},
    {"deepseek-r1-qwen", {kQwen2Pattern}, false, false, true},
    {"stablelm2", {kQwen2Pattern}},
    {"hunyuan", {kQwen2Pattern}},
    {"tekken", {kTekkenPattern}, true, true},
    {"gpt-4o", {kGpt4oPattern}},
    {"llama4", {kGpt4oPattern}},
    {"deepseek-v3", {kThreeDigits, kKanaOrHan, kDeepSeek3Pattern}},
    {"deepseek-coder", {kNewline, kSpacedLetters, kSpacedPunctuation, kHanToHangul, kDigit}},
    {"falcon", {kFalconPunctuation, kGpt2Pattern, kThreeAsciiDigits}},
};

// Keys that do not change ids, or are read elsewhere.
constexpr std::string_view kNeutralKeys[] = {"bos_token_id",
                                             "eos_token_id",
                                             "eot_token_id",
                                             "eom_token_id",
                                             "unknown_token_id",
                                             "seperator_token_id",
                                             "padding_token_id",
                                             "mask_token_id",
                                             "cls_token_id",
                                             "fim_pre_token_id",
                                             "fim_suf_token_id",
                                             "fim_mid_token_id",
                                             "fim_pad_token_id",
                                             "fim_rep_token_id",
                                             "fim_sep_token_id",
                                             "prefix_token_id",
                                             "suffix_token_id",
                                             "middle_token_id",
                                             "add_bos_token",
                                             "add_space_prefix",
                                             "model",
                                             "pre",
                                             "tokens",
                                             "token_type",
                                             "scores",
                                             "merges",
                                             "remove_extra_whitespaces",
                                             "precompiled_charsmap",
                                             "token_type_count",
                                             "normalizer.nfc"};
// Keys that say true only where ids would differ in a way that nothing here executes.
constexpr std::string_view kFalseOnlyKeys[] = {"add_eos_token", "add_sep_token",
                                               "normalizer.lowercase", "normalizer.strip_accents"};

// Tokens that end a turn whatever the metadata names.
constexpr std::string_view kTurnEnds[] = {"<|eot_id|>", "<|im_end|>",    "<|end|>",
                                          "<|eom_id|>", "<end_of_turn>", "<|endoftext|>"};

constexpr std::string_view kPrefix = "tokenizer.ggml.";

class TokenizerReader {
 public:
  TokenizerReader(const GgufFile& gguf, uint32_t vocabulary, const std::string& what)
      : gguf_(gguf), vocabulary_(vocabulary), what_(what) {}

  Result<ParsedTokenizer> Read() {
    const std::string model = GgufText(gguf_, "tokenizer.ggml.model");
    if (model.empty() || model == "none" || model == "no_vocab") return ParsedTokenizer();
    HR_RETURN_IF_ERROR(CheckKeys());
    HR_RETURN_IF_ERROR(ReadTokens());
    if (model == "gpt2") return ByteLevel();
    if (model == "llama") return SentencePiece(SentencePieceModel::Kind::kBpe);
    if (model == "t5") return SentencePiece(SentencePieceModel::Kind::kUnigram);
    if (model == "rwkv") return LongestMatch();
    return Unsupported("model", "\"" + Printable(model) + "\"");
  }

  // An id under a key: nothing when absent, kCorrupt beyond the vocabulary.
  Result<std::optional<uint32_t>> Id(const char* key) const {
    const GgufValue* value = Find(key);
    if (!value) return std::optional<uint32_t>();
    const std::vector<double> numbers =
        value->is_array() ? std::vector<double>() : value->Numbers();
    if (numbers.empty() || !(numbers[0] >= 0 && numbers[0] < vocabulary_)) {
      return Corrupt(std::string(kPrefix) + key + " is no token below " +
                     std::to_string(vocabulary_));
    }
    return std::optional<uint32_t>(static_cast<uint32_t>(numbers[0]));
  }

 private:
  Status Corrupt(const std::string& fact) const {
    return Status::Make(StatusCode::kCorrupt, "%s: %s", what_.c_str(), fact.c_str());
  }
  Status Unsupported(const std::string& key, const std::string& value) const {
    return RefuseTokenizer(what_, std::string(kPrefix) + Printable(key) + " " + value);
  }

  const GgufValue* Find(std::string_view key) const {
    return gguf_.Find(std::string(kPrefix) + std::string(key));
  }

  bool Is(std::string_view key, bool otherwise) const {
    const GgufValue* value = Find(key);
    return value && !value->is_array() && value->type() == GgufType::kBool
               ? value->Numbers()[0] != 0
               : otherwise;
  }

  Status CheckKeys() const {
    for (const auto& [key, value] : gguf_.metadata) {
      if (!key.starts_with(kPrefix)) continue;
      const std::string_view name = std::string_view(key).substr(kPrefix.size());
      const auto among = [&](const auto& keys) {
        return std::find(std::begin(keys), std::end(keys), name) != std::end(keys);
      };
      if (among(kFalseOnlyKeys)) {
        if (Is(name, false)) return Unsupported(std::string(name), "true");
      } else if (!among(kNeutralKeys)) {
        return Unsupported(std::string(name), "may change ids and");
      }
    }
    return {};
  }

  static bool HasType(const GgufValue& list, std::initializer_list<GgufType> types) {
    return list.is_array() && std::find(types.begin(), types.end(), list.type()) != types.end();
  }

  // A list under `key`, one item a token; empty when there is none.
  Result<std::vector<double>> NumbersOf(const char* key,
                                        std::initializer_list<GgufType> types) const {
    const GgufValue* value = Find(key);
    if (!value) return std::vector<double>();
    if (!HasType(*value, types))
      return Corrupt(std::string(kPrefix) + key + " is no list of the numbers it should be");
    if (value->count() != tokens_.size()) {
      return Corrupt(std::string(kPrefix) + key + " has " + std::to_string(value->count()) +
                     " numbers for " + std::to_string(tokens_.size()) + " tokens");
    }
    return value->Numbers();
  }

  Status ReadTokens() {
    const GgufValue* tokens = Find("tokens");
    if (!tokens || !tokens->is_array() || tokens->type() != GgufType::kText)
      return Corrupt("lacks tokenizer.ggml.tokens");
    if (tokens->count() > vocabulary_) {
      return Corrupt(std::to_string(tokens->count()) + " tokens > vocabulary " +
                     std::to_string(vocabulary_));
    }
    tokens_ = tokens->Texts();
    HR_ASSIGN_OR_RETURN(types_, NumbersOf("token_type", {GgufType::kI32, GgufType::kU32}));
    if (types_.empty()) types_.assign(tokens_.size(), static_cast<double>(PieceType::kNormal));
    for (size_t id = 0; id < types_.size(); ++id) {
      if (types_[id] >= 1 && types_[id] <= 6) continue;
      return Corrupt("token " + std::to_string(id) + " has type " +
                     std::to_string(static_cast<int64_t>(types_[id])));
    }
    return {};
  }

  PieceType TypeOf(size_t id) const { return static_cast<PieceType>(static_cast<int>(types_[id])); }

  // ---- byte-level BPE: as the tokenizer.json it once was

  Result<ParsedTokenizer> ByteLevel() {
    const std::string name = GgufText(gguf_, "tokenizer.ggml.pre");
    const auto pre = std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers),
                                  [&](const PreTokenizer& known) { return known.name == name; });
    if (pre == std::end(kPreTokenizers)) return Unsupported("pre", "\"" + Printable(name) + "\"");
    Json vocabulary = Json::object(), added = Json::array(), merges = Json::array();
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const std::string text(tokens_[id]);
      const PieceType type = TypeOf(id);
      if (type == PieceType::kUnused) continue;
      if (type != PieceType::kNormal && type != PieceType::kByte) {
        added.push_back({{"id", id},
                         {"content", text},
                         {"special", type != PieceType::kUserDefined},
                         {"normalized", false}});
      } else if (!vocabulary.emplace(text, id).second) {
        return Corrupt("two tokens read \"" + Printable(text) + "\"");
      }
    }
    const GgufValue* list = Find("merges");
    if (!list || list->type() != GgufType::kText) return Corrupt("lacks tokenizer.ggml.merges");
    for (const std::string_view merge : list->Texts()) merges.push_back(std::string(merge));
    Json splits = Json::array();
    for (const char* pattern : pre->patterns) {
      if (!pattern) continue;
      splits.push_back({{"type", "Split"},
                        {"pattern", {{"Regex", pattern}}},
                        {"behavior", "Isolated"},
                        {"invert", false}});
    }
    splits.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
    const Json normalizer = Is("normalizer.nfc", pre->nfc) ? Json{{"type", "NFC"}} : Json();
    const Json json = {{"added_tokens", std::move(added)},
                       {"normalizer", normalizer},
                       {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", splits}}},
                       {"decoder", {{"type", "ByteLevel"}}},
                       {"model",
                        {{"type", "BPE"},
                         {"ignore_merges", pre->ignore_merges},
                         {"vocab", std::move(vocabulary)},
                         {"merges", std::move(merges)}}}};
    HR_ASSIGN_OR_RETURN(ParsedTokenizer parsed, ParseTokenizer(json, vocabulary_, what_));
    parsed.tokenizer.add_prefix_space = Is("add_space_prefix", false);
    HR_ASSIGN_OR_RETURN(const auto begin, Id("bos_token_id"));
    if (begin) parsed.tokenizer.begin_token = static_cast<int32_t>(*begin);
    parsed.tokenizer.add_begin = begin && Is("add_bos_token", pre->add_begin);
    return parsed;
  }

  // ---- SentencePiece

  Result<ParsedTokenizer> SentencePiece(SentencePieceModel::Kind kind) {
    const bool is_bpe = kind == SentencePieceModel::Kind::kBpe;
    SentencePieceModel model;
    model.kind = kind;
    HR_ASSIGN_OR_RETURN(const std::vector<double> scores, NumbersOf("scores", {GgufType::kF32}));
    if (scores.empty()) return Corrupt("lacks tokenizer.ggml.scores");
    bool unknown = false;  // what pads a vocabulary has that type, too
    for (size_t id = 0; id < tokens_.size(); ++id) {
      const bool pads = unknown && TypeOf(id) == PieceType::kUnknown;
      unknown = unknown || TypeOf(id) == PieceType::kUnknown;
      model.pieces.push_back({std::string(tokens_[id]), static_cast<float>(scores[id]),
                              pads ? PieceType::kControl : TypeOf(id)});
      model.byte_fallback = model.byte_fallback || TypeOf(id) == PieceType::kByte;
    }
    model.add_dummy_prefix = Is("add_space_prefix", true);
    model.remove_extra_whitespaces = Is("remove_extra_whitespaces", false);
    if (const GgufValue* charsmap = Find("precompiled_charsmap")) {
      if (!HasType(*charsmap, {GgufType::kU8, GgufType::kI8}))
        return Corrupt("tokenizer.ggml.precompiled_charsmap is no list of bytes");
      model.precompiled_charsmap.assign(reinterpret_cast<const char*>(charsmap->bytes().data()),
                                        charsmap->bytes().size());
    }
    HR_ASSIGN_OR_RETURN(const auto begin, Id("bos_token_id"));
    if (begin) model.begin_token = static_cast<int32_t>(*begin);
    model.add_begin = begin && Is("add_bos_token", is_bpe);
    return MakeTokenizer(model, vocabulary_, what_);
  }

  // ---- RWKV's World: bytes as Python writes them, and token 0 ends a text

  Result<ParsedTokenizer> LongestMatch() {
    ParsedTokenizer parsed;
    parsed.tokenizer.kind = model::TokenizerKind::kLongest;
    parsed.tokenizer.tokens.resize(vocabulary_);
    for (size_t id = 0; id < tokens_.size(); ++id) {
      if (TypeOf(id) != PieceType::kNormal && TypeOf(id) != PieceType::kUserDefined) continue;
      auto bytes = UnescapePython(tokens_[id], false);
      if (!bytes.ok()) return Corrupt("token " + std::to_string(id) + ": no escape of Python's");
      parsed.tokenizer.tokens[id] = bytes.Take();
    }
    return parsed;
  }

  const GgufFile& gguf_;
  const uint32_t vocabulary_;
  const std::string& what_;
  std::vector<std::string_view> tokens_;
  std::vector<double> types_;
};

}  // namespace

Result<ParsedTokenizer> ReadGgufTokenizer(const GgufFile& gguf, uint32_t vocabulary,
                                          const std::string& what) {
  return TokenizerReader(gguf, vocabulary, what).Read();
}

Result<std::vector<uint32_t>> ReadGgufEndTokens(const GgufFile& gguf, uint32_t vocabulary,
                                                const std::string& what) {
  std::vector<uint32_t> ends;
  const auto add = [&](uint32_t id) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  const TokenizerReader reader(gguf, vocabulary, what);
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    HR_ASSIGN_OR_RETURN(const auto id, reader.Id(key));
    if (id) add(*id);
  }
  const GgufValue* tokens = gguf.Find("tokenizer.ggml.tokens");
  if (!tokens || tokens->count() > vocabulary) return ends;
  uint32_t id = 0;
  for (const std::string_view token : tokens->Texts()) {
    if (std::find(std::begin(kTurnEnds), std::end(kTurnEnds), token) != std::end(kTurnEnds))
      add(id);
    ++id;
  }
  return ends;
}

model::SamplingHints ReadGgufSampling(const GgufFile& gguf) {
  const auto number = [&](const char* key, double high) {
    const GgufValue* value = gguf.Find(std::string("general.sampling.") + key);
    const bool sound = value && value->is_number() && !value->is_array();
    const double stated = sound ? value->Numbers()[0] : 0.0;
    return stated >= 0 && stated <= high ? stated : 0.0;
  };
  model::SamplingHints hints;
  hints.temperature = static_cast<float>(number("temp", 1e6));
  hints.top_k = static_cast<uint32_t>(number("top_k", 1u << 30));
  hints.top_p = static_cast<float>(number("top_p", 1.0));
  hints.min_p = static_cast<float>(number("min_p", 1.0));
  hints.repetition_penalty = static_cast<float>(number("penalty_repeat", 1e6));
  return hints;
}

std::string GgufText(const GgufFile& gguf, std::string_view key) {
  const GgufValue* value = gguf.Find(key);
  if (!value || value->is_array() || value->type() != GgufType::kText) return "";
  return std::string(value->Texts()[0]);
}

}  // namespace headroom::convert
