// headroom eval: how good a model is with the cache it is given.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/needle_eval.h"
#include "headroom/options.h"
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
    "  headroom eval needle model.hrm --all-profiles\n"
    "  headroom eval needle model.hrm --data my-needles.jsonl --show-wrong";

struct NeedleArguments {
  ModelArguments model;
  SessionArguments session;
  std::vector<std::string> kv = {"auto"};
  std::vector<uint32_t> distances;
  std::string data;
  uint32_t limit = 0;
  bool show_wrong = false;
  bool all_profiles = false;
};

void PrintScore(const NeedleScore& score) {
  std::printf("%8" PRIu32 "  %-7s %7.1f %%  %9" PRIu32 "  %10s  %4.0f %%  %6.1f s\n",
              score.distance, score.kv.c_str(), 100 * score.Accuracy(), score.questions,
              FormatBytes(score.state_bytes).c_str(), 100 * score.Share(), score.seconds);
  std::fflush(stdout);
}

Json ScoreJson(const NeedleScore& score) {
  return {{"distance", score.distance},
          {"accuracy", score.Accuracy()},
          {"kv", score.kv},
          {"bytes", score.state_bytes},
          {"f16_bytes", score.f16_bytes},
          {"questions", score.questions},
          {"right", score.right},
          {"context_tokens", score.context_tokens},
          {"total_bytes", score.total_bytes},
          {"seconds", score.seconds}};
}

size_t CountQuestions(const NeedleArguments& arguments, const NeedlesByDistance& groups) {
  size_t total = 0;
  for (const auto& [distance, contexts] : groups) {
    size_t questions = 0;
    for (const NeedleContext* context : contexts) questions += context->questions.size();
    total += arguments.limit == 0 ? questions : std::min<size_t>(questions, arguments.limit);
  }
  return total;
}

// Bar, and wrong answers where they are wanted.
NeedleTask TaskOf(const NeedleArguments& arguments, hr_model* model, size_t total,
                  ProgressBar& bar) {
  NeedleTask task;
  task.model = model;
  task.options = arguments.session.options;
  task.limit = arguments.limit;
  task.on_question = [&bar, total, done = size_t{0}]() mutable {
    bar.Update(static_cast<double>(++done) / static_cast<double>(total));
  };
  if (!arguments.show_wrong) return task;
  task.on_wrong = [&bar](const NeedleScore& score, const NeedleQuestion& question,
                         const std::string& answer) {
    bar.Finish();
    std::fprintf(stderr, "distance %" PRIu32 ", %s: %s -> %s (expected %s)\n", score.distance,
                 score.kv.c_str(), EscapeControls(question.prompt).c_str(),
                 EscapeControls(Trim(answer)).c_str(),
                 EscapeControls(Trim(question.answer)).c_str());
  };
  return task;
}

int Needle(const NeedleArguments& arguments, bool json) {
  const std::vector<NeedleContext> contexts = LoadNeedles(arguments.data);
  const NeedlesByDistance groups = GroupNeedles(contexts, arguments.distances, arguments.data);
  const ModelHandle model = OpenModel(arguments.model.Request());
  const std::vector<std::string> caches =
      arguments.all_profiles ? ProfileNames(model.get()) : arguments.kv;
  ProgressBar bar{"asking"};
  const NeedleTask task =
      TaskOf(arguments, model.get(), caches.size() * CountQuestions(arguments, groups), bar);
  if (!json) {
    std::printf("%s\n%8s  %-7s %9s  %9s  %10s  %6s\n", ModelLine(FactsOf(model.get())).c_str(),
                "distance", "cache", "right", "questions", "state", "of f16");
  }
  Json results = Json::array();
  for (const std::string& kv : caches) {
    for (const auto& [distance, members] : groups) {
      const NeedleScore score = AskNeedles(task, distance, members, kv);
      bar.Finish();
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
  AddAllProfilesOption(command, arguments->all_profiles);
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
