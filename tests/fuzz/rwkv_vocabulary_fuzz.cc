// RWKV's World vocabulary. Whatever is accepted must encode what its tokens spell.
#include <cstdlib>
#include <string>
#include <vector>

#include "convert/rwkv_vocabulary.h"
#include "tests/text/described_spec.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace headroom;
  const std::string_view file(reinterpret_cast<const char*>(data), bytes);
  (void)convert::UnescapePython(file, false);
  const auto parsed = convert::ParseRwkvVocabulary(file, 256, "input");
  if (!parsed.ok()) return 0;
  test::OwnedSpec owned;
  test::FillSpec(parsed.value().tokenizer, owned);
  const auto tokenizer = text::Tokenizer::Create(owned.spec());
  if (!tokenizer.ok()) return 0;
  std::string text;
  for (const std::string& token : parsed.value().tokenizer.tokens) text += token.substr(0, 64);
  std::vector<int32_t> ids(text.size() + 1);
  size_t count = 0, shown = 0;
  if (!tokenizer.value()->Encode(text, 0, ids, &count).ok()) return 0;
  ids.resize(count);
  std::string back(text.size(), '\0');
  if (!tokenizer.value()->Decode(ids, back, &shown).ok() || back != text) std::abort();
  return 0;
}
