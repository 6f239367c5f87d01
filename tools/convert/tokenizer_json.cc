#include "convert/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "convert/regex.h"
#include "convert/tokenizer_parser.h"

namespace headroom::convert {
namespace {

constexpr size_t kMaxPatterns = 16;  // of the runtime's splitter

// Byte-level vocabularies write each byte as a printable character: bytes that are printable in
// Latin-1 stand for themselves, the others take U+0100, U+0101 ... in order.
std::map<uint32_t, char> ByteGlyphs() {
  std::map<uint32_t, char> glyphs;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    glyphs[printable ? byte : next++] = static_cast<char>(byte);
  }
  return glyphs;
}

// Bytes behind a glyph string; nothing when a character is no glyph.
std::optional<std::string> DecodeGlyphs(const std::string& text) {
  static const std::map<uint32_t, char> kGlyphs = ByteGlyphs();
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = static_cast<uint8_t>(text[i]);
    uint32_t code = lead;
    size_t length = 1;
    if (lead >= 0xc2 && lead < 0xe0 && i + 1 < text.size()) {  // glyphs end at U+0143
      code = (lead & 0x1fu) << 6 | (static_cast<uint8_t>(text[i + 1]) & 0x3fu);
      length = 2;
    } else if (lead >= 0x80) {
      return std::nullopt;
    }
    const auto glyph = kGlyphs.find(code);
    if (glyph == kGlyphs.end()) return std::nullopt;
    bytes += glyph->second;
    i += length;
  }
  return bytes;
}

class ByteLevelParser : public TokenizerParser {
 public:
  using TokenizerParser::TokenizerParser;

  Result<ParsedTokenizer> Parse() {
    if (!json_.is_object()) return Corrupt("is no object");
    HR_RETURN_IF_ERROR(Verbatim());
    HR_RETURN_IF_ERROR(Model());
    HR_RETURN_IF_ERROR(Normalizer(Part("normalizer")));
    HR_RETURN_IF_ERROR(PreTokenizer(Part("pre_tokenizer")));
    if (!byte_level_) return Unsupported("pre_tokenizer", "no ByteLevel: a BPE of characters");
    if (out().splits.size() > kMaxPatterns)
      return Unsupported("pre_tokenizer", "more than 16 parts");
    HR_RETURN_IF_ERROR(PostProcessor(Part("post_processor")));
    HR_RETURN_IF_ERROR(Decoder(Part("decoder")));
    out().kind = model::TokenizerKind::kByteBpe;
    return std::move(parsed_);
  }

 private:
  // ---- added_tokens: matched verbatim

  Status Verbatim() {
    HR_ASSIGN_OR_RETURN(const std::vector<Added> tokens, AddedTokens());
    for (const Added& token : tokens) {
      added_.insert(token.id);
      SetToken(token.id, token.content);
      AddVerbatim({{token.id,
                    {},
                    IsSpecial(token),
                    token.normalised,
                    token.strip_left,
                    token.strip_right,
                    token.single_word},
                   token.content});
    }
    return {};
  }

  // ---- model: vocabulary and merges

  Status Model() {
    const Json* model = Part("model");
    if (!model || !model->is_object()) return Corrupt("lacks \"model\"");
    const std::string type = Text(*model, "type");
    if (!type.empty() && type != "BPE") return Unsupported("model", type);
    HR_RETURN_IF_ERROR(CheckBpeOptions(*model));
    out().ignore_merges = Is(*model, "ignore_merges");
    HR_ASSIGN_OR_RETURN(const Json* vocabulary, BpeVocabulary(*model));
    HR_RETURN_IF_ERROR(Vocabulary(*vocabulary));
    HR_RETURN_IF_ERROR(Merges(*vocabulary, List(*model, "merges")));
    std::erase_if(out().merges, [&](const model::Merge& merge) {
      return unreachable_.count(merge.left) || unreachable_.count(merge.right);
    });
    return {};
  }

  Status Vocabulary(const Json& vocabulary) {
    std::vector<bool> taken(vocabulary_);
    for (const auto& [glyphs, value] : vocabulary.items()) {
      HR_ASSIGN_OR_RETURN(const uint32_t id, Id(&value, glyphs));
      if (taken[id]) return Corrupt("two tokens with id " + std::to_string(id));
      taken[id] = true;
      if (added_.count(id)) continue;  // its text is its bytes
      const std::optional<std::string> bytes = DecodeGlyphs(glyphs);
      if (!bytes) HR_RETURN_IF_ERROR(Unreachable(id, glyphs));
      SetToken(id, bytes ? *bytes : glyphs);
    }
    return {};
  }

  // No text is ever written with characters that are no glyphs, so a token that has such is only
  // ever shown (Cohere's files have emoji). The runtime finds tokens by their bytes in two cases.
  Status Unreachable(uint32_t id, const std::string& text) {
    if (text.size() == 1 || out().ignore_merges)
      return Unsupported("vocabulary that is not byte-level, token", text);
    unreachable_.insert(id);
    return {};
  }

  // ---- normalizer

  Status Normalizer(const Json* part) {
    return ForEachPart(part, "normalizers",
                       [&](const Json& each, const std::string& type) -> Status {
                         HR_ASSIGN_OR_RETURN(const bool taken, TakeNormalizer(each, type));
                         return taken ? Status() : Unsupported("normalizer", type);
                       });
  }

  // ---- pre_tokenizer

  Status PreTokenizer(const Json* part) {
    size_t parts = 0;
    const auto count = [&](const Json&, const std::string&) -> Status { return ++parts, Status(); };
    HR_RETURN_IF_ERROR(ForEachPart(part, "pretokenizers", count));
    return ForEachPart(part, "pretokenizers",
                       [&](const Json& each, const std::string& type) -> Status {
                         if (byte_level_) return Unsupported("pre_tokenizer after ByteLevel", type);
                         if (type == "ByteLevel") return ByteLevel(each, parts == 1);
                         HR_ASSIGN_OR_RETURN(const bool taken, TakePreTokenizer(each, type));
                         return taken ? Status() : Unsupported("pre_tokenizer", type);
                       });
  }

  Status ByteLevel(const Json& part, bool alone) {
    byte_level_ = true;
    if (Is(part, "add_prefix_space", true)) {
      // Inside a sequence it would prefix every piece of the parts before.
      if (!alone) return Unsupported("pre_tokenizer option in a sequence", "add_prefix_space");
      out().add_prefix_space = true;
    }
    if (Is(part, "use_regex", true)) AddSplit(*ToPcre2(kGpt2Pattern));
    return {};
  }

  Status Decoder(const Json* part) {
    return ForEachPart(part, "decoders", [&](const Json&, const std::string& type) {
      return type == "ByteLevel" ? Status() : Unsupported("decoder", type);
    });
  }

  std::set<uint32_t> added_;
  std::set<uint32_t> unreachable_;  // tokens that no text can have
  bool byte_level_ = false;
};

}  // namespace

void DropTokensBehind(const Json& config, Json& tokenizer) {
  const Json* wanted = config.is_object()
                           ? config.contains("add_eos_token") ? &config["add_eos_token"] : nullptr
                           : nullptr;
  if (!wanted || *wanted != Json(false) || !tokenizer.is_object()) return;
  const auto processor = tokenizer.find("post_processor");
  if (processor == tokenizer.end() || !processor->is_object()) return;
  const auto single = processor->find("single");
  if (single == processor->end() || !single->is_array()) return;
  while (!single->empty() && single->back().is_object() && single->back().contains("SpecialToken"))
    single->erase(single->size() - 1);
}

Status RefuseTokenizer(const std::string& what, const std::string& part) {
  return Status::Make(StatusCode::kUnsupported,
                      "%s: %s is not supported (--without-tokenizer converts all but the "
                      "tokenizer)",
                      what.c_str(), part.c_str());
}

Result<ParsedTokenizer> ParseTokenizer(const Json& json, uint32_t vocabulary,
                                       const std::string& what) {
  if (TokenizerParser::IsSentencePiece(json)) return ParseSentencePiece(json, vocabulary, what);
  return ByteLevelParser(json, vocabulary, what).Parse();
}

}  // namespace headroom::convert
