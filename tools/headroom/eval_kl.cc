// headroom eval kl: how much a smaller model or cache changes what is predicted.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/divergence.h"
#include "headroom/files.h"
#include "headroom/needle_eval.h"
#include "headroom/options.h"
#include "headroom/progress.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Both models read the same text; at each token the distributions of the next one are compared: "
    "the\n"
    "Kullback-Leibler divergence from the reference's (in nats), whether the most likely token is "
    "the\n"
    "same, and both perplexities of the text.\n"
    "\n"
    "Examples:\n"
    "  headroom eval kl llama-int4.hrm llama-int8.hrm --reference llama-f16.hrm --text book.txt\n"
    "  headroom eval kl llama.hrm --all-profiles --window 4096\n"
    "  headroom eval kl llama.hrm --kv f16,int8 --reference llama.hrm --text - < book.txt";

// Positions per call: bounds the buffers for large vocabularies.
constexpr size_t kRowsPerCall = 32;

struct KlArguments {
  std::vector<std::string> models;
  ModelArguments reference;
  SessionArguments session;
  std::vector<std::string> kv = {"f16"};
  std::string text;
  uint32_t window = 512;
  uint32_t limit = 0;
  bool all_profiles = false;
};

// One model in one session.
struct Subject {
  std::string name;
  ModelHandle model;
  SessionHandle session;
  hr_plan_report plan = {};
  std::vector<float> rows;
  Divergence divergence;
};

Subject Open(const KlArguments& arguments, const std::string& path, const std::string& kv,
             size_t window) {
  Subject subject;
  subject.name = path;
  OpenRequest request = arguments.reference.Request();
  request.path = path;
  subject.model = OpenModel(request);
  hr_session_options options = arguments.session.options;
  options.profile = ProfileOf(kv);
  window = std::min<size_t>(window, FactsOf(subject.model.get()).context_tokens);
  options.context_tokens = static_cast<uint32_t>(window);
  subject.session = CreateSession(subject.model.get(), options, window);
  subject.plan.struct_size = sizeof(subject.plan);
  Check(hr_session_get_plan(subject.session.get(), &subject.plan), hr_error{},
        "cannot read the plan");
  subject.rows.resize(kRowsPerCall * FactsOf(subject.model.get()).vocabulary);
  return subject;
}

void CheckVocabulary(const Subject& reference, const Subject& candidate) {
  const uint32_t expected = FactsOf(reference.model.get()).vocabulary;
  const uint32_t found = FactsOf(candidate.model.get()).vocabulary;
  if (found == expected) return;
  throw Failure(HR_INVALID_ARGUMENT,
                candidate.name + " has a vocabulary of " + std::to_string(found) +
                    " tokens, the reference " + reference.name + " one of " +
                    std::to_string(expected),
                "Compare models made from the same checkpoint.");
}

void Read(Subject& subject, const int32_t* tokens, size_t count) {
  hr_error error = {};
  Check(hr_session_prefill_logits(subject.session.get(), tokens, count, subject.rows.data(),
                                  subject.rows.size(), &error),
        error, subject.name + ": cannot compute logits");
}

void Rewind(Subject& subject) {
  hr_error error = {};
  Check(hr_session_rewind(subject.session.get(), 0, &error), error, "cannot rewind");
}

// Reads the text window by window, every window from an empty cache.
void Compare(const std::vector<int32_t>& tokens, size_t window, Subject& reference,
             std::vector<Subject>& candidates) {
  const size_t vocabulary = reference.rows.size() / kRowsPerCall;
  ProgressBar bar("comparing");
  for (size_t done = 0; done < tokens.size();) {
    if (done % window == 0) {
      Rewind(reference);
      for (Subject& candidate : candidates) Rewind(candidate);
    }
    const size_t count = std::min({kRowsPerCall, tokens.size() - done, window - done % window});
    Read(reference, tokens.data() + done, count);
    for (Subject& candidate : candidates) {
      Read(candidate, tokens.data() + done, count);
      for (size_t row = 0; row < count; ++row) {
        const size_t at = done + row + 1;
        const int32_t next = at < tokens.size() && at % window != 0 ? tokens[at] : -1;
        candidate.divergence.Add({reference.rows.data() + row * vocabulary, vocabulary},
                                 {candidate.rows.data() + row * vocabulary, vocabulary}, next);
      }
    }
    done += count;
    bar.Update(static_cast<double>(done) / static_cast<double>(tokens.size()));
  }
  bar.Finish();
}

Json SubjectJson(const Subject& subject) {
  const DivergenceSummary s = subject.divergence.Summarise();
  return {{"model", subject.name},
          {"kv", subject.plan.profile},
          {"file_bytes", FactsOf(subject.model.get()).file_bytes},
          {"state_bytes", subject.plan.state_bytes},
          {"tokens", s.tokens},
          {"mean_kl", s.mean_kl},
          {"median_kl", s.median_kl},
          {"p99_kl", s.p99_kl},
          {"largest_kl", s.largest_kl},
          {"top1_agreement", s.top1_agreement},
          {"perplexity", s.perplexity},
          {"reference_perplexity", s.reference_perplexity}};
}

void Print(const std::vector<Subject>& subjects) {
  std::printf("%-32s %-5s %10s %10s %10s %10s %8s %10s\n", "model", "cache", "file", "mean KL",
              "median", "99 %", "top-1", "perplexity");
  for (const Subject& subject : subjects) {
    const DivergenceSummary s = subject.divergence.Summarise();
    std::printf("%-32s %-5s %10s %10.2e %10.2e %10.2e %6.1f %% %10.3f\n",
                EscapeControls(subject.name).c_str(), subject.plan.profile,
                FormatBytes(FactsOf(subject.model.get()).file_bytes).c_str(), s.mean_kl,
                s.median_kl, s.p99_kl, 100 * s.top1_agreement, s.perplexity);
  }
}

std::string TextOf(const std::string& path) {
  if (!path.empty()) return ReadWholeFile(path, "the text");
  std::string text;
  for (const NeedleContext& context : LoadNeedles("")) text += context.text + "\n";
  return text;
}

int Kl(const KlArguments& arguments, bool json) {
  const std::string& path =
      arguments.reference.path.empty() ? arguments.models[0] : arguments.reference.path;
  Subject reference = Open(arguments, path, "f32", arguments.window);
  const size_t window = reference.plan.context_tokens;
  const std::string text = TextOf(arguments.text);
  std::vector<int32_t> tokens = Tokenize(reference.model.get(), text, HR_TOKENIZE_NO_SPECIAL);
  if (arguments.limit != 0 && tokens.size() > arguments.limit) tokens.resize(arguments.limit);
  if (tokens.empty()) throw Failure(HR_INVALID_ARGUMENT, "the text gives no token; give it some");
  std::vector<Subject> candidates;
  for (const std::string& path : arguments.models) {
    std::vector<std::string> caches = arguments.kv;
    if (arguments.all_profiles) caches = ProfileNames(OpenModel({path, "", false, false}).get());
    for (const std::string& kv : caches) {
      candidates.push_back(Open(arguments, path, kv, window));
      CheckVocabulary(reference, candidates.back());
    }
  }
  Compare(tokens, window, reference, candidates);
  if (json) {
    Json results = Json::array();
    for (const Subject& subject : candidates) results.push_back(SubjectJson(subject));
    PrintJson({{"reference", reference.name}, {"window", window}, {"results", results}});
    return kOk;
  }
  std::printf("%zu tokens in windows of %zu; reference %s, f32 cache, perplexity %.3f\n",
              tokens.size(), window, EscapeControls(reference.name).c_str(),
              candidates.front().divergence.Summarise().reference_perplexity);
  Print(candidates);
  return kOk;
}

}  // namespace

void AddEvalKl(CLI::App& eval, Invocation& invocation) {
  auto arguments = std::make_shared<KlArguments>();
  CLI::App& command =
      *eval.add_subcommand("kl", "how far predictions are from those of a reference model");
  command.footer(kFooter);
  command.add_option("MODELS", arguments->models, "the .hrm models to judge")->required();
  command
      .add_option("--reference", arguments->reference.path,
                  "the .hrm model to compare with (default: the first of MODELS)")
      ->type_name("MODEL");
  command
      .add_option("--text", arguments->text,
                  "the text both read; - is stdin (default: the contexts of eval needle)")
      ->type_name("FILE");
  AddListOption(command, "--kv", arguments->kv, kKvHelp);
  AddAllProfilesOption(command, arguments->all_profiles);
  command.add_option("--window", arguments->window, "tokens read from an empty cache at a time")
      ->capture_default_str()
      ->check(CLI::Range(2u, 1u << 20))
      ->type_name("TOKENS");
  command.add_option("--limit", arguments->limit, "at most N tokens of the text (0: all)")
      ->type_name("N");
  AddThreadOptions(command, arguments->session);
  AddCacheOptions(command, arguments->reference);
  command.add_flag("--json", invocation.json, "results as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Kl(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
