#include "convert/regex.h"

#include <string_view>

namespace headroom::convert {
namespace {

bool ReadsDifferently(const std::string& regex) {
  constexpr std::string_view kDiffering = "hHbBXRGKNOyY";
  bool in_class = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] == '\\') {
      ++i;
      if (i < regex.size() && kDiffering.find(regex[i]) != kDiffering.npos) return true;
      if (in_class && i < regex.size() && (regex[i] == 'W' || regex[i] == 'S')) return true;
    } else if (in_class) {
      if (regex[i] == '[' || regex.compare(i, 2, "&&") == 0) return true;
      if (regex[i] == ']') in_class = false;
    } else if (regex[i] == '[') {
      in_class = true;
      if (regex.compare(i + 1, 1, "]") == 0 || regex.compare(i + 1, 2, "^]") == 0) return true;
    } else if (regex.compare(i, 2, "}+") == 0) {
      const size_t open = regex.rfind('{', i);
      const std::string inside = regex.substr(open + 1, i - open - 1);
      if (inside.find_first_not_of("0123456789,") == std::string::npos) return true;
    }
  }
  return false;
}

// PCRE2 counts U+180E, a format character, as white space, and has another idea of a word; the
// engine behind the reference follows Unicode. The classes are spelled out, so that both cut alike.
std::string Escaped(char escaped, bool in_class) {
  const auto spelled = [&](const char* members, bool negated) {
    if (in_class) return std::string(members);
    return std::string(negated ? "[^" : "[") + members + "]";
  };
  switch (escaped) {
    case 's':
    case 'S':
      return spelled(kSpaceMembers, escaped == 'S');
    case 'w':
    case 'W':
      return spelled(kWordMembers, escaped == 'W');
    default:
      return {'\\', escaped};
  }
}

}  // namespace

std::optional<std::string> ToPcre2(const std::string& regex) {
  if (ReadsDifferently(regex)) return std::nullopt;
  std::string pattern;
  bool in_class = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] == '\\' && i + 1 < regex.size()) {
      pattern += Escaped(regex[++i], in_class);
      continue;
    }
    if (!in_class && (regex[i] == '^' || regex[i] == '$')) {  // of a line, there
      pattern += std::string("(?m:") + regex[i] + ")";
      continue;
    }
    pattern += regex[i];
    if (regex[i] == '[' && !in_class) {
      in_class = true;
      if (regex.compare(i + 1, 1, "^") == 0) pattern += regex[++i];
    } else if (regex[i] == ']') {
      in_class = false;
    }
  }
  return pattern;
}

std::string QuotedPattern(const std::string& text) {
  std::string pattern;
  for (const char byte : text) {
    const bool special = std::string_view("\\^$.[]|()?*+{}-#").find(byte) != std::string::npos;
    if (special) pattern += '\\';
    pattern += byte;
  }
  return pattern;
}

}  // namespace headroom::convert
