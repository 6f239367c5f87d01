// headroom: one program, one sub-command per job. Results go to stdout, everything else to stderr.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "headroom/api.h"
#include "headroom/command.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kDescription[] =
    "headroom: run language models on a device inside a stated number of bytes.\n"
    "\n"
    "Results go to stdout, progress and statistics to stderr; --json gives one JSON object "
    "instead.\n"
    "Byte counts are plain or carry a unit: 64M, 1.5G, 300MiB (powers of 1024), 64MB (powers of "
    "1000).\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 does not fit the budget.";

constexpr char kFooter[] =
    "Examples:\n"
    "  headroom plan model.hrm --context 4096 --budget 900M\n"
    "  headroom run model.hrm --prompt \"The capital of France is\" --max-tokens 32 --budget 900M\n"
    "  headroom convert ~/models/Llama-3.2-1B --out model.hrm --weights int4\n"
    "\n"
    "`headroom COMMAND --help` explains each command.";

std::string VersionLine() {
  const uint32_t version = hr_version();
  return "headroom " + std::to_string(version >> 16) + "." + std::to_string((version >> 8) & 255) +
         "." + std::to_string(version & 255);
}

void PrintFailure(const Failure& failure, bool json) {
  const std::string advice = failure.advice();
  std::fprintf(stderr, "headroom: %s\n", EscapeControls(failure.what()).c_str());
  if (!advice.empty()) std::fprintf(stderr, "  %s\n", advice.c_str());
  if (!json) return;
  PrintJson({{"error",
              {{"code", failure.status()},
               {"status", hr_status_name(failure.status())},
               {"message", failure.what()},
               {"advice", advice}}}});
}

int ExitStatusOf(const Failure& failure) {
  if (failure.status() == HR_OVER_BUDGET) return kDoesNotFit;
  if (failure.status() == HR_CANCELLED) return kInterrupted;
  return kFailed;
}

int Main(int argc, char** argv) {
  Invocation invocation;
  CLI::App app(kDescription, "headroom");
  app.footer(kFooter);
  app.set_version_flag("--version", VersionLine());
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  AddRun(app, invocation);
  AddPlan(app, invocation);
  AddBench(app, invocation);
  AddEval(app, invocation);
  AddLogits(app, invocation);
  AddInspect(app, invocation);
  AddVerify(app, invocation);
  AddConvert(app, invocation);
  try {
    app.parse(argc, argv);
    return invocation.action();
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kWrongUsage;
  } catch (const Failure& failure) {
    PrintFailure(failure, invocation.json);
    return ExitStatusOf(failure);
  } catch (const std::exception& error) {
    PrintFailure(Failure(HR_INTERNAL, error.what()), invocation.json);
    return kFailed;
  }
}

}  // namespace
}  // namespace headroom::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is a failed write, not a silent death
  return headroom::cli::Main(argc, argv);
}
