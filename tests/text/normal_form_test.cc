// Unicode normal forms. Against another implementation: tests/golden/tokenizers (qwen2, nfd, nfkc).
#include "text/normal_form.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/text/tokenizing.h"
#include "text/tokenizer.h"

namespace headroom {
namespace {

using model::NormalForm;

std::string Form(std::string_view text, NormalForm form) {
  auto made = text::ToNormalForm(text, form);
  REQUIRE(made.ok());
  return made.Take();
}

TEST_CASE("text becomes the normal form that is asked for", "[text][normal-form]") {
  CHECK(Form("e\u0301", NormalForm::kNfc) == "\u00e9");
  CHECK(Form("\u00e9", NormalForm::kNfd) == "e\u0301");
  CHECK(Form("\ufb01", NormalForm::kNfc) == "\ufb01");
  CHECK(Form("\ufb01", NormalForm::kNfkc) == "fi");
  CHECK(Form("\u212b", NormalForm::kNfkd) == "A\u030a");
  CHECK(Form("q\u0307\u0323", NormalForm::kNfc) == "q\u0323\u0307");
  CHECK(Form("\u1100\u1161\u11a8", NormalForm::kNfc) == "\uac01");
  CHECK(Form("\uac01", NormalForm::kNfd) == "\u1100\u1161\u11a8");
  CHECK(Form("", NormalForm::kNfc).empty());
  CHECK(text::IsPlainly("caf\u00e9", NormalForm::kNfc));
  CHECK_FALSE(text::IsPlainly("caf\u00e9", NormalForm::kNfkc));
  CHECK_FALSE(text::IsPlainly("cafe\u0301", NormalForm::kNfc));
  CHECK(text::IsPlainly("cafe\u0301", NormalForm::kAsIs));
}

TEST_CASE("broken UTF-8 stays where it is", "[text][normal-form]") {
  CHECK(Form("e\xff\u0301", NormalForm::kNfc) == "e\xff\u0301");
  CHECK(Form("\xcc", NormalForm::kNfc) == "\xcc");
  CHECK(Form("e\u0301\xed\xa0\x80o\u0301", NormalForm::kNfc) == "\u00e9\xed\xa0\x80\u00f3");
  CHECK(Form("\xf5\x80\u0301\xc3", NormalForm::kNfd) == "\xf5\x80\u0301\xc3");
}

TEST_CASE("marks without end in odd order take no quadratic time", "[text][normal-form]") {
  std::string marks = "a";
  for (int i = 0; i < 200'000; ++i) marks += i % 2 ? "\u0301" : "\u0323";
  const std::string formed = Form(marks, NormalForm::kNfc);  // hours, were it quadratic
  CHECK(formed.starts_with("\u1ea1\u0323"));
  CHECK(formed.ends_with("\u0301\u0301"));
  CHECK(Form(formed, NormalForm::kNfc) == formed);
}

TEST_CASE("a tokenizer brings text into its form between special tokens", "[text][normal-form]") {
  test::OwnedSpec owned;
  owned.AddAllBytes();
  owned.AddMerge("\xc3", "\xa9");
  const auto end = static_cast<int32_t>(owned.AddSpecial("<e>"));
  owned.AddForm(NormalForm::kNfc);
  const auto tokenizer = test::MakeTokenizer(owned);
  const auto encode = [&](const std::string& text, std::vector<text::TextRange> plain = {}) {
    return test::Encode(*tokenizer, text, 0, plain);
  };
  const int32_t accented = 256;
  CHECK(encode("e\u0301") == test::Ids{accented});
  CHECK(encode("\u00e9<e>\u0301") == test::Ids{accented, end, 0xcc, 0x81});
  CHECK(encode("e<e>e\u0301", {{1, 4}}) == test::Ids{'e', '<', 'e', '>', accented});
}

}  // namespace
}  // namespace headroom
