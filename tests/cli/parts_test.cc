// Parts of the command line that need no model.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <stdexcept>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/chart.h"
#include "headroom/divergence.h"
#include "headroom/needle.h"
#include "headroom/needle_report.h"
#include "headroom/report.h"
#include "headroom/samples.h"

namespace headroom::cli {
namespace {

TEST_CASE("byte counts are read with every unit", "[cli][bytes]") {
  CHECK(ParseBytes("0") == 0);
  CHECK(ParseBytes("4096") == 4096);
  CHECK(ParseBytes("64M") == 64u << 20);
  CHECK(ParseBytes("64m") == 64u << 20);
  CHECK(ParseBytes("300MiB") == 300u << 20);
  CHECK(ParseBytes("300 MiB") == 300u << 20);
  CHECK(ParseBytes("1.5G") == 3u << 29);
  CHECK(ParseBytes("2T") == uint64_t{2} << 40);
  CHECK(ParseBytes("64MB") == 64000000);
  CHECK(ParseBytes("1kB") == 1000);
  CHECK(ParseBytes("17B") == 17);
}

TEST_CASE("what is no byte count is refused by name", "[cli][bytes]") {
  for (const char* text :
       {"", "M", "-1", "1X", "1.2.3M", "0x10", "64MM", "99999999999T", "nan", "1e6"}) {
    INFO(text);
    CHECK_THROWS_AS(ParseBytes(text), std::invalid_argument);
  }
  CHECK_THROWS_WITH(ParseBytes("12Q"), Catch::Matchers::ContainsSubstring("'12Q'"));
}

TEST_CASE("byte counts are written in the nearest unit", "[cli][bytes]") {
  CHECK(FormatBytes(0) == "0 B");
  CHECK(FormatBytes(1023) == "1023 B");
  CHECK(FormatBytes(1024) == "1.0 KiB");
  CHECK(FormatBytes(1536) == "1.5 KiB");
  CHECK(FormatBytes(200u << 20) == "200 MiB");
  CHECK(FormatBytes((1u << 20) - 1) == "1.0 MiB");
  CHECK(FormatBytes(UINT64_MAX) == "16.0 EiB");
}

TEST_CASE("text from files cannot move the cursor", "[cli][escape]") {
  CHECK(EscapeControls("plain text, \xc3\xa9, \xe6\xbc\xa2") ==
        "plain text, \xc3\xa9, \xe6\xbc\xa2");
  CHECK(EscapeControls("a\x1b[2Jb") == "a\\x1b[2Jb");
  CHECK(EscapeControls(std::string_view("a\0b\n", 4)) == "a\\x00b\\x0a");
  CHECK(EscapeControls("\x7f") == "\\x7f");
  CHECK(EscapeControls("\xc2\x9b") == "\\u{009b}");            // CSI as one character
  CHECK(EscapeControls("\xe2\x80\xae") == "\\u{202e}");        // right-to-left override
  CHECK(EscapeControls("\xff\xfe") == "\\xff\\xfe");           // not UTF-8
  CHECK(EscapeControls("\xc0\x8a") == "\\xc0\\x8a");           // overlong newline
  CHECK(EscapeControls("\xe2\x80") == "\\xe2\\x80");           // cut off
  CHECK(EscapeControls("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // surrogate
}

TEST_CASE("needle data is read line by line", "[cli][needle]") {
  const auto contexts = ParseNeedles(
      "{\"distance\": 500, \"context\": \"c\", \"questions\": [{\"prompt\": \"p\", \"answer\": \" "
      "a\"}]}\n"
      "\n"
      "{\"distance\": 9, \"context\": \"\", \"questions\": []}",
      "f");
  REQUIRE(contexts.size() == 2);
  CHECK(contexts[0].distance == 500);
  CHECK(contexts[0].questions.at(0).answer == " a");
  CHECK(contexts[1].questions.empty());
}

TEST_CASE("needle data that is wrong is refused by file, line and fact", "[cli][needle]") {
  const auto refused = [](const std::string& text, const std::string& said) {
    INFO(text);
    CHECK_THROWS_WITH(ParseNeedles(text, "my.jsonl"), Catch::Matchers::Equals("my.jsonl, " + said));
  };
  refused("{}\n{", "line 1: \"distance\" is missing or no count of tokens");
  refused("\n{", "line 2: is no JSON object");
  refused("[]", "line 1: is no JSON object");
  refused(R"({"distance": "far"})", "line 1: \"distance\" is missing or no count of tokens");
  refused(R"({"distance": -1})", "line 1: \"distance\" is missing or no count of tokens");
  refused(R"({"distance": 5000000000})", "line 1: \"distance\" is missing or no count of tokens");
  refused(R"({"distance": 1, "context": 2})", "line 1: \"context\" is missing or no text");
  refused(R"({"distance": 1, "context": "", "questions": 3})",
          "line 1: \"questions\" is missing or no list");
  refused(R"({"distance": 1, "context": "", "questions": [3]})",
          "line 1: a question is no JSON object");
  refused(R"({"distance": 1, "context": "", "questions": [{"prompt": "p"}]})",
          "line 1: \"answer\" is missing or no text");
  refused(R"({"distance": 1, "context": "", "questions": [{"prompt": "", "answer": "a"}]})",
          "line 1: a question has an empty \"prompt\"");
}

TEST_CASE("answers are compared without the blanks around them", "[cli][needle]") {
  CHECK(Trim(" a b \n") == "a b");
  CHECK(Trim(" \t\r\n").empty());
  CHECK(Trim("").empty());
}

TEST_CASE("median and spread are those of the samples", "[cli][samples]") {
  CHECK(Median({}) == 0);
  CHECK(Median({3, 1, 2}) == 2);
  CHECK(Median({4, 1, 2, 3}) == 2.5);
  CHECK(Spread({3, 1, 2}) == 1);
  CHECK(Spread({1, 1, 5}) == 4);
  CHECK(Spread({7}) == 0);
}

TEST_CASE("divergence of distributions worked out by hand", "[cli][kl]") {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4), as logits with an offset that must not matter.
  const std::vector<float> p = {std::log(0.5f) + 90, std::log(0.25f) + 90, std::log(0.25f) + 90};
  const std::vector<float> q = {std::log(0.25f) - 7, std::log(0.5f) - 7, std::log(0.25f) - 7};
  Divergence divergence;
  divergence.Add(p, q, 0);
  divergence.Add(p, p, 1);
  divergence.Add(p, p, -1);
  const DivergenceSummary s = divergence.Summarise();
  CHECK(s.tokens == 3);
  CHECK(s.predicted == 2);
  const double kl = 0.25 * std::log(2.0);  // 1/2 log 2 - 1/4 log 2
  CHECK(std::fabs(s.mean_kl - kl / 3) < 1e-5);
  CHECK(std::fabs(s.largest_kl - kl) < 1e-5);
  CHECK(std::fabs(s.p99_kl - kl) < 1e-5);
  CHECK(s.median_kl < 1e-5);
  CHECK(std::fabs(s.top1_agreement - 2.0 / 3) < 1e-12);
  CHECK(std::fabs(s.reference_perplexity - std::sqrt(8.0)) < 1e-4);  // 1/2 and 1/4
  CHECK(std::fabs(s.perplexity - 4.0) < 1e-4);                       // 1/4 and 1/4
  CHECK(Divergence().Summarise().tokens == 0);
}

// How often a text holds another.
size_t Times(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST_CASE("a chart halves its bytes in steps of one length", "[cli][chart]") {
  Chart chart;
  chart.low_x = 1;
  chart.high_x = 4;
  chart.x_ticks = {{1, "one"}, {2, "two"}, {4, "four"}, {8, "eight"}};
  chart.y_ticks = {{0, "none"}, {0.5, "half"}, {1, "all"}};
  chart.series = {{"a<b", {{2, 0.5, "p&q", "\x1b"}, {4, 1, "", ""}}}};
  const std::string svg = ChartSvg({chart, chart});
  CHECK(Times(svg, "two</text>") == 2);
  CHECK(Times(svg, ">eight<") == 0);  // outside
  // 64 to 736 across: two is the middle of one and four; 24 to 332 down, and 380 lower.
  CHECK(Times(svg, "cx=\"400.0\" cy=\"178.0\" r=\"5\"") == 1);
  CHECK(Times(svg, "cx=\"400.0\" cy=\"558.0\" r=\"5\"") == 1);
  CHECK(Times(svg, "cx=\"736.0\" cy=\"24.0\" r=\"3\" class=\"left\"") == 1);
  CHECK(Times(svg, "points=\"400.0,178.0 \"") == 1);  // no line to what has no name
  CHECK(Times(svg, "a&lt;b") == 2);
  CHECK(Times(svg, "p&amp;q") == 2);
  CHECK(Times(svg, "\x1b") == 0);
  CHECK(Times(svg, "viewBox=\"0 0 760 760\"") == 1);
}

TEST_CASE("names of neighbours in a chart do not cover each other", "[cli][chart]") {
  Chart chart;
  chart.series = {{"s", {{2, 0.5, "far", ""}, {4, 0.5, "near", ""}, {4.1, 0.5, "nearer", ""}}}};
  const std::string svg = ChartSvg({chart});
  CHECK(Times(svg, "y=\"198.0\" class=\"c0\">far") == 1);
  CHECK(Times(svg, "y=\"198.0\" class=\"c0\">near<") == 1);
  CHECK(Times(svg, "y=\"212.0\" class=\"c0\">nearer") == 1);
}

TEST_CASE("names in a chart that find no place are left to the points' titles", "[cli][chart]") {
  Chart chart;
  for (int i = 0; i < 7; ++i) {
    const std::string number = std::to_string(i);
    chart.series.push_back({"", {{4 + 0.01 * i, 0.5, "name" + number, "title" + number}}});
  }
  const std::string svg = ChartSvg({chart});
  CHECK(Times(svg, "<title>title") == 7);
  CHECK(Times(svg, ">name") == 5);  // three places below the point, two above
  for (const char* y : {"198.0", "212.0", "168.0", "226.0", "154.0"}) {
    CHECK(Times(svg, "y=\"" + std::string(y) + "\" class=") == 1);
  }
  // A class says more than an element: without this a line would be an area in a browser.
  CHECK(Times(svg, "polyline[class]{fill:none") == 1);
}

TEST_CASE("the needle picture has a chart per distance and a line per model", "[cli][chart]") {
  const auto score = [](const char* model, uint32_t distance, uint64_t bytes, uint32_t right) {
    NeedleScore score;
    score.model = model;
    score.kv = "f16";
    score.distance = distance;
    score.questions = 4;
    score.right = right;
    score.state_bytes = bytes;
    return score;
  };
  const std::string svg = NeedleSvg({score("soft", 500, 4096, 4), score("soft", 4000, 32768, 3),
                                     score("state", 500, 8192, 4), score("state", 4000, 8192, 1)});
  CHECK(Times(svg, "needles found, 500 tokens back") == 1);
  CHECK(Times(svg, "needles found, 4000 tokens back") == 1);
  CHECK(Times(svg, "<polyline class=\"c0\"") == 2);
  CHECK(Times(svg, "<polyline class=\"c1\"") == 2);
  CHECK(Times(svg, ">state</text>") == 2);
  CHECK(Times(svg, "state, f16: 25.0 % in 8.0 KiB") == 1);
  CHECK(Times(svg, "soft, f16: 75.0 % in 32.0 KiB") == 1);
}

}  // namespace
}  // namespace headroom::cli
