// Help, wrong usage, and failures: what is said where, and the exit status.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("every command explains itself with an example", "[cli][help]") {
  const Outcome top = Run({"--help"});
  CHECK(top.exit_status == 0);
  CHECK(top.err.empty());
  for (const char* name :
       {"run", "plan", "bench", "eval", "logits", "inspect", "verify", "convert"}) {
    INFO(name);
    CHECK_THAT(top.out, ContainsSubstring(name));
    const Outcome help = Run({name, "--help"});
    CHECK(help.exit_status == 0);
    CHECK_THAT(help.out, ContainsSubstring(std::string(name) == "eval" ? "needle" : "Example"));
  }
  CHECK_THAT(Run({"eval", "needle", "--help"}).out, ContainsSubstring("Examples"));
  CHECK_THAT(Run({"--version"}).out, ContainsSubstring("headroom 0."));
}

TEST_CASE("a wrong command line has status 2 and leaves stdout alone", "[cli][usage]") {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"dance"},
      {"plan"},
      {"plan", "x.hrm", "--budget", "12Q"},
      {"plan", "x.hrm", "--context", "-4"},
      {"plan", "x.hrm", "--backend", "gpu"},
      {"plan", "x.hrm", "--no-such-option"},
      {"run", "x.hrm"},
      {"run", "x.hrm", "--prompt", "a", "--prompt-file", "b"},
      {"run", "x.hrm", "--prompt", "a", "--temp", "-1"},
      {"convert", "--out", "x.hrm"},
      {"convert", "folder", "--random", "llama-3.2-1b", "--out", "x.hrm"},
      {"convert", "folder", "--out", "x.hrm", "--block", "7"},
      {"logits", "x.hrm", "--out", "x.npy"},
      {"bench", "x.hrm", "--backend", "gpu"},
      {"convert", "folder", "--out", "x.hrm", "--weights", "f16", "--block", "64"},
      {"convert", "folder", "--out", "x.hrm", "--weights", "int3"},
      {"convert", "folder", "--out", "x.hrm", "--head", "int3"},
      {"eval"},
      {"eval", "dance"},
  };
  for (const auto& arguments : wrong) {
    const Outcome outcome = Run(arguments);
    INFO((arguments.empty() ? "" : arguments.back()) << ": " << outcome.err);
    CHECK(outcome.exit_status == 2);
    CHECK(outcome.out.empty());
    CHECK_FALSE(outcome.err.empty());
  }
}

TEST_CASE("a command that does not exist is named beside those that do", "[cli][usage]") {
  const Outcome top = Run({"dance"});
  CHECK_THAT(top.err, ContainsSubstring("'dance'") && ContainsSubstring("inspect"));
  const Outcome eval = Run({"eval", "dance"});
  CHECK_THAT(eval.err, ContainsSubstring("'dance'") && ContainsSubstring("needle"));
  CHECK_THAT(Run({}).err, ContainsSubstring("inspect"));
}

TEST_CASE("with --json wrong usage is an object on stdout too", "[cli][usage]") {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"dance", "--json"},
        {"plan", "--json"},
        {"eval", "--json"},
        {"plan", "x.hrm", "--json", "--budget", "12Q"}}) {
    const Outcome outcome = Run(arguments);
    CHECK(outcome.exit_status == 2);
    CHECK(outcome.Json().at("error").at("code") == 100);
    CHECK_FALSE(outcome.err.empty());
  }
}

TEST_CASE("an option's name stands once before what is wrong with it", "[cli][usage]") {
  const std::string err = Run({"plan", "x", "--backend", "gpu"}).err;
  CHECK_THAT(err, ContainsSubstring("--backend: 'gpu'") && !ContainsSubstring("--backend: --"));
}

TEST_CASE("a cache policy that is none is named, with what there is", "[cli][usage]") {
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"plan", Model("llama-gqa")},
        {"bench", Model("llama-gqa"), "--prefill", "8", "--decode", "8", "--depth", "0"}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--kv", "f16 f64"});
    const Outcome outcome = Run(arguments);
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("\"f64\" is no profile of the model, no codec"));
  }
}

TEST_CASE("help shows what belongs to the command, and real defaults", "[cli][help]") {
  CHECK_THAT(Run({"eval", "--help"}).out,
             ContainsSubstring("headroom eval needle") && !ContainsSubstring("headroom plan"));
  CHECK_THAT(Run({"convert", "--help"}).out, ContainsSubstring("SOURCE]"));
  CHECK_THAT(Run({"eval", "needle", "--help"}).out, !ContainsSubstring("{}"));
  CHECK_THAT(Run({"bench", "--help"}).out, ContainsSubstring("--backend"));
  CHECK_THAT(Run({"--help"}).out, ContainsSubstring("130"));
}

TEST_CASE("a result that cannot be written is a failure", "[cli][errors]") {
  Streams full;
  full.stdout_path = "/dev/full";
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"plan", Model("example")},
        {"plan", Model("example"), "--json"},
        {"plan", Model("example"), "--budget", "1K"},
        {"verify", Model("example")},
        {"inspect", Model("example")},
        {"inspect", Model("example"), "--json"},
        {"run", Model("example"), "--prompt", "The", "--max-tokens", "2"},
        {"run", Model("example"), "--prompt", "The", "--max-tokens", "2", "--json"},
        {"--help"}}) {
    const Outcome outcome = Run(arguments, {}, full);
    INFO(arguments.front() << " " << arguments.back() << ": " << outcome.err);
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("cannot write to stdout"));
  }
  CHECK(Run({"plan", "/no/such/model.hrm", "--json"}, {}, full).exit_status == 1);
  CHECK(Run({"dance", "--json"}, {}, full).exit_status == 2);
}

TEST_CASE("a missing model is named, with advice, on stderr", "[cli][errors]") {
  for (const char* command : {"plan", "inspect", "verify", "bench"}) {
    const Outcome outcome = Run({command, "/no/such/model.hrm"});
    INFO(command << ": " << outcome.err);
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("/no/such/model.hrm"));
    CHECK_THAT(outcome.err, ContainsSubstring("Check the path"));
  }
}

TEST_CASE("with --json a failure is an object on stdout too", "[cli][errors]") {
  const Outcome outcome = Run({"plan", "/no/such/model.hrm", "--json"});
  CHECK(outcome.exit_status == 1);
  const auto error = outcome.Json().at("error");
  CHECK(error.at("code") == 200);
  CHECK_THAT(error.at("message").get<std::string>(), ContainsSubstring("/no/such/model.hrm"));
}

TEST_CASE("a truncated or foreign file is refused as damaged", "[cli][errors]") {
  const std::string whole = ReadFile(Model("llama-gqa"));
  REQUIRE(whole.size() > 4096);
  const std::string path = Scratch("truncated.hrm");
  for (const std::string& bytes :
       {whole.substr(0, whole.size() - 1), whole.substr(0, whole.size() / 2), whole.substr(0, 40),
        std::string("just a text file, nothing else in here, really nothing at all, see?\n")}) {
    WriteFile(path, bytes);
    for (const char* command : {"plan", "inspect", "verify"}) {
      const Outcome outcome = Run({command, path});
      INFO(command << " of " << bytes.size() << " bytes: " << outcome.err);
      CHECK(outcome.exit_status == 1);
      CHECK_THAT(outcome.err, ContainsSubstring("damaged"));
    }
  }
}

}  // namespace
}  // namespace headroom::cli_test
