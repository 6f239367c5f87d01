#include "text/text_stream.h"

#include <catch2/catch_test_macros.hpp>
#include <random>
#include <string>
#include <vector>

namespace headroom {
namespace {

using text::TextSink;
using text::TextStream;
using Outcome = TextStream::Outcome;

struct Collected {
  std::vector<std::string> pieces;
  std::string all() const {
    std::string joined;
    for (const std::string& piece : pieces) joined += piece;
    return joined;
  }
};

TextSink SinkOf(Collected& collected) {
  return {[](void* user_data, const char* text, size_t bytes) {
            static_cast<Collected*>(user_data)->pieces.emplace_back(text, bytes);
            return true;
          },
          &collected};
}

struct Run {
  std::string text;
  Outcome outcome = Outcome::kContinue;
};

// Pushes `bytes` cut at the given places, then finishes.
Run RunCut(std::string_view bytes, const std::vector<std::string_view>& stops,
           std::vector<size_t> cuts) {
  static TextStream stream;
  REQUIRE(stream.Start(stops).ok());
  Collected collected;
  cuts.push_back(bytes.size());
  size_t done = 0;
  Run run;
  for (const size_t cut : cuts) {
    run.outcome = stream.Push(bytes.substr(done, cut - done), SinkOf(collected));
    done = cut;
    if (run.outcome != Outcome::kContinue) break;
  }
  if (run.outcome == Outcome::kContinue) (void)stream.Finish(SinkOf(collected));
  run.text = collected.all();
  return run;
}

// Every cut in two, every cut into single bytes, must give the same.
void CheckEveryCut(std::string_view bytes, const std::vector<std::string_view>& stops,
                   std::string_view text, Outcome outcome) {
  std::vector<size_t> each;
  for (size_t i = 0; i < bytes.size(); ++i) each.push_back(i);
  std::vector<std::vector<size_t>> ways = {{}, each};
  for (const size_t cut : each) ways.push_back({cut});
  for (const auto& cuts : ways) {
    const Run run = RunCut(bytes, stops, cuts);
    INFO("bytes '" << bytes << "', first cut " << (cuts.empty() ? 0 : cuts[0]) << " of "
                   << cuts.size());
    REQUIRE(run.text == text);
    REQUIRE(run.outcome == outcome);
  }
}

TEST_CASE("text without stops comes out whole, however it is cut", "[text][stream]") {
  CheckEveryCut("plain", {}, "plain", Outcome::kContinue);
  CheckEveryCut("a\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x9a\xa2z", {},
                "a\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x9a\xa2z", Outcome::kContinue);
}

TEST_CASE("characters are delivered whole", "[text][stream]") {
  TextStream stream;
  REQUIRE(stream.Start({}).ok());
  Collected collected;
  for (const char byte : std::string("\xf0\x9f\x9a\xa2!")) {
    REQUIRE(stream.Push({&byte, 1}, SinkOf(collected)) == Outcome::kContinue);
  }
  CHECK(collected.pieces == std::vector<std::string>{"\xf0\x9f\x9a\xa2", "!"});
}

TEST_CASE("stop sequences end the text and are not delivered", "[text][stream]") {
  CheckEveryCut("one\nUser: two", {"\nUser:"}, "one", Outcome::kStopSequence);
  CheckEveryCut("STOP", {"STOP"}, "", Outcome::kStopSequence);
  CheckEveryCut("aXbYc", {"Y", "X"}, "a", Outcome::kStopSequence);
  CheckEveryCut("caf\xc3\xa9!", {"\xc3\xa9"}, "caf", Outcome::kStopSequence);
}

TEST_CASE("of several stop sequences the first completed counts, then the longest",
          "[text][stream]") {
  CheckEveryCut("xabcde", {"abcde", "cd"}, "xab", Outcome::kStopSequence);
  CheckEveryCut("xabc", {"c", "bc", "abc"}, "x", Outcome::kStopSequence);
}

TEST_CASE("a stop sequence that does not come true is delivered in the end", "[text][stream]") {
  CheckEveryCut("aab", {"aac"}, "aab", Outcome::kContinue);
  CheckEveryCut("aaab", {"aab"}, "a", Outcome::kStopSequence);  // overlapping beginnings
  CheckEveryCut("ababac", {"abac"}, "ab", Outcome::kStopSequence);
  CheckEveryCut("ends in <|en", {"<|end|>"}, "ends in <|en", Outcome::kContinue);
}

TEST_CASE("what may become a stop sequence is held back, nothing else", "[text][stream]") {
  TextStream stream;
  REQUIRE(stream.Start(std::vector<std::string_view>{"<|end|>"}).ok());
  Collected collected;
  (void)stream.Push("hello <|e", SinkOf(collected));
  CHECK(collected.all() == "hello ");
  CHECK(stream.held_bytes() == 3);
  (void)stream.Push("x", SinkOf(collected));
  CHECK(collected.all() == "hello <|ex");
  CHECK(stream.held_bytes() == 0);
}

TEST_CASE("bytes that cannot be UTF-8 become the replacement character", "[text][stream]") {
  constexpr const char* kBad = "\xef\xbf\xbd";
  CheckEveryCut(
      "a\xff"
      "b",
      {}, std::string("a") + kBad + "b", Outcome::kContinue);
  CheckEveryCut("\xe6\xbc", {}, kBad, Outcome::kContinue);  // unfinished at the end
  CheckEveryCut(
      "\xe6\xbc"
      "a",
      {}, std::string(kBad) + "a", Outcome::kContinue);  // unfinished in the middle
  CheckEveryCut("\xed\xa0\x80", {}, std::string(kBad) + kBad + kBad,
                Outcome::kContinue);                                            // surrogate
  CheckEveryCut("\xc0\xaf", {}, std::string(kBad) + kBad, Outcome::kContinue);  // overlong
  CheckEveryCut("\xe6\xbcSTOP", {"STOP"}, kBad, Outcome::kStopSequence);
}

TEST_CASE("random streams are independent of their cuts", "[text][stream]") {
  std::mt19937 random(3);
  const std::vector<std::string_view> stops = {"aab", "ba\xc3\xa9", "\xc3\xa9\xc3\xa9", "bbbb"};
  int stopped = 0;
  for (int n = 0; n < 300; ++n) {
    std::string bytes;
    for (int i = 0; i < 25; ++i)
      bytes += random() % 4 == 0 ? std::string("\xc3\xa9") : std::string(1, "abz"[random() % 3]);
    const Run whole = RunCut(bytes, stops, {});
    std::vector<size_t> cuts;
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (random() % 3 == 0) cuts.push_back(i);
    }
    const Run cut = RunCut(bytes, stops, cuts);
    REQUIRE(cut.text == whole.text);
    REQUIRE(cut.outcome == whole.outcome);
    // The definition, in one line: the earliest end of any stop.
    size_t end = std::string::npos;
    for (const auto stop : stops) {
      if (const size_t at = bytes.find(stop); at != std::string::npos)
        end = std::min(end, at + stop.size());
    }
    REQUIRE((end != std::string::npos) == (whole.outcome == Outcome::kStopSequence));
    stopped += whole.outcome == Outcome::kStopSequence;
  }
  CHECK(stopped > 50);
  CHECK(stopped < 300);
}

TEST_CASE("long tokens and the longest stop sequences fit", "[text][stream]") {
  const std::string stop(256, 's');
  std::string bytes(5000, 'x');
  bytes += stop.substr(1) + "y" + stop + "z";
  TextStream stream;
  REQUIRE(stream.Start(std::vector<std::string_view>(16, stop)).ok());
  Collected collected;
  CHECK(stream.Push(bytes, SinkOf(collected)) == Outcome::kStopSequence);
  CHECK(collected.all() == bytes.substr(0, bytes.size() - 257));
  const std::string broken(5000, '\xff');
  REQUIRE(stream.Start({}).ok());
  collected.pieces.clear();
  CHECK(stream.Push(broken, SinkOf(collected)) == Outcome::kContinue);
  CHECK(collected.all().size() == 15000);
}

TEST_CASE("the sink can stop the stream", "[text][stream]") {
  TextStream stream;
  REQUIRE(stream.Start({}).ok());
  const TextSink refuse{[](void*, const char*, size_t) { return false; }, nullptr};
  CHECK(stream.Push("a", refuse) == Outcome::kRefused);
  REQUIRE(stream.Start({}).ok());
  CHECK(stream.Push("a", TextSink{}) == Outcome::kContinue);  // no sink: dropped
}

TEST_CASE("stop sequences outside the limits are refused", "[text][stream]") {
  TextStream stream;
  CHECK(stream.Start(std::vector<std::string_view>{""}).code() == StatusCode::kInvalidArgument);
  CHECK(stream.Start(std::vector<std::string_view>{std::string(257, 'a')}).code() ==
        StatusCode::kInvalidArgument);
  CHECK(stream.Start(std::vector<std::string_view>(17, "a")).code() ==
        StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace headroom
