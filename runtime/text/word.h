// What a word is made of: letters, digits, marks, connectors, joiners (\\w of UTS #18).
#pragma once

#include <string_view>

namespace headroom::text {

// Bytes that are no UTF-8 are no part of a word.
bool BeginsWithWord(std::string_view text);
bool EndsInWord(std::string_view text);

}  // namespace headroom::text
