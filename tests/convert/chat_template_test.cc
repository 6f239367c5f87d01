// Chat formats against what published templates render (tests/golden/chat), and which of them a
// template is.
#include "convert/chat_template.h"

#include <catch2/catch_test_macros.hpp>
#include <set>

#include "convert/json_file.h"
#include "convert/read_tokenizer.h"
#include "tests/convert/fixture.h"
#include "text/chat_format.h"

namespace headroom {
namespace {

text::Role RoleOf(const std::string& name) {
  return name == "system" ? text::Role::kSystem
         : name == "user" ? text::Role::kUser
                          : text::Role::kAssistant;
}

TEST_CASE("conversations read as the published templates render them", "[convert][chat]") {
  const auto rows = convert::ReadJsonFile(test::GoldenFolder("chat") + "/chats.json", 1u << 24);
  REQUIRE(rows.ok());
  std::set<std::string> formats;
  for (const convert::Json& row : rows.value()) {
    const std::string name = row["format"];
    INFO(name << " " << row["messages"].dump());
    formats.insert(name);
    const auto format = text::FindChatFormat(name);
    REQUIRE(format.ok());
    std::vector<text::ChatMessage> messages;
    for (const convert::Json& message : row["messages"]) {
      messages.push_back({RoleOf(message["role"].get<std::string>()),
                          message["content"].get_ref<const std::string&>()});
    }
    text::ChatRequest request;
    request.messages = messages;
    const auto chat = text::FormatChat(*format.value(), request);
    REQUIRE(chat.ok() == row["text"].is_string());  // some have no place for a system message
    if (!chat.ok()) continue;
    REQUIRE(chat.value().text == row["text"].get<std::string>());
    for (const text::TextRange& range : chat.value().content)
      REQUIRE((range.begin < range.end && range.end <= chat.value().text.size()));
  }
  for (const std::string& name : convert::RecognisedChatFormats()) CHECK(formats.count(name) == 1);
  CHECK(formats.size() == convert::RecognisedChatFormats().size());
}

std::string ChatMl(const std::string& first) {
  return "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
         "'" +
         first +
         "' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
         "'<|im_end|>' + '\n'}}{% endfor %}";
}

TEST_CASE("a template is recognised for sure or not at all", "[convert][chat]") {
  using convert::RecogniseChatTemplate;
  CHECK(RecogniseChatTemplate("").empty());
  CHECK(RecogniseChatTemplate("{{ messages }}").empty());
  CHECK(RecogniseChatTemplate(
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
            "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}") == "chatml");
  CHECK(
      RecogniseChatTemplate(
          "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' "
          "+ message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}")
          .empty());
  CHECK(RecogniseChatTemplate(
            ChatMl("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")) == "qwen2");
  // The same in other quotes, with escaped newlines.
  std::string other = ChatMl("<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n");
  std::replace(other.begin(), other.end(), '\'', '"');
  CHECK(RecogniseChatTemplate(other) == "qwen2");
  CHECK(RecogniseChatTemplate(ChatMl("<|im_start|>system\nYou are somebody else.<|im_end|>\n"))
            .empty());
  // Both at once are neither.
  CHECK(RecogniseChatTemplate(
            ChatMl("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n") +
            ChatMl("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                   "Hugging Face<|im_end|>\n"))
            .empty());
}

TEST_CASE("the converter says when a template is not known", "[convert][chat]") {
  std::vector<std::string> said;
  const auto log = [&](const std::string& line) { said.push_back(line); };
  convert::TokenizerDescription tokenizer;
  convert::SetChatFormat("", log, tokenizer);
  CHECK(said.empty());
  tokenizer.chat_template = "{{ messages }}";
  convert::SetChatFormat("", log, tokenizer);
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("--chat-format") != std::string::npos);
  convert::SetChatFormat("llama-2", log, tokenizer);
  CHECK(tokenizer.chat_format == "llama-2");
  CHECK(said.size() == 1);
}

}  // namespace
}  // namespace headroom
