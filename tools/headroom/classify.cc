// headroom classify, headroom features: what a vision model sees in pictures.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "headroom/command.h"
#include "headroom/npy.h"
#include "headroom/pictures.h"

namespace headroom::cli {
namespace {

constexpr char kClassifyFooter[] =
    "Pictures are JPEG, PNG, BMP, GIF or binary PNM files, or folders of such; they are resized,\n"
    "cropped and normalised as the model file says. A file that cannot be read is told on stderr, "
    "the\n"
    "others are still classified, and the exit status is 1.\n"
    "\n"
    "Examples:\n"
    "  headroom classify shvit.hrm cat.jpg\n"
    "  headroom classify shvit.hrm photos/ --top 1 --json --budget 40M\n"
    "  headroom classify shvit.hrm frame.png --size 512 --threads 4";

constexpr char kFeaturesFooter[] =
    "Features are what the model computes just before its classes: pictures that look alike have "
    "features\n"
    "with a small angle between them.\n"
    "\n"
    "Examples:\n"
    "  headroom features shvit.hrm photos/ --out features.npy    float32 [pictures, features]\n"
    "  headroom features shvit.hrm cat.jpg --json";

struct PictureArguments {
  ModelArguments model;
  hr_image_options options = {};
  std::vector<std::string> names;
  size_t top = 5;
  std::string out;
};

std::string Percent(float probability) {
  return Format("%6.2f %%", 100.0 * static_cast<double>(probability));
}

std::vector<hr_class> TopOf(const hr_image_session* session, size_t index, size_t count) {
  std::vector<hr_class> top(count);
  size_t found = 0;
  hr_error error = {};
  Check(hr_image_session_top(session, index, top.data(), count, &found, &error), error,
        "cannot classify");
  top.resize(found);
  return top;
}

Json TopJson(const std::vector<hr_class>& top) {
  Json json = Json::array();
  for (const hr_class& each : top) {
    Json one = {{"index", each.index}};
    if (each.label[0] != '\0') one["label"] = each.label;
    one["probability"] = each.probability;
    one["logit"] = each.logit;
    json.push_back(one);
  }
  return json;
}

void PrintTop(const std::string& file, const std::vector<hr_class>& top) {
  std::printf("%s\n", EscapeControls(file).c_str());
  for (const hr_class& each : top) {
    const std::string label =
        each.label[0] != '\0' ? EscapeControls(each.label) : "class " + std::to_string(each.index);
    std::printf("  %s  %s\n", Percent(each.probability).c_str(), label.c_str());
  }
}

Json SpeedJson(const hr_image_session* session) {
  const hr_image_stats stats = ImageStatsOf(session);
  const double pictures = static_cast<double>(std::max<uint64_t>(stats.pictures, 1));
  return {{"pictures", stats.pictures},
          {"ms_per_picture", static_cast<double>(stats.run_ns) * 1e-6 / pictures},
          {"preprocess_ms_per_picture", static_cast<double>(stats.preprocess_ns) * 1e-6 / pictures},
          {"arena_planned_bytes", stats.planned_bytes},
          {"arena_peak_bytes", stats.peak_bytes}};
}

void SaySpeed(const hr_image_session* session) {
  const hr_image_stats stats = ImageStatsOf(session);
  if (stats.pictures == 0) return;
  const double pictures = static_cast<double>(stats.pictures);
  std::fprintf(stderr, "%zu picture%s, %.2f ms each (and %.2f to prepare it)\n",
               static_cast<size_t>(stats.pictures), stats.pictures == 1 ? "" : "s",
               static_cast<double>(stats.run_ns) * 1e-6 / pictures,
               static_cast<double>(stats.preprocess_ns) * 1e-6 / pictures);
}

// One run over all pictures, and what becomes of each.
struct Work {
  ModelHandle model;
  ImageSessionHandle session;
  std::vector<std::string> files;
  bool failed = false;
  std::vector<Json> results;  // by file
};

Work Begin(const PictureArguments& arguments) {
  Work work;
  work.files = PictureFiles(arguments.names);
  work.results.resize(work.files.size());
  work.model = OpenModel(arguments.model.Request());
  work.session = CreateImageSession(work.model.get(), arguments.options);
  return work;
}

void Fail(Work& work, size_t file, const std::string& why) {
  work.failed = true;
  std::fprintf(stderr, "headroom: %s\n", EscapeControls(why).c_str());
  work.results[file] = {{"file", work.files[file]}, {"error", why}};
}

int Classify(const PictureArguments& arguments, bool json) {
  Work work = Begin(arguments);
  const auto see = [&](size_t file, size_t index) {
    const auto top = TopOf(work.session.get(), index, arguments.top);
    if (json) {
      work.results[file] = {{"file", work.files[file]}, {"classes", TopJson(top)}};
    } else {
      PrintTop(work.files[file], top);
    }
  };
  RunFiles(work.session.get(), work.files,
           {see, [&](size_t file, const std::string& why) { Fail(work, file, why); }});
  if (json) {
    PrintJson({{"model", FactsJson(FactsOf(work.model.get()))},
               {"results", work.results},
               {"speed", SpeedJson(work.session.get())}});
  } else {
    SaySpeed(work.session.get());
  }
  return work.failed ? kFailed : kOk;
}

std::vector<float> FeaturesOf(const hr_image_session* session, size_t index) {
  const float* features = nullptr;
  size_t count = 0;
  hr_error error = {};
  Check(hr_image_session_features(session, index, &features, &count, &error), error,
        "cannot describe the picture");
  return {features, features + count};
}

void PrintFeatures(const std::string& file, const std::vector<float>& features) {
  std::printf("%s", EscapeControls(file).c_str());
  for (const float each : features) std::printf("\t%.6g", static_cast<double>(each));
  std::printf("\n");
}

int Features(const PictureArguments& arguments, bool json) {
  Work work = Begin(arguments);
  const hr_image_model_facts facts = ImageFactsOf(work.model.get());
  if (facts.features == 0) throw Failure(HR_UNSUPPORTED, "this model names no features");
  std::vector<float> all;
  const auto see = [&](size_t file, size_t index) {
    const std::vector<float> features = FeaturesOf(work.session.get(), index);
    if (!arguments.out.empty()) {
      all.insert(all.end(), features.begin(), features.end());
    } else if (json) {
      work.results[file] = {{"file", work.files[file]}, {"features", features}};
    } else {
      PrintFeatures(work.files[file], features);
    }
  };
  RunFiles(work.session.get(), work.files,
           {see, [&](size_t file, const std::string& why) { Fail(work, file, why); }});
  if (!arguments.out.empty()) {
    if (work.failed) throw Failure(HR_IO, "nothing is written, because pictures are missing");
    NpyWriter writer(arguments.out, work.files.size(), facts.features);
    writer.WriteRows(all.data(), work.files.size());
    writer.Close();
    work.results.clear();
  }
  if (json) PrintJson({{"results", work.results}, {"speed", SpeedJson(work.session.get())}});
  return work.failed ? kFailed : kOk;
}

CLI::App& AddPictures(CLI::App& app, const char* name, const char* help,
                      PictureArguments& arguments) {
  CLI::App& command = *app.add_subcommand(name, help);
  AddModelArguments(command, arguments.model);
  command.add_option("IMAGE", arguments.names, "files of pictures, or folders of them")->required();
  AddImageOptions(command, arguments.options);
  return command;
}

}  // namespace

void AddClassify(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<PictureArguments>();
  CLI::App& command = AddPictures(app, "classify", "say what is in pictures", *arguments);
  command.footer(kClassifyFooter);
  command.add_option("--top", arguments->top, "so many classes of each picture")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command.add_flag("--json", invocation.json, "all results as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Classify(*arguments, invocation.json); };
  });
}

void AddFeatures(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<PictureArguments>();
  CLI::App& command = AddPictures(app, "features", "describe pictures in numbers", *arguments);
  command.footer(kFeaturesFooter);
  command.add_option("--out", arguments->out, "write float32 [pictures, features] as .npy")
      ->type_name("FILE");
  command.add_flag("--json", invocation.json, "all results as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Features(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
