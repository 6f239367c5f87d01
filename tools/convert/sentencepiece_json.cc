// tokenizer.json of vocabularies that SentencePiece makes. They spell a space as a sign (U+2581).
// The model file spells it as a space, in tokens as in text, so that token bytes are what is shown;
// the runtime reads the sign in text as a space, too. That is exact because both become the sign in
// the file's own terms; where a file does not map spaces in both directions it is refused.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>

#include "convert/sentencepiece_model.h"
#include "convert/tokenizer_parser.h"

namespace headroom::convert {
namespace {

class SentencePieceParser : public TokenizerParser {
 public:
  using TokenizerParser::TokenizerParser;

  Result<ParsedTokenizer> Parse() {
    const auto each = [&](auto part) {
      return [this, part](const Json& json, const std::string& type) {
        return (this->*part)(json, type);
      };
    };
    using Self = SentencePieceParser;
    HR_RETURN_IF_ERROR(ForEachPart(Part("normalizer"), "normalizers", each(&Self::Normalizer)));
    HR_RETURN_IF_ERROR(
        ForEachPart(Part("pre_tokenizer"), "pretokenizers", each(&Self::PreTokenizer)));
    HR_RETURN_IF_ERROR(ForEachPart(Part("decoder"), "decoders", each(&Self::Decoder)));
    HR_RETURN_IF_ERROR(CheckSign());
    HR_RETURN_IF_ERROR(Model(*Part("model")));
    HR_RETURN_IF_ERROR(Verbatim());
    HR_RETURN_IF_ERROR(CheckSpelling());
    HR_RETURN_IF_ERROR(PostProcessor(Part("post_processor")));
    out().space = sign_;
    if (prepend_) out().space_prefix = model::SpacePrefix::kAlways;
    return std::move(parsed_);
  }

 private:
  // ---- how spaces are written and where one is added

  Status SetSign(const std::string& part, const std::string& sign) {
    constexpr size_t kMaxSignBytes = 8;
    const bool odd = sign.empty() || sign.size() > kMaxSignBytes || sign.find(' ') != sign.npos;
    if (odd || (!sign_.empty() && sign != sign_))
      return Unsupported(part + " sign for a space", sign);
    sign_ = sign;
    return {};
  }

  // The text of {"String": ...}; empty for a regular expression.
  static std::string Pattern(const Json& part) {
    const Json* pattern = Member(part, "pattern");
    return pattern ? Text(*pattern, "String") : std::string();
  }

  Status Normalizer(const Json& part, const std::string& type) {
    const bool maps = type == "Prepend" || (type == "Replace" && Pattern(part) == " ");
    if (!prepend_ && !mapped_ && !maps) {
      HR_ASSIGN_OR_RETURN(const bool taken, TakeNormalizer(part, type));
      if (taken) return {};
    }
    if (type == "Prepend" && !prepend_) {
      prepend_ = true;
      return SetSign("normalizer Prepend", Text(part, "prepend"));
    }
    if (type == "Replace" && Pattern(part) == " ") {
      mapped_ = true;
      return SetSign("normalizer Replace", Text(part, "content"));
    }
    return Unsupported("normalizer", type == "Replace" ? "Replace of " + Pattern(part) : type);
  }

  Status PreTokenizer(const Json& part, const std::string& type) {
    if (metaspace_) return Unsupported("pre_tokenizer behind Metaspace", type);
    // Gemma's: the spaces it would cut at are signs by then.
    if (type == "Split" && Pattern(part) == " " && mapped_) return {};
    if (type == "Metaspace") return Metaspace(part);
    if (mapped_ || prepend_) return Unsupported("pre_tokenizer behind mapped spaces", type);
    HR_ASSIGN_OR_RETURN(const bool taken, TakePreTokenizer(part, type));
    return taken ? Status() : Unsupported("pre_tokenizer", type);
  }

  Status Metaspace(const Json& part) {
    metaspace_ = true;
    HR_RETURN_IF_ERROR(SetSign("pre_tokenizer Metaspace", Text(part, "replacement")));
    const std::string scheme = Scheme(part);
    if (scheme != "never" && !Is(part, "add_prefix_space", true))
      return Unsupported("pre_tokenizer Metaspace without add_prefix_space but with", scheme);
    if (scheme != "never" && prepend_)
      return Unsupported("pre_tokenizer Metaspace behind Prepend", scheme);
    if (!out().splits.empty()) {  // each piece of the cuts before gets a space
      if (scheme != "always")
        return Unsupported("pre_tokenizer Metaspace behind others with", scheme);
      AddSplit("");
    } else if (scheme == "always") {
      out().add_prefix_space = true;
    } else if (scheme == "first") {
      out().space_prefix = model::SpacePrefix::kFirst;
    } else if (scheme != "never") {
      return Unsupported("pre_tokenizer Metaspace prepend_scheme", scheme);
    }
    if (Is(part, "split", true)) AddSplit(" [^ ]*");
    return {};
  }

  static std::string Scheme(const Json& part) {
    const std::string scheme = Text(part, "prepend_scheme");
    return scheme.empty() ? "always" : scheme;
  }

  // ---- decoder: only what undoes the above

  Status Decoder(const Json& part, const std::string& type) {
    if (type == "Metaspace") {
      shown_ = true;
      if (Scheme(part) != "never") out().strip_spaces = std::numeric_limits<uint32_t>::max();
      return SetSign("decoder Metaspace", Text(part, "replacement"));
    }
    if (type == "Replace" && Text(part, "content") == " ") {
      shown_ = true;
      return SetSign("decoder Replace", Pattern(part));
    }
    if (type == "ByteFallback") bytes_shown_ = true;
    if (type == "Fuse") fused_ = true;
    if (type == "ByteFallback" || type == "Fuse") return {};
    return type == "Strip" ? Strip(part) : Unsupported("decoder", type);
  }

  Status Strip(const Json& part) {
    const Json* start = Member(part, "start");
    const bool one = start && start->is_number_unsigned() && start->get<uint64_t>() <= 1;
    const Json* stop = Member(part, "stop");
    const bool none = stop && stop->is_number_unsigned() && stop->get<uint64_t>() == 0;
    if (!one || !none || Text(part, "content") != " ")
      return Unsupported("decoder Strip of other than one leading", Text(part, "content"));
    if (!fused_) return Unsupported("decoder Strip before", "Fuse");
    out().strip_spaces = start->get<uint32_t>();
    return {};
  }

  Status CheckSign() const {
    const bool written = mapped_ || metaspace_;
    if (written != shown_ || (prepend_ && !written)) {
      return Unsupported(written ? "decoder that does not turn back the sign for a space"
                                 : "decoder or normalizer of a sign that no space becomes",
                         sign_);
    }
    return {};
  }

  std::string Mapped(const std::string& text) const { return SpellSpaces(text, sign_); }

  // ---- model

  Status Model(const Json& model) {
    byte_fallback_ = Is(model, "byte_fallback");
    if (byte_fallback_ && !bytes_shown_)
      return Unsupported("decoder of a vocabulary with byte_fallback without", "ByteFallback");
    taken_.assign(vocabulary_, false);
    const std::string type = Text(model, "type");
    if (type == "Unigram" || (type.empty() && !List(model, "vocab").empty())) {
      HR_RETURN_IF_ERROR(UnigramModel(model));
    } else if (type.empty() || type == "BPE") {
      HR_RETURN_IF_ERROR(BpeModel(model));
    } else {
      return Unsupported("model", type);
    }
    if (byte_fallback_ && out().kind == model::TokenizerKind::kCharacterBpe) CharactersForBytes();
    if (byte_fallback_ && bytes_.size() != 256)
      return Unsupported("byte_fallback, of 256 byte tokens only", std::to_string(bytes_.size()));
    for (const auto& [byte, id] : bytes_) out().byte_tokens.push_back(id);
    return {};
  }

  // A byte needs no token of its own where its character has one: Gemma's files write "\t" in place
  // of "<0x09>".
  void CharactersForBytes() {
    for (uint32_t id = 0; id < out().tokens.size(); ++id) {
      const std::string& token = out().tokens[id];
      if (token.size() == 1) bytes_.emplace(static_cast<uint8_t>(token[0]), id);
    }
  }

  Status BpeModel(const Json& model) {
    HR_RETURN_IF_ERROR(CheckBpeOptions(model));
    HR_ASSIGN_OR_RETURN(const Json* vocabulary, BpeVocabulary(model));
    for (const auto& [piece, value] : vocabulary->items()) {
      HR_ASSIGN_OR_RETURN(const uint32_t id, Id(&value, piece));
      HR_RETURN_IF_ERROR(Piece(id, piece));
    }
    HR_RETURN_IF_ERROR(Merges(*vocabulary, List(model, "merges")));
    const auto unknown = vocabulary->find(Text(model, "unk_token"));
    if (unknown != vocabulary->end()) out().unknown_token = unknown->get<int32_t>();
    if (!byte_fallback_ && out().unknown_token < 0)
      return Unsupported("BPE with neither byte_fallback nor", "unk_token");
    out().fuse_unknown = Is(model, "fuse_unk");
    out().ignore_merges = Is(model, "ignore_merges");
    out().kind = model::TokenizerKind::kCharacterBpe;
    return {};
  }

  Status UnigramModel(const Json& model) {
    const Json& vocabulary = List(model, "vocab");
    if (vocabulary.empty()) return Corrupt("lacks the model's \"vocab\"");
    if (vocabulary.size() > vocabulary_) {
      return Corrupt(std::to_string(vocabulary.size()) + " tokens > vocabulary " +
                     std::to_string(vocabulary_));
    }
    double lowest = 0.0;
    for (uint32_t id = 0; id < vocabulary.size(); ++id) {
      const Json& pair = vocabulary[id];
      const bool sound = pair.is_array() && pair.size() == 2 && pair[0].is_string() &&
                         pair[1].is_number() && std::isfinite(pair[1].get<double>());
      if (!sound) return Corrupt("token " + std::to_string(id) + " is no text with a score");
      HR_RETURN_IF_ERROR(Piece(id, pair[0].get<std::string>()));
      out().scores.push_back(pair[1].get<double>());
      lowest = id == 0 ? out().scores[0] : std::min(lowest, out().scores[id]);
    }
    out().scores.resize(vocabulary_, lowest);  // does not move what an unknown character costs
    if (const Json* unknown = Member(model, "unk_id")) {
      HR_ASSIGN_OR_RETURN(const uint32_t id, Id(unknown, "unk_id"));
      out().unknown_token = static_cast<int32_t>(id);
    }
    out().kind = model::TokenizerKind::kUnigram;
    return {};
  }

  Status Piece(uint32_t id, const std::string& piece) {
    if (taken_[id]) return Corrupt("two tokens with id " + std::to_string(id));
    taken_[id] = true;
    const int byte = byte_fallback_ ? ByteOfPiece(piece) : -1;
    if (byte >= 0) bytes_[byte] = id;
    if (piece.find(' ') != piece.npos && !sign_.empty()) spaced_[id] = piece;
    SetToken(id, byte >= 0 ? std::string(1, static_cast<char>(byte)) : Mapped(piece));
    return {};
  }

  // ---- added_tokens

  Status Verbatim() {
    HR_ASSIGN_OR_RETURN(const std::vector<Added> tokens, AddedTokens());
    for (Added token : tokens) {
      token.known = taken_[token.id];
      spaced_.erase(token.id);  // needs not be made from pieces
      if (!taken_[token.id]) SetToken(token.id, Mapped(token.content));
      // The model never makes what has a true space.
      const bool special = IsSpecial(token) || token.content.find(' ') != token.content.npos;
      AddedTokenDescription added;
      added.token = {token.id,         {}, special, false, token.strip_left, token.strip_right,
                     token.single_word};
      const bool formed = mapped_ || prepend_ || !out().normal_steps.empty();
      added.token.normalised = token.normalised && formed;
      added.text =
          added.token.normalised ? (prepend_ ? " " : "") + Mapped(token.content) : token.content;
      // The reference shows such a token as it was matched.
      if (added.token.normalised) SetToken(token.id, added.text);
      AddVerbatim(std::move(added));
    }
    return {};
  }

  // Spelled with spaces, tokens must still be as different as before, and merges make tokens.
  Status CheckSpelling() {
    if (!spaced_.empty())
      return Unsupported("token with a space beside a sign for it", spaced_.begin()->second);
    const std::string fault = SpellingFault(out());
    return fault.empty() ? Status() : Unsupported(fault);
  }

  std::string sign_;
  bool mapped_ = false;     // the normalizer turns spaces into signs
  bool prepend_ = false;    // and puts one in front
  bool metaspace_ = false;  // the pre-tokenizer does
  bool shown_ = false;      // the decoder turns them back
  bool bytes_shown_ = false, fused_ = false;
  bool byte_fallback_ = false;
  std::vector<bool> taken_;                           // ids that the model knows
  std::map<int, uint32_t> bytes_;                     // byte -> id
  std::unordered_map<uint32_t, std::string> spaced_;  // tokens that hold a true space
};

}  // namespace

Result<ParsedTokenizer> ParseSentencePiece(const Json& json, uint32_t vocabulary,
                                           const std::string& what) {
  return SentencePieceParser(json, vocabulary, what).Parse();
}

}  // namespace headroom::convert
