// Regular expressions of tokenizer.json, which the reference runs in Oniguruma and we in PCRE2.
#pragma once

#include <optional>
#include <string>

namespace headroom::convert {

// The same pattern for PCRE2; nothing where the two read it differently and no spelling helps: \h,
// \b, classes within classes and their intersection, a plus behind {m,n}.
std::optional<std::string> ToPcre2(const std::string& regex);

// A pattern that matches `text` alone.
std::string QuotedPattern(const std::string& text);

// Members of classes that both engines read alike.
inline constexpr const char* kSpaceMembers = R"(\t-\r\x{20}\x{85}\p{Z})";
inline constexpr const char* kWordMembers = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// ASCII's punctuation and symbols beside Unicode's punctuation.
inline constexpr const char* kPunctuation = R"([\p{P}$+<=>^`|~])";

}  // namespace headroom::convert
