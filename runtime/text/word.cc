#include "text/word.h"

#include <utf8proc.h>

#include "text/utf8.h"

namespace headroom::text {
namespace {

// Letters by property that are symbols by category.
bool IsCircledLetter(utf8proc_int32_t code) {
  return (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
         (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
}

bool IsWord(utf8proc_int32_t code) {
  const int category = utf8proc_category(code);
  const bool letter_mark_digit =
      category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL;
  const bool joiner = code == 0x200c || code == 0x200d;
  return letter_mark_digit || category == UTF8PROC_CATEGORY_PC || joiner || IsCircledLetter(code);
}

}  // namespace

bool BeginsWithWord(std::string_view text) {
  if (text.empty() || ScanUtf8(text).kind != Utf8::kWhole) return false;
  utf8proc_int32_t code = 0;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &code);
  return IsWord(code);
}

bool EndsInWord(std::string_view text) {
  for (size_t bytes = 1; bytes <= 4 && bytes <= text.size(); ++bytes) {
    const std::string_view last = text.substr(text.size() - bytes);
    const Utf8Scan scan = ScanUtf8(last);
    if (scan.kind == Utf8::kWhole && scan.bytes == bytes) return BeginsWithWord(last);
  }
  return false;
}

}  // namespace headroom::text
