// Unicode normal forms (UAX #15) of text that may hold broken UTF-8.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "model/model.h"

namespace headroom::text {

// Whether `text` is certainly in that form already: true for plain ASCII and, with kNfc, for all
// characters below U+0300. One pass, no allocation.
bool IsPlainly(std::string_view text, model::NormalForm form);

// `text` in that form. Bytes that are no UTF-8 stay where they are and nothing composes across
// them. Takes memory in proportion to the longest run without such plain characters; time is O(n
// log n), also for combining marks without end. Error: kOutOfMemory.
Result<std::string> ToNormalForm(std::string_view text, model::NormalForm form);

}  // namespace headroom::text
