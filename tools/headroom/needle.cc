#include "headroom/needle.h"

#include <nlohmann/json.hpp>

#include "headroom/api.h"

#if defined(HEADROOM_NEEDLES)
// The file itself, placed among the constants: no copy on the heap, no generated source.
asm(R"(
.pushsection .rodata
.globl headroom_needles_begin
.globl headroom_needles_end
headroom_needles_begin:
.incbin ")" HEADROOM_NEEDLES R"("
headroom_needles_end:
.byte 0
.popsection
)");
extern "C" const char headroom_needles_begin[];
extern "C" const char headroom_needles_end[];
#endif

namespace headroom::cli {
namespace {

using nlohmann::json;

// Where in the data we are, for the text of a failure.
struct Place {
  std::string text;

  [[noreturn]] void Refuse(const std::string& problem) const {
    throw Failure(HR_CORRUPT, text + problem,
                  "`headroom eval needle --help` shows what a line of it looks like.");
  }
  std::string String(const json& object, const char* key) const {
    const json value = object.value(key, json());
    if (!value.is_string()) Refuse(std::string("\"") + key + "\" is missing or no text");
    return value.get<std::string>();
  }
};

NeedleContext ParseContext(std::string_view line, const Place& place) {
  const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) place.Refuse("is no JSON object");
  const json distance = object.value("distance", json());
  if (!distance.is_number_unsigned() || distance.get<uint64_t>() > UINT32_MAX) {
    place.Refuse("\"distance\" is missing or no count of tokens");
  }
  NeedleContext context;
  context.distance = distance.get<uint32_t>();
  context.text = place.String(object, "context");
  const json questions = object.value("questions", json());
  if (!questions.is_array()) place.Refuse("\"questions\" is missing or no list");
  for (const json& question : questions) {
    if (!question.is_object()) place.Refuse("a question is no JSON object");
    context.questions.push_back(
        {place.String(question, "prompt"), place.String(question, "answer")});
    if (context.questions.back().prompt.empty()) place.Refuse("a question has an empty \"prompt\"");
  }
  return context;
}

}  // namespace

std::string_view EmbeddedNeedles() {
#if defined(HEADROOM_NEEDLES)
  return {headroom_needles_begin,
          static_cast<size_t>(headroom_needles_end - headroom_needles_begin)};
#else
  return {};
#endif
}

std::vector<NeedleContext> ParseNeedles(std::string_view json_lines, const std::string& file) {
  std::vector<NeedleContext> contexts;
  for (size_t number = 1; !json_lines.empty(); ++number) {
    const size_t end = json_lines.find('\n');
    const std::string_view line = json_lines.substr(0, end);
    json_lines.remove_prefix(end == std::string_view::npos ? json_lines.size() : end + 1);
    if (Trim(line).empty()) continue;
    contexts.push_back(ParseContext(line, {file + ", line " + std::to_string(number) + ": "}));
  }
  return contexts;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace headroom::cli
