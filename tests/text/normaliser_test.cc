// Steps of a normaliser, cuts, and tokens that stand alone, small enough to check by hand.
// Agreement with the reference libraries is in tests/convert/tokenizer_golden_test.cc.
#include "text/normaliser.h"

#include <catch2/catch_test_macros.hpp>
#include <cstring>

#include "tests/text/tokenizing.h"

namespace headroom {
namespace {

using model::NormalStepKind;
using model::SplitBehaviour;
using test::Ids;

model::NormalStep StepOf(NormalStepKind kind) {
  model::NormalStep step;
  step.kind = kind;
  return step;
}

std::string Normalised(const std::vector<model::NormalStep>& steps, std::string_view text) {
  text::Normaliser normaliser;
  REQUIRE(normaliser.Build(steps).ok());
  auto made = normaliser.Apply(text);
  INFO(made.status().message());
  REQUIRE(made.ok());
  return made.Take();
}

// A double array for the keys "a" -> "xy" and "ab" -> "", in units of darts-clone.
struct Table {
  std::vector<uint32_t> units = std::vector<uint32_t>(1024);
  std::string pool = std::string("xy\0\0", 4);

  Table() {
    units[0] = 512u << 10;                        // children of the root lie at 512 ^ byte
    units[512 ^ 'a'] = 'a' | 1u << 8 | 1u << 10;  // a value at 512 ^ 'a' ^ 1, children beside it
    const uint32_t behind = (512 ^ 'a') ^ 1;
    units[behind] = 0;
    units[behind ^ 'b'] = 'b' | 1u << 8 | 2u << 10;
    units[behind ^ 'b' ^ 2] = 3;
  }
  std::string Bytes() const {
    const auto bytes = static_cast<uint32_t>(units.size() * 4);
    std::string table(4 + bytes, '\0');
    std::memcpy(table.data(), &bytes, 4);
    std::memcpy(table.data() + 4, units.data(), bytes);
    return table + pool;
  }
};

std::string Mapped(const Table& table, std::string_view text, bool graphemes) {
  const std::string bytes = table.Bytes();
  model::NormalStep step = StepOf(NormalStepKind::kCharsmap);
  step.charsmap = bytes;
  step.graphemes = graphemes;
  return Normalised({step}, text);
}

TEST_CASE("a charsmap takes the longest match, or the shortest of a cluster",
          "[text][normaliser]") {
  CHECK(Mapped({},
               "abba\xff\u00e9"
               "ab",
               false) == "bxy\xff\u00e9");
  CHECK(Mapped({}, "abba\xff\u00e9", true) == "xybbxy\xff\u00e9");
  CHECK(Mapped({}, "a\u0301b", true) == "xyb");        // a cluster of 3 bytes: all of it
  CHECK(Mapped({}, "a\u0301\u0302b", true) == "xyb");  // of 5
  CHECK(Mapped({}, "a\u0301\u0302\u0303", true) == "xy\u0301\u0302\u0303");  // of 7: by characters
}

TEST_CASE("charsmaps that lie are refused or map nothing", "[text][normaliser][hostile]") {
  const auto refused = [](const std::string& bytes) {
    model::NormalStep step = StepOf(NormalStepKind::kCharsmap);
    step.charsmap = bytes;
    text::Normaliser normaliser;
    return normaliser.Build({step}).code() == StatusCode::kCorrupt;
  };
  const std::string sound = Table().Bytes();
  CHECK_FALSE(refused(sound));
  for (const size_t bytes : {0, 1, 3, 4, 5, 4096, 4100, 4102})
    CHECK(refused(sound.substr(0, bytes)));
  CHECK(refused(sound + "x"));                                     // the pool does not end
  CHECK(refused(std::string(4, '\0') + sound.substr(4)));          // no array
  CHECK(refused(std::string("\x06\0\0\0", 4) + sound.substr(4)));  // half a unit
  CHECK(refused(std::string(4, '\xff') + sound.substr(4)));        // beyond the file
  Table far;  // children, then a value, outside of the array and of the pool
  far.units[0] = 0x1fffff << 10;
  CHECK(Mapped(far, "ab", false) == "ab");
  Table value;
  value.units[(512 ^ 'a') ^ 1] = 0x7fffffff;
  CHECK(Mapped(value, "aab", false) == "a");
  Table loop;  // every unit is a child of every other
  for (uint32_t& unit : loop.units) unit = 'a' | 1u << 8;
  CHECK_FALSE(Mapped(loop, std::string(1000, 'a'), false).empty());
}

TEST_CASE("a normaliser's steps follow each other", "[text][normaliser]") {
  model::NormalStep strip = StepOf(NormalStepKind::kStrip), left = strip;
  strip.left = strip.right = left.left = true;
  CHECK(Normalised({strip}, " \u3000x y\t\n") == "x y");
  CHECK(Normalised({left}, " x ") == "x ");
  CHECK(Normalised({strip}, " \n ").empty());
  model::NormalStep prepend = StepOf(NormalStepKind::kPrepend);
  prepend.text = "> ";
  CHECK(Normalised({prepend, strip}, " x ") == ">  x");
  CHECK(Normalised({strip, prepend}, "  ").empty());
  CHECK(Normalised({StepOf(NormalStepKind::kLowercase)}, "\u0130I\u03a3\xff\u00c9") ==
        "i\u0307i\u03c3\xff\u00e9");
  model::NormalStep replace = StepOf(NormalStepKind::kReplace);
  replace.pattern = "b*";
  replace.text = "-";
  CHECK(Normalised({replace}, "abbc") == "-a-c-");
  replace.pattern = ".";
  CHECK(Normalised({replace}, "a\xff\u00e9\xc3") == "-\xff-\xc3");
}

TEST_CASE("a text does not grow without end", "[text][normaliser][hostile]") {
  const std::string much(64, 'x');
  model::NormalStep replace = StepOf(NormalStepKind::kReplace);
  replace.pattern = ".";
  replace.text = much;
  text::Normaliser normaliser;
  REQUIRE(normaliser.Build({replace, replace, replace}).ok());
  CHECK(normaliser.Apply(std::string(4000, 'a')).status().code() == StatusCode::kUnsupported);
  CHECK(normaliser.Build(std::vector<model::NormalStep>(18)).code() == StatusCode::kUnsupported);
  model::NormalStep odd = replace;
  odd.pattern = "(";
  text::Normaliser none;
  CHECK(none.Build({odd}).code() == StatusCode::kUnsupported);
}

// Each piece as the text it is: bytes alone, and a mark of its own between pieces is not to be had,
// so pieces are told by the merges that they allow.
std::vector<std::string> Pieces(const std::vector<model::Split>& splits, std::string_view text) {
  model::TokenizerSpec spec;
  spec.splits = splits;
  spec.space = "_";
  text::PatternSplitter splitter;
  REQUIRE(splitter.Build(spec).ok());
  text::PatternScratch scratch;
  REQUIRE(splitter.Prepare(text.size(), &scratch).ok());
  std::vector<std::string> pieces;
  const auto add = [](void* out, std::string_view piece) {
    static_cast<std::vector<std::string>*>(out)->emplace_back(piece);
    return Status();
  };
  REQUIRE(splitter.Split(text, scratch, add, &pieces).ok());
  return pieces;
}

TEST_CASE("what matches is a piece, is left out, or goes with its neighbours", "[text][splitter]") {
  using Texts = std::vector<std::string>;
  const auto cut = [](SplitBehaviour behaviour, bool invert = false) {
    return Pieces({{"[0-9]", behaviour, invert}}, "a12b3");
  };
  CHECK(cut(SplitBehaviour::kIsolated) == Texts{"a", "1", "2", "b", "3"});
  CHECK(cut(SplitBehaviour::kRemoved) == Texts{"a", "b"});
  CHECK(cut(SplitBehaviour::kRemoved, true) == Texts{"1", "2", "3"});
  CHECK(cut(SplitBehaviour::kMergedWithPrevious) == Texts{"a1", "2", "b3"});
  CHECK(cut(SplitBehaviour::kMergedWithNext) == Texts{"a", "1", "2b", "3"});
  CHECK(cut(SplitBehaviour::kContiguous) == Texts{"a", "12", "b", "3"});
  CHECK(cut(SplitBehaviour::kMergedWithPrevious, true) == Texts{"a", "1", "2b", "3"});
  CHECK(Pieces({{"[0-9]", SplitBehaviour::kRemoved}},
               "1\xff"
               "2") == Texts{"\xff"});
  CHECK(Pieces({{" ", SplitBehaviour::kRemoved}, {}, {" [^ ]*"}}, "a b_c _d") ==
        Texts{" a", " b", " c", " d"});
}

TEST_CASE("a token that stands alone has no word beside it", "[text][tokenizer]") {
  test::OwnedSpec owned;
  owned.AddAllBytes();
  model::AddedToken alone;
  alone.token = owned.AddToken("ab");
  alone.single_word = true;
  owned.AddAdded(alone, "");
  const auto tokenizer = test::MakeTokenizer(owned);
  const int32_t ab = 256;
  CHECK(test::Encode(*tokenizer, "ab") == Ids{ab});
  CHECK(test::Encode(*tokenizer, "ab.ab") == Ids{ab, '.', ab});
  CHECK(test::Encode(*tokenizer, "abab") == Ids{'a', 'b', 'a', 'b'});
  CHECK(test::Encode(*tokenizer, "_ab") == Ids{'_', 'a', 'b'});
  CHECK(test::Encode(*tokenizer, "ab\u00e9") == Ids{'a', 'b', 0xc3, 0xa9});
  CHECK(test::Encode(*tokenizer,
                     "\xa9"
                     "ab\xc3") == Ids{0xa9, ab, 0xc3});
  // What was found and is none is passed over as a whole.
  owned.AddSpecial("bc");
  CHECK(test::Encode(*test::MakeTokenizer(owned), "abc abd bc") ==
        Ids{'a', 'b', 'c', ' ', 'a', 'b', 'd', ' ', 257});
}

TEST_CASE("characters without tokens are unknown, one by one or in runs", "[text][tokenizer]") {
  test::OwnedSpec owned;
  owned.spec().kind = model::TokenizerKind::kCharacterBpe;
  owned.AddToken("<unk>");
  const uint32_t a = owned.AddToken("a");
  owned.AddMergeIds({a, a, owned.AddToken("aa")});
  CHECK_FALSE(text::Tokenizer::Create(owned.spec()).ok());
  owned.spec().unknown_token = 0;
  const auto apart = test::MakeTokenizer(owned);
  CHECK(test::Encode(*apart,
                     "aab\u00e9\xff"
                     "a") == Ids{2, 0, 0, 0, 1});
  owned.spec().fuse_unknown = true;
  CHECK(test::Encode(*test::MakeTokenizer(owned),
                     "aab\u00e9\xff"
                     "ab") == Ids{2, 0, 1, 0});
}

}  // namespace
}  // namespace headroom
