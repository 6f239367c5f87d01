// Plans, statistics and untrusted text in the two forms we print: for people and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <headroom/headroom.h>
#include <nlohmann/json.hpp>

#include "headroom/api.h"

namespace headroom::cli {

using Json = nlohmann::ordered_json;

// printf into a string.
__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...);

// One object and a newline on stdout. Bytes that are not UTF-8 become U+FFFD.
void PrintJson(const Json& json);

// Text from a file made safe for a terminal: control characters, direction overrides and bytes that
// are not UTF-8 become \xNN or \u{NNNN}; newlines too.
std::string EscapeControls(std::string_view text);

double TokensPerSecond(uint64_t tokens, uint64_t nanoseconds);

// {"error": {...}}
Json FailureJson(const Failure& failure);
Json FactsJson(const hr_model_facts& facts);
// Of an HR_METRIC_*.
const char* MetricName(int32_t metric);
// What the model file says the cache of this plan is worth; null: it was not measured.
Json QualityJson(const hr_plan_report& plan);
Json PlanJson(const hr_plan_report& plan);

// "headroom-example: llama, 6 layers, 4.2 M parameters"
std::string ModelLine(const hr_model_facts& facts);

// "4096", "12.3 k", "1.24 B": counts of parameters and tokens.
std::string FormatCount(uint64_t count);

// The plan as an indented table. `packed_are_mapped` says on which side packed weights stand.
std::string PlanTable(const hr_plan_report& plan, const hr_session_options& options,
                      bool packed_are_mapped);

}  // namespace headroom::cli
