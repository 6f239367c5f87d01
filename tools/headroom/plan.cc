// headroom plan: what a session would cost, before anything is allocated.
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/options.h"
#include "headroom/pictures.h"
#include "headroom/profile_list.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Nothing is allocated and no weight is read. Exit status 3 when the plan does not fit.\n"
    "\n"
    "What is left open is chosen so: prefill chunks of at least 32 tokens are kept, even where "
    "smaller\n"
    "ones would leave room for a longer context, unless --context or --chunk asks for that; --kv "
    "auto\n"
    "is the first profile of the model, or of f16, int8 and int4/32, with which the asked context, "
    "or\n"
    "without one the trained maximum, fits.\n"
    "\n"
    "--kv POLICY is the name of a profile, or words: a codec (f32 f16 int8 int8/32 int4/32, or\n"
    "keys=CODEC values=CODEC), exact=N first rows in f16, rotate, keyrank=N valuerank=N first\n"
    "numbers of a row (of a model converted with --kv-basis), and which rows stay: window,\n"
    "compensated, accumulated or observed, with rows=N or share=X of the context, sinks=N, "
    "observe=N,\n"
    "pool=N or maxpool=N; relative: positions of a window are places among its rows. After a\n"
    "semicolon another role for some heads: heads=LAYER.HEAD+LAYER.HEAD; layers are those with\n"
    "cached rows, counted from 0.\n"
    "\n"
    "Examples:\n"
    "  headroom plan model.hrm --context 8192\n"
    "  headroom plan model.hrm --budget 900M               the largest context inside 900 MiB\n"
    "  headroom plan model.hrm --private-budget 200M --kv int8 --layers\n"
    "  headroom plan model.hrm --kv \"int8; heads=0.0+1.3 int8 window rows=256\"";

constexpr uint32_t kGoodChunk = 32;  // the planner's preference, see runtime/plan/solve.h

struct PlanArguments {
  ModelArguments model;
  hr_image_options images = {};
  SessionArguments session;
  bool layers = false;
};

std::vector<hr_plan_layer> LayersOf(const hr_model* model, const hr_session_options& options,
                                    uint32_t count) {
  std::vector<hr_plan_layer> layers(count);
  for (uint32_t i = 0; i < count; ++i) {
    hr_error error = {};
    layers[i].struct_size = sizeof(layers[i]);
    Check(hr_plan_get_layer(model, &options, i, &layers[i], &error), error,
          "cannot plan layer " + std::to_string(i));
  }
  return layers;
}

Json LayersJson(const std::vector<hr_plan_layer>& layers) {
  Json json = Json::array();
  for (const hr_plan_layer& layer : layers) {
    json.push_back({{"kv_heads", layer.kv_heads},
                    {"key_width", layer.key_width},
                    {"value_width", layer.value_width},
                    {"capacity_tokens", layer.capacity_tokens},
                    {"window_tokens", layer.window_tokens},
                    {"state_bytes", layer.state_bytes}});
  }
  return json;
}

void PrintLayers(const std::vector<hr_plan_layer>& layers) {
  std::printf("\n  layer  kv heads  key x value  rows kept    window       bytes\n");
  for (size_t i = 0; i < layers.size(); ++i) {
    const hr_plan_layer& layer = layers[i];
    char widths[32], window[16] = "all";
    std::snprintf(widths, sizeof(widths), "%" PRIu32 " x %" PRIu32, layer.key_width,
                  layer.value_width);
    if (layer.window_tokens != 0) {
      std::snprintf(window, sizeof(window), "%" PRIu32, layer.window_tokens);
    }
    std::printf("  %5zu  %8" PRIu32 "  %11s  %9" PRIu32 "  %8s  %10s\n", i, layer.kv_heads, widths,
                layer.capacity_tokens, window, FormatBytes(layer.state_bytes).c_str());
  }
}

// ", with --chunk 8" where the largest context takes smaller prefill chunks than this plan has.
std::string LargestNeeds(const hr_model* model, const hr_plan_report& plan,
                         const hr_session_options& options) {
  hr_session_options largest = options;
  largest.context_tokens = plan.max_context_tokens;
  if (largest.profile == nullptr) largest.profile = plan.profile;
  const uint32_t chunk = PlanOf(model, largest).chunk_tokens;
  if (chunk >= plan.chunk_tokens || chunk >= kGoodChunk) return "";
  return ", with --chunk " + std::to_string(chunk) + " (unless asked, chunks stay at " +
         std::to_string(kGoodChunk) + " tokens or more)";
}

void PrintVerdict(const hr_model* model, const hr_plan_report& plan,
                  const hr_session_options& options) {
  const bool limited = options.budget_bytes != 0 || options.private_budget_bytes != 0;
  if (!plan.fits) {
    std::printf("DOES NOT FIT: %s (%" PRIu64 " bytes) more are needed.",
                FormatBytes(plan.missing_bytes).c_str(), plan.missing_bytes);
    if (plan.max_context_tokens > 0) {
      std::printf(" A context of %" PRIu32 " tokens would fit.\n", plan.max_context_tokens);
    } else {
      std::printf(" Not even the smallest context fits.\n");
    }
    return;
  }
  std::printf("%s The largest context %s is %" PRIu32 " tokens%s.\n",
              limited ? "Fits." : "No limit given.", limited ? "that fits" : "of this model",
              plan.max_context_tokens, LargestNeeds(model, plan, options).c_str());
  if (plan.quality_task[0] != '\0') {
    std::printf("The cache %s measured %g at %s, the full one %g.\n", plan.profile,
                static_cast<double>(plan.quality), plan.quality_task,
                static_cast<double>(plan.quality_reference));
  }
  if (plan.better_profile[0] != '\0') {
    std::printf("With the better cache %s this context would take %s.\n", plan.better_profile,
                FormatBytes(plan.better_bytes).c_str());
  }
}

void PrintImageVerdict(const hr_image_plan_report& plan, bool limited) {
  if (!plan.fits) {
    std::printf("DOES NOT FIT: %s (%" PRIu64 " bytes) more are needed.",
                FormatBytes(plan.missing_bytes).c_str(), plan.missing_bytes);
  } else {
    std::printf("%s", limited ? "Fits." : "No limit given.");
  }
  if (!limited) {
    std::printf("\n");
  } else if (plan.largest_batch == 0 && plan.largest_side == 0) {
    std::printf(" Not even the smallest picture fits.\n");
  } else {
    std::printf(" Inside the budget: %" PRIu32
                " pictures of this size at once, or sides of %" PRIu32 " pixels.\n",
                plan.largest_batch, plan.largest_side);
  }
}

int PlanPictures(hr_model* model, const PlanArguments& arguments, bool json) {
  const hr_session_options& session = arguments.session.options;
  hr_image_options options = arguments.images;
  options.struct_size = sizeof(options);
  options.threads = session.threads;
  options.budget_bytes = session.budget_bytes;
  options.private_budget_bytes = session.private_budget_bytes;
  const hr_image_plan_report plan = ImagePlanOf(model, options);
  const hr_model_facts facts = FactsOf(model);
  if (json) {
    PrintJson({{"model", FactsJson(facts)},
               {"budget_bytes", options.budget_bytes},
               {"private_budget_bytes", options.private_budget_bytes},
               {"images", ImageFactsJson(ImageFactsOf(model))},
               {"plan", ImagePlanJson(plan)}});
  } else {
    std::printf("%s\n%s", ModelLine(facts).c_str(),
                ImagePlanTable(plan, !arguments.model.ResolvedCacheDirectory().empty()).c_str());
    PrintImageVerdict(plan, options.budget_bytes != 0 || options.private_budget_bytes != 0);
  }
  return plan.fits ? kOk : kDoesNotFit;
}

int Plan(const PlanArguments& arguments, bool json) {
  const ModelHandle model = OpenModel(arguments.model.Request());
  if (TakesPictures(model.get())) return PlanPictures(model.get(), arguments, json);
  const hr_model_facts facts = FactsOf(model.get());
  const hr_session_options& options = arguments.session.options;
  const hr_plan_report plan = PlanOf(model.get(), options);
  const ProfileList profiles = ListProfiles(model.get(), options, plan);
  std::vector<hr_plan_layer> layers;
  if (json || arguments.layers) {
    // The same context and cache type for each layer, also where they were left to the planner.
    hr_session_options resolved = options;
    resolved.context_tokens = plan.context_tokens;
    if (resolved.profile == nullptr) resolved.profile = plan.profile;
    resolved.budget_bytes = resolved.private_budget_bytes = 0;
    if (plan.context_tokens > 0) layers = LayersOf(model.get(), resolved, facts.layers);
  }
  if (json) {
    PrintJson({{"model", FactsJson(facts)},
               {"budget_bytes", options.budget_bytes},
               {"private_budget_bytes", options.private_budget_bytes},
               {"plan", PlanJson(plan)},
               {"profiles", ProfileListJson(profiles)},
               {"layers", LayersJson(layers)}});
  } else {
    std::printf(
        "%s\n%s", ModelLine(facts).c_str(),
        PlanTable(plan, options, !arguments.model.ResolvedCacheDirectory().empty()).c_str());
    if (arguments.layers) PrintLayers(layers);
    PrintVerdict(model.get(), plan, options);
    std::printf("%s", ProfileTable(profiles).c_str());
  }
  return plan.fits ? kOk : kDoesNotFit;
}

}  // namespace

void AddPlan(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App& command = *app.add_subcommand("plan", "say what a session would cost, byte by byte");
  command.footer(kFooter);
  AddModelArguments(command, arguments->model);
  AddContextOption(command, arguments->session,
                   "tokens to have room for (default: the largest that fits)");
  AddBudgetOptions(command, arguments->session);
  AddKvOption(command, arguments->session);
  AddThreadOptions(command, arguments->session);
  AddImageSizeOptions(command, arguments->images);
  command.add_flag("--layers", arguments->layers, "also list the state of every layer");
  command.add_flag("--json", invocation.json, "the plan as one JSON object, layers included");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Plan(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
