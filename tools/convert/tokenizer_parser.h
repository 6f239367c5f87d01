// What the readers of tokenizer.json have in common, whatever the kind of its vocabulary.
#pragma once

#include <string>
#include <vector>

#include "convert/tokenizer_json.h"

namespace headroom::convert {

// One parser reads one file. Everything in the file is untrusted.
class TokenizerParser {
 public:
  TokenizerParser(const Json& json, uint32_t vocabulary, const std::string& what)
      : json_(json), vocabulary_(vocabulary), what_(what) {}

  // Whether the file holds a vocabulary of SentencePiece's kinds.
  static bool IsSentencePiece(const Json& json);

 protected:
  // An entry of "added_tokens": matched verbatim.
  struct Added {
    uint32_t id = 0;
    std::string content;
    bool special = false, normalised = false, strip_left = false, strip_right = false;
    bool single_word = false;
    bool known = false;  // the model's vocabulary has it, too
  };

  TokenizerDescription& out() { return parsed_.tokenizer; }

  Status Corrupt(const std::string& fact) const;
  Status Unsupported(const std::string& part, const std::string& value) const;
  Status Unsupported(const std::string& fact) const;

  // nullptr for absent or null.
  static const Json* Member(const Json& object, const char* key);
  const Json* Part(const char* key) const { return Member(json_, key); }
  // Empty when it is no text.
  static std::string Text(const Json& object, const char* key);
  static bool Is(const Json& object, const char* key, bool otherwise = false);
  // The list under `key`, or an empty one.
  static const Json& List(const Json& object, const char* key);

  Result<uint32_t> Id(const Json* value, const std::string& token) const;
  void SetToken(uint32_t id, std::string bytes);

  // Calls visit(part, type) for `part`, or for each in order where it is a Sequence of parts, which
  // stand under `key`. Nothing for nullptr.
  template <typename Visit>
  static Status ForEachPart(const Json* part, const char* key, const Visit& visit) {
    if (!part) return {};
    const std::string type = Text(*part, "type");
    if (type != "Sequence") return visit(*part, type);
    for (const Json& item : List(*part, key)) HR_RETURN_IF_ERROR(ForEachPart(&item, key, visit));
    return {};
  }

  // The object that maps tokens to ids; kCorrupt without one.
  Result<const Json*> BpeVocabulary(const Json& model) const;
  // Refuses options that no kind of vocabulary here knows, and two tokens with one id. Leaves out,
  // with a note, what the model has no row for.
  Result<std::vector<Added>> AddedTokens();
  // Whether text must not be able to spell it.
  static bool IsSpecial(const Added& token);
  // Adds a token whose bytes are set already.
  void AddVerbatim(AddedTokenDescription added);
  // In rank order.
  Status Merges(const Json& vocabulary, const Json& merges);
  // A begin token, or nothing.
  Status PostProcessor(const Json* part);
  // Takes a normalizer or a pre-tokenizer that any vocabulary may have; false when `type` is none.
  Result<bool> TakeNormalizer(const Json& part, const std::string& type);
  Result<bool> TakePreTokenizer(const Json& part, const std::string& type);
  void AddReplace(const std::string& pattern, const std::string& text);
  void AddSplit(const std::string& pattern,
                model::SplitBehaviour behaviour = model::SplitBehaviour::kIsolated,
                bool invert = false);
  // Options of a BPE model that would change ids.
  Status CheckBpeOptions(const Json& model) const;

  const Json& json_;
  const uint32_t vocabulary_;
  const std::string& what_;
  ParsedTokenizer parsed_;

 private:
  // The regular expression or the text under "pattern", for PCRE2.
  Result<std::string> PatternOf(const Json& part, const std::string& type) const;
  Status TakeSplit(const Json& part, const std::string& type, const std::string& pattern,
                   const char* otherwise);
  bool IsKnown(const std::string& token) const;
  Status PostProcessorPart(const Json& part, const std::string& type);
  Status Begin(const Json& part, const std::string& name);
};

// Vocabularies of SentencePiece: BPE with byte fallback, and unigram.
Result<ParsedTokenizer> ParseSentencePiece(const Json& json, uint32_t vocabulary,
                                           const std::string& what);

}  // namespace headroom::convert
