// headroom tune: finds what each head of a model can do without, and writes it into the file.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "convert/profiles.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/files.h"
#include "headroom/head_labels.h"
#include "headroom/needle_eval.h"
#include "headroom/options.h"
#include "headroom/progress.h"
#include "headroom/tune_ranks.h"
#include "headroom/tune_report.h"
#include "headroom/yardstick.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Every KV head is given every --role by itself, and what that changes in the model's "
    "predictions\n"
    "is measured: at the answers to needle questions, or over a --text. From these losses the "
    "best\n"
    "caches for falling numbers of bytes follow; those are measured as a whole, on other "
    "questions\n"
    "or other text, and what is worth its bytes becomes a profile of OUT, best first. `--kv auto`\n"
    "then takes the best profile that fits a budget.\n"
    "\n"
    "Of a model in bases (convert --kv-basis) the default roles include ranks: what three quarters "
    "to\n"
    "a quarter of the keys' or of the values' numbers lose is measured head by head, all "
    "combinations\n"
    "of both sides in f16 and int8 follow, and the search takes numbers away where they cost "
    "least.\n"
    "\n"
    "With --label or --heads heads are not measured one by one. A number for each KV head says "
    "how\n"
    "much it looks far back; the lower ones are given a --role with a window. --label random "
    "finds\n"
    "the numbers by what heads attend to in random tokens that repeat (RazorAttention), --label\n"
    "needles by whether they attend to the answers of needle questions (retrieval heads). --heads\n"
    "takes them from a FILE, a line for each layer (as DuoAttention publishes them).\n"
    "\n"
    "Examples:\n"
    "  headroom tune model.hrm --out tuned.hrm --page tuned.html\n"
    "  headroom tune model.hrm --out tuned.hrm --text book.txt --by layer\n"
    "  headroom tune model.hrm --out tuned.hrm --label random\n"
    "  headroom tune model.hrm --out tuned.hrm --heads full_attention_heads.tsv\n"
    "  headroom tune model.hrm --role \"int8 window rows=512\" --role int4/32 --json";

constexpr char kFull[] = "f16";  // role 0
const std::vector<std::string> kRoles = {
    "int8",
    "keys=int8 values=int4/32 rotate exact=4",
    "int4/32 rotate exact=4",
    "int8 window rows=256",
    "int8 window rows=64",
    "int4/32 rotate exact=4 window rows=256",
    "int4/32 rotate exact=4 window rows=64",
    "int4/32 rotate exact=4 compensated rows=64",
};
// What profiles are looked for: shares of the f16 bytes.
constexpr double kShares[] = {0.75, 0.5, 0.35, 0.25, 0.2, 0.16, 0.125, 0.1, 0.08, 0.0625, 0.04, 0};
constexpr uint32_t kRandomTokens = 512;  // four times
// Of the heads by their labels, the part that keeps everything.
constexpr double kFullHeads[] = {0.75, 0.5, 0.375, 0.25, 0.125, 0};

struct TuneArguments {
  ModelArguments model;
  SessionArguments session;
  std::string out, page, svg, data, text, heads;
  std::vector<std::string> roles;  // none: kRoles, and ranks
  std::string by = "head", label = "measure";
  std::vector<uint32_t> distances;
  double least = 0.8, most = 0.5;
  uint32_t window = 2048;
  uint32_t limit = 0;
};

// Where a cache is judged: places where predictions are compared, and questions, if there are some.
struct Judges {
  std::unique_ptr<Yardstick> search, judge;
  std::vector<NeedleContext> contexts;
  NeedlesByDistance groups;
  uint32_t distance = 0;  // of the questions that judge; 0: none
  std::string search_name, judge_name;
  std::vector<Passage> search_passages;  // of needles
};

class Tuner {
 public:
  Tuner(const TuneArguments& arguments, hr_model* model) : arguments_(arguments), model_(model) {}

  TuneReport Run();

 private:
  void JudgeByText();
  void JudgeByNeedles();
  uint64_t StateBytes(const std::string& kv) const;  // 0: the model does not take it
  void FindUnits();
  std::string Alone(size_t unit, const std::string& role) const;
  bool Takes(const std::string& role) const;
  void CheckRoles() const;
  void AddCuts();
  void MeasureChoices();
  void Combine();
  std::vector<Assignment> Searched();
  HeadLabels Labels();
  std::vector<Assignment> Labelled();
  std::string PolicyOf(const std::vector<uint8_t>& roles) const;
  void Measure(const std::vector<Assignment>& assignments);
  bool Usable(const TunedProfile& profile) const;
  void Name();
  std::function<void(double)> Part(size_t done, size_t total);

  const TuneArguments& arguments_;
  hr_model* model_;
  Judges judges_;
  TuneReport report_;
  double full_bytes_ = 0;
  uint32_t key_width_ = 0, value_width_ = 0;  // the largest
  std::vector<Cut> cuts_;                     // of the last roles that are measured
  ProgressBar bar_{"tuning"};
};

std::function<void(double)> Tuner::Part(size_t done, size_t total) {
  return [this, done, total](double part) {
    bar_.Update((static_cast<double>(done) + part) / static_cast<double>(total));
  };
}

void Tuner::JudgeByText() {
  const std::string text = ReadWholeFile(arguments_.text, "the text");
  std::vector<int32_t> tokens = Tokenize(model_, text, HR_TOKENIZE_NO_SPECIAL);
  if (arguments_.limit != 0 && tokens.size() > arguments_.limit) tokens.resize(arguments_.limit);
  const size_t window = std::min(arguments_.window, FactsOf(model_).context_tokens - kAnswerTokens);
  std::vector<Passage> passages = PassagesOf(tokens, window);
  if (passages.size() < 2) {
    throw Failure(HR_INVALID_ARGUMENT,
                  "the text gives " + std::to_string(tokens.size()) +
                      " tokens, fewer than two "
                      "windows of " +
                      std::to_string(window),
                  "Give more text, or a smaller --window.");
  }
  const auto middle = passages.begin() + static_cast<ptrdiff_t>(passages.size() / 2);
  std::vector<Passage> judged(middle, passages.end());
  passages.erase(middle, passages.end());
  const auto& options = arguments_.session.options;
  judges_.search = std::make_unique<Yardstick>(model_, std::move(passages), options, Part(0, 2));
  judges_.judge = std::make_unique<Yardstick>(model_, std::move(judged), options, Part(1, 2));
  const std::string windows = " of the text in windows of " + std::to_string(window) + " tokens";
  judges_.search_name = "first half" + windows;
  judges_.judge_name = "second half" + windows;
}

// The longest distance judges; the next shorter one, other contexts, is searched with.
void Tuner::JudgeByNeedles() {
  judges_.contexts = LoadNeedles(arguments_.data);
  judges_.groups = GroupNeedles(judges_.contexts, arguments_.distances, arguments_.data);
  const auto last = std::prev(judges_.groups.end());
  const auto search = judges_.groups.size() > 1 ? std::prev(last) : last;
  judges_.distance = last->first;
  const auto& options = arguments_.session.options;
  judges_.search_passages = PassagesOf(model_, search->second, arguments_.limit);
  judges_.search =
      std::make_unique<Yardstick>(model_, judges_.search_passages, options, Part(0, 2));
  judges_.judge = std::make_unique<Yardstick>(
      model_, PassagesOf(model_, last->second, arguments_.limit), options, Part(1, 2));
  judges_.search_name = "answers about facts " + std::to_string(search->first) + " tokens back";
  judges_.judge_name = "answers about facts " + std::to_string(last->first) + " tokens back";
}

uint64_t Tuner::StateBytes(const std::string& kv) const {
  hr_session_options options = judges_.judge->options();
  options.profile = kv.c_str();
  hr_plan_report plan = {};
  plan.struct_size = sizeof(plan);
  hr_error error = {};
  const hr_status status = hr_plan(model_, &options, &plan, &error);
  if (status == HR_UNSUPPORTED) return 0;
  Check(status, error, "cannot plan the cache \"" + kv + "\"");
  return plan.state_bytes;
}

// By heads where a layer lets its heads differ and heads were asked for.
void Tuner::FindUnits() {
  hr_session_options options = judges_.judge->options();
  options.profile = kFull;
  const uint32_t layers = FactsOf(model_).layers;
  for (uint32_t i = 0; i < layers; ++i) {
    hr_plan_layer layer = {};
    layer.struct_size = sizeof(layer);
    hr_error error = {};
    Check(hr_plan_get_layer(model_, &options, i, &layer, &error), error, "cannot plan a layer");
    key_width_ = std::max(key_width_, layer.key_width);
    value_width_ = std::max(value_width_, layer.value_width);
    TuneUnit all{i, {}};
    for (uint32_t head = 0; head < layer.kv_heads; ++head) all.heads.push_back(head);
    const std::string apart = std::string(kFull) + "; heads=" + std::to_string(i) + ".0 int8";
    const bool heads = arguments_.by == "head" && layer.kv_heads > 1 && StateBytes(apart) != 0;
    if (!heads) report_.units.push_back(all);
    for (uint32_t head = 0; heads && head < layer.kv_heads; ++head) {
      report_.units.push_back({i, {head}});
    }
  }
}

// "f16; heads=0.0+0.1 int8": one unit in this role, all others whole.
std::string Tuner::Alone(size_t unit, const std::string& role) const {
  std::string heads;
  for (const uint32_t head : report_.units[unit].heads) {
    heads += (heads.empty() ? "" : "+") + std::to_string(report_.units[unit].layer) + "." +
             std::to_string(head);
  }
  return std::string(kFull) + "; heads=" + heads + " " + role;
}

bool Tuner::Takes(const std::string& role) const {
  for (size_t unit = 0; unit < report_.units.size(); ++unit) {
    if (StateBytes(Alone(unit, role)) != 0) return true;
  }
  return false;
}

// A role that was asked for and that no head takes is refused, in the words of the planner.
void Tuner::CheckRoles() const {
  for (const std::string& role : arguments_.roles) {
    if (StateBytes(role) != 0 || Takes(role)) continue;
    hr_session_options options = judges_.judge->options();
    options.profile = role.c_str();
    (void)PlanOf(model_, options);
  }
}

// Where heads are in bases: cuts of their keys and values as roles to measure.
void Tuner::AddCuts() {
  if (!arguments_.roles.empty()) return;
  for (const Cut& cut : OneSided(RanksOf(key_width_), RanksOf(value_width_))) {
    const std::string role = CutRole(kFull, cut);
    if (!Takes(role)) continue;
    cuts_.push_back(cut);
    report_.roles.push_back(role);
  }
}

// "f16; heads=0.1+2.0 int8 window rows=64"
std::string Tuner::PolicyOf(const std::vector<uint8_t>& roles) const {
  // The commonest role is the one that stands for all heads: short, and easy to read.
  std::map<uint8_t, size_t> count;
  for (const uint8_t role : roles) ++count[role];
  const uint8_t common =
      std::max_element(count.begin(), count.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      })->first;
  std::string policy = report_.roles[common];
  for (const auto& [role, times] : count) {
    if (role == common) continue;
    std::string heads;
    for (size_t unit = 0; unit < roles.size(); ++unit) {
      if (roles[unit] != role) continue;
      for (const uint32_t head : report_.units[unit].heads) {
        heads += (heads.empty() ? "" : "+") + std::to_string(report_.units[unit].layer) + "." +
                 std::to_string(head);
      }
    }
    policy += "; heads=" + heads + " " + report_.roles[role];
  }
  return policy;
}

void Tuner::MeasureChoices() {
  report_.measured_roles = report_.roles.size();
  const size_t units = report_.units.size(), roles = report_.roles.size();
  for (size_t unit = 0; unit < units; ++unit) {
    std::vector<Choice>& choices = report_.choices.emplace_back(roles);
    // Bytes of one unit as a difference: only differences count.
    choices[0] = {true, full_bytes_ / static_cast<double>(units), 0};
    for (size_t role = 1; role < roles; ++role) {
      std::vector<uint8_t> one(units, 0);
      one[unit] = static_cast<uint8_t>(role);
      const std::string policy = PolicyOf(one);
      const auto bytes = static_cast<double>(StateBytes(policy));
      if (bytes == 0 || bytes >= full_bytes_) continue;
      choices[role] = {
          true, choices[0].bytes - (full_bytes_ - bytes),
          judges_.search->Loss(policy, Part(unit * (roles - 1) + role - 1, units * (roles - 1)))};
    }
  }
}

// Of each unit the largest of its heads'.
std::vector<double> OfUnits(const HeadLabels& labels, const std::vector<TuneUnit>& units) {
  std::vector<double> of_units;
  size_t there = 0, used = 0;
  for (const auto& layer : labels) there += layer.size();
  for (const TuneUnit& unit : units) {
    double largest = -INFINITY;
    for (const uint32_t head : unit.heads) {
      if (unit.layer >= labels.size() || head >= labels[unit.layer].size()) {
        throw Failure(HR_INVALID_ARGUMENT, "there is no label for head " +
                                               std::to_string(unit.layer) + "." +
                                               std::to_string(head) + " of the model");
      }
      largest = std::max(largest, labels[unit.layer][head]);
      ++used;
    }
    of_units.push_back(largest);
  }
  if (used == there) return of_units;
  throw Failure(HR_INVALID_ARGUMENT, "there are " + std::to_string(there) +
                                         " labels, the model has " + std::to_string(used) +
                                         " KV heads");
}

bool LetsRowsGo(const std::string& role) {
  for (const char* word : {"window", "compensated", "accumulated", "observed"}) {
    if (role.find(word) != std::string::npos) return true;
  }
  return false;
}

// Choices that follow from measured ones.
void Tuner::Combine() {
  const size_t first = report_.roles.size() - cuts_.size();
  for (const Combination& from : CombinationsOf(report_.roles, first, cuts_)) {
    std::map<std::pair<uint32_t, size_t>, uint64_t> known;  // units of a layer cost alike
    report_.roles.push_back(from.role);
    for (size_t unit = 0; unit < report_.units.size(); ++unit) {
      std::vector<Choice>& choices = report_.choices[unit];
      const TuneUnit& of = report_.units[unit];
      uint64_t& bytes = known[{of.layer, of.heads.size()}];
      if (bytes == 0) bytes = StateBytes(Alone(unit, from.role));
      choices.push_back(Combined(choices, from, static_cast<double>(bytes), full_bytes_));
    }
  }
}

HeadLabels Tuner::Labels() {
  if (!arguments_.heads.empty()) return ReadLabels(arguments_.heads);
  const auto spec = model::Model::OpenPath(arguments_.model.path.c_str(), {});
  if (!spec.ok()) throw Failure(HR_IO, spec.status().message());
  bar_.Finish();
  if (arguments_.label == "random") return RandomLabels(model_, *spec.value(), kRandomTokens, 4);
  if (judges_.distance != 0) return RetrievalLabels(model_, *spec.value(), judges_.search_passages);
  throw Failure(HR_INVALID_ARGUMENT, "--label needles takes needle questions, not a --text");
}

// Every codec for the heads that look far back, every window for the others, for some numbers of
// them; of all that those that are worth their bytes by the search's yardstick.
std::vector<Assignment> Tuner::Labelled() {
  report_.labels = OfUnits(Labels(), report_.units);
  const std::vector<double>& labels = report_.labels;
  std::vector<double> sorted = labels;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  std::map<std::string, std::vector<uint8_t>> all;  // by policy
  for (const double part : kFullHeads) {
    const auto full = static_cast<size_t>(std::ceil(part * static_cast<double>(labels.size())));
    const double least = full == 0 ? INFINITY : sorted[full - 1];
    for (size_t far = 0; far < report_.roles.size(); ++far) {
      for (size_t near = 0; near < report_.roles.size(); ++near) {
        if (LetsRowsGo(report_.roles[far]) || !LetsRowsGo(report_.roles[near])) continue;
        std::vector<uint8_t> roles;
        for (const double label : labels) {
          roles.push_back(static_cast<uint8_t>(label >= least ? far : near));
        }
        all.emplace(PolicyOf(roles), roles);
      }
    }
  }
  std::vector<Assignment> assignments;
  std::vector<Measured> measured;
  size_t done = 0;
  all.erase(kFull);  // is measured anyway
  for (const auto& [policy, roles] : all) {
    const auto bytes = static_cast<double>(StateBytes(policy));
    const double loss = bytes == 0 ? 0 : judges_.search->Loss(policy, Part(done, all.size()));
    ++done;
    if (bytes == 0) continue;
    assignments.push_back({roles, bytes, loss});
    measured.push_back({bytes, 0, loss});
  }
  std::vector<Assignment> worth = {{std::vector<uint8_t>(report_.units.size(), 0), full_bytes_, 0}};
  for (const size_t i : WorthTheirBytes(measured)) worth.push_back(assignments[i]);
  return worth;
}

std::vector<Assignment> Tuner::Searched() {
  AddCuts();
  MeasureChoices();
  Combine();
  std::vector<double> bytes = {full_bytes_};
  const std::vector<Assignment> path = Descend(report_.choices);
  for (const double share : kShares) bytes.push_back(share * full_bytes_);
  bytes.back() = path.back().bytes;  // the cheapest there is
  return Pick(path, bytes);
}

void Tuner::Measure(const std::vector<Assignment>& assignments) {
  bar_.SetLabel("judging");
  NeedleTask task;
  task.model = model_;
  task.options = judges_.judge->options();
  task.limit = arguments_.limit;
  for (const Assignment& assignment : assignments) {
    TunedProfile& profile = report_.profiles.emplace_back();
    const size_t done = 2 * (report_.profiles.size() - 1), total = 2 * assignments.size();
    profile.assignment = assignment;
    profile.policy = PolicyOf(assignment.roles);
    profile.state_bytes = StateBytes(profile.policy);
    profile.share = static_cast<double>(profile.state_bytes) / full_bytes_;
    profile.loss = judges_.judge->Loss(profile.policy, Part(done, total));
    if (judges_.distance == 0) continue;
    task.on_question = [this, done, total] { Part(done + 1, total)(0); };
    const auto& contexts = judges_.groups[judges_.distance];
    profile.accuracy = AskNeedles(task, judges_.distance, contexts, profile.policy).Accuracy();
  }
  bar_.Finish();
}

// Whether a profile is good enough to be in a model at all. A divergence below the full cache's is
// luck, and would make the full one look worse than it is.
bool Tuner::Usable(const TunedProfile& profile) const {
  const TunedProfile& full = report_.profiles[0];
  if (profile.accuracy >= 0) return profile.accuracy >= arguments_.least * full.accuracy;
  return profile.loss <= arguments_.most && profile.loss >= full.loss;
}

// "full" and shares of its bytes; those that are not worth theirs stay nameless.
void Tuner::Name() {
  std::vector<Measured> measured;
  std::vector<size_t> usable;
  for (size_t i = 1; i < report_.profiles.size(); ++i) {
    const TunedProfile& profile = report_.profiles[i];
    if (!Usable(profile)) continue;
    usable.push_back(i);
    measured.push_back({static_cast<double>(profile.state_bytes), profile.accuracy, profile.loss});
  }
  std::set<std::string> names;
  double best = -1;
  for (const size_t i : WorthTheirBytes(measured)) {
    TunedProfile& profile = report_.profiles[usable[i]];
    char text[32];
    std::snprintf(text, sizeof(text), "%.3g%%", 100 * profile.share);
    if (names.insert(text).second) profile.name = text;
    best = std::max(best, profile.accuracy);
  }
  // Profiles go from the best to the worst as measured. One that answers more than the full cache
  // was lucky, but the full one cannot stand before it.
  if (report_.profiles[0].accuracy >= best) report_.profiles[0].name = "full";
}

TuneReport Tuner::Run() {
  bar_.SetLabel("reading");
  arguments_.text.empty() ? JudgeByNeedles() : JudgeByText();
  report_.model = ModelLine(FactsOf(model_));
  report_.yardstick = judges_.search_name;
  report_.judge = judges_.judge_name;
  report_.distance = judges_.distance;
  report_.context_tokens = judges_.judge->options().context_tokens;
  report_.roles = arguments_.roles.empty() ? kRoles : arguments_.roles;
  report_.roles.insert(report_.roles.begin(), kFull);
  full_bytes_ = static_cast<double>(StateBytes(kFull));
  FindUnits();
  CheckRoles();
  bar_.Finish();
  bar_.SetLabel("tuning");
  const bool measured = arguments_.heads.empty() && arguments_.label == "measure";
  const std::vector<Assignment> assignments = measured ? Searched() : Labelled();
  bar_.Finish();
  Measure(assignments);
  Name();
  return report_;
}

std::vector<convert::MeasuredProfile> ProfilesOf(const TuneReport& report) {
  std::vector<convert::MeasuredProfile> profiles;
  const TunedProfile& full = report.profiles[0];
  for (const TunedProfile& from : report.profiles) {
    if (from.name.empty()) continue;
    convert::MeasuredProfile& to = profiles.emplace_back();
    to.name = from.name;
    to.policy = from.policy;
    if (from.accuracy >= 0) {
      to.quality.push_back({fb::Metric::Accuracy,
                            "needles " + std::to_string(report.distance) + " tokens back",
                            report.context_tokens, static_cast<float>(from.accuracy),
                            static_cast<float>(full.accuracy)});
    }
    to.quality.push_back({fb::Metric::KlDivergence, report.judge, report.context_tokens,
                          static_cast<float>(from.loss), static_cast<float>(full.loss)});
  }
  return profiles;
}

int Tune(const TuneArguments& arguments, bool json) {
  const std::string out = arguments.out.empty() ? "" : RegularFilePlace(arguments.out);
  const ModelHandle model = OpenModel(arguments.model.Request());
  if (FactsOf(model.get()).layers == 0) {
    throw Failure(HR_UNSUPPORTED,
                  "the model caches no rows, only states: there is nothing to tune");
  }
  Tuner tuner(arguments, model.get());
  const TuneReport report = tuner.Run();
  WriteText(arguments.page, TunePage(report));
  WriteText(arguments.svg, TuneSvg(report));
  if (!out.empty()) {
    const Status written = convert::WriteProfiles(arguments.model.path, out, ProfilesOf(report));
    if (!written.ok()) {
      throw Failure(static_cast<hr_status>(written.code()),
                    "cannot write " + arguments.out + ": " + written.message());
    }
  }
  json ? PrintJson(TuneJson(report)) : PrintTune(report);
  return kOk;
}

}  // namespace

void AddTune(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<TuneArguments>();
  CLI::App& command = *app.add_subcommand(
      "tune", "find what each head's cache can do without, and write it into the model");
  command.footer(kFooter);
  AddModelArguments(command, arguments->model);
  command.add_option("--out", arguments->out, "the model with its profiles; may be MODEL")
      ->type_name("FILE");
  command.add_option("--page", arguments->page, "quality against bytes as one HTML page")
      ->type_name("FILE");
  command.add_option("--svg", arguments->svg, "its picture alone")->type_name("FILE");
  command
      .add_option("--role", arguments->roles,
                  "a cache to try; repeat it (default: a list of 8, and ranks)")
      ->type_name("POLICY")
      ->default_str("")
      ->take_all();
  command.add_option("--by", arguments->by, "what gets a cache of its own: head or layer")
      ->capture_default_str()
      ->check(CLI::IsMember({"head", "layer"}));
  auto* heads = command.add_option("--heads", arguments->heads, "a table of heads, see below");
  heads->type_name("FILE");
  command
      .add_option("--label", arguments->label, "how heads are known: measure, random or needles")
      ->capture_default_str()
      ->check(CLI::IsMember({"measure", "random", "needles"}))
      ->excludes(heads);
  auto* text = command.add_option("--text", arguments->text, "judge by this text; - is stdin");
  text->type_name("FILE");
  command.add_option("--window", arguments->window, "tokens of the text read at a time")
      ->capture_default_str()
      ->check(CLI::Range(32u, 1u << 20))
      ->type_name("TOKENS");
  command
      .add_option("--data", arguments->data, "needle questions instead of those in this program")
      ->excludes(text)
      ->type_name("FILE");
  AddListOption(command, "--distance", arguments->distances, "only needles of these distances")
      ->excludes(text);
  command
      .add_option("--limit", arguments->limit,
                  "at most N questions of a distance, or tokens of the text (0: all)")
      ->type_name("N");
  command
      .add_option("--least-accuracy", arguments->least,
                  "of what the full cache finds, the part that a profile must find")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  command
      .add_option("--most-kl", arguments->most, "divergence that a profile may have over a --text")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber)
      ->type_name("NATS");
  AddContextOption(command, arguments->session,
                   "tokens to have room for (default: what the questions need)");
  AddThreadOptions(command, arguments->session);
  command.add_flag("--json", invocation.json, "results as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Tune(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
