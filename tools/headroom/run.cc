// headroom run: text in, text out, and what it cost.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/files.h"
#include "headroom/options.h"
#include "headroom/pictures.h"
#include "headroom/process.h"
#include "headroom/progress.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "The text goes to stdout as it is made, statistics to stderr. Ctrl-C stops after the current "
    "layer.\n"
    "\n"
    "Examples:\n"
    "  headroom run model.hrm --prompt \"Once upon a time\" --max-tokens 100 --temp 0.8 --seed 7\n"
    "  headroom run model.hrm --prompt-file question.txt --budget 600M --kv int8\n"
    "  cat notes.txt | headroom run model.hrm --prompt-file - --stop \"\\n\" --json";

struct RunArguments {
  ModelArguments model;
  SessionArguments session;
  std::optional<std::string> prompt;
  std::string prompt_file;
  uint32_t max_tokens = 256;
  hr_sampler_options sampler = {};
  std::vector<std::string> stops;
  bool ignore_end = false;
  bool no_begin = false;
  bool no_special = false;
  bool quiet = false;
};

// The session that Ctrl-C stops.
std::atomic<hr_session*> g_running{nullptr};

void StopRunning(int) {
  if (hr_session* session = g_running.load()) hr_session_cancel(session);
}

// While it lives, Ctrl-C cancels `session`; a second Ctrl-C ends the program as usual.
class CancelOnInterrupt {
 public:
  explicit CancelOnInterrupt(hr_session* session) {
    g_running.store(session);
    struct sigaction action = {};
    action.sa_handler = StopRunning;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, nullptr);
  }
  ~CancelOnInterrupt() {
    std::signal(SIGINT, SIG_DFL);
    g_running.store(nullptr);
  }
  CancelOnInterrupt(const CancelOnInterrupt&) = delete;
  CancelOnInterrupt& operator=(const CancelOnInterrupt&) = delete;
};

std::string PromptText(const RunArguments& arguments) {
  std::string text = arguments.prompt.has_value()
                         ? *arguments.prompt
                         : ReadWholeFile(arguments.prompt_file, "the prompt file");
  if (text.empty()) throw Failure(HR_INVALID_ARGUMENT, "the prompt is empty; give it some text");
  return text;
}

// "\n" and "\t" typed in a shell mean the characters.
std::string Unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'n' || next == 't' || next == '\\') {
      plain += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      ++i;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// Where generated text goes: straight to stdout, or into a string for --json.
struct TextSink {
  bool stream = true;
  bool failed = false;
  std::string text;

  static bool OnText(void* user_data, const char* text, size_t bytes, int32_t) {
    TextSink& sink = *static_cast<TextSink*>(user_data);
    if (!sink.stream) {
      sink.text.append(text, bytes);
      return true;
    }
    if (bytes > 0) sink.text.assign(1, text[bytes - 1]);
    sink.failed =
        std::fwrite(text, 1, bytes, stdout) != bytes || std::fflush(stdout) != 0 || sink.failed;
    return !sink.failed;
  }
};

// The largest figures seen; the kernel keeps a peak of resident bytes only.
struct MemoryWatch {
  ProcessMemory largest;

  void Look() {
    const ProcessMemory now = ReadProcessMemory();
    largest.private_dirty_bytes = std::max(largest.private_dirty_bytes, now.private_dirty_bytes);
    largest.resident_bytes = std::max(largest.resident_bytes, now.resident_bytes);
    largest.peak_resident_bytes = std::max(largest.peak_resident_bytes, now.peak_resident_bytes);
  }
};

// Room for the prompt and the answer, when the user named no context: a one-shot run needs no more.
void ChooseContext(const RunArguments& arguments, size_t prompt_tokens, uint32_t trained,
                   hr_session_options& options) {
  if (options.context_tokens != 0 || arguments.max_tokens == 0) return;
  const uint64_t needed = prompt_tokens + arguments.max_tokens;
  options.context_tokens = static_cast<uint32_t>(
      std::min<uint64_t>(std::max<uint64_t>(trained, 1), (needed + 63) / 64 * 64));
}

// A prompt that cannot go into the context is refused here, where we know what can be done about
// it.
void RequireRoom(size_t prompt_tokens, uint32_t asked, uint32_t trained) {
  const std::string has = "the prompt has " + std::to_string(prompt_tokens) + " tokens, ";
  if (prompt_tokens > trained) {
    throw Failure(HR_CONTEXT_FULL, has + "the model reads at most " + std::to_string(trained),
                  "Shorten the prompt.");
  }
  if (asked != 0 && prompt_tokens > asked) {
    throw Failure(HR_CONTEXT_FULL, has + "--context is " + std::to_string(asked),
                  "Raise --context, or shorten the prompt.");
  }
}

hr_generate_options GenerateOptions(const RunArguments& arguments,
                                    const std::vector<const char*>& stops, TextSink& sink) {
  hr_generate_options options = {};
  options.struct_size = sizeof(options);
  options.sampler = arguments.sampler;
  options.sampler.struct_size = sizeof(options.sampler);
  options.max_tokens = arguments.max_tokens;
  options.stop_sequences = stops.empty() ? nullptr : stops.data();
  options.stop_sequence_count = stops.size();
  options.ignore_end_token = arguments.ignore_end;
  options.on_text = TextSink::OnText;
  options.user_data = &sink;
  return options;
}

struct Outcome {
  size_t prompt_tokens = 0;
  hr_generate_result result = {};
  hr_plan_report plan = {};
  hr_session_stats stats = {};
  MemoryWatch memory;
};

void PrintStatistics(const Outcome& outcome, const hr_session_options& options, bool mapped) {
  const hr_session_stats& stats = outcome.stats;
  const ProcessMemory& memory = outcome.memory.largest;
  std::fprintf(stderr,
               "\nprefill %zu tokens at %.1f tokens/s, decode %u tokens at %.1f tokens/s (%s)\n",
               outcome.prompt_tokens, TokensPerSecond(stats.prefill_tokens, stats.prefill_ns),
               outcome.result.tokens, TokensPerSecond(stats.decode_tokens, stats.decode_ns),
               StopReasonName(outcome.result.stop_reason));
  std::fprintf(stderr, "start %.0f ms (weights %s)\n", static_cast<double>(stats.load_ns) * 1e-6,
               outcome.plan.packed_bytes == 0 ? "read in place"
               : stats.weights_packed_now     ? "packed now"
                                              : "found packed");
  std::fprintf(stderr, "plan: %s", PlanTable(outcome.plan, options, mapped).c_str());
  std::fprintf(stderr, "arenas: planned %s, allocated %s, touched %s\n",
               FormatBytes(stats.planned_bytes).c_str(), FormatBytes(stats.peak_bytes).c_str(),
               FormatBytes(stats.touched_bytes).c_str());
  std::fprintf(stderr, "process: private dirty %s, resident %s, peak resident %s\n",
               FormatBytes(memory.private_dirty_bytes).c_str(),
               FormatBytes(memory.resident_bytes).c_str(),
               FormatBytes(memory.peak_resident_bytes).c_str());
}

Json OutcomeJson(const Outcome& outcome, const std::string& text, const hr_model_facts& facts) {
  const hr_session_stats& stats = outcome.stats;
  const ProcessMemory& memory = outcome.memory.largest;
  return {{"text", text},
          {"stop_reason", StopReasonName(outcome.result.stop_reason)},
          {"prompt_tokens", outcome.prompt_tokens},
          {"generated_tokens", outcome.result.tokens},
          {"prefill_tokens_per_second", TokensPerSecond(stats.prefill_tokens, stats.prefill_ns)},
          {"decode_tokens_per_second", TokensPerSecond(stats.decode_tokens, stats.decode_ns)},
          {"start_ms", static_cast<double>(stats.load_ns) * 1e-6},
          {"weights_packed_now", stats.weights_packed_now},
          {"plan", PlanJson(outcome.plan)},
          {"measured",
           {{"arena_planned_bytes", stats.planned_bytes},
            {"arena_peak_bytes", stats.peak_bytes},
            {"arena_touched_bytes", stats.touched_bytes},
            {"process_private_dirty_bytes", memory.private_dirty_bytes},
            {"process_resident_bytes", memory.resident_bytes},
            {"process_peak_resident_bytes", memory.peak_resident_bytes}}},
          {"model", FactsJson(facts)},
          {"device", DeviceLine()}};
}

// The prompt into the session; on a terminal in pieces, with a bar. Pieces end where chunks end, so
// the result is that of one call, and none is a single token, which would count as decode.
void ReadPrompt(hr_session* session, const std::vector<int32_t>& tokens, uint32_t chunk) {
  constexpr size_t kPieceTokens = 256;  // each costs one more pass of the output matrix
  ProgressBar bar("reading the prompt");
  size_t piece = tokens.size();
  if (bar.visible() && chunk > 0) piece = std::max<size_t>(chunk, kPieceTokens / chunk * chunk);
  bar.Update(0);
  for (size_t done = 0; done < tokens.size();) {
    const size_t left = tokens.size() - done;
    const size_t count = left <= piece + 1 ? left : piece;
    hr_error error = {};
    Check(hr_session_prefill(session, tokens.data() + done, count, &error), error,
          "cannot read the prompt");
    done += count;
    bar.Update(static_cast<double>(done) / static_cast<double>(tokens.size()));
  }
}

// Prefill and generation on a fresh session.
void Generate(hr_session* session, const RunArguments& arguments,
              const std::vector<int32_t>& tokens, TextSink& sink, Outcome& outcome) {
  std::vector<std::string> stop_texts;
  for (const std::string& stop : arguments.stops) stop_texts.push_back(Unescape(stop));
  std::vector<const char*> stops;
  for (const std::string& stop : stop_texts) stops.push_back(stop.c_str());

  CancelOnInterrupt interrupt(session);
  ReadPrompt(session, tokens, outcome.plan.chunk_tokens);
  outcome.memory.Look();
  hr_error error = {};
  const hr_generate_options options = GenerateOptions(arguments, stops, sink);
  outcome.result.struct_size = sizeof(outcome.result);
  Check(hr_session_generate(session, &options, &outcome.result, &error), error, "cannot generate");
  if (sink.failed) throw Failure(HR_IO, "cannot write to stdout");
  outcome.memory.Look();
}

int Run(const RunArguments& arguments, bool json) {
  const std::string prompt = PromptText(arguments);
  const ModelHandle model = OpenModel(arguments.model.Request());
  const hr_model_facts facts = FactsOf(model.get());
  if (TakesPictures(model.get())) {
    throw Failure(HR_UNSUPPORTED, "this model takes pictures: use `headroom classify` on it");
  }
  if (!facts.has_tokenizer) {
    throw Failure(HR_UNSUPPORTED,
                  "this model carries no tokenizer, so it cannot read text; use "
                  "`headroom logits` or `headroom bench` on it");
  }
  const uint32_t flags = (arguments.no_begin ? HR_TOKENIZE_NO_BEGIN : 0) |
                         (arguments.no_special ? HR_TOKENIZE_NO_SPECIAL : 0);
  const std::vector<int32_t> tokens = Tokenize(model.get(), prompt, flags);
  hr_session_options options = arguments.session.options;
  const uint32_t longest = std::max(options.context_tokens, facts.context_tokens);
  RequireRoom(tokens.size(), options.context_tokens, longest);
  ChooseContext(arguments, tokens.size(), facts.context_tokens, options);

  const SessionHandle session = CreateSession(model.get(), options, tokens.size());
  Outcome outcome;
  outcome.prompt_tokens = tokens.size();
  outcome.plan.struct_size = sizeof(outcome.plan);
  Check(hr_session_get_plan(session.get(), &outcome.plan), hr_error{}, "cannot read the plan");
  if (tokens.size() > outcome.plan.context_tokens) {  // the context was the planner's choice
    throw Failure(HR_OVER_BUDGET,
                  "the prompt has " + std::to_string(tokens.size()) +
                      " tokens, the largest context that fits the budget has " +
                      std::to_string(outcome.plan.context_tokens),
                  "Raise --budget, or shorten the prompt.");
  }
  outcome.memory.Look();
  TextSink sink;
  sink.stream = !json;
  Generate(session.get(), arguments, tokens, sink, outcome);
  outcome.stats = StatsOf(session.get());

  if (json) {
    PrintJson(OutcomeJson(outcome, sink.text, facts));
  } else {
    if (sink.text != "\n") std::fputc('\n', stdout);
    std::fflush(stdout);
    if (!arguments.quiet) {
      PrintStatistics(outcome, options, !arguments.model.ResolvedCacheDirectory().empty());
    }
  }
  return outcome.result.stop_reason == HR_STOP_CANCELLED ? kInterrupted : kOk;
}

}  // namespace

void AddRun(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<RunArguments>();
  CLI::App& command = *app.add_subcommand("run", "generate text from a prompt");
  command.footer(kFooter);
  AddModelArguments(command, arguments->model);
  auto* group = command.add_option_group("prompt", "exactly one of");
  group->add_option("--prompt", arguments->prompt, "the text to continue");
  group->add_option("--prompt-file", arguments->prompt_file, "a file that holds it; - is stdin");
  group->require_option(1);
  command
      .add_option("--max-tokens", arguments->max_tokens,
                  "end after N tokens (0: when the context is full)")
      ->capture_default_str()
      ->type_name("N");
  AddSamplerOptions(command, arguments->sampler);
  command
      .add_option("--stop", arguments->stops, "end before this text; may be repeated (\\n works)")
      ->allow_extra_args(false)
      ->type_name("TEXT");
  AddContextOption(command, arguments->session,
                   "tokens to have room for (default: what the prompt and --max-tokens need)");
  AddBudgetOptions(command, arguments->session);
  AddKvOption(command, arguments->session);
  AddThreadOptions(command, arguments->session);
  command.add_flag("--ignore-end", arguments->ignore_end, "go on after the model's end token");
  command.add_flag("--no-begin", arguments->no_begin, "do not put the begin token first");
  command.add_flag("--no-special", arguments->no_special,
                   "read special tokens in the prompt as plain text (untrusted input)");
  command.add_flag("--quiet", arguments->quiet, "no statistics");
  command.add_flag("--json", invocation.json, "text and statistics as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Run(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
