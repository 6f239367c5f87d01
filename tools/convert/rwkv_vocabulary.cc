#include "convert/rwkv_vocabulary.h"

#include <algorithm>
#include <charconv>

#include "convert/json_file.h"

namespace headroom::convert {
namespace {

Status Wrong(const std::string& what, size_t line, const char* fact) {
  return Status::Make(StatusCode::kCorrupt, "%s: line %zu %s", what.c_str(), line, fact);
}

bool ReadNumber(std::string_view text, uint32_t* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

void AppendUtf8(uint32_t c, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | (c >> shift & 0x3f)));
  };
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xf0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

// The escape behind a backslash; takes it off `rest`. False: there is no such one.
bool TakeEscape(std::string_view& rest, bool is_text, std::string* out) {
  if (rest.empty()) return false;
  const char kind = rest[0];
  rest.remove_prefix(1);
  static constexpr std::string_view kNames = "ntr\\'\"", kMeanings = "\n\t\r\\'\"";
  if (const size_t at = kNames.find(kind); at != kNames.npos) {
    out->push_back(kMeanings[at]);
    return true;
  }
  const size_t digits = kind == 'x' ? 2 : !is_text ? 0 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
  uint32_t code = 0;
  if (digits == 0 || rest.size() < digits) return false;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + digits, code, 16);
  if (error != std::errc() || end != rest.data() + digits || code > 0x10ffff) return false;
  rest.remove_prefix(digits);
  if (is_text) {
    AppendUtf8(code, out);
  } else {
    out->push_back(static_cast<char>(code));
  }
  return true;
}

// b'...' or '...', with either quote.
Result<std::string> ReadLiteral(std::string_view literal) {
  const bool is_text = !literal.starts_with('b');
  if (!is_text) literal.remove_prefix(1);
  const bool quoted = literal.size() >= 2 && (literal[0] == '\'' || literal[0] == '"') &&
                      literal.back() == literal[0];
  if (!quoted) return Status::Make(StatusCode::kCorrupt, "no literal");
  return UnescapePython(literal.substr(1, literal.size() - 2), is_text);
}

}  // namespace

Result<std::string> UnescapePython(std::string_view literal, bool is_text) {
  std::string out;
  while (!literal.empty()) {
    const char c = literal[0];
    literal.remove_prefix(1);
    if (c != '\\') {
      out.push_back(c);
    } else if (!TakeEscape(literal, is_text, &out)) {
      return Status::Make(StatusCode::kCorrupt, "no escape of Python's");
    }
  }
  return out;
}

Result<ParsedTokenizer> ParseRwkvVocabulary(std::string_view file, uint32_t vocabulary,
                                            const std::string& what) {
  ParsedTokenizer parsed;
  TokenizerDescription& out = parsed.tokenizer;
  out.kind = model::TokenizerKind::kLongest;
  out.tokens.resize(vocabulary);
  for (size_t line = 1; !file.empty(); ++line) {
    const size_t end = std::min(file.find('\n'), file.size());
    std::string_view text = file.substr(0, end);
    file.remove_prefix(std::min(end + 1, file.size()));
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    const size_t first = text.find(' '), last = text.rfind(' ');
    uint32_t id = 0, bytes = 0;
    if (first == text.npos || first == last || !ReadNumber(text.substr(0, first), &id) ||
        !ReadNumber(text.substr(last + 1), &bytes)) {
      return Wrong(what, line, "is not an id, a literal and a number of bytes");
    }
    const auto token = ReadLiteral(text.substr(first + 1, last - first - 1));
    if (!token.ok()) return Wrong(what, line, "holds no literal of Python's");
    if (id == 0 || id >= vocabulary) return Wrong(what, line, "has an id outside the vocabulary");
    if (token.value().empty() || token.value().size() != bytes) {
      return Wrong(what, line, "has another number of bytes than it says");
    }
    if (!out.tokens[id].empty()) return Wrong(what, line, "has an id that was there before");
    out.tokens[id] = token.value();
  }
  out.end_tokens = {0};
  return parsed;
}

}  // namespace headroom::convert
