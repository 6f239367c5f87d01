#include "cli/cli.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

namespace headroom::cli_test {
namespace {

std::string Environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

std::string BuildDir() { return Environment("HEADROOM_BUILD_DIR", "build/release"); }

// In the child: everything up to the new program.
[[noreturn]] void Become(const std::vector<std::string>& arguments, const Limits& limits,
                         const Streams& streams, const std::string& in, const std::string& out,
                         const std::string& err) {
  const int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err_fd = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int in_fd = open(in.c_str(), O_RDONLY);
  if (out_fd < 0 || err_fd < 0 || in_fd < 0) _exit(126);
  dup2(in_fd, 0);
  dup2(out_fd, 1);
  dup2(err_fd, 2);
  const std::string home = BuildDir() + "/test-models";
  setenv("HOME", home.c_str(), 1);
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HEADROOM_CACHE_DIR");
  unsetenv("HEADROOM_PROGRESS");
  if (streams.progress) setenv("HEADROOM_PROGRESS", "always", 1);
  if (limits.data_bytes != 0) {
    const rlimit limit = {limits.data_bytes, limits.data_bytes};
    if (setrlimit(RLIMIT_DATA, &limit) != 0) _exit(126);
  }
  if (streams.pending_signal != 0) {
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, streams.pending_signal);
    sigprocmask(SIG_BLOCK, &blocked, nullptr);
    std::raise(streams.pending_signal);
  }
  const std::string program = Environment("HEADROOM_CLI", (BuildDir() + "/bin/headroom").c_str());
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  _exit(127);
}

}  // namespace

nlohmann::json Outcome::Json() const {
  INFO("stdout: " << out << "\nstderr: " << err);
  nlohmann::json json = nlohmann::json::parse(out, nullptr, false);
  REQUIRE_FALSE(json.is_discarded());
  return json;
}

Outcome Run(const std::vector<std::string>& arguments, const Limits& limits,
            const Streams& streams) {
  const std::string out = streams.stdout_path.empty() ? Scratch("stdout") : streams.stdout_path;
  const std::string err = Scratch("stderr");
  const std::string in = streams.stdin_text.empty() ? "/dev/null" : Scratch("stdin");
  if (!streams.stdin_text.empty()) WriteFile(in, streams.stdin_text);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) Become(arguments, limits, streams, in, out, err);
  Outcome outcome;
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  outcome.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (streams.stdout_path.empty()) outcome.out = ReadFile(out);
  outcome.err = ReadFile(err);
  REQUIRE(outcome.exit_status != 127);  // the program was not built
  return outcome;
}

std::string Model(const std::string& name) { return BuildDir() + "/test-models/" + name + ".hrm"; }

std::string Source(const std::string& path) {
  return Environment("HEADROOM_SOURCE_DIR", ".") + "/" + path;
}

std::string Scratch(const std::string& name) {
  const std::string folder = BuildDir() + "/test-models/cli-" + std::to_string(getpid());
  struct Remover {  // of the whole folder, when this test program ends
    std::string folder;
    pid_t owner = getpid();
    ~Remover() {
      std::error_code ignored;
      if (getpid() == owner) std::filesystem::remove_all(folder, ignored);
    }
  };
  static const Remover remover{folder};
  std::filesystem::create_directories(remover.folder);
  return remover.folder + "/" + name;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string TwoLetterCheckpoint(const std::string& name, const std::string& golden) {
  const std::string folder = Scratch(name);
  std::filesystem::copy(Source("tests/golden/" + golden), folder);
  WriteFile(folder + "/tokenizer.json",
            R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},)"
            R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}})");
  return folder;
}

std::string TwoLetterText(const std::string& name) {
  const std::string path = Scratch(name);
  std::string text;
  for (int i = 0; i < 600; ++i) text += i % 3 == 0 || i % 7 == 0 ? "a" : "b";
  WriteFile(path, text);
  return path;
}

}  // namespace headroom::cli_test
