// chat, through a pipe.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <sstream>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Strings = std::vector<std::string>;

const std::string kFacts = "Maria lives in Lisbon.\nTom lives in Rome.";

Outcome Chat(const std::string& input, const Strings& more = {}, const char* context = "512") {
  Strings arguments = {"chat",     Model("example"), "--template", "question-answer",
                       "--system", kFacts,           "--context",  context};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Streams streams;
  streams.stdin_text = input;
  return Run(arguments, {}, streams);
}

// One object a line.
std::vector<nlohmann::json> Lines(const Outcome& outcome) {
  INFO(outcome.err);
  std::vector<nlohmann::json> lines;
  std::istringstream text(outcome.out);
  for (std::string line; std::getline(text, line);) {
    lines.push_back(nlohmann::json::parse(line, nullptr, false));
    REQUIRE(lines.back().is_object());
  }
  return lines;
}

TEST_CASE("chat answers line by line and reads only what is new", "[cli][chat]") {
  const Outcome outcome =
      Chat("Where does Maria live?\n\nWhere does Tom live?\n/stats\n", {"--json"});
  CHECK(outcome.exit_status == 0);
  CHECK(outcome.err.empty());
  const auto lines = Lines(outcome);
  REQUIRE(lines.size() == 3);
  CHECK(lines[0].at("text") == " Lisbon");
  CHECK(lines[0].at("turn") == 1);
  CHECK(lines[0].at("reused_tokens") == 0);
  CHECK(lines[1].at("turn") == 2);
  CHECK(lines[1].at("reused_tokens") == lines[0].at("tokens"));
  CHECK(lines[1].at("read_tokens") < lines[0].at("read_tokens"));
  CHECK(lines[1].at("dropped_turns") == 0);
  CHECK(lines[2].at("turns") == 2);
  CHECK(lines[2].at("tokens") == lines[1].at("tokens"));
  CHECK(lines[2].at("reused_tokens") == lines[1].at("reused_tokens"));

  const Outcome streamed = Chat("Where does Maria live?\n/exit\nnever read\n");
  CHECK(streamed.exit_status == 0);
  CHECK(streamed.out == " Lisbon\n");
  CHECK_THAT(streamed.err, ContainsSubstring("re-used 0") && ContainsSubstring("of 512"));
  CHECK(Chat("Where does Maria live?\n", {"--quiet"}).err.empty());
}

TEST_CASE("a turn sees the same tokens as a conversation read at once", "[cli][chat]") {
  const std::string saved = Scratch("turns.json");
  const auto lines = Lines(
      Chat("Where does Maria live?\nWhere does Tom live?\n/save " + saved + "\n", {"--json"}));
  REQUIRE(lines.size() == 3);
  const auto again = Lines(Chat("/load " + saved + "\nWho lives in Rome?\n", {"--json"}));
  const auto kept =
      Lines(Chat("Where does Maria live?\nWhere does Tom live?\nWho lives in Rome?\n", {"--json"}));
  REQUIRE(again.size() == 2);
  REQUIRE(kept.size() == 3);
  CHECK(again[1].at("reused_tokens") == 0);
  CHECK(again[1].at("text") == kept[2].at("text"));
  const auto json = nlohmann::json::parse(ReadFile(saved));
  CHECK(json.at("chat_format") == "question-answer");
  REQUIRE(json.at("messages").size() == 5);
  CHECK(json.at("messages")[0].at("content") == kFacts);
  CHECK(json.at("messages")[2].at("content") == " Lisbon");
}

TEST_CASE("a full context drops the oldest turns and says so", "[cli][chat]") {
  std::string input;
  for (int i = 0; i < 6; ++i) input += "Where does Maria live?\n";
  const Outcome outcome = Chat(input, {"--max-tokens", "8", "--json"}, "64");
  const auto lines = Lines(outcome);
  REQUIRE(lines.size() == 6);
  size_t dropped = 0;
  for (const auto& line : lines) {
    CHECK(line.at("text") == " Lisbon");
    CHECK(line.at("tokens") <= 64);
    if (line.at("dropped_turns") == 0) continue;
    ++dropped;
    CHECK(line.at("reused_tokens") == 0);  // the rest was read again
  }
  CHECK(dropped >= 1);
  CHECK_THAT(Chat(input, {"--max-tokens", "8"}, "64").err,
             ContainsSubstring("the context of 64 tokens was full") && ContainsSubstring("/reset"));
}

TEST_CASE("a message that cannot fit is refused and the conversation goes on", "[cli][chat]") {
  std::string longer = "Where";
  for (int i = 0; i < 200; ++i) longer += " does Maria live";
  const Outcome outcome = Chat("Where does Maria live?\n" + longer + "\nWhere does Tom live?\n",
                               {"--max-tokens", "8", "--json"}, "96");
  CHECK(outcome.exit_status == 1);
  CHECK_THAT(outcome.err,
             ContainsSubstring("the context has 96") && ContainsSubstring("--context"));
  const auto lines = Lines(outcome);
  REQUIRE(lines.size() == 3);
  CHECK(lines[1].at("error").at("code") == 104);
  CHECK(lines[2].at("reused_tokens") == lines[0].at("tokens"));
}

TEST_CASE("an answer that was cut is ended before the next turn", "[cli][chat]") {
  const auto lines = Lines(
      Chat("Where does Maria live?\nWhere does Tom live?\n", {"--max-tokens", "1", "--json"}));
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].at("stop_reason") == "limit");
  CHECK(lines[1].at("reused_tokens") == lines[0].at("tokens"));
}

TEST_CASE("commands of a conversation say what is wrong with them", "[cli][chat]") {
  const std::string broken = Scratch("broken.json");
  WriteFile(broken, R"({"messages":[{"role":"user","content":"x"}]})");
  const std::string disordered = Scratch("disordered.json");
  WriteFile(disordered, R"({"messages":[{"role":"assistant","content":"x"}]})");
  const std::string text = Scratch("text.json");
  WriteFile(text, "hello");
  const Outcome outcome = Chat("/nothing\n/save\n/load " + broken + "\n/load " + disordered +
                               "\n/load " + text + "\n/load /no/such\n/reset\n//slash\n");
  CHECK(outcome.exit_status == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("there is no command /nothing"));
  CHECK_THAT(outcome.err, ContainsSubstring("/save needs the name of a file"));
  CHECK_THAT(outcome.err, ContainsSubstring("its last message has no answer"));
  CHECK_THAT(outcome.err, ContainsSubstring("message 0 is assistant"));
  CHECK_THAT(outcome.err, ContainsSubstring("there is no list \"messages\""));
  CHECK_THAT(outcome.err, ContainsSubstring("/no/such"));
  CHECK_THAT(outcome.err, ContainsSubstring("[forgotten]") && ContainsSubstring("wrote"));
}

TEST_CASE("a model without a chat format is told how to chat", "[cli][chat]") {
  const Outcome outcome = Run({"chat", Model("example")});
  CHECK(outcome.exit_status == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("names no chat format") &&
                              ContainsSubstring("--template NAME: plain, question-answer"));
  const Outcome lacking = Run({"chat", Model("example"), "--template", "chatml"});
  CHECK(lacking.exit_status == 1);
  CHECK_THAT(lacking.err, ContainsSubstring("needs the special token <|im_start|>"));
  const Outcome unknown = Run({"chat", Model("example"), "--template", "none such"});
  CHECK(unknown.exit_status == 2);
  CHECK_THAT(unknown.err, ContainsSubstring("is none of plain"));
  const Outcome textless = Run({"chat", Model("mistral"), "--template", "plain"});
  CHECK(textless.exit_status == 1);
  CHECK_THAT(textless.err, ContainsSubstring("no tokenizer"));
}

}  // namespace
}  // namespace headroom::cli_test
