// headroom logits: tokens in, logits out, for comparing with other implementations.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/npy.h"
#include "headroom/options.h"
#include "headroom/progress.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Writes float32 [tokens, vocabulary]: row t holds the logits after token t.\n"
    "\n"
    "Examples:\n"
    "  headroom logits model.hrm --tokens 1,15043,29892 --out logits.npy\n"
    "  headroom logits model.hrm --text \"The quick brown fox\" --out logits.npy --kv f32";

// Tokens per call: bounds the buffer for large vocabularies.
constexpr size_t kRowsPerCall = 32;

struct LogitsArguments {
  ModelArguments model;
  SessionArguments session;
  std::vector<int32_t> tokens;
  std::string text;
  std::string out;
};

// The tokens to feed; every one of the vocabulary, at least one.
std::vector<int32_t> TokensOf(const LogitsArguments& arguments, const hr_model* model,
                              uint32_t vocabulary) {
  std::vector<int32_t> tokens = arguments.tokens;
  if (tokens.empty()) tokens = Tokenize(model, arguments.text, 0);
  if (tokens.empty()) throw Failure(HR_INVALID_ARGUMENT, "--text gives no token; give it some");
  for (const int32_t token : tokens) {
    if (static_cast<uint32_t>(token) < vocabulary) continue;
    throw Failure(HR_INVALID_ARGUMENT, "token " + std::to_string(token) +
                                           " is outside the vocabulary of " +
                                           std::to_string(vocabulary));
  }
  return tokens;
}

// "1,15043,29892": every place between commas holds an id.
std::vector<int32_t> ParseTokens(const std::string& text) {
  std::vector<int32_t> tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;; ++at) {
    int32_t token = -1;
    const auto [stop, error] = std::from_chars(at, end, token);
    if (error != std::errc() || token < 0 || (stop != end && *stop != ',')) {
      throw CLI::ValidationError("--tokens", "'" + text + "' is not token ids with commas between");
    }
    tokens.push_back(token);
    if (stop == end) return tokens;
    at = stop;
  }
}

int Logits(const LogitsArguments& arguments, bool json) {
  const ModelHandle model = OpenModel(arguments.model.Request());
  const hr_model_facts facts = FactsOf(model.get());
  const std::vector<int32_t> tokens = TokensOf(arguments, model.get(), facts.vocabulary);
  hr_session_options options = arguments.session.options;
  if (options.context_tokens == 0) options.context_tokens = static_cast<uint32_t>(tokens.size());
  const SessionHandle session = CreateSession(model.get(), options, tokens.size());

  NpyWriter file(arguments.out, tokens.size(), facts.vocabulary);
  std::vector<float> rows(std::min(kRowsPerCall, tokens.size()) * facts.vocabulary);
  ProgressBar bar("logits");
  for (size_t done = 0; done < tokens.size();) {
    const size_t count = std::min(kRowsPerCall, tokens.size() - done);
    hr_error error = {};
    Check(hr_session_prefill_logits(session.get(), tokens.data() + done, count, rows.data(),
                                    rows.size(), &error),
          error, "cannot compute logits");
    file.WriteRows(rows.data(), count);
    done += count;
    bar.Update(static_cast<double>(done) / static_cast<double>(tokens.size()));
  }
  file.Close();
  bar.Finish();
  if (json) {
    PrintJson({{"out", arguments.out},
               {"dtype", "float32"},
               {"shape", {tokens.size(), facts.vocabulary}},
               {"tokens", tokens}});
  } else {
    std::printf("%s: float32 [%zu, %u]\n", arguments.out.c_str(), tokens.size(), facts.vocabulary);
  }
  return kOk;
}

}  // namespace

void AddLogits(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<LogitsArguments>();
  CLI::App& command =
      *app.add_subcommand("logits", "write the logits of given tokens to a .npy file");
  command.footer(kFooter);
  AddModelArguments(command, arguments->model);
  auto* group = command.add_option_group("input", "exactly one of");
  group
      ->add_option_function<std::string>(
          "--tokens",
          [arguments](const std::string& text) { arguments->tokens = ParseTokens(text); },
          "token ids, separated by commas")
      ->type_name("IDS");
  group->add_option("--text", arguments->text, "text for the model's tokenizer");
  group->require_option(1);
  command.add_option("--out", arguments->out, "the .npy file to write")->required();
  AddContextOption(command, arguments->session, "tokens to have room for (default: those given)");
  AddBudgetOptions(command, arguments->session);
  AddKvOption(command, arguments->session);
  AddThreadOptions(command, arguments->session);
  command.add_flag("--json", invocation.json, "shape and tokens as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Logits(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
