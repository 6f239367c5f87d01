#include "convert/tokenizer_parser.h"

#include <algorithm>
#include <set>

namespace headroom::convert {

Status TokenizerParser::Corrupt(const std::string& fact) const {
  return Status::Make(StatusCode::kCorrupt, "%s: %s", what_.c_str(), fact.c_str());
}

Status TokenizerParser::Unsupported(const std::string& part, const std::string& value) const {
  return Unsupported(part + " \"" + Printable(value) + "\"");
}

Status TokenizerParser::Unsupported(const std::string& fact) const {
  return RefuseTokenizer(what_, fact);
}

const Json* TokenizerParser::Member(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || object[key].is_null()) return nullptr;
  return &object[key];
}

std::string TokenizerParser::Text(const Json& object, const char* key) {
  const Json* value = Member(object, key);
  return value && value->is_string() ? value->get<std::string>() : std::string();
}

bool TokenizerParser::Is(const Json& object, const char* key, bool otherwise) {
  const Json* value = Member(object, key);
  return value && value->is_boolean() ? value->get<bool>() : otherwise;
}

const Json& TokenizerParser::List(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  const Json* value = Member(object, key);
  return value && value->is_array() ? *value : kEmpty;
}

Result<uint32_t> TokenizerParser::Id(const Json* value, const std::string& token) const {
  if (!value || !value->is_number_unsigned() || value->get<uint64_t>() >= vocabulary_) {
    return Status::Make(StatusCode::kCorrupt, "%s: token \"%s\" has no id below %u", what_.c_str(),
                        Printable(token).c_str(), vocabulary_);
  }
  return value->get<uint32_t>();
}

void TokenizerParser::SetToken(uint32_t id, std::string bytes) {
  if (out().tokens.size() < vocabulary_) out().tokens.resize(vocabulary_);
  out().tokens[id] = std::move(bytes);
}

Result<std::vector<TokenizerParser::Added>> TokenizerParser::AddedTokens() {
  std::vector<Added> tokens;
  std::set<uint32_t> ids;
  for (const Json& token : List(json_, "added_tokens")) {
    Added added;
    added.content = Text(token, "content");
    if (added.content.empty()) return Corrupt("an added token is empty");
    // Gemma 3's text models come with the tokenizer of those that see, whose last token they lack.
    const Json* id = Member(token, "id");
    if (id && id->is_number_unsigned() && id->get<uint64_t>() >= vocabulary_) {
      parsed_.notes.push_back("added token \"" + Printable(added.content) + "\" is left out: id " +
                              std::to_string(id->get<uint64_t>()) + " >= vocabulary " +
                              std::to_string(vocabulary_));
      continue;
    }
    HR_ASSIGN_OR_RETURN(added.id, Id(id, added.content));
    added.known = IsKnown(added.content);
    added.single_word = Is(token, "single_word");
    if (!ids.insert(added.id).second)
      return Corrupt("two added tokens with id " + std::to_string(added.id));
    added.special = Is(token, "special");
    added.normalised = Is(token, "normalized", !added.special);
    added.strip_left = Is(token, "lstrip");
    added.strip_right = Is(token, "rstrip");
    tokens.push_back(std::move(added));
  }
  return tokens;
}

bool TokenizerParser::IsKnown(const std::string& token) const {
  const Json* model = Part("model");
  const Json* vocabulary = model ? Member(*model, "vocab") : nullptr;
  return vocabulary && vocabulary->is_object() && vocabulary->contains(token);
}

// A token that is not in the model's vocabulary can only be meant for the author of a prompt, flag
// or not: a turn's marker in some files. Not so runs of spaces and single characters, which others
// keep there.
bool TokenizerParser::IsSpecial(const Added& token) {
  const auto begins = [](char byte) { return (static_cast<uint8_t>(byte) & 0xc0) != 0x80; };
  const bool marker = std::count_if(token.content.begin(), token.content.end(), begins) > 1 &&
                      token.content.find_first_not_of(" \t\r\n") != std::string::npos;
  return token.special || (!token.known && marker);
}

// The short list holds what needs nothing said about it.
void TokenizerParser::AddVerbatim(AddedTokenDescription added) {
  const model::AddedToken& token = added.token;
  const bool flagged =
      token.normalised || token.strip_left || token.strip_right || token.single_word;
  if (added.text == out().tokens[token.token]) added.text.clear();
  if (token.special && !flagged && added.text.empty()) {
    out().special_tokens.push_back(token.token);
  } else {
    out().added_tokens.push_back(std::move(added));
  }
}

bool TokenizerParser::IsSentencePiece(const Json& json) {
  const Json* model = Member(json, "model");
  if (!model) return false;
  // Older files do not name the kind. Those without byte fallback are told by their spaces.
  const Json* vocabulary = Member(*model, "vocab");
  const Json* decoder = Member(json, "decoder");
  return Is(*model, "byte_fallback") || Text(*model, "type") == "Unigram" ||
         (vocabulary && vocabulary->is_array()) ||
         (decoder && decoder->dump().find("\"Metaspace\"") != std::string::npos);
}

Result<const Json*> TokenizerParser::BpeVocabulary(const Json& model) const {
  const Json* vocabulary = Member(model, "vocab");
  if (!vocabulary || !vocabulary->is_object()) return Corrupt("lacks the model's \"vocab\"");
  return vocabulary;
}

Status TokenizerParser::CheckBpeOptions(const Json& model) const {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!Text(model, key).empty()) return Unsupported("model option", key);
  }
  const Json* dropout = Member(model, "dropout");
  if (dropout && !(dropout->is_number() && dropout->get<double>() == 0.0)) {
    return Unsupported("model option", "dropout");
  }
  return {};
}

Status TokenizerParser::Merges(const Json& vocabulary, const Json& merges) {
  for (const Json& merge : merges) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const std::string text = merge.get<std::string>();
      const size_t space = text.find(' ');
      left = text.substr(0, space);
      right = space == std::string::npos ? "" : text.substr(space + 1);
    }
    if (!vocabulary.contains(left) || !vocabulary.contains(right) ||
        !vocabulary.contains(left + right)) {
      return Corrupt("merge " + std::to_string(out().merges.size()) + " (\"" + Printable(left) +
                     "\" + \"" + Printable(right) + "\") is not in the vocabulary");
    }
    const auto id = [&](const std::string& text) { return vocabulary[text].get<uint32_t>(); };
    out().merges.push_back({id(left), id(right), id(left + right)});
  }
  return {};
}

Status TokenizerParser::PostProcessor(const Json* part) {
  return ForEachPart(part, "processors", [&](const Json& each, const std::string& type) {
    return PostProcessorPart(each, type);
  });
}

Status TokenizerParser::PostProcessorPart(const Json& part, const std::string& type) {
  if (type == "ByteLevel") return {};  // offsets only
  if (type != "TemplateProcessing") return Unsupported("post_processor", type);
  bool text_seen = false;
  for (const Json& item : List(part, "single")) {
    if (Member(item, "Sequence")) {
      text_seen = true;
      continue;
    }
    const Json* special = Member(item, "SpecialToken");
    const std::string name = special ? Text(*special, "id") : std::string();
    if (text_seen || out().add_begin) {
      return Unsupported("post_processor token behind the text or the first", name);
    }
    HR_RETURN_IF_ERROR(Begin(part, name));
  }
  return {};
}

Status TokenizerParser::Begin(const Json& part, const std::string& name) {
  const Json* specials = Member(part, "special_tokens");
  const Json* special = specials ? Member(*specials, name.c_str()) : nullptr;
  if (!special || List(*special, "ids").size() != 1) {
    return Corrupt("post_processor token \"" + Printable(name) + "\" has not one id");
  }
  HR_ASSIGN_OR_RETURN(const uint32_t id, Id(&List(*special, "ids")[0], name));
  out().begin_token = static_cast<int32_t>(id);
  out().add_begin = true;
  return {};
}

}  // namespace headroom::convert
