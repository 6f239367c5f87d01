#include "text/normal_form.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "text/utf8.h"

namespace headroom::text {
namespace {

using model::NormalForm;

bool Composes(NormalForm form) { return form == NormalForm::kNfc || form == NormalForm::kNfkc; }

// Characters below it stand for themselves and never join what is before them.
constexpr uint8_t kAsciiEnd = 0x80;
constexpr uint8_t kLeadOf300 = 0xcc;  // the first UTF-8 byte of U+0300

uint8_t PlainEnd(NormalForm form) { return form == NormalForm::kNfc ? kLeadOf300 : kAsciiEnd; }

int CombiningClass(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

// Normalises runs of characters; the buffers are kept from run to run.
class Normaliser {
 public:
  explicit Normaliser(NormalForm form) : form_(form) {
    const int compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
    options_ = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                              (compatible ? UTF8PROC_COMPAT : 0));
  }

  // `run`: whole characters.
  void Append(std::string_view run, std::string& out) {
    Decompose(run);
    Reorder();
    utf8proc_ssize_t count = static_cast<utf8proc_ssize_t>(codes_.size());
    if (Composes(form_)) {
      const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
      count = utf8proc_normalize_utf32(codes_.data(), count, options);
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      utf8proc_uint8_t bytes[4];
      const auto length = utf8proc_encode_char(codes_[static_cast<size_t>(i)], bytes);
      out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
    }
  }

 private:
  void Decompose(std::string_view run) {
    constexpr size_t kLongest = 18;  // U+FDFA
    codes_.clear();
    while (!run.empty()) {
      utf8proc_int32_t code = 0;
      const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(run.data()),
                                          static_cast<utf8proc_ssize_t>(run.size()), &code);
      utf8proc_int32_t parts[kLongest];
      int boundary = 0;
      const auto count = utf8proc_decompose_char(code, parts, kLongest, options_, &boundary);
      codes_.insert(codes_.end(), parts, parts + std::clamp<utf8proc_ssize_t>(count, 0, kLongest));
      run.remove_prefix(static_cast<size_t>(bytes));
    }
  }

  // Marks between two starters, by their class. The library's own way takes quadratic time.
  void Reorder() {
    const auto starter = [](utf8proc_int32_t code) { return CombiningClass(code) == 0; };
    for (auto begin = codes_.begin(); begin != codes_.end();) {
      begin = std::find_if_not(begin, codes_.end(), starter);
      const auto end = std::find_if(begin, codes_.end(), starter);
      std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
        return CombiningClass(a) < CombiningClass(b);
      });
      begin = end;
    }
  }

  NormalForm form_;
  utf8proc_option_t options_;
  std::vector<utf8proc_int32_t> codes_;
};

}  // namespace

bool IsPlainly(std::string_view text, NormalForm form) {
  const uint8_t end = PlainEnd(form);
  return form == NormalForm::kAsIs || std::none_of(text.begin(), text.end(), [&](char byte) {
           return static_cast<uint8_t>(byte) >= end;
         });
}

Result<std::string> ToNormalForm(std::string_view text, NormalForm form) {
  Normaliser normaliser(form);
  const uint8_t end = PlainEnd(form);
  std::string out;
  out.reserve(text.size());
  // A run: a plain character, which a mark behind it may join, and those that are not plain.
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    bool plain = true;
    while (at < text.size()) {
      const Utf8Scan scan = ScanUtf8(text.substr(at));
      const bool here = static_cast<uint8_t>(text[at]) < end;
      if (scan.kind != Utf8::kWhole || (here && at > begin)) break;
      plain = plain && here;
      at += scan.bytes;
    }
    const std::string_view run = text.substr(begin, at - begin);
    if (plain) {
      out.append(run);
    } else {
      normaliser.Append(run, out);
    }
    if (at < text.size()) {
      const Utf8Scan scan = ScanUtf8(text.substr(at));
      if (scan.kind == Utf8::kWhole) continue;
      out.append(text.substr(at, scan.bytes));
      at += scan.bytes;
    }
  }
  return out;
}

}  // namespace headroom::text
