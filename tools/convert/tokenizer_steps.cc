// Normalizers and pre-tokenizers of tokenizer.json that both kinds of vocabulary may have, as steps
// and splits of the model file.
#include <array>

#include "convert/regex.h"
#include "convert/tokenizer_parser.h"

namespace headroom::convert {
namespace {

using model::NormalForm;
using model::NormalStepKind;
using model::SplitBehaviour;

constexpr size_t kMaxStepTextBytes = 64;  // of the runtime's loader

constexpr std::pair<const char*, NormalForm> kForms[] = {{"NFC", NormalForm::kNfc},
                                                         {"NFD", NormalForm::kNfd},
                                                         {"NFKC", NormalForm::kNfkc},
                                                         {"NFKD", NormalForm::kNfkd}};
constexpr std::pair<const char*, SplitBehaviour> kBehaviours[] = {
    {"Isolated", SplitBehaviour::kIsolated},
    {"Removed", SplitBehaviour::kRemoved},
    {"MergedWithPrevious", SplitBehaviour::kMergedWithPrevious},
    {"MergedWithNext", SplitBehaviour::kMergedWithNext},
    {"Contiguous", SplitBehaviour::kContiguous}};

template <size_t N, typename T>
const T* Find(const std::pair<const char*, T> (&table)[N], const std::string& name) {
  for (const auto& [known, value] : table) {
    if (name == known) return &value;
  }
  return nullptr;
}

// Empty where it is no base 64.
std::string FromBase64(const std::string& text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char digit : text) {
    if (digit == '=') break;
    const size_t value = kDigits.find(digit);
    if (value == kDigits.npos) return "";
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xff);
  }
  return bytes;
}

}  // namespace

Result<std::string> TokenizerParser::PatternOf(const Json& part, const std::string& type) const {
  const Json* pattern = Member(part, "pattern");
  const std::string regex = pattern ? Text(*pattern, "Regex") : std::string();
  const std::string literal = pattern ? Text(*pattern, "String") : std::string();
  if (regex.empty() && literal.empty()) return Unsupported(type + " pattern", "");
  if (!literal.empty()) return QuotedPattern(literal);
  const auto converted = ToPcre2(regex);
  if (!converted) return Unsupported(type + " pattern", regex);
  return *converted;
}

void TokenizerParser::AddReplace(const std::string& pattern, const std::string& text) {
  NormalStepDescription described;
  described.step.kind = NormalStepKind::kReplace;
  described.pattern = pattern;
  described.text = text;
  out().normal_steps.push_back(std::move(described));
}

Result<bool> TokenizerParser::TakeNormalizer(const Json& part, const std::string& type) {
  NormalStepDescription described;
  if (const NormalForm* form = Find(kForms, type)) {
    described.step.form = *form;
  } else if (type == "Lowercase") {
    described.step.kind = NormalStepKind::kLowercase;
  } else if (type == "Strip") {
    described.step.kind = NormalStepKind::kStrip;
    described.step.left = Is(part, "strip_left", true);
    described.step.right = Is(part, "strip_right", true);
  } else if (type == "Prepend") {
    described.step.kind = NormalStepKind::kPrepend;
    described.text = Text(part, "prepend");
  } else if (type == "Precompiled") {
    described.step.kind = NormalStepKind::kCharsmap;
    described.step.graphemes = true;
    described.charsmap = FromBase64(Text(part, "precompiled_charsmap"));
    if (described.charsmap.empty()) return Corrupt("the normalizer's charsmap is no base 64");
  } else if (type == "Replace" || type == "StripAccents") {
    described.step.kind = NormalStepKind::kReplace;
    described.text = type == "Replace" ? Text(part, "content") : "";
    described.pattern = R"(\p{M}+)";
    if (type == "Replace") {
      HR_ASSIGN_OR_RETURN(described.pattern, PatternOf(part, "normalizer Replace"));
    }
  } else {
    return false;
  }
  if (described.text.size() > kMaxStepTextBytes)
    return Unsupported("normalizer " + type + " text", described.text);
  out().normal_steps.push_back(std::move(described));
  return true;
}

void TokenizerParser::AddSplit(const std::string& pattern, model::SplitBehaviour behaviour,
                               bool invert) {
  out().splits.push_back({pattern, behaviour, invert});
}

Status TokenizerParser::TakeSplit(const Json& part, const std::string& type,
                                  const std::string& pattern, const char* otherwise) {
  const std::string stated = Text(part, "behavior");
  const std::string name = stated.empty() ? otherwise : stated;
  const SplitBehaviour* behaviour = Find(kBehaviours, name);
  if (!behaviour) return Unsupported("pre_tokenizer " + type + " behavior", name);
  AddSplit(pattern, *behaviour, Is(part, "invert"));
  return {};
}

Result<bool> TokenizerParser::TakePreTokenizer(const Json& part, const std::string& type) {
  const std::string spaces = std::string("[") + kSpaceMembers + "]";
  if (type == "Split") {
    HR_ASSIGN_OR_RETURN(const std::string pattern, PatternOf(part, "pre_tokenizer Split"));
    HR_RETURN_IF_ERROR(TakeSplit(part, type, pattern, ""));
  } else if (type == "Punctuation") {
    HR_RETURN_IF_ERROR(TakeSplit(part, type, kPunctuation, "Isolated"));
  } else if (type == "Digits") {
    AddSplit(Is(part, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
  } else if (type == "WhitespaceSplit") {
    AddSplit(spaces, SplitBehaviour::kRemoved);
  } else if (type == "BertPreTokenizer") {
    AddSplit(spaces, SplitBehaviour::kRemoved);
    AddSplit(kPunctuation);
  } else if (type == "Whitespace") {
    const std::string word = std::string(kWordMembers) + R"(\x{200c}\x{200d})";
    AddSplit("[" + word + "]+|[^" + word + kSpaceMembers + "]+", SplitBehaviour::kRemoved, true);
  } else {
    return false;
  }
  return true;
}

}  // namespace headroom::convert
