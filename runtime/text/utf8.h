// One character of UTF-8 at a time (RFC 3629: shortest form, no surrogates, at most U+10FFFF).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace headroom::text {

enum class Utf8 : uint8_t {
  kWhole,       // `bytes` make one character
  kIncomplete,  // all that is there (`bytes`, 1..3) may begin one; more is needed to tell
  kInvalid,     // the first `bytes` (1..3) can never be part of one
};

struct Utf8Scan {
  Utf8 kind;
  uint8_t bytes;
};

// Looks at the front of `text`, which is not empty.
inline Utf8Scan ScanUtf8(std::string_view text) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return {Utf8::kWhole, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Utf8::kInvalid, 1};
  const uint8_t need = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte alone decides about overlong forms, surrogates and the end of Unicode.
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (uint8_t i = 1; i < need; ++i) {
    if (i == text.size()) return {Utf8::kIncomplete, i};
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    if (byte < (i == 1 ? low : 0x80) || byte > (i == 1 ? high : 0xbf)) return {Utf8::kInvalid, i};
  }
  return {Utf8::kWhole, need};
}

// Length of the longest front of `text` that is whole characters (`whole`) or has none.
inline size_t Utf8Run(std::string_view text, bool whole) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Scan scan = ScanUtf8(text.substr(at));
    if ((scan.kind == Utf8::kWhole) != whole) break;
    at += scan.bytes;
  }
  return at;
}

}  // namespace headroom::text
