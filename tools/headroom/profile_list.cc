#include "headroom/profile_list.h"

#include <cinttypes>
#include <cstdio>

#include "headroom/api.h"
#include "headroom/bytes.h"

namespace headroom::cli {
namespace {

double ShareOf(const ProfileList& list, const hr_plan_report& plan) {
  return static_cast<double>(plan.state_bytes) / static_cast<double>(list.f16_bytes);
}

std::string QualityOf(const hr_plan_report& plan) {
  if (plan.quality_task[0] == '\0') return "not measured";
  char text[128];
  std::snprintf(text, sizeof(text), "%.3g (%.3g): %s", static_cast<double>(plan.quality),
                static_cast<double>(plan.quality_reference), plan.quality_task);
  return EscapeControls(text);
}

std::string LineOf(const ProfileList& list, size_t i) {
  const hr_plan_report& plan = list.plans[i];
  char line[256];
  std::snprintf(line, sizeof(line), "%c %-10s %10s %5.1f %% %10s  ",
                list.names[i] == list.chosen ? '*' : ' ', EscapeControls(list.names[i]).c_str(),
                FormatBytes(plan.state_bytes).c_str(), 100 * ShareOf(list, plan),
                FormatBytes(plan.total_bytes).c_str());
  return line + QualityOf(plan) + "\n";
}

}  // namespace

ProfileList ListProfiles(const hr_model* model, const hr_session_options& options,
                         const hr_plan_report& plan) {
  ProfileList list;
  list.context_tokens = plan.context_tokens;
  list.chosen = plan.profile;
  const bool trained = plan.context_tokens <= FactsOf(model).context_tokens;
  if (plan.context_tokens == 0 || !trained) return list;
  hr_session_options each = options;
  each.context_tokens = plan.context_tokens;
  each.chunk_tokens = plan.chunk_tokens;
  each.budget_bytes = each.private_budget_bytes = 0;
  each.profile = "f16";
  list.f16_bytes = PlanOf(model, each).state_bytes;
  list.names = StoredProfileNames(model);
  for (const std::string& name : list.names) {
    each.profile = name.c_str();
    list.plans.push_back(PlanOf(model, each));
  }
  return list;
}

Json ProfileListJson(const ProfileList& list) {
  Json json = Json::array();
  for (size_t i = 0; i < list.names.size(); ++i) {
    const hr_plan_report& plan = list.plans[i];
    json.push_back({{"kv", list.names[i]},
                    {"state_bytes", plan.state_bytes},
                    {"share_of_f16", ShareOf(list, plan)},
                    {"total_bytes", plan.total_bytes},
                    {"quality", QualityJson(plan)}});
  }
  return json;
}

std::string ProfileTable(const ProfileList& list) {
  if (list.names.empty()) return "";
  char line[256];
  std::snprintf(line, sizeof(line),
                "\nProfiles of the model, best first, at %" PRIu32
                " tokens:\n  %-10s %10s %7s %10s  quality (with nothing compressed)\n",
                list.context_tokens, "name", "state", "of f16", "total");
  std::string table = line;
  bool shares = false;
  for (size_t i = 0; i < list.names.size(); ++i) {
    table += LineOf(list, i);
    shares |= list.names[i].find('%') != std::string::npos;
  }
  if (!shares) return table;
  return table +
         "A name with % is the share of the f16 bytes at the context of its tuning; windows have\n"
         "fixed lengths, so that shares fall as the context grows.\n";
}

}  // namespace headroom::cli
