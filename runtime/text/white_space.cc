#include "text/white_space.h"

namespace headroom::text {

size_t WhiteSpaceAt(std::string_view text) {
  constexpr std::string_view kThree[] = {"\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
                                         "\u2004", "\u2005", "\u2006", "\u2007", "\u2008",
                                         "\u2009", "\u200a", "\u2028", "\u2029", "\u202f",
                                         "\u205f", "\u3000", "\u0085", "\u00a0"};
  if (text.empty()) return 0;
  if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) return 1;
  for (const std::string_view space : kThree) {
    if (text.starts_with(space)) return space.size();
  }
  return 0;
}

size_t SkipSpaces(std::string_view text, size_t from) {
  while (const size_t bytes = WhiteSpaceAt(text.substr(from))) from += bytes;
  return from;
}

size_t SpacesBefore(std::string_view text, size_t from, size_t end) {
  for (size_t bytes = 1; bytes <= 3 && from + bytes <= end;) {
    const bool space = WhiteSpaceAt(text.substr(end - bytes, bytes)) == bytes;
    end -= space ? bytes : 0;
    bytes = space ? 1 : bytes + 1;
  }
  return end;
}

}  // namespace headroom::text
