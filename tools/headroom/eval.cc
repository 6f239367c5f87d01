// headroom eval: how good a model is with the cache it is given.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/files.h"
#include "headroom/needle.h"
#include "headroom/options.h"
#include "headroom/process.h"
#include "headroom/progress.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Examples:\n"
    "  headroom eval needle model.hrm --kv f16,int8\n"
    "  headroom eval kl model-int4.hrm --reference model-f32.hrm --text book.txt\n"
    "\n"
    "`headroom eval needle --help` and `headroom eval kl --help` explain them.";

constexpr char kNeedleFooter[] =
    "Each context is read once; each of its questions is then asked by itself after it, answered "
    "greedily\n"
    "up to the end of the line, and counts only when the answer agrees exactly.\n"
    "\n"
    "A line of --data FILE is one context:\n"
    "  {\"distance\": 500, \"context\": \"...\", \"questions\": [{\"prompt\": \"...\", \"answer\": "
    "\"...\"}]}\n"
    "\n"
    "Examples:\n"
    "  headroom eval needle model.hrm\n"
    "  headroom eval needle model.hrm --kv f16,int8 --distance 500,2000 --json\n"
    "  headroom eval needle model.hrm --data my-needles.jsonl --show-wrong";

constexpr uint32_t kAnswerTokens = 16;

struct NeedleArguments {
  ModelArguments model;
  SessionArguments session;
  std::vector<std::string> kv = {"auto"};
  std::vector<uint32_t> distances;
  std::string data;
  uint32_t limit = 0;
  bool show_wrong = false;
};

struct Score {
  uint32_t distance = 0;
  std::string kv = "auto";
  uint32_t questions = 0;
  uint32_t right = 0;
  uint32_t context_tokens = 0;  // of the session
  uint64_t state_bytes = 0;
  uint64_t total_bytes = 0;
  double seconds = 0;

  double Accuracy() const { return questions == 0 ? 0 : static_cast<double>(right) / questions; }
};

struct TokenizedQuestion {
  std::vector<int32_t> prompt;
  const NeedleQuestion* question = nullptr;
};
struct TokenizedContext {
  std::vector<int32_t> text;
  std::vector<TokenizedQuestion> questions;
};

std::vector<NeedleContext> LoadNeedles(const NeedleArguments& arguments) {
  if (!arguments.data.empty()) {
    return ParseNeedles(ReadWholeFile(arguments.data, "the needle data"), arguments.data);
  }
  if (EmbeddedNeedles().empty()) {
    throw Failure(HR_UNSUPPORTED, "this build carries no needle data; give a file with --data");
  }
  return ParseNeedles(EmbeddedNeedles(), "the needle data of this program");
}

class NeedleEval {
 public:
  NeedleEval(const NeedleArguments& arguments, hr_model* model, size_t total_questions)
      : arguments_(arguments), model_(model), total_(total_questions) {}

  // All contexts of one distance with one cache type.
  Score Run(uint32_t distance, const std::vector<const NeedleContext*>& contexts,
            const std::string& kv);

 private:
  std::vector<TokenizedContext> TokenizeAll(
      const std::vector<const NeedleContext*>& contexts) const;
  void Ask(hr_session* session, const TokenizedContext& context, Score& score);
  std::string Answer(hr_session* session, const TokenizedContext& context,
                     const TokenizedQuestion& question);

  const NeedleArguments& arguments_;
  hr_model* model_;
  ProgressBar bar_{"asking"};
  size_t total_;
  size_t done_ = 0;
};

std::vector<TokenizedContext> NeedleEval::TokenizeAll(
    const std::vector<const NeedleContext*>& contexts) const {
  std::vector<TokenizedContext> all;
  uint32_t taken = 0;
  for (const NeedleContext* context : contexts) {
    TokenizedContext tokenized;
    tokenized.text = Tokenize(model_, context->text, HR_TOKENIZE_NO_SPECIAL);
    for (const NeedleQuestion& question : context->questions) {
      if (arguments_.limit != 0 && taken == arguments_.limit) break;
      ++taken;
      tokenized.questions.push_back(
          {Tokenize(model_, question.prompt, HR_TOKENIZE_NO_BEGIN | HR_TOKENIZE_NO_SPECIAL),
           &question});
    }
    if (!tokenized.questions.empty()) all.push_back(std::move(tokenized));
  }
  return all;
}

Score NeedleEval::Run(uint32_t distance, const std::vector<const NeedleContext*>& contexts,
                      const std::string& kv) {
  const uint64_t start_ns = NowNs();
  const std::vector<TokenizedContext> all = TokenizeAll(contexts);
  size_t longest = 0;
  for (const TokenizedContext& context : all) {
    for (const TokenizedQuestion& question : context.questions) {
      longest = std::max(longest, context.text.size() + question.prompt.size());
    }
  }
  hr_session_options options = arguments_.session.options;
  options.profile = ProfileOf(kv);
  if (options.context_tokens == 0)
    options.context_tokens = static_cast<uint32_t>(longest) + kAnswerTokens;
  const SessionHandle session = CreateSession(model_, options, longest);
  hr_plan_report plan = {};
  plan.struct_size = sizeof(plan);
  Check(hr_session_get_plan(session.get(), &plan), hr_error{}, "cannot read the plan");
  Score score;
  score.distance = distance;
  score.kv = plan.profile;
  score.context_tokens = plan.context_tokens;
  score.state_bytes = plan.state_bytes;
  score.total_bytes = plan.total_bytes;
  for (const TokenizedContext& context : all) Ask(session.get(), context, score);
  score.seconds = static_cast<double>(NowNs() - start_ns) * 1e-9;
  bar_.Finish();
  return score;
}

void NeedleEval::Ask(hr_session* session, const TokenizedContext& context, Score& score) {
  hr_error error = {};
  Check(hr_session_rewind(session, 0, &error), error, "cannot rewind");
  Check(hr_session_prefill(session, context.text.data(), context.text.size(), &error), error,
        "cannot read a context of distance " + std::to_string(score.distance));
  for (const TokenizedQuestion& question : context.questions) {
    const std::string answer = Answer(session, context, question);
    const bool right = Trim(answer) == Trim(question.question->answer);
    score.right += right ? 1 : 0;
    ++score.questions;
    if (arguments_.show_wrong && !right) {
      bar_.Finish();
      std::fprintf(stderr, "distance %" PRIu32 ", %s: %s -> %s (expected %s)\n", score.distance,
                   score.kv.c_str(), EscapeControls(question.question->prompt).c_str(),
                   EscapeControls(Trim(answer)).c_str(),
                   EscapeControls(Trim(question.question->answer)).c_str());
    }
    bar_.Update(static_cast<double>(++done_) / static_cast<double>(total_));
  }
}

std::string NeedleEval::Answer(hr_session* session, const TokenizedContext& context,
                               const TokenizedQuestion& question) {
  hr_error error = {};
  const uint32_t position = static_cast<uint32_t>(context.text.size());
  if (hr_session_rewind(session, position, &error) == HR_UNSUPPORTED) {
    // A ring has lost the rows: read the context again.
    Check(hr_session_rewind(session, 0, &error), error, "cannot rewind");
    Check(hr_session_prefill(session, context.text.data(), context.text.size(), &error), error,
          "cannot read a context again");
  }
  Check(hr_session_prefill(session, question.prompt.data(), question.prompt.size(), &error), error,
        "cannot read a question");
  const char* const newline = "\n";
  std::string answer;
  hr_generate_options options = {};
  options.struct_size = sizeof(options);
  options.sampler.struct_size = sizeof(options.sampler);
  options.max_tokens = kAnswerTokens;
  options.stop_sequences = &newline;
  options.stop_sequence_count = 1;
  options.on_text = [](void* user_data, const char* text, size_t bytes, int32_t) {
    static_cast<std::string*>(user_data)->append(text, bytes);
    return true;
  };
  options.user_data = &answer;
  hr_generate_result result = {};
  result.struct_size = sizeof(result);
  Check(hr_session_generate(session, &options, &result, &error), error, "cannot answer");
  return answer;
}

void PrintScore(const Score& score) {
  std::printf("%8" PRIu32 "  %-5s %9.1f %%  %9" PRIu32 "  %10s  %8.1f s\n", score.distance,
              score.kv.c_str(), 100 * score.Accuracy(), score.questions,
              FormatBytes(score.state_bytes).c_str(), score.seconds);
  std::fflush(stdout);
}

Json ScoreJson(const Score& score) {
  return {{"distance", score.distance},
          {"accuracy", score.Accuracy()},
          {"kv", score.kv},
          {"bytes", score.state_bytes},
          {"questions", score.questions},
          {"right", score.right},
          {"context_tokens", score.context_tokens},
          {"total_bytes", score.total_bytes},
          {"seconds", score.seconds}};
}

using ByDistance = std::map<uint32_t, std::vector<const NeedleContext*>>;

ByDistance Group(const NeedleArguments& arguments, const std::vector<NeedleContext>& contexts) {
  ByDistance groups;
  std::set<uint32_t> there;
  for (const NeedleContext& context : contexts) {
    if (context.questions.empty()) continue;
    there.insert(context.distance);
    const auto& wanted = arguments.distances;
    if (!wanted.empty() && std::count(wanted.begin(), wanted.end(), context.distance) == 0)
      continue;
    groups[context.distance].push_back(&context);
  }
  if (there.empty()) {
    throw Failure(HR_INVALID_ARGUMENT, "the needle data " + arguments.data + " holds no question",
                  "`headroom eval needle --help` shows what a line of it looks like.");
  }
  if (groups.empty()) {
    std::string distances;
    for (const uint32_t distance : there) {
      distances += (distances.empty() ? "" : ", ") + std::to_string(distance);
    }
    throw Failure(HR_INVALID_ARGUMENT,
                  "no question of the data has such a --distance; there are " + distances);
  }
  return groups;
}

size_t CountQuestions(const NeedleArguments& arguments, const ByDistance& groups) {
  size_t total = 0;
  for (const auto& [distance, contexts] : groups) {
    size_t questions = 0;
    for (const NeedleContext* context : contexts) questions += context->questions.size();
    total += arguments.limit == 0 ? questions : std::min<size_t>(questions, arguments.limit);
  }
  return total * arguments.kv.size();
}

int Needle(const NeedleArguments& arguments, bool json) {
  const std::vector<NeedleContext> contexts = LoadNeedles(arguments);
  const ByDistance groups = Group(arguments, contexts);
  const ModelHandle model = OpenModel(arguments.model.Request());
  NeedleEval eval(arguments, model.get(), CountQuestions(arguments, groups));
  if (!json) {
    std::printf("%s\n%8s  %-5s %11s  %9s  %10s\n", ModelLine(FactsOf(model.get())).c_str(),
                "distance", "cache", "right", "questions", "state");
  }
  Json results = Json::array();
  for (const std::string& kv : arguments.kv) {
    for (const auto& [distance, members] : groups) {
      const Score score = eval.Run(distance, members, kv);
      results.push_back(ScoreJson(score));
      if (!json) PrintScore(score);
    }
  }
  if (json) PrintJson({{"results", results}, {"model", FactsJson(FactsOf(model.get()))}});
  return kOk;
}

}  // namespace

void AddEval(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<NeedleArguments>();
  CLI::App& eval = *app.add_subcommand("eval", "measure how good a model is");
  eval.require_subcommand(1);
  eval.footer(kFooter);
  AddEvalKl(eval, invocation);
  CLI::App& command =
      *eval.add_subcommand("needle", "questions about facts far back in the context");
  command.footer(kNeedleFooter);
  AddModelArguments(command, arguments->model);
  AddListOption(command, "--kv", arguments->kv, kKvHelp);
  AddListOption(command, "--distance", arguments->distances, "only these distances");
  command.add_option("--data", arguments->data, "a data set instead of the one in this program")
      ->type_name("FILE");
  command.add_option("--limit", arguments->limit, "at most N questions per distance (0: all)")
      ->type_name("N");
  AddContextOption(command, arguments->session,
                   "tokens to have room for (default: what each distance needs)");
  AddBudgetOptions(command, arguments->session);
  AddThreadOptions(command, arguments->session);
  command.add_flag("--show-wrong", arguments->show_wrong, "list wrong answers on stderr");
  command.add_flag("--json", invocation.json, "results as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Needle(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
