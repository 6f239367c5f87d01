// headroom: one program, one sub-command per job. Results go to stdout, everything else to stderr.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/command.h"
#include "headroom/files.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kDescription[] =
    "headroom: run language and vision models on a device inside a stated number of bytes.\n"
    "\n"
    "Results go to stdout, progress and statistics to stderr; --json gives one JSON object "
    "instead.\n"
    "Byte counts are plain or carry a unit: 64M, 1.5G, 300MiB (powers of 1024), 64MB (powers of "
    "1000).\n"
    "HEADROOM_PROGRESS=always or never overrides whether progress bars are drawn (default: on a "
    "terminal).\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 does not fit the budget, 130 interrupted.";

constexpr char kFooter[] =
    "Examples:\n"
    "  headroom plan model.hrm --context 4096 --budget 900M\n"
    "  headroom run model.hrm --prompt \"The capital of France is\" --max-tokens 32 --budget 900M\n"
    "  headroom classify shvit.hrm photo.jpg --top 5 --budget 40M\n"
    "  headroom convert ~/models/Llama-3.2-1B --out model.hrm --weights int4\n"
    "\n"
    "`headroom COMMAND --help` explains each command.";

std::string VersionLine() {
  const uint32_t version = hr_version();
  return "headroom " + std::to_string(version >> 16) + "." + std::to_string((version >> 8) & 255) +
         "." + std::to_string(version & 255);
}

// On stderr; with --json also on stdout, where that can still be written.
void PrintFailure(const Failure& failure, bool json) {
  const std::string advice = failure.advice();
  std::fprintf(stderr, "headroom: %s\n", EscapeControls(failure.what()).c_str());
  if (!advice.empty()) std::fprintf(stderr, "  %s\n", advice.c_str());
  if (!json || std::ferror(stdout) != 0) return;
  try {
    PrintJson(FailureJson(failure));
  } catch (const Failure&) {
    // stderr has it
  }
}

int ExitStatusOf(const Failure& failure) {
  if (failure.status() == HR_OVER_BUDGET) return kDoesNotFit;
  if (failure.status() == HR_CANCELLED) return kInterrupted;
  return kFailed;
}

// The command line asks for JSON, whether or not the rest of it is understood.
bool WantsJson(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) return true;
  }
  return false;
}

// The commands that were named: headroom, eval, needle.
std::vector<const CLI::App*> NamedCommands(const CLI::App& app) {
  std::vector<const CLI::App*> named = {&app};
  for (const CLI::App* next = &app; next != nullptr;) {
    const std::vector<CLI::App*> chosen = next->get_subcommands();
    next = chosen.empty() ? nullptr : chosen.front();
    if (next != nullptr) named.push_back(next);
  }
  return named;
}

// What is wrong when `command` needs another one after it; empty when it needs none.
std::string CommandProblem(const CLI::App& command) {
  std::string names;
  for (const CLI::App* each : command.get_subcommands(nullptr)) {
    if (each->get_name().empty()) continue;  // a group of options
    names += (names.empty() ? "" : ", ") + each->get_name();
  }
  if (names.empty()) return "";
  for (const std::string& word : command.remaining()) {
    if (!word.empty() && word[0] != '-') {
      return "there is no command '" + word + "'; commands: " + names;
    }
  }
  return "a command is missing; commands: " + names;
}

int PrintUsageFailure(const CLI::App& app, const CLI::ParseError& error, bool json) {
  const std::vector<const CLI::App*> named = NamedCommands(app);
  std::string problem = CommandProblem(*named.back());
  if (problem.empty()) problem = error.what();
  std::string name;
  for (const CLI::App* each : named) name += (name.empty() ? "" : " ") + each->get_name();
  const std::string advice = "`" + name + " --help` says what can be written.";
  PrintFailure(Failure(HR_INVALID_ARGUMENT, problem, advice), json);
  return kWrongUsage;
}

int RunCommandLine(int argc, char** argv) {
  Invocation invocation;
  CLI::App app(kDescription, "headroom");
  app.footer(kFooter);
  app.set_version_flag("--version", VersionLine());
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  AddRun(app, invocation);
  AddChat(app, invocation);
  AddClassify(app, invocation);
  AddFeatures(app, invocation);
  AddPlan(app, invocation);
  AddBench(app, invocation);
  AddEval(app, invocation);
  AddLogits(app, invocation);
  AddInspect(app, invocation);
  AddVerify(app, invocation);
  AddConvert(app, invocation);
  AddTune(app, invocation);
  try {
    app.parse(argc, argv);
    return invocation.action();
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    return PrintUsageFailure(app, error, WantsJson(argc, argv));
  } catch (const Failure& failure) {
    PrintFailure(failure, invocation.json);
    return ExitStatusOf(failure);
  } catch (const std::bad_alloc&) {
    PrintFailure(Failure(HR_OUT_OF_MEMORY, "out of memory"), invocation.json);
    return kFailed;
  } catch (const std::exception& error) {
    PrintFailure(Failure(HR_INTERNAL, error.what()), invocation.json);
    return kFailed;
  }
}

int Main(int argc, char** argv) {
  HoldStandardStreams();
  const int status = RunCommandLine(argc, argv);
  const bool was_said = status != kOk && status != kDoesNotFit;
  // What buffering hid: a result that did not arrive is a failure.
  if ((std::fflush(stdout) == 0 && std::ferror(stdout) == 0) || was_said) return status;
  PrintFailure(Failure(HR_IO, "cannot write to stdout"), /*json=*/false);
  return kFailed;
}

}  // namespace
}  // namespace headroom::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is a failed write, not a silent death
  return headroom::cli::Main(argc, argv);
}
