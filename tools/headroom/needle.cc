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

std::string_view EmbeddedNeedles() {
#if defined(HEADROOM_NEEDLES)
  return {headroom_needles_begin,
          static_cast<size_t>(headroom_needles_end - headroom_needles_begin)};
#else
  return {};
#endif
}

std::vector<NeedleContext> ParseNeedles(std::string_view json_lines) {
  std::vector<NeedleContext> contexts;
  for (size_t number = 1; !json_lines.empty(); ++number) {
    const size_t end = json_lines.find('\n');
    const std::string_view line = json_lines.substr(0, end);
    json_lines.remove_prefix(end == std::string_view::npos ? json_lines.size() : end + 1);
    if (Trim(line).empty()) continue;
    try {
      const auto json = nlohmann::json::parse(line);
      NeedleContext context;
      context.distance = json.at("distance").get<uint32_t>();
      context.text = json.at("context").get<std::string>();
      for (const auto& question : json.at("questions")) {
        context.questions.push_back(
            {question.at("prompt").get<std::string>(), question.at("answer").get<std::string>()});
      }
      contexts.push_back(std::move(context));
    } catch (const nlohmann::json::exception& error) {
      throw Failure(HR_CORRUPT,
                    "needle data, line " + std::to_string(number) + ": " + error.what());
    }
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
