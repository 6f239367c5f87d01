#include "headroom/report.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>

#include "headroom/api.h"
#include "headroom/bytes.h"

namespace headroom::cli {
namespace {

// Length of the UTF-8 character at `text`, its code point in *out_code; 0 when the bytes are not
// one.
size_t DecodeCharacter(std::string_view text, uint32_t* out_code) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) {
    *out_code = lead;
    return 1;
  }
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || length > text.size()) return 0;
  uint32_t code = lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0;
  *out_code = code;
  return length;
}

// Characters that could move the cursor, change colours or reorder what is shown.
bool IsUnsafe(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || (code >= 0x200B && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069) || code == 0xFEFF;
}

std::string Row(int indent, const char* label, uint64_t bytes, const std::string& note = "") {
  char line[160];
  std::snprintf(line, sizeof(line), "%*s%-*s %10s%s%s\n", indent, "", 24 - indent, label,
                FormatBytes(bytes).c_str(), note.empty() ? "" : "   ", note.c_str());
  return line;
}

}  // namespace

void PrintJson(const Json& json) {
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Failure(HR_IO, "cannot write to stdout");
  }
}

std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

std::string EscapeControls(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t length = DecodeCharacter(text, &code);
    char escaped[16];
    if (length == 0 || (length == 1 && IsUnsafe(code))) {
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<uint8_t>(text[0]));
      safe += escaped;
    } else if (IsUnsafe(code)) {
      std::snprintf(escaped, sizeof(escaped), "\\u{%04" PRIx32 "}", code);
      safe += escaped;
    } else {
      safe += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return safe;
}

double TokensPerSecond(uint64_t tokens, uint64_t nanoseconds) {
  return nanoseconds == 0 ? 0
                          : static_cast<double>(tokens) * 1e9 / static_cast<double>(nanoseconds);
}

Json FailureJson(const Failure& failure) {
  return {{"error",
           {{"code", failure.status()},
            {"status", hr_status_name(failure.status())},
            {"message", failure.what()},
            {"advice", failure.advice()}}}};
}

Json FactsJson(const hr_model_facts& facts) {
  char digest[24];
  std::snprintf(digest, sizeof(digest), "%016" PRIx64, facts.digest);
  return {{"name", facts.name},
          {"architecture", facts.architecture},
          {"digest", digest},
          {"file_bytes", facts.file_bytes},
          {"parameters", facts.parameters},
          {"layers", facts.layers},
          {"linear_layers", facts.linear_layers},
          {"channels", facts.channels},
          {"vocabulary", facts.vocabulary},
          {"context_tokens", facts.context_tokens},
          {"has_tokenizer", facts.has_tokenizer}};
}

const char* MetricName(int32_t metric) {
  constexpr const char* kNames[] = {"none", "perplexity", "accuracy", "kl_divergence", "recall"};
  return kNames[metric];
}

Json QualityJson(const hr_plan_report& plan) {
  if (plan.quality_task[0] == '\0') return nullptr;
  return {{"task", plan.quality_task},
          {"metric", MetricName(plan.quality_metric)},
          {"value", plan.quality},
          {"reference", plan.quality_reference}};
}

Json PlanJson(const hr_plan_report& plan) {
  return {{"fits", plan.fits},
          {"missing_bytes", plan.missing_bytes},
          {"context_tokens", plan.context_tokens},
          {"max_context_tokens", plan.max_context_tokens},
          {"kv", plan.profile},
          {"quality", QualityJson(plan)},
          {"better_kv", plan.better_profile},
          {"better_bytes", plan.better_bytes},
          {"chunk_tokens", plan.chunk_tokens},
          {"threads", plan.threads},
          {"total_bytes", plan.total_bytes},
          {"mapped_bytes", plan.mapped_bytes},
          {"private_bytes", plan.private_bytes},
          {"weight_bytes", plan.weight_bytes},
          {"packed_bytes", plan.packed_bytes},
          {"state_bytes", plan.state_bytes},
          {"recurrent_bytes", plan.recurrent_bytes},
          {"checkpoint_bytes", plan.checkpoint_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"scratch_bytes", plan.scratch_bytes},
          {"runtime_bytes", plan.runtime_bytes},
          {"state_bytes_per_token", plan.state_bytes_per_token},
          {"decode_read_bytes", plan.decode_read_bytes}};
}

std::string FormatCount(uint64_t count) {
  char text[32];
  const double value = static_cast<double>(count);
  if (count < 10000)
    std::snprintf(text, sizeof(text), "%" PRIu64, count);
  else if (value < 1e6)
    std::snprintf(text, sizeof(text), "%.1f k", value * 1e-3);
  else if (value < 1e9)
    std::snprintf(text, sizeof(text), "%.1f M", value * 1e-6);
  else
    std::snprintf(text, sizeof(text), "%.2f B", value * 1e-9);
  return text;
}

std::string LayersText(const hr_model_facts& facts) {
  const std::string text = std::to_string(facts.layers + facts.linear_layers) + " layers";
  if (facts.linear_layers == 0) return text;
  if (facts.layers == 0) return text + " of linear attention";
  return text + ", " + std::to_string(facts.linear_layers) + " of linear attention";
}

std::string ModelLine(const hr_model_facts& facts) {
  const std::string name = facts.name[0] != '\0' ? EscapeControls(facts.name) : "unnamed model";
  return name + ": " + EscapeControls(facts.architecture) + ", " + LayersText(facts) + ", " +
         FormatCount(facts.parameters) + " parameters, file " + FormatBytes(facts.file_bytes);
}

std::string PlanTable(const hr_plan_report& plan, const hr_session_options& options,
                      bool packed_are_mapped) {
  char line[256];
  const bool caches = plan.state_bytes > 0 || plan.recurrent_bytes == 0;
  std::snprintf(line, sizeof(line),
                "context %" PRIu32 " tokens, %s%s%sprefill chunk %" PRIu32 ", %" PRIu32
                " thread%s\n",
                plan.context_tokens, caches ? "cache " : "", caches ? plan.profile : "",
                caches ? ", " : "", plan.chunk_tokens, plan.threads, plan.threads == 1 ? "" : "s");
  std::string table = line;
  const std::string per_token = FormatBytes(plan.state_bytes_per_token) + " per token";
  table += Row(2, "private", plan.private_bytes, "the system cannot take these back");
  if (caches) {
    table += Row(4, "attention state", plan.state_bytes, per_token);
  }
  if (plan.recurrent_bytes > 0) {
    table += Row(4, "recurrent state", plan.recurrent_bytes, "whatever the context");
    table += Row(4, "checkpoints", plan.checkpoint_bytes,
                 std::to_string(plan.checkpoints) + " to rewind to");
  }
  table += Row(4, "activations", plan.activation_bytes);
  table += Row(4, "scratch", plan.scratch_bytes);
  table += Row(4, "runtime", plan.runtime_bytes);
  const bool packed = plan.packed_bytes > 0;  // f16 weights are read where they lie
  if (packed && !packed_are_mapped) table += Row(4, "packed weights", plan.packed_bytes);
  table += Row(2, "mapped", plan.mapped_bytes, "clean file pages, the system can");
  table += Row(4, "weights in the model", plan.weight_bytes);
  if (packed && packed_are_mapped) table += Row(4, "packed weights", plan.packed_bytes);
  const auto share = [](uint64_t limit) {
    return limit == 0 ? std::string() : "of a budget of " + FormatBytes(limit);
  };
  table += Row(2, "total", plan.total_bytes, share(options.budget_bytes));
  return table;
}

}  // namespace headroom::cli
