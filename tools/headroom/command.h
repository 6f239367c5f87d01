// What main.cc and the files of the sub-commands agree on.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace headroom::cli {

// Exit status of the program. Everything but kOk is an error.
enum ExitStatus {
  kOk = 0,
  kFailed = 1,        // the work could not be done; the reason is on stderr
  kWrongUsage = 2,    // the command line is not understood
  kDoesNotFit = 3,    // the model does not fit the budget
  kInterrupted = 130  // Ctrl-C, as shells report it
};

// Filled while the command line is read.
struct Invocation {
  std::function<int()> action;  // what the chosen sub-command does; returns the exit status
  bool json = false;  // results, and the error if there is one, as one JSON object on stdout
};

// Each declares one sub-command with its options and, when it is chosen, sets `invocation.action`.
void AddRun(CLI::App& app, Invocation& invocation);
void AddChat(CLI::App& app, Invocation& invocation);
void AddPlan(CLI::App& app, Invocation& invocation);
void AddBench(CLI::App& app, Invocation& invocation);
void AddEval(CLI::App& app, Invocation& invocation);
// Takes the app of `eval`.
void AddEvalKl(CLI::App& eval, Invocation& invocation);
void AddLogits(CLI::App& app, Invocation& invocation);
void AddInspect(CLI::App& app, Invocation& invocation);
void AddVerify(CLI::App& app, Invocation& invocation);
void AddConvert(CLI::App& app, Invocation& invocation);
void AddTune(CLI::App& app, Invocation& invocation);
void AddClassify(CLI::App& app, Invocation& invocation);
void AddFeatures(CLI::App& app, Invocation& invocation);

}  // namespace headroom::cli
