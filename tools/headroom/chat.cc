// headroom chat: a conversation, on a terminal or line by line through a pipe.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <unistd.h>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/conversation.h"
#include "headroom/files.h"
#include "headroom/options.h"
#include "headroom/pictures.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kCommands[] =
    "/reset      forget the conversation (the system text stays)\n"
    "/save FILE  write its messages as JSON\n"
    "/load FILE  go on with messages of such a file; the next turn reads them\n"
    "/stats      tokens, bytes and speed\n"
    "/exit       end; so does the end of the input\n";

constexpr char kFooter[] =
    "Each line of stdin is one turn; answers go to stdout as they are made, all else to stderr. A "
    "turn reads only what is new: the conversation so far stays in the session. When the context "
    "is "
    "full, the oldest turns are dropped, the others are read again, and stderr says so. Ctrl-C "
    "stops "
    "an answer, not the program. With --json each turn is one line with one object.\n"
    "\n"
    "Lines that begin with / are commands (// begins a message with /):\n"
    "  /reset, /save FILE, /load FILE, /stats, /help, /exit\n"
    "\n"
    "Examples:\n"
    "  headroom chat llama.hrm --system \"Answer briefly.\" --budget 1.2G\n"
    "  printf 'Who was Ada Lovelace?\\nAnd Babbage?\\n' | headroom chat llama.hrm --json\n"
    "  headroom chat story-model.hrm --template plain";

constexpr size_t kMaxLineBytes = 16u << 20;
constexpr uint32_t kDefaultContext = 4096;

struct ChatArguments {
  ModelArguments model;
  SessionArguments session;
  ConversationOptions conversation;
  bool quiet = false;
};

// ---- Ctrl-C

std::atomic<hr_session*> g_answering{nullptr};
std::atomic<bool> g_interrupted{false};

void OnInterrupt(int) {
  if (hr_session* session = g_answering.load()) {
    hr_session_cancel(session);
  } else {
    g_interrupted.store(true);
  }
}

// From now on Ctrl-C stops an answer; elsewhere it only interrupts the reading of a line.
void HoldInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
}

// ---- input

// The next line without its end; nothing at the end of the input or after Ctrl-C (g_interrupted).
std::optional<std::string> ReadLine() {
  char* line = nullptr;
  size_t capacity = 0;
  errno = 0;
  const ssize_t bytes = getline(&line, &capacity, stdin);
  const std::unique_ptr<char, decltype(&std::free)> owner(line, &std::free);
  if (bytes < 0) {
    std::clearerr(stdin);
    return std::nullopt;
  }
  std::string text(line, static_cast<size_t>(bytes));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (text.size() > kMaxLineBytes)
    throw Failure(HR_INVALID_ARGUMENT, "a line of " + FormatBytes(text.size()) + " is no message");
  return text;
}

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  localtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof(text), "%Y-%m-%d", &parts);
  return text;
}

// ---- the loop

class ChatLoop {
 public:
  ChatLoop(hr_session* session, Conversation& conversation, bool json, bool quiet)
      : session_(session),
        conversation_(conversation),
        json_(json),
        quiet_(quiet),
        terminal_(isatty(STDIN_FILENO) != 0) {}

  int Run() {
    while (true) {
      if (terminal_ && !json_) std::fputs("> ", stderr);
      const std::optional<std::string> line = ReadLine();
      if (!line && !AfterNoLine()) return g_interrupted ? kInterrupted : status_;
      if (!line) continue;
      interrupts_ = 0;
      if (line->empty()) continue;
      try {
        if (!Handle(*line)) return status_;
      } catch (const Failure& failure) {
        if (std::ferror(stdout) != 0) throw;
        Say(failure);
      }
    }
  }

 private:
  // Whether to go on: at the prompt of a terminal one Ctrl-C is forgiven.
  bool AfterNoLine() {
    if (!g_interrupted) return false;
    if (!terminal_ || ++interrupts_ > 1) return false;
    g_interrupted = false;
    std::fputs("\n(/exit ends, or Ctrl-C again)\n", stderr);
    return true;
  }

  bool Handle(const std::string& line) {
    if (line[0] != '/') {
      Turn(line);
      return true;
    }
    if (line.starts_with("//")) {
      Turn(line.substr(1));
      return true;
    }
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : line.substr(space + 1);
    return name != "/exit" && Command(name, argument);
  }

  bool Command(const std::string& name, const std::string& argument) {
    using Action = void (ChatLoop::*)(const std::string&);
    static const std::map<std::string, std::pair<Action, bool>> kActions = {
        {"/reset", {&ChatLoop::Reset, false}}, {"/save", {&ChatLoop::Save, true}},
        {"/load", {&ChatLoop::Load, true}},    {"/stats", {&ChatLoop::Stats, false}},
        {"/help", {&ChatLoop::Help, false}},
    };
    const auto action = kActions.find(name);
    if (action == kActions.end())
      throw Failure(HR_INVALID_ARGUMENT, "there is no command " + name, "/help lists them.");
    if (action->second.second && argument.empty())
      throw Failure(HR_INVALID_ARGUMENT, name + " needs the name of a file");
    (this->*action->second.first)(argument);
    return true;
  }

  void Reset(const std::string&) {
    conversation_.Reset();
    Done("/reset", "forgotten");
  }

  void Save(const std::string& path) {
    const std::string text =
        conversation_.Save().dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
    OutFile file(path);
    file.Write(text.data(), text.size());
    file.Commit();
    Done("/save", "saved " + std::to_string(conversation_.turns()) + " turns");
  }

  void Load(const std::string& path) {
    conversation_.Load(ReadWholeFile(path, "the conversation"));
    Done("/load", "loaded " + std::to_string(conversation_.turns()) + " turns");
  }

  void Help(const std::string&) { std::fputs(kCommands, stderr); }

  void Stats(const std::string&) {
    const hr_session_stats stats = StatsOf(session_);
    if (json_) {
      return Line(
          {{"command", "/stats"},
           {"chat_format", conversation_.format()},
           {"turns", conversation_.turns()},
           {"tokens", conversation_.tokens()},
           {"context_tokens", conversation_.context()},
           {"reused_tokens", reused_tokens_},
           {"prefill_tokens", stats.prefill_tokens},
           {"prefill_tokens_per_second", TokensPerSecond(stats.prefill_tokens, stats.prefill_ns)},
           {"decode_tokens", stats.decode_tokens},
           {"decode_tokens_per_second", TokensPerSecond(stats.decode_tokens, stats.decode_ns)},
           {"arena_planned_bytes", stats.planned_bytes},
           {"arena_touched_bytes", stats.touched_bytes}});
    }
    std::fprintf(stderr,
                 "%zu turns, %u of %u tokens; read %llu at %.1f tokens/s, wrote %llu at %.1f "
                 "tokens/s, %llu re-used\narenas: planned %s, touched %s\n",
                 conversation_.turns(), conversation_.tokens(), conversation_.context(),
                 static_cast<unsigned long long>(stats.prefill_tokens),
                 TokensPerSecond(stats.prefill_tokens, stats.prefill_ns),
                 static_cast<unsigned long long>(stats.decode_tokens),
                 TokensPerSecond(stats.decode_tokens, stats.decode_ns),
                 static_cast<unsigned long long>(reused_tokens_),
                 FormatBytes(stats.planned_bytes).c_str(),
                 FormatBytes(stats.touched_bytes).c_str());
  }

  void Turn(const std::string& message) {
    bool failed = false;
    g_answering.store(session_);
    TurnOutcome outcome;
    try {
      outcome = conversation_.Ask(message, [&](std::string_view text) {
        if (json_) return true;
        failed = std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
                 std::fflush(stdout) != 0;
        return !failed;
      });
    } catch (...) {
      g_answering.store(nullptr);
      throw;
    }
    g_answering.store(nullptr);
    if (failed) throw Failure(HR_IO, "cannot write to stdout");
    reused_tokens_ += outcome.reused_tokens;
    ++turns_;
    json_ ? PrintTurnJson(message, outcome) : PrintTurn(outcome);
  }

  void PrintTurn(const TurnOutcome& outcome) {
    if (outcome.text.empty() || outcome.text.back() != '\n') std::fputc('\n', stdout);
    if (std::fflush(stdout) != 0) throw Failure(HR_IO, "cannot write to stdout");
    if (outcome.dropped_turns > 0) {
      std::fprintf(stderr,
                   "the context of %u tokens was full: the oldest %zu turn%s dropped, and the "
                   "others were read again (/reset begins anew, --context makes it larger)\n",
                   conversation_.context(), outcome.dropped_turns,
                   outcome.dropped_turns == 1 ? " was" : "s were");
    }
    if (outcome.stop_reason == HR_STOP_CONTEXT) {
      std::fprintf(
          stderr,
          "the context of %u tokens is full: the answer ends here; the next turn drops the "
          "oldest ones\n",
          conversation_.context());
    }
    if (quiet_) return;
    std::fprintf(
        stderr, "[read %zu tokens, re-used %zu, wrote %zu at %.1f tokens/s (%s); %u of %u]\n",
        outcome.read_tokens, outcome.reused_tokens, outcome.written_tokens,
        TokensPerSecond(outcome.written_tokens, outcome.write_ns),
        StopReasonName(outcome.stop_reason), conversation_.tokens(), conversation_.context());
  }

  void PrintTurnJson(const std::string& message, const TurnOutcome& outcome) {
    Line({{"turn", turns_},
          {"message", message},
          {"text", outcome.text},
          {"stop_reason", StopReasonName(outcome.stop_reason)},
          {"read_tokens", outcome.read_tokens},
          {"reused_tokens", outcome.reused_tokens},
          {"generated_tokens", outcome.written_tokens},
          {"dropped_turns", outcome.dropped_turns},
          {"tokens", conversation_.tokens()},
          {"context_tokens", conversation_.context()},
          {"read_tokens_per_second", TokensPerSecond(outcome.read_tokens, outcome.read_ns)},
          {"decode_tokens_per_second", TokensPerSecond(outcome.written_tokens, outcome.write_ns)}});
  }

  void Line(const Json& json) {
    const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
      throw Failure(HR_IO, "cannot write to stdout");
  }

  void Done(const char* command, const std::string& what) {
    if (json_) return Line({{"command", command}, {"turns", conversation_.turns()}});
    if (!quiet_) std::fprintf(stderr, "[%s]\n", what.c_str());
  }

  // A turn or command that failed; the conversation goes on.
  void Say(const Failure& failure) {
    status_ = terminal_ ? kOk : kFailed;
    if (json_) Line(FailureJson(failure));
    std::fprintf(stderr, "headroom: %s\n", EscapeControls(failure.what()).c_str());
    if (!failure.advice().empty()) std::fprintf(stderr, "  %s\n", failure.advice().c_str());
  }

  hr_session* session_;
  Conversation& conversation_;
  const bool json_, quiet_, terminal_;
  int status_ = kOk;
  int interrupts_ = 0;
  uint64_t reused_tokens_ = 0;
  uint64_t turns_ = 0;
};

int Chat(const ChatArguments& arguments, bool json) {
  const ModelHandle model = OpenModel(arguments.model.Request());
  const hr_model_facts facts = FactsOf(model.get());
  if (TakesPictures(model.get())) {
    throw Failure(HR_UNSUPPORTED, "this model takes pictures: use `headroom classify` on it");
  }
  if (!facts.has_tokenizer) {
    throw Failure(HR_UNSUPPORTED,
                  "this model carries no tokenizer, so it cannot hold a conversation");
  }
  hr_session_options options = arguments.session.options;
  const bool limited = options.budget_bytes != 0 || options.private_budget_bytes != 0;
  if (options.context_tokens == 0 && !limited)
    options.context_tokens = std::min(facts.context_tokens, kDefaultContext);
  const SessionHandle session = CreateSession(model.get(), options, 0);
  ConversationOptions settings = arguments.conversation;
  if (settings.date.empty()) settings.date = Today();
  Conversation conversation(model.get(), session.get(), settings);
  if (!json && !arguments.quiet) {
    std::fprintf(stderr, "%s\nchat format %s, context %u tokens; /help lists commands\n",
                 ModelLine(facts).c_str(), conversation.format().c_str(), conversation.context());
  }
  HoldInterrupts();
  return ChatLoop(session.get(), conversation, json, arguments.quiet).Run();
}

}  // namespace

void AddChat(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<ChatArguments>();
  ConversationOptions& conversation = arguments->conversation;
  CLI::App& command = *app.add_subcommand("chat", "hold a conversation");
  command.footer(kFooter);
  AddModelArguments(command, arguments->model);
  command.add_option("--system", conversation.system, "what the model is told first")
      ->type_name("TEXT");
  command
      .add_option("--template", conversation.format,
                  "how conversations are spelled (default: as the model file says)")
      ->check(ChatFormatProblem)
      ->type_name("NAME");
  command
      .add_option("--date", conversation.date,
                  "for templates that say the date (default: today, as 2026-01-31)")
      ->type_name("DATE");
  command
      .add_option("--max-tokens", conversation.max_tokens,
                  "end an answer after N tokens (0: when the context is full)")
      ->capture_default_str()
      ->type_name("N");
  AddSamplerOptions(command, conversation.sampler);
  AddContextOption(command, arguments->session,
                   "tokens to have room for (default: 4096, or what a budget allows)");
  AddBudgetOptions(command, arguments->session);
  AddKvOption(command, arguments->session);
  AddThreadOptions(command, arguments->session);
  command.add_flag("--quiet", arguments->quiet, "answers and failures only");
  command.add_flag("--json", invocation.json, "one JSON object a line for each turn");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Chat(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
