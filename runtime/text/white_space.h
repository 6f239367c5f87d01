// White space as Unicode's property White_Space has it.
#pragma once

#include <cstddef>
#include <string_view>

namespace headroom::text {

// Bytes of the white-space character that `text` begins with, or 0.
size_t WhiteSpaceAt(std::string_view text);

// The first place at or after `from` that is no white space.
size_t SkipSpaces(std::string_view text, size_t from);

// Where the white space begins that ends at `end`, not before `from`.
size_t SpacesBefore(std::string_view text, size_t from, size_t end);

}  // namespace headroom::text
