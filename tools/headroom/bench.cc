// headroom bench: tokens per second as llama-bench counts them, what they cost in bytes, and how
// far they are from what the memory of this machine allows.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/image_bench.h"
#include "headroom/options.h"
#include "headroom/pictures.h"
#include "headroom/process.h"
#include "headroom/progress.h"
#include "headroom/report.h"
#include "headroom/samples.h"
#include "headroom/stream_read.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Columns mean what they mean in llama-bench: pp512 reads 512 tokens at once, tg64 makes 64 "
    "tokens one\n"
    "by one, \"@ d4096\" does so with 4096 tokens already in the context; tokens are random and "
    "sampling is\n"
    "not timed. t/s is the median of the repetitions, +- the farthest one from it. \"limit\" is "
    "what decode\n"
    "would reach if it did nothing but read its weights and cached rows once a token, at the read\n"
    "bandwidth measured in the same run over as many bytes.\n"
    "\n"
    "Examples:\n"
    "  headroom bench model.hrm\n"
    "  headroom bench model.hrm --prefill 128,512 --decode 64 --depth 0,4096 --threads 1,2 --kv "
    "f16,int8\n"
    "  headroom bench shvit.hrm --batch 1 --threads 1,2      a vision model: ms for a picture\n"
    "  headroom bench model.hrm --prefill 0 --decode 32 --depth 16384 --json > result.json";

struct BenchArguments {
  ModelArguments model;
  SessionArguments session;
  hr_image_options images = {};
  std::vector<uint32_t> prefill = {512};
  std::vector<uint32_t> decode = {64};
  std::vector<uint32_t> depth = {0};
  std::vector<uint32_t> threads = {0};
  std::vector<std::string> kv = {"auto"};
  uint32_t repetitions = 5;
  uint64_t seed = 1;
  bool no_limit = false;
};

// One line of the table.
struct Row {
  bool is_decode = false;
  uint32_t tokens = 0;
  uint32_t depth = 0;
  std::vector<double> tokens_per_second;
  uint64_t step_read_bytes =
      0;  // decode: weights and rows one token reads, at the middle of the test
  double limit_tokens_per_second = 0;

  std::string Name() const {
    std::string name = (is_decode ? "tg" : "pp") + std::to_string(tokens);
    return depth == 0 ? name : name + " @ d" + std::to_string(depth);
  }
};

// One session: all rows of one thread count and one cache type.
struct Group {
  hr_plan_report plan = {};
  hr_session_stats stats = {};
  ProcessMemory memory;
  std::vector<Row> rows;
};

class Bench {
 public:
  Bench(const BenchArguments& arguments, hr_model* model)
      : arguments_(arguments),
        model_(model),
        facts_(FactsOf(model)),
        total_(CountRuns(arguments)) {}

  Group RunGroup(uint32_t threads, const std::string& kv);
  const hr_model_facts& facts() const { return facts_; }

 private:
  static size_t CountRuns(const BenchArguments& arguments);
  hr_session_options Options(uint32_t threads, const std::string& kv) const;
  void RunRow(hr_session* session, const hr_session_options& options, Row& row);
  void FillTo(hr_session* session, uint32_t depth);
  double RunOnce(hr_session* session, const Row& row);
  double ReadBandwidth(uint64_t bytes, uint32_t threads) const;

  const BenchArguments& arguments_;
  hr_model* model_;
  hr_model_facts facts_;
  std::vector<int32_t> tokens_;  // random; the first `depth` fill the context
  ProgressBar bar_{"measuring"};
  size_t total_;  // timed runs, for the bar
  size_t done_ = 0;
};

size_t Bench::CountRuns(const BenchArguments& arguments) {
  const auto real = [](const std::vector<uint32_t>& counts) {
    return static_cast<size_t>(
        std::count_if(counts.begin(), counts.end(), [](uint32_t n) { return n > 0; }));
  };
  return (real(arguments.prefill) + real(arguments.decode)) * arguments.depth.size() *
         (arguments.repetitions + 1) * arguments.threads.size() * arguments.kv.size();
}

hr_session_options Bench::Options(uint32_t threads, const std::string& kv) const {
  hr_session_options options = arguments_.session.options;
  options.threads = threads;
  options.profile = ProfileOf(kv);
  if (options.context_tokens != 0) return options;
  const auto largest = [](const std::vector<uint32_t>& values) {
    return values.empty() ? 0u : *std::max_element(values.begin(), values.end());
  };
  options.context_tokens = largest(arguments_.depth) +
                           std::max({largest(arguments_.prefill), largest(arguments_.decode), 1u});
  return options;
}

// Brings the session to exactly `depth` tokens, reusing what is there where the model's rings allow
// it.
void Bench::FillTo(hr_session* session, uint32_t depth) {
  hr_error error = {};
  if (hr_session_position(session) > depth &&
      hr_session_rewind(session, depth, &error) == HR_UNSUPPORTED) {
    Check(hr_session_rewind(session, 0, &error), error, "cannot rewind");
  }
  const uint32_t position = hr_session_position(session);
  if (position < depth) {
    Check(hr_session_prefill(session, tokens_.data() + position, depth - position, &error), error,
          "cannot fill the context");
  }
}

// Seconds for the tokens of `row`, starting at its depth.
double Bench::RunOnce(hr_session* session, const Row& row) {
  FillTo(session, row.depth);
  hr_error error = {};
  const int32_t* tokens = tokens_.data() + row.depth;
  const uint64_t start_ns = NowNs();
  if (row.is_decode) {
    for (uint32_t i = 0; i < row.tokens; ++i) {
      Check(hr_session_decode(session, tokens[i], &error), error, "cannot decode");
    }
  } else {
    Check(hr_session_prefill(session, tokens, row.tokens, &error), error, "cannot prefill");
  }
  const uint64_t elapsed_ns = NowNs() - start_ns;
  bar_.Update(static_cast<double>(++done_) / static_cast<double>(total_));
  return static_cast<double>(elapsed_ns) * 1e-9;
}

void Bench::RunRow(hr_session* session, const hr_session_options& options, Row& row) {
  RunOnce(session, row);  // warms caches, pages and clocks
  for (uint32_t i = 0; i < arguments_.repetitions; ++i) {
    row.tokens_per_second.push_back(row.tokens / RunOnce(session, row));
  }
  if (!row.is_decode) return;
  hr_session_options middle = options;
  middle.context_tokens = row.depth + (row.tokens + 1) / 2;
  middle.budget_bytes = middle.private_budget_bytes = 0;
  row.step_read_bytes = PlanOf(model_, middle).decode_read_bytes;
}

Group Bench::RunGroup(uint32_t threads, const std::string& kv) {
  hr_session_options options = Options(threads, kv);
  Group group;
  {
    const SessionHandle session = CreateSession(model_, options, options.context_tokens);
    group.plan.struct_size = sizeof(group.plan);
    Check(hr_session_get_plan(session.get(), &group.plan), hr_error{}, "cannot read the plan");
    if (kv == "auto") options.profile = group.plan.profile;  // what it became
    std::mt19937_64 random(arguments_.seed);
    tokens_.resize(group.plan.context_tokens);
    for (int32_t& token : tokens_) token = static_cast<int32_t>(random() % facts_.vocabulary);
    for (const uint32_t depth : arguments_.depth) {
      const auto measure = [&](bool is_decode, uint32_t tokens) {
        if (tokens == 0) return;
        if (uint64_t{depth} + tokens > group.plan.context_tokens) {
          throw Failure(HR_CONTEXT_FULL, "depth " + std::to_string(depth) + " + " +
                                             std::to_string(tokens) + " tokens > context " +
                                             std::to_string(group.plan.context_tokens));
        }
        Row row;
        row.is_decode = is_decode;
        row.tokens = tokens;
        row.depth = depth;
        RunRow(session.get(), options, row);
        group.rows.push_back(std::move(row));
      };
      for (const uint32_t tokens : arguments_.prefill) measure(false, tokens);
      for (const uint32_t tokens : arguments_.decode) measure(true, tokens);
    }
    group.stats = StatsOf(session.get());
    group.memory = ReadProcessMemory();
  }
  // After the session is gone, so that the two never share the memory or the cores.
  for (Row& row : group.rows) {
    if (arguments_.no_limit || !row.is_decode || row.step_read_bytes == 0) continue;
    row.limit_tokens_per_second = MeasureStreamRead(row.step_read_bytes, group.plan.threads) /
                                  static_cast<double>(row.step_read_bytes);
  }
  bar_.Finish();
  return group;
}

Json RowJson(const Group& group, const Row& row) {
  Json json = {{"test", row.Name()},
               {"n_prompt", row.is_decode ? 0 : row.tokens},
               {"n_gen", row.is_decode ? row.tokens : 0},
               {"n_depth", row.depth},
               {"threads", group.plan.threads},
               {"kv", group.plan.profile},
               {"median_ts", Median(row.tokens_per_second)},
               {"spread_ts", Spread(row.tokens_per_second)},
               {"samples_ts", row.tokens_per_second}};
  if (row.is_decode) {
    json["step_read_bytes"] = row.step_read_bytes;
  }
  if (row.limit_tokens_per_second > 0) {
    json["limit_ts"] = row.limit_tokens_per_second;
    json["read_bytes_per_second"] =
        row.limit_tokens_per_second * static_cast<double>(row.step_read_bytes);
  }
  return json;
}

Json GroupJson(const Group& group) {
  return {{"threads", group.plan.threads},
          {"kv", group.plan.profile},
          {"plan", PlanJson(group.plan)},
          {"start_ms", static_cast<double>(group.stats.load_ns) * 1e-6},
          {"weights_packed_now", group.stats.weights_packed_now},
          {"arena_planned_bytes", group.stats.planned_bytes},
          {"arena_peak_bytes", group.stats.peak_bytes},
          {"arena_touched_bytes", group.stats.touched_bytes},
          {"process_private_dirty_bytes", group.memory.private_dirty_bytes},
          {"process_resident_bytes", group.memory.resident_bytes},
          {"process_peak_resident_bytes", group.memory.peak_resident_bytes}};
}

void PrintGroup(const Group& group) {
  for (const Row& row : group.rows) {
    char limit[48] = "";
    const double median = Median(row.tokens_per_second);
    if (row.limit_tokens_per_second > 0) {
      std::snprintf(limit, sizeof(limit), "%10.1f  %4.0f %%", row.limit_tokens_per_second,
                    100 * median / row.limit_tokens_per_second);
    }
    std::printf("%7" PRIu32 "  %-5s  %-16s %10.2f +- %-8.2f %s\n", group.plan.threads,
                group.plan.profile, row.Name().c_str(), median, Spread(row.tokens_per_second),
                limit);
  }
  std::fflush(stdout);
}

void PrintGroupMemory(const Group& group) {
  std::printf("  %" PRIu32
              " threads, %s: planned %s private + %s mapped = %s; measured arenas %s, "
              "private dirty %s, resident %s\n",
              group.plan.threads, group.plan.profile, FormatBytes(group.plan.private_bytes).c_str(),
              FormatBytes(group.plan.mapped_bytes).c_str(),
              FormatBytes(group.plan.total_bytes).c_str(),
              FormatBytes(group.stats.touched_bytes).c_str(),
              FormatBytes(group.memory.private_dirty_bytes).c_str(),
              FormatBytes(group.memory.resident_bytes).c_str());
}

int BenchPictures(hr_model* model, const BenchArguments& arguments, bool json) {
  ImageBenchArguments images{arguments.images, arguments.threads, arguments.repetitions};
  images.options.struct_size = sizeof(images.options);
  images.options.budget_bytes = arguments.session.options.budget_bytes;
  images.options.private_budget_bytes = arguments.session.options.private_budget_bytes;
  return BenchImages(model, images, json);
}

int RunBench(const BenchArguments& arguments, bool json) {
  const ModelHandle model = OpenModel(arguments.model.Request());
  if (TakesPictures(model.get())) return BenchPictures(model.get(), arguments, json);
  Bench bench(arguments, model.get());
  const std::string device = DeviceLine();
  if (!json) {
    std::printf("%s\n%s\n\n", ModelLine(bench.facts()).c_str(), device.c_str());
    std::printf("%7s  %-5s  %-16s %10s    %-8s %10s  %6s\n", "threads", "kv", "test", "t/s", "",
                "limit t/s", "of it");
  }
  std::vector<Group> groups;
  for (const uint32_t threads : arguments.threads) {
    for (const std::string& kv : arguments.kv) {
      groups.push_back(bench.RunGroup(threads, kv));
      if (!json) PrintGroup(groups.back());
    }
  }
  if (json) {
    Json results = Json::array(), sessions = Json::array();
    for (const Group& group : groups) {
      sessions.push_back(GroupJson(group));
      for (const Row& row : group.rows) results.push_back(RowJson(group, row));
    }
    PrintJson({{"model", FactsJson(bench.facts())},
               {"device", device},
               {"backend", "cpu"},
               {"repetitions", arguments.repetitions},
               {"results", results},
               {"sessions", sessions}});
  } else {
    std::printf("\nmemory\n");
    for (const Group& group : groups) PrintGroupMemory(group);
  }
  return kOk;
}

}  // namespace

void AddBench(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App& command = *app.add_subcommand("bench", "measure prefill and decode speed and memory");
  command.footer(kFooter);
  AddModelArguments(command, arguments->model);
  AddListOption(command, "--prefill", arguments->prefill, "prompt sizes to measure (0: none)");
  AddListOption(command, "--decode", arguments->decode, "numbers of tokens to make (0: none)");
  AddListOption(command, "--depth", arguments->depth, "tokens already in the context");
  AddListOption(command, "--threads", arguments->threads, "thread counts (0: the fast cores)");
  AddListOption(command, "--kv", arguments->kv, kKvHelp);
  command.add_option("--repetitions,-r", arguments->repetitions, "measured runs of each test")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  AddContextOption(command, arguments->session,
                   "tokens to have room for (default: the deepest test)");
  AddImageSizeOptions(command, arguments->images);
  AddChunkOption(command, arguments->session);
  AddBackendOption(command);
  AddBudgetOptions(command, arguments->session);
  command.add_option("--seed", arguments->seed, "of the random tokens")->capture_default_str();
  command.add_flag("--no-limit", arguments->no_limit,
                   "do not measure the read bandwidth, which takes a buffer of up to 512 MiB");
  command.add_flag("--json", invocation.json, "all samples as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return RunBench(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
