#include "headroom/image_bench.h"

#include <algorithm>
#include <cstdio>
#include <random>

#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/pictures.h"
#include "headroom/process.h"
#include "headroom/progress.h"
#include "headroom/samples.h"

namespace headroom::cli {
namespace {

// Runs of one sample: as many as take about this long, so that clocks and wakings count little.
constexpr double kSampleSeconds = 0.05;
constexpr size_t kMostRuns = 200;

struct Measured {
  hr_image_plan_report plan = {};
  hr_image_stats stats = {};
  ProcessMemory memory;
  std::vector<double> milliseconds;  // of one picture
};

double SecondsOf(hr_image_session* session, const std::vector<float>& values, size_t batch) {
  hr_error error = {};
  const uint64_t start = NowNs();
  Check(hr_image_session_run_values(session, values.data(), batch, &error), error, "cannot run");
  return static_cast<double>(NowNs() - start) * 1e-9;
}

Measured Measure(hr_model* model, const ImageBenchArguments& arguments, uint32_t threads,
                 ProgressBar& bar) {
  hr_image_options options = arguments.options;
  options.threads = threads;
  const ImageSessionHandle session = CreateImageSession(model, options);
  Measured measured;
  measured.plan.struct_size = sizeof(measured.plan);
  Check(hr_image_session_get_plan(session.get(), &measured.plan), hr_error{}, "cannot plan");
  const size_t batch = measured.plan.batch;
  std::vector<float> values(batch * measured.plan.height * measured.plan.width * 3);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (float& value : values) value = normal(random);
  const double first = SecondsOf(session.get(), values, batch);  // warms caches and pages
  const double once = std::min(first, SecondsOf(session.get(), values, batch));
  const auto runs = std::clamp<size_t>(static_cast<size_t>(kSampleSeconds / once), 1, kMostRuns);
  for (uint32_t i = 0; i < arguments.repetitions; ++i) {
    double seconds = 0;
    for (size_t run = 0; run < runs; ++run) seconds += SecondsOf(session.get(), values, batch);
    measured.milliseconds.push_back(seconds * 1e3 / static_cast<double>(runs * batch));
    bar.Update(static_cast<double>(i + 1) / arguments.repetitions);
  }
  measured.stats = ImageStatsOf(session.get());
  measured.memory = ReadProcessMemory();
  bar.Finish();
  return measured;
}

Json MeasuredJson(const Measured& measured) {
  const double median = Median(measured.milliseconds);
  return {
      {"threads", measured.plan.threads},
      {"batch", measured.plan.batch},
      {"median_ms", median},
      {"spread_ms", Spread(measured.milliseconds)},
      {"samples_ms", measured.milliseconds},
      {"pictures_per_second", 1e3 / median},
      {"multiply_adds_per_second", static_cast<double>(measured.plan.multiply_adds) * 1e3 / median},
      {"plan", ImagePlanJson(measured.plan)},
      {"start_ms", static_cast<double>(measured.stats.load_ns) * 1e-6},
      {"weights_packed_now", measured.stats.weights_packed_now},
      {"arena_planned_bytes", measured.stats.planned_bytes},
      {"arena_peak_bytes", measured.stats.peak_bytes},
      {"arena_touched_bytes", measured.stats.touched_bytes},
      {"process_private_dirty_bytes", measured.memory.private_dirty_bytes},
      {"process_resident_bytes", measured.memory.resident_bytes}};
}

void Print(const Measured& measured) {
  const double median = Median(measured.milliseconds);
  std::printf("%7u  %5u  %4ux%-4u  %9.3f +- %-7.3f  %9.1f  %9.2f\n", measured.plan.threads,
              measured.plan.batch, measured.plan.height, measured.plan.width, median,
              Spread(measured.milliseconds), 1e3 / median,
              static_cast<double>(measured.plan.multiply_adds) * 1e-6 / median);
  std::fflush(stdout);
}

}  // namespace

int BenchImages(hr_model* model, const ImageBenchArguments& arguments, bool json) {
  const hr_model_facts facts = FactsOf(model);
  const std::string device = DeviceLine();
  if (!json) {
    std::printf("%s\n%s\n\n%7s  %5s  %-9s  %9s    %-7s  %9s  %9s\n", ModelLine(facts).c_str(),
                device.c_str(), "threads", "batch", "pixels", "ms each", "", "per s", "GMAC/s");
  }
  ProgressBar bar("measuring");
  std::vector<Measured> all;
  for (const uint32_t threads : arguments.threads) {
    all.push_back(Measure(model, arguments, threads, bar));
    if (!json) Print(all.back());
  }
  if (json) {
    Json results = Json::array();
    for (const Measured& each : all) results.push_back(MeasuredJson(each));
    PrintJson({{"model", FactsJson(facts)},
               {"device", device},
               {"backend", "cpu"},
               {"repetitions", arguments.repetitions},
               {"results", results}});
    return kOk;
  }
  std::printf("\nmemory\n");
  for (const Measured& each : all) {
    std::printf(
        "  %u threads: planned %s private + %s mapped = %s; measured arena %s, private "
        "dirty %s, resident %s\n",
        each.plan.threads, FormatBytes(each.plan.private_bytes).c_str(),
        FormatBytes(each.plan.mapped_bytes).c_str(), FormatBytes(each.plan.total_bytes).c_str(),
        FormatBytes(each.stats.touched_bytes).c_str(),
        FormatBytes(each.memory.private_dirty_bytes).c_str(),
        FormatBytes(each.memory.resident_bytes).c_str());
  }
  return kOk;
}

}  // namespace headroom::cli
