#include "convert/read_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "base/platform.h"
#include "convert/chat_template.h"
#include "convert/json_file.h"
#include "convert/rwkv_vocabulary.h"
#include "convert/sentencepiece_file.h"
#include "convert/tokenizer_json.h"

namespace headroom::convert {
namespace {

constexpr uint64_t kMaxTokenizerBytes = 256u << 20;

// An empty object without the file.
Result<Json> ReadConfig(const Options& options) {
  const std::string path = options.source + "/tokenizer_config.json";
  return Exists(path) ? ReadJsonFile(path, kMaxConfigBytes) : Result<Json>(Json::object());
}

// The template stands in tokenizer_config.json, or in a file of its own.
Status ReadChatTemplate(const Options& options, ModelDescription& description) {
  const std::string own = options.source + "/chat_template.jinja";
  if (Exists(own)) {
    HR_ASSIGN_OR_RETURN(const auto file, platform::FileMapping::OpenPath(own.c_str()));
    if (file.bytes() <= kMaxConfigBytes) {
      description.tokenizer.chat_template.assign(reinterpret_cast<const char*>(file.data()),
                                                 file.bytes());
    }
    return {};
  }
  HR_ASSIGN_OR_RETURN(const Json json, ReadConfig(options));
  if (json.is_object() && json.contains("chat_template") && json["chat_template"].is_string()) {
    description.tokenizer.chat_template = json["chat_template"].get<std::string>();
  } else if (json.is_object() && json.contains("chat_template")) {
    options.Say("tokenizer_config.json holds several chat templates; none is kept");
  }
  return {};
}

Result<ParsedTokenizer> ReadJson(const Options& options, const std::string& path,
                                 uint32_t vocabulary) {
  HR_ASSIGN_OR_RETURN(const Json config, ReadConfig(options));
  HR_ASSIGN_OR_RETURN(Json json, ReadJsonFile(path, kMaxTokenizerBytes));
  DropTokensBehind(config, json);
  return ParseTokenizer(json, vocabulary, "tokenizer.json");
}

Result<ParsedTokenizer> ReadModel(const Options& options, const std::string& path,
                                  uint32_t vocabulary) {
  HR_ASSIGN_OR_RETURN(const auto file, platform::FileMapping::OpenPath(path.c_str()));
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.bytes());
  HR_ASSIGN_OR_RETURN(SentencePieceModel model, ParseSentencePieceModel(bytes, "tokenizer.model"));
  HR_ASSIGN_OR_RETURN(const Json config, ReadConfig(options));
  HR_RETURN_IF_ERROR(ApplyTokenizerConfig(config, model));
  return MakeTokenizer(model, vocabulary, "tokenizer.model");
}

// The authors' vocabulary of RWKV, the latest by name; empty: there is none.
std::string RwkvVocabulary(const std::string& folder) {
  std::string latest;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kRwkvVocabularyPrefix) && name.ends_with(".txt"))
      latest = std::max(latest, entry.path().string());
  }
  return latest;
}

Result<ParsedTokenizer> ReadRwkv(const std::string& path, uint32_t vocabulary) {
  HR_ASSIGN_OR_RETURN(const auto file, platform::FileMapping::OpenPath(path.c_str()));
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.bytes());
  return ParseRwkvVocabulary(text, vocabulary, path);
}

}  // namespace

Status ReadTokenizer(const Options& options, ModelDescription& description) {
  const std::string json = options.source + "/tokenizer.json";
  const std::string model = options.source + "/tokenizer.model";
  const std::string rwkv = RwkvVocabulary(options.source);
  if (options.without_tokenizer || (!Exists(json) && !Exists(model) && rwkv.empty())) {
    options.Say(
        options.without_tokenizer
            ? "the tokenizer is left out, as asked"
            : "neither tokenizer.json nor tokenizer.model: text calls will not be available");
    return {};
  }
  const uint32_t vocabulary = description.metadata.vocabulary;
  HR_ASSIGN_OR_RETURN(ParsedTokenizer parsed, Exists(json) ? ReadJson(options, json, vocabulary)
                                              : Exists(model)
                                                  ? ReadModel(options, model, vocabulary)
                                                  : ReadRwkv(rwkv, vocabulary));
  for (const std::string& note : parsed.notes) options.Say(note);
  if (!description.tokenizer.end_tokens.empty() || rwkv.empty())
    parsed.tokenizer.end_tokens = std::move(description.tokenizer.end_tokens);
  description.tokenizer = std::move(parsed.tokenizer);
  HR_RETURN_IF_ERROR(ReadChatTemplate(options, description));
  SetChatFormat(options.chat_format, options.log, description.tokenizer);
  return {};
}

void SetChatFormat(const std::string& wanted, const std::function<void(const std::string&)>& log,
                   TokenizerDescription& tokenizer) {
  tokenizer.chat_format = wanted.empty() ? RecogniseChatTemplate(tokenizer.chat_template) : wanted;
  if (log && tokenizer.chat_format.empty() && !tokenizer.chat_template.empty()) {
    log("the model's chat template is none of those known; conversations need --template NAME, or "
        "convert with --chat-format NAME");
  }
}

}  // namespace headroom::convert
