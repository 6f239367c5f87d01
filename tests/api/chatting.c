/* Conversations: formats by name, tokens of the next turn, the session that keeps them. */
#include <stdlib.h>

#include "walk.h"

static hr_chat_message message(int32_t role, const char* text) {
  hr_chat_message made;
  made.role = role;
  made.text = text;
  made.bytes = strlen(text);
  return made;
}

static void formats_have_names(hr_model* model) {
  size_t i, count = 0;
  hr_error error;
  hr_chat_facts facts;
  bool plain = false, chatml = false;
  for (i = 0; hr_chat_format_name(i) != NULL; ++i) {
    plain = plain || strcmp(hr_chat_format_name(i), "plain") == 0;
    chatml = chatml || strcmp(hr_chat_format_name(i), "chatml") == 0;
    EXPECT(strlen(hr_chat_format_name(i)) < sizeof(facts.format));
    ++count;
  }
  EXPECT(count > 20 && plain && chatml);
  EXPECT(hr_chat_format_name(count + 5) == NULL);
  memset(&facts, 0, sizeof(facts));
  facts.struct_size = sizeof(facts);
  EXPECT_STATUS(HR_OK, &error, hr_chat_get_facts(model, "question-answer", &facts, &error));
  EXPECT(strcmp(facts.format, "question-answer") == 0 && strcmp(facts.end, "\n") == 0);
  EXPECT(facts.takes_system);
  /* The model names none, and its vocabulary has not the tokens of most. */
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_chat_get_facts(model, NULL, &facts, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_chat_get_facts(model, "chatml", &facts, &error));
  EXPECT(strstr(error.text, "<|im_start|>") != NULL);
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_chat_get_facts(model, "no such", &facts, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_chat_get_facts(NULL, "plain", &facts, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_chat_get_facts(model, "plain", NULL, &error));
}

static void turns_read_only_what_is_new(hr_model* model) {
  const char* expected = "\nQuestion: two\nAnswer:";
  hr_chat_message messages[4];
  hr_chat_options options;
  int32_t tokens[128];
  char text[128];
  size_t count = 0, needed = 0, bytes = 0;
  hr_error error;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.format = "question-answer";
  messages[0] = message(HR_ROLE_SYSTEM, "Be brief.");
  messages[1] = message(HR_ROLE_USER, "one");
  messages[2] = message(HR_ROLE_ASSISTANT, "1");
  messages[3] = message(HR_ROLE_USER, "two");
  options.done = 3;
  options.answer_cut = true;
  EXPECT_STATUS(HR_BUFFER_TOO_SMALL, &error,
                hr_chat_tokens(model, messages, 4, &options, NULL, 0, &needed, &error));
  EXPECT_STATUS(HR_OK, &error,
                hr_chat_tokens(model, messages, 4, &options, tokens, 128, &count, &error));
  EXPECT(count == needed && count > 4);
  EXPECT_STATUS(HR_OK, &error,
                hr_detokenize(model, tokens, count, text, sizeof(text), &bytes, &error));
  EXPECT(bytes == strlen(expected) && memcmp(text, expected, bytes) == 0);
  options.done = 0;
  EXPECT_STATUS(HR_OK, &error,
                hr_chat_tokens(model, messages, 2, &options, tokens, 128, &count, &error));
  EXPECT_STATUS(HR_OK, &error,
                hr_detokenize(model, tokens, count, text, sizeof(text), &bytes, &error));
  expected = "Be brief.\nQuestion: one\nAnswer:";
  EXPECT(bytes == strlen(expected) && memcmp(text, expected, bytes) == 0);
}

static void bad_conversations(hr_model* model) {
  hr_chat_message one;
  hr_chat_options options;
  size_t count = 0;
  int32_t token = 0;
  hr_error error;
  memset(&options, 0, sizeof(options));
  options.format = "plain"; /* struct_size 0: the first version */
  one = message(HR_ROLE_USER, "x");
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(NULL, &one, 1, &options, NULL, 0, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, NULL, 1, &options, NULL, 0, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, &one, 1, &options, NULL, 1, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, &one, 1, &options, &token, 1, NULL, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error,
                hr_chat_tokens(model, &one, 1, NULL, NULL, 0, &count, &error));
  options.done = 2;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, &one, 1, &options, NULL, 0, &count, &error));
  options.done = 0;
  options.date = "tomorrow";
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, &one, 1, &options, NULL, 0, &count, &error));
  options.date = NULL;
  one.role = 7;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, &one, 1, &options, NULL, 0, &count, &error));
  one.role = HR_ROLE_USER;
  one.text = NULL;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_chat_tokens(model, &one, 1, &options, NULL, 0, &count, &error));
  EXPECT_STATUS(HR_OK, &error, hr_chat_tokens(model, NULL, 0, &options, NULL, 0, &count, &error));
  EXPECT(count == 0);
}

void walk_chatting(const walk_input* input) {
  hr_chat_message one = message(HR_ROLE_USER, "x");
  hr_chat_options options;
  size_t count = 0;
  hr_error error;
  hr_model* text = walk_open(input->text_path, input->scratch_dir);
  hr_model* window = walk_open(input->window_path, input->scratch_dir);
  memset(&options, 0, sizeof(options));
  options.format = "plain";
  if (text != NULL) {
    formats_have_names(text);
    turns_read_only_what_is_new(text);
    bad_conversations(text);
  }
  if (window != NULL) { /* it carries no tokenizer */
    EXPECT_STATUS(HR_UNSUPPORTED, &error,
                  hr_chat_tokens(window, &one, 1, &options, NULL, 0, &count, &error));
  }
  hr_model_release(text);
  hr_model_release(window);
}
