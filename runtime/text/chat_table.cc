// The formats that published models were trained on, as their Jinja templates say for plain
// conversations (no tools). tests/golden/chat compares each with what the template renders.
#include "text/chat_format.h"

namespace headroom::text {
namespace {

constexpr std::string_view kImStart = "<|im_start|>", kImEnd = "<|im_end|>";

// The formats that put a role between <|im_start|> and <|im_end|> differ in what they say when
// there is no system message.
constexpr ChatFormat ChatMl(std::string_view name, const char* default_system) {
  return {.name = name,
          .begin = "",
          .system = {"<|im_start|>system\n", "<|im_end|>\n"},
          .user = {"<|im_start|>user\n", "<|im_end|>\n"},
          .assistant = {"<|im_start|>assistant\n", "<|im_end|>\n"},
          .generation = "<|im_start|>assistant\n",
          .end = kImEnd,
          .default_system = default_system,
          .tokens = {kImStart, kImEnd}};
}

constexpr ChatFormat Llama3(std::string_view name, std::string_view system,
                            const char* default_system) {
  return {.name = name,
          .begin = "<|begin_of_text|>",
          .system = {system, "<|eot_id|>", true},
          .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", true},
          .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", true},
          .generation = "<|start_header_id|>assistant<|end_header_id|>\n\n",
          .end = "<|eot_id|>",
          .default_system = default_system,
          .tokens = {"<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"}};
}

constexpr ChatFormat Mistral(std::string_view name, ChatTurn system, ChatTurn user,
                             std::string_view answer, bool trim, SystemPlace place) {
  return {.name = name,
          .begin = "<s>",
          .system = system,
          .user = user,
          .assistant = {answer, "</s>", trim},
          .generation = "",
          .end = "</s>",
          .place = place,
          .tokens = {"<s>", "</s>"}};
}

constexpr ChatFormat Gemma(std::string_view name, SystemPlace place) {
  return {.name = name,
          .begin = "<bos>",
          .system = {"", "\n\n"},
          .user = {"<start_of_turn>user\n", "<end_of_turn>\n", true},
          .assistant = {"<start_of_turn>model\n", "<end_of_turn>\n", true},
          .generation = "<start_of_turn>model\n",
          .end = "<end_of_turn>",
          .place = place,
          .tokens = {"<bos>", "<start_of_turn>", "<end_of_turn>"}};
}

constexpr ChatFormat Granite(std::string_view name, const char* default_system) {
  return {.name = name,
          .begin = "",
          .system = {"<|start_of_role|>system<|end_of_role|>", "<|end_of_text|>\n"},
          .user = {"<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n"},
          .assistant = {"<|start_of_role|>assistant<|end_of_role|>", "<|end_of_text|>\n"},
          .generation = "<|start_of_role|>assistant<|end_of_role|>",
          .end = "<|end_of_text|>",
          .default_system = default_system,
          .tokens = {"<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"}};
}

constexpr ChatFormat DeepSeek(std::string_view name, std::string_view generation) {
  return {.name = name,
          .begin = "<｜begin▁of▁sentence｜>",
          .system = {"", ""},
          .user = {"<｜User｜>", ""},
          .assistant = {"<｜Assistant｜>", "<｜end▁of▁sentence｜>"},
          .generation = generation,
          .end = "<｜end▁of▁sentence｜>",
          .tokens = {"<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"}};
}

constexpr ChatFormat kFormats[] = {
    // Not of any model: each turn a line, for models that were trained on text alone.
    {.name = "plain",
     .begin = "",
     .system = {"", "\n"},
     .user = {"", "\n"},
     .assistant = {"", "\n"},
     .generation = "",
     .end = "\n",
     .tokens = {}},
    {.name = "question-answer",
     .begin = "",
     .system = {"", "\n"},
     .user = {"Question: ", "\n"},
     .assistant = {"Answer: ", "\n", true},
     .generation = "Answer:",
     .end = "\n",
     .tokens = {}},
    ChatMl("chatml", nullptr),
    ChatMl("qwen2", "You are a helpful assistant."),
    ChatMl("qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    ChatMl("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    {.name = "llama-2",
     .begin = "",
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"<s>[INST] ", " [/INST]", true},
     .assistant = {" ", " </s>", true},
     .generation = "",
     .end = "</s>",
     .place = SystemPlace::kTrimmedUser,
     .tokens = {"<s>", "</s>"}},
    Llama3("llama-3", "<|start_header_id|>system<|end_header_id|>\n\n", nullptr),
    Llama3("llama-3.1",
           "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
           "Today Date: {26 Jul 2024}\n\n",
           ""),
    // Before numbered versions, v1 with a system text, v3 (32 k tokens), v3 and v7 of the
    // byte-level
    // vocabulary "tekken". Where v3 says the system text again before the newest message, it stays
    // before the first here, so that the cached conversation remains valid.
    Mistral("mistral", {}, {"[INST] ", " [/INST]"}, "", false, SystemPlace::kNone),
    Mistral("mistral-v1", {"", "\n\n"}, {" [INST] ", " [/INST]"}, " ", false, SystemPlace::kInUser),
    Mistral("mistral-v3", {"", "\n\n"}, {"[INST] ", "[/INST]"}, " ", true, SystemPlace::kInUser),
    Mistral("mistral-v3-tekken", {"", "\n\n"}, {"[INST]", "[/INST]"}, "", false,
            SystemPlace::kInUser),
    Mistral("mistral-v7", {"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"}, {"[INST] ", "[/INST]"}, " ",
            false, SystemPlace::kTurn),
    Mistral("mistral-v7-tekken", {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}, {"[INST]", "[/INST]"}, "",
            false, SystemPlace::kTurn),
    Gemma("gemma", SystemPlace::kNone),
    Gemma("gemma-3", SystemPlace::kInUser),
    {.name = "phi-3",
     .begin = "",
     .system = {"<|system|>\n", "<|end|>\n"},
     .user = {"<|user|>\n", "<|end|>\n"},
     .assistant = {"<|assistant|>\n", "<|end|>\n"},
     .generation = "<|assistant|>\n",
     .end = "<|end|>",
     .tokens = {"<|user|>", "<|assistant|>", "<|end|>"}},
    {.name = "phi-4-mini",
     .begin = "",
     .system = {"<|system|>", "<|end|>"},
     .user = {"<|user|>", "<|end|>"},
     .assistant = {"<|assistant|>", "<|end|>"},
     .generation = "<|assistant|>",
     .end = "<|end|>",
     .tokens = {"<|user|>", "<|assistant|>", "<|end|>"}},
    {.name = "phi-4",
     .begin = "",
     .system = {"<|im_start|>system<|im_sep|>", "<|im_end|>"},
     .user = {"<|im_start|>user<|im_sep|>", "<|im_end|>"},
     .assistant = {"<|im_start|>assistant<|im_sep|>", "<|im_end|>"},
     .generation = "<|im_start|>assistant<|im_sep|>",
     .end = kImEnd,
     .tokens = {kImStart, "<|im_sep|>", kImEnd}},
    {.name = "olmo-2",
     .begin = "<|endoftext|>",
     .system = {"<|system|>\n", "\n"},
     .user = {"<|user|>\n", "\n"},
     .assistant = {"<|assistant|>\n", "<|endoftext|>\n"},
     .generation = "<|assistant|>\n",
     .end = "<|endoftext|>",
     .tokens = {"<|endoftext|>"}},
    Granite("granite-3.0", nullptr),
    Granite("granite-3.1",
            "Knowledge Cutoff Date: April 2024.\nToday's Date: {July 26, 2024}.\nYou are Granite, "
            "developed by IBM. You are a helpful AI assistant."),
    Granite("granite-3.3",
            "Knowledge Cutoff Date: April 2024. Today's Date: {July 26, 2024}. You are Granite, "
            "developed by IBM. You are a helpful AI assistant."),
    {.name = "gpt-oss",
     .begin =
         "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
         "Knowledge cutoff: 2024-06\nCurrent date: {2024-07-26}\n\nReasoning: medium\n\n"
         "# Valid channels: analysis, commentary, final. Channel must be included for every "
         "message.<|end|>",
     .system = {"<|start|>developer<|message|># Instructions\n\n", "\n\n<|end|>"},
     .user = {"<|start|>user<|message|>", "<|end|>"},
     .assistant = {"<|start|>assistant<|channel|>final<|message|>", "<|end|>"},
     .generation = "<|start|>assistant",
     .end = "<|return|>",
     .tokens = {"<|start|>", "<|message|>", "<|channel|>"}},
    {.name = "deepseek-v2",
     .begin = "<｜begin▁of▁sentence｜>",
     .system = {"", "\n\n"},
     .user = {"User: ", "\n\n"},
     .assistant = {"Assistant: ", "<｜end▁of▁sentence｜>"},
     .generation = "Assistant:",
     .end = "<｜end▁of▁sentence｜>",
     .tokens = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"}},
    DeepSeek("deepseek-v3", "<｜Assistant｜>"),
    DeepSeek("deepseek-r1", "<｜Assistant｜><think>\n"),
    {.name = "starcoder2",
     .begin = "<|endoftext|>You are an exceptionally intelligent coding assistant that "
              "consistently delivers accurate and reliable responses to user instructions.\n\n",
     .system = {},
     .user = {"### Instruction\n", "\n\n"},
     .assistant = {"### Response\n", "<|endoftext|>\n\n"},
     .generation = "### Response\n",
     .end = "<|endoftext|>",
     .place = SystemPlace::kNone,
     .tokens = {"<|endoftext|>"}},
    {.name = "zephyr",
     .begin = "",
     .system = {"<|system|>\n", "</s>\n"},
     .user = {"<|user|>\n", "</s>\n"},
     .assistant = {"<|assistant|>\n", "</s>\n"},
     .generation = "<|assistant|>\n",
     .end = "</s>",
     .tokens = {"</s>"}},
};

}  // namespace

std::span<const ChatFormat> ChatFormats() { return kFormats; }

}  // namespace headroom::text
