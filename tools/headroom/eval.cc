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
#include "headroom/files.h"
#include "headroom/needle_eval.h"
#include "headroom/needle_report.h"
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
    "  headroom eval needle softmax.hrm hybrid.hrm --kv f16,int8 --svg compared.svg\n"
    "  headroom eval needle model.hrm --data my-needles.jsonl --show-wrong";

struct NeedleArguments {
  std::vector<std::string> models;
  ModelArguments model;  // of each in turn
  SessionArguments session;
  std::vector<std::string> kv = {"auto"};
  std::vector<uint32_t> distances;
  std::string data, svg;
  uint32_t limit = 0;
  bool show_wrong = false;
  bool all_profiles = false;
};

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

// One model with each of its caches, at each distance.
class NeedleRun {
 public:
  NeedleRun(const NeedleArguments& arguments, const NeedlesByDistance& groups, bool json)
      : arguments_(arguments), groups_(groups), json_(json) {}

  void Ask(const std::string& path) {
    OpenRequest request = arguments_.model.Request();
    request.path = path;
    const ModelHandle model = OpenModel(request);
    const hr_model_facts facts = FactsOf(model.get());
    facts_.push_back(FactsJson(facts));
    const std::vector<std::string> caches = CachesOf(model.get());
    ProgressBar bar{"asking"};
    const NeedleTask task =
        TaskOf(arguments_, model.get(), caches.size() * CountQuestions(arguments_, groups_), bar);
    if (!json_) PrintNeedleHead(facts);
    for (const std::string& kv : caches) {
      for (const auto& [distance, members] : groups_) {
        scores_.push_back(AskNeedles(task, distance, members, kv));
        scores_.back().model = path;
        bar.Finish();
        if (!json_) PrintNeedleScore(scores_.back());
      }
    }
  }

  const std::vector<NeedleScore>& scores() const { return scores_; }
  const Json& facts() const { return facts_; }

 private:
  // A model without cached rows is asked once.
  std::vector<std::string> CachesOf(const hr_model* model) const {
    if (FactsOf(model).layers == 0) return {"auto"};
    return arguments_.all_profiles ? ProfileNames(model) : arguments_.kv;
  }

  const NeedleArguments& arguments_;
  const NeedlesByDistance& groups_;
  bool json_;
  std::vector<NeedleScore> scores_;
  Json facts_ = Json::array();
};

int Needle(const NeedleArguments& arguments, bool json) {
  const std::vector<NeedleContext> contexts = LoadNeedles(arguments.data);
  const NeedlesByDistance groups = GroupNeedles(contexts, arguments.distances, arguments.data);
  NeedleRun run(arguments, groups, json);
  for (const std::string& path : arguments.models) run.Ask(path);
  if (!arguments.svg.empty()) WriteText(arguments.svg, NeedleSvg(run.scores()));
  if (json) PrintJson({{"results", NeedleJson(run.scores())}, {"models", run.facts()}});
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
  command.add_option("MODELS", arguments->models, "the .hrm models to ask")->required();
  AddCacheOptions(command, arguments->model);
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
  command
      .add_option("--svg", arguments->svg,
                  "a picture: answers against bytes, a line per model, a chart per distance")
      ->type_name("FILE");
  command.add_flag("--show-wrong", arguments->show_wrong, "list wrong answers on stderr");
  command.add_flag("--json", invocation.json, "results as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Needle(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
