#include "headroom/api.h"

#include <cstdio>

#include "headroom/progress.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

void LogToStderr(void* user_data, int32_t level, const char* message) {
  const bool verbose = *static_cast<const bool*>(user_data);
  if (level == HR_LOG_INFO && !verbose) return;
  std::fprintf(stderr, "headroom: %s\n", EscapeControls(message).c_str());
}

// The hooks and the bar must outlive the model, which packs weights when a session is made.
struct ModelSurroundings {
  bool verbose = false;
  ProgressBar bar{"reading the model"};
};
ModelSurroundings& Surroundings() {
  static ModelSurroundings surroundings;
  return surroundings;
}

bool ShowProgress(void* user_data, float fraction) {
  static_cast<ProgressBar*>(user_data)->Update(fraction);
  return true;
}

// What would make a session that does not fit, fit; only what is true for this one.
std::string BudgetAdvice(const hr_model* model, const hr_session_options& options,
                         size_t needed_tokens) {
  const hr_plan_report plan = PlanOf(model, options);
  std::vector<std::string> ways;
  const uint32_t largest = plan.max_context_tokens;
  if (largest > 0 && largest >= needed_tokens && largest < plan.context_tokens) {
    ways.push_back("lower --context to " + std::to_string(largest));
  }
  hr_session_options smaller = options;
  for (const char* kv : {"int8", "int4/32"}) {
    smaller.kv = HR_KV_AUTO;
    smaller.profile = kv;
    if (!PlanOf(model, smaller).fits) continue;
    ways.push_back(std::string("choose --kv ") + kv);
    break;
  }
  const auto raise = [&ways](const char* option, uint64_t limit, uint64_t bytes) {
    if (limit == 0 || bytes <= limit) return;
    ways.push_back(std::string("raise ") + option + " to " + std::to_string(bytes));
  };
  raise("--budget", options.budget_bytes, plan.total_bytes);
  raise("--private-budget", options.private_budget_bytes, plan.private_bytes);
  if (ways.empty()) return "";
  std::string advice = ways.front();
  const bool both = options.private_budget_bytes != 0 && options.budget_bytes != 0;
  for (size_t i = 1; i < ways.size(); ++i) {
    const bool with = both && ways[i - 1].find("--budget") != std::string::npos;
    advice += (with ? " and " : i + 1 < ways.size() ? ", " : " or ") + ways[i];
  }
  advice[0] = static_cast<char>(advice[0] - 'a' + 'A');
  return advice + "; `headroom plan` shows what fits.";
}

}  // namespace

std::string Failure::advice() const {
  if (!advice_.empty()) return advice_;
  switch (status_) {
    case HR_NOT_FOUND:
      return "Check the path.";
    case HR_CORRUPT:
      return "The file is damaged or not a .hrm model; copy or convert it again.";
    case HR_NEWER_FORMAT:
      return "The file needs a newer headroom; update this program.";
    case HR_MISMATCH:
      return "The session file belongs to another model or cache type; open it with the one that "
             "made it.";
    case HR_OVER_BUDGET:
      return "Raise --budget; `headroom plan` shows what fits.";
    case HR_OUT_OF_MEMORY:
      return "The system refused the memory; lower --context or --budget.";
    case HR_CONTEXT_FULL:
      return "Raise --context, or shorten the input.";
    case HR_INTERNAL:
      return "This is a defect of headroom; please report the line above.";
    default:
      return "";
  }
}

void Check(hr_status status, const hr_error& error, const std::string& doing) {
  if (status == HR_OK) return;
  const char* reason = error.text[0] != '\0' ? error.text : hr_status_name(status);
  throw Failure(status, doing + ": " + reason);
}

ModelHandle OpenModel(const OpenRequest& request) {
  ModelSurroundings& surroundings = Surroundings();
  surroundings.verbose = request.verbose;
  hr_hooks hooks = {};
  hooks.struct_size = sizeof(hooks);
  hooks.log = LogToStderr;
  hooks.user_data = &surroundings.verbose;
  hr_model_options options = {};
  options.struct_size = sizeof(options);
  options.hooks = &hooks;
  options.cache_directory =
      request.cache_directory.empty() ? nullptr : request.cache_directory.c_str();
  options.verify_checksums = request.verify_checksums;
  options.progress = ShowProgress;
  options.progress_user_data = &surroundings.bar;
  hr_model* model = nullptr;
  hr_error error = {};
  const hr_status status = hr_model_open_path(request.path.c_str(), &options, &model, &error);
  surroundings.bar.Finish();
  Check(status, error, "cannot open " + request.path);
  return ModelHandle(model);
}

hr_model_facts FactsOf(const hr_model* model) {
  hr_model_facts facts = {};
  facts.struct_size = sizeof(facts);
  Check(hr_model_get_facts(model, &facts), hr_error{}, "cannot describe the model");
  return facts;
}

hr_plan_report PlanOf(const hr_model* model, const hr_session_options& options) {
  hr_plan_report report = {};
  report.struct_size = sizeof(report);
  hr_error error = {};
  Check(hr_plan(model, &options, &report, &error), error, "cannot plan");
  return report;
}

SessionHandle CreateSession(hr_model* model, const hr_session_options& options,
                            size_t needed_tokens) {
  hr_session* session = nullptr;
  hr_error error = {};
  const hr_status status = hr_session_create(model, &options, &session, &error);
  Surroundings().bar.Finish();
  if (status == HR_OVER_BUDGET) {
    throw Failure(status, std::string("cannot start a session: ") + error.text,
                  BudgetAdvice(model, options, needed_tokens));
  }
  Check(status, error, "cannot start a session");
  return SessionHandle(session);
}

hr_session_stats StatsOf(const hr_session* session) {
  hr_session_stats stats = {};
  stats.struct_size = sizeof(stats);
  Check(hr_session_get_stats(session, &stats), hr_error{}, "cannot read statistics");
  return stats;
}

SessionHandle Fork(const hr_session* session) {
  hr_session* fork = nullptr;
  hr_error error = {};
  Check(hr_session_fork(session, &fork, &error), error, "cannot fork the session");
  return SessionHandle(fork);
}

std::vector<std::string> StoredProfileNames(const hr_model* model) {
  size_t count = 0;
  Check(hr_model_profile_count(model, &count), hr_error{}, "cannot count profiles");
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) {
    const char* name = nullptr;
    hr_error error = {};
    Check(hr_model_profile_name(model, i, &name, &error), error, "cannot name a profile");
    names.emplace_back(name);
  }
  return names;
}

std::vector<std::string> ProfileNames(const hr_model* model) {
  std::vector<std::string> names = StoredProfileNames(model);
  if (names.empty()) names = {"f16", "int8", "int4/32"};
  return names;
}

std::vector<int32_t> Tokenize(const hr_model* model, std::string_view text, uint32_t flags) {
  hr_error error = {};
  size_t count = 0;
  hr_status status =
      hr_tokenize(model, text.data(), text.size(), flags, nullptr, 0, &count, &error);
  if (status != HR_BUFFER_TOO_SMALL) Check(status, error, "cannot tokenize the text");
  std::vector<int32_t> tokens(count);
  status = hr_tokenize(model, text.data(), text.size(), flags, tokens.data(), tokens.size(), &count,
                       &error);
  Check(status, error, "cannot tokenize the text");
  tokens.resize(count);
  return tokens;
}

const char* StopReasonName(int32_t reason) {
  switch (reason) {
    case HR_STOP_LIMIT:
      return "limit";
    case HR_STOP_END_TOKEN:
      return "end_token";
    case HR_STOP_SEQUENCE:
      return "stop_sequence";
    case HR_STOP_CALLBACK:
      return "callback";
    case HR_STOP_CONTEXT:
      return "context";
    case HR_STOP_CANCELLED:
      return "cancelled";
    default:
      return "unknown";
  }
}

}  // namespace headroom::cli
