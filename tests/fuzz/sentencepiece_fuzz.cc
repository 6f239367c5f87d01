// A tokenizer.model. Whatever is accepted must encode, and its tokens must decode.
#include <string>
#include <string_view>
#include <vector>

#include "convert/sentencepiece_file.h"
#include "tests/text/described_spec.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace headroom;
  const std::string_view file(reinterpret_cast<const char*>(data), bytes);
  const auto model = convert::ParseSentencePieceModel(file, "input");
  if (!model.ok()) return 0;
  const auto parsed = convert::MakeTokenizer(model.value(), 4096, "input");
  if (!parsed.ok()) return 0;
  test::OwnedSpec owned;
  test::FillSpec(parsed.value().tokenizer, owned);
  const auto tokenizer = text::Tokenizer::Create(owned.spec());
  if (!tokenizer.ok()) return 0;
  std::vector<int32_t> ids(256);
  size_t count = 0;
  const std::string_view text = "a b  ab <s> 12 \xe2\x96\x81\xc3\xa9\xff\xef\xbc\xa1 aab";
  if (!tokenizer.value()->Encode(text, 0, ids, &count).ok()) return 0;
  ids.resize(count);
  std::string back(1u << 16, '\0');
  size_t shown = 0;
  if (!tokenizer.value()->Decode(ids, back, &shown).ok() && shown <= back.size()) __builtin_trap();
  return 0;
}
