#include "convert/chat_template.h"

#include <algorithm>
#include <array>

namespace headroom::convert {
namespace {

// A template is the one of a row when it holds all of `with` and none of `without`. Quotes and
// newlines are written in one way first, since published templates differ in them.
struct Row {
  const char* format;
  std::array<std::string_view, 4> with;  // unused ones are empty
  std::array<std::string_view, 6> without;
};

constexpr Row kRows[] = {
    {"chatml",
     {"<|im_start|>",
      "'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"},
     {"You are", "bos_token", "<|im_sep|>", "<think>", "loop.first"}},
    {"chatml",  // Qwen3
     {"<|im_start|>", "enable_thinking is defined and enable_thinking is false",
      "message.role == 'user'"},
     {"You are Qwen", "bos_token", "vision", "assistant\n<think>\n'", "default_system",
      "In this environment"}},
    {"qwen2",
     {"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", "loop.first",
      "messages[0]['role'] != 'system'"},
     {"bos_token"}},
    {"qwen2.5",
     {"<|im_start|>", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
     {"<think>", "bos_token"}},
    {"smollm2",
     {"<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>"},
     {"bos_token"}},
    {"llama-2", {"bos_token + '[INST] ' + content.strip() + ' [/INST]'", "<<SYS>>"}, {}},
    {"llama-3",
     {"'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | "
      "trim + '<|eot_id|>'",
      "bos_token"},
     {"Cutting Knowledge", "date_string"}},
    {"llama-3.1",
     {"<|start_header_id|>system<|end_header_id|>", "Cutting Knowledge Date: December 2023\n",
      "'26 Jul 2024'"},
     {"nemotron", "image"}},
    {"mistral",
     {"'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token}"},
     {"system_message", "<<SYS>>"}},
    {"mistral-v1", {"' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]'"}, {}},
    {"mistral-v3",
     {"'[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]'",
      "' ' + message['content']|trim + eos_token"},
     {}},
    {"mistral-v3-tekken",
     {"'[INST]' + system_message + '\n\n' + message['content'] + '[/INST]'"},
     {}},
    {"mistral-v7",
     {"'[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]'",
      "'[INST] ' + message['content'] + '[/INST]'"},
     {"default_system"}},
    {"mistral-v7-tekken",
     {"'[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]'",
      "'[INST]' + message['content'] + '[/INST]'"},
     {"default_system"}},
    {"gemma",
     {"'<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n'",
      "System role not supported", "bos_token"},
     {}},
    {"gemma-3",
     {"<start_of_turn>", "first_user_prefix", "<end_of_turn>\n", "bos_token"},
     {"<think"}},
    {"phi-3",
     {"'<|system|>\n' + message['content'] + '<|end|>\n'", "'<|assistant|>\n'"},
     {"bos_token", "<|im_"}},
    {"phi-4-mini",
     {"'<|' + message['role'] + '|>' + message['content'] + '<|end|>'", "'<|assistant|>'"},
     {"You are", "Your name is", "bos_token"}},
    {"phi-4",
     {"'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'",
      "'<|im_end|><|im_start|>assistant<|im_sep|>'"},
     {"You are"}},
    {"olmo-2",
     {"bos_token", "'<|user|>\n' + message['content'] + '\n'",
      "'<|assistant|>\n'  + message['content'] + eos_token + '\n'"},
     {}},
    {"granite-3.0", {"'<|start_of_role|>system<|end_of_role|>' + message['content']"}, {"You are"}},
    {"granite-3.1",
     {"<|start_of_role|>", "Knowledge Cutoff Date: April 2024.\nToday's Date: '",
      ".\nYou are Granite, developed by IBM."},
     {}},
    {"granite-3.3",
     {"<|start_of_role|>",
      "Knowledge Cutoff Date: April 2024. Today's Date: ", "You are Granite, developed by IBM."},
     {}},
    {"gpt-oss",
     {"<|start|>developer<|message|>", "<|channel|>final<|message|>",
      "Reasoning: ", "You are ChatGPT, a large language model trained by OpenAI."},
     {}},
    {"deepseek-v2",
     {"'User: ' + message['content'] + '\n\n'", "'Assistant: ' + message['content'] + eos_token",
      "bos_token"},
     {}},
    {"deepseek-v3",
     {"<｜User｜>", "{{'<｜Assistant｜>'}}", "{{bos_token}}{{ns.system_prompt}}"},
     {"<think>\n'", "</think>'}}", "thinking", "%}    {%- endif %}"}},
    {"deepseek-r1",
     {"<｜User｜>", "{{'<｜Assistant｜><think>\n'}}", "{{bos_token}}{{ns.system_prompt}}"},
     {"thinking"}},
    {"starcoder2",
     {"You are an exceptionally intelligent coding assistant that consistently delivers accurate",
      "'### Instruction\n' + message['content']",
      "'### Response\n' + message['content'] + eos_token", "bos_token"},
     {}},
    {"zephyr",
     {"'<|user|>\n' + message['content'] + eos_token",
      "'<|system|>\n' + message['content'] + eos_token",
      "'<|assistant|>\n'  + message['content'] + eos_token"},
     {"bos_token"}},
};

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
    text.replace(at, from.size(), to);
}

}  // namespace

std::string RecogniseChatTemplate(std::string_view jinja) {
  std::string text(jinja);
  ReplaceAll(text, "\\n", "\n");
  std::replace(text.begin(), text.end(), '"', '\'');
  const auto holds = [&](std::string_view part) { return text.find(part) != text.npos; };
  const auto forbidden = [&](std::string_view part) { return !part.empty() && holds(part); };
  std::string found;
  for (const Row& row : kRows) {
    const bool all = std::all_of(row.with.begin(), row.with.end(), holds);
    if (!all || std::any_of(row.without.begin(), row.without.end(), forbidden)) continue;
    if (!found.empty() && found != row.format) return {};  // two formats: neither for sure
    found = row.format;
  }
  return found;
}

std::vector<std::string> RecognisedChatFormats() {
  std::vector<std::string> names;
  for (const Row& row : kRows) {
    if (std::find(names.begin(), names.end(), row.format) == names.end())
      names.push_back(row.format);
  }
  return names;
}

}  // namespace headroom::convert
