#include "headroom/dry_run.h"

#include <cinttypes>
#include <cstdio>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/files.h"
#include "headroom/inspect.h"

namespace headroom::cli {
namespace {

constexpr uint64_t kFirstBudget = uint64_t{256} << 20;
constexpr uint64_t kLastBudget = uint64_t{1} << 40;
constexpr const char* kCaches[] = {"f16", "int8", "int4/32"};

hr_plan_report Fit(const hr_model* model, uint64_t budget_bytes, const char* kv) {
  hr_session_options options = {};
  options.struct_size = sizeof(options);
  options.budget_bytes = budget_bytes;
  options.profile = kv;
  return PlanOf(model, options);
}

std::vector<uint64_t> DoublesUntilAllFits(const hr_model* model, uint32_t trained_tokens) {
  std::vector<uint64_t> budgets;
  for (uint64_t bytes = kFirstBudget; bytes <= kLastBudget; bytes *= 2) {
    budgets.push_back(bytes);
    if (Fit(model, bytes, "f16").max_context_tokens >= trained_tokens) break;
  }
  return budgets;
}

std::string FitText(const hr_plan_report& plan) {
  if (plan.fits) return std::to_string(plan.max_context_tokens) + " tokens";
  return FormatBytes(plan.missing_bytes) + " missing";
}

void PrintFits(const hr_model* model, const std::vector<uint64_t>& budgets) {
  std::printf("\nlargest context\n%12s  %20s  %20s  %20s\n", "budget", "f16 cache", "int8 cache",
              "int4/32 cache");
  for (const uint64_t bytes : budgets) {
    std::printf("%12s", FormatBytes(bytes).c_str());
    for (const char* kv : kCaches) std::printf("  %20s", FitText(Fit(model, bytes, kv)).c_str());
    std::printf("\n");
  }
}

Json FitsJson(const hr_model* model, const std::vector<uint64_t>& budgets) {
  Json json = Json::array();
  for (const uint64_t bytes : budgets) {
    for (const char* kv : kCaches) {
      const hr_plan_report plan = Fit(model, bytes, kv);
      json.push_back({{"budget_bytes", bytes},
                      {"kv", kv},
                      {"fits", plan.fits},
                      {"max_context_tokens", plan.max_context_tokens},
                      {"missing_bytes", plan.missing_bytes}});
    }
  }
  return json;
}

// A model that takes pictures has no contexts to fit.
Status ShowVision(const std::string& path, const convert::Summary& summary,
                  const std::vector<uint64_t>& budgets, Json* json) {
  if (!budgets.empty()) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "--budget fits contexts, and a vision model has none; headroom plan says "
                        "what pictures take");
  }
  if (json != nullptr) {
    Json inspected = InspectJson(path, /*outline=*/true);
    *json = {{"file_bytes", summary.file_bytes},
             {"weight_bytes", summary.weight_bytes},
             {"parameters", summary.parameters},
             {"required_features", inspected.at("required_features")},
             {"model", std::move(inspected)}};
    return {};
  }
  PrintInspection(path, /*tensors=*/true, /*ops=*/false, /*outline=*/true);
  std::printf("\n%s in all\n", FormatBytes(summary.file_bytes).c_str());
  return {};
}

}  // namespace

Status DryRun(convert::Options options, std::vector<uint64_t> budgets, Json* json) {
  const TemporaryFile outline(TemporaryFile::InTemporaryFolder());
  options.out = outline.path();
  options.outline = true;
  const Result<convert::Summary> summary = convert::Convert(options);
  if (!summary.ok()) return summary.status();
  if (summary.value().vision) return ShowVision(outline.path(), summary.value(), budgets, json);
  OpenRequest request;
  request.path = outline.path();
  const ModelHandle model = OpenModel(request);
  if (budgets.empty()) budgets = DoublesUntilAllFits(model.get(), summary.value().context_tokens);
  if (json != nullptr) {
    Json inspected = InspectJson(outline.path(), /*outline=*/true);
    *json = {{"file_bytes", summary.value().file_bytes},
             {"weight_bytes", summary.value().weight_bytes},
             {"parameters", summary.value().parameters},
             {"required_features", inspected.at("required_features")},
             {"contexts", FitsJson(model.get(), budgets)},
             {"model", std::move(inspected)}};
    return {};
  }
  PrintInspection(outline.path(), /*tensors=*/true, /*ops=*/false, /*outline=*/true);
  std::printf("\n%s in all\n", FormatBytes(summary.value().file_bytes).c_str());
  PrintFits(model.get(), budgets);
  return {};
}

}  // namespace headroom::cli
