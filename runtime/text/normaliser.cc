#include "text/normaliser.h"

#include <utf8proc.h>

#include "text/normal_form.h"
#include "text/utf8.h"
#include "text/white_space.h"

namespace headroom::text {
namespace {

using model::NormalStepKind;

constexpr size_t kMaxSteps = 16;

Status TooLong(size_t limit) {
  return Status::Make(StatusCode::kUnsupported,
                      "text: its normal form is longer than %zu bytes, %zu times the text", limit,
                      Normaliser::kMaxGrowth);
}

std::string_view Stripped(std::string_view text, const model::NormalStep& step) {
  if (step.left) text.remove_prefix(SkipSpaces(text, 0));
  return step.right ? text.substr(0, SpacesBefore(text, 0, text.size())) : text;
}

// Unicode's full mapping: U+0130 is the one character that becomes two, wherever it stands.
void AppendLower(std::string_view character, std::string& out) {
  utf8proc_int32_t code = 0;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(character.data()),
                   static_cast<utf8proc_ssize_t>(character.size()), &code);
  utf8proc_uint8_t bytes[4];
  const auto count = utf8proc_encode_char(utf8proc_tolower(code), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
  if (code == 0x130) out.append("\u0307");
}

std::string Lowercased(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Scan scan = ScanUtf8(text);
    const std::string_view character = text.substr(0, scan.bytes);
    if (scan.kind == Utf8::kWhole) {
      AppendLower(character, out);
    } else {
      out.append(character);
    }
    text.remove_prefix(scan.bytes);
  }
  return out;
}

}  // namespace

Status Normaliser::Build(const std::vector<model::NormalStep>& steps) {
  if (steps.size() > kMaxSteps + 1) {
    return Status::Make(StatusCode::kUnsupported, "tokenizer: %zu normal steps > %zu", steps.size(),
                        kMaxSteps);
  }
  for (const model::NormalStep& step : steps) {
    steps_.push_back({step, {}, {}});
    if (step.kind == NormalStepKind::kReplace) {
      HR_ASSIGN_OR_RETURN(Pattern pattern,
                          Pattern::Compile(step.pattern, "normal pattern", steps_.size() - 1));
      steps_.back().pattern.push_back(std::move(pattern));
    } else if (step.kind == NormalStepKind::kCharsmap) {
      HR_RETURN_IF_ERROR(steps_.back().charsmap.Build(step.charsmap));
    }
  }
  return {};
}

bool Normaliser::Leaves(std::string_view text) const {
  if (text.empty() || steps_.empty()) return true;
  return steps_.size() == 1 && steps_[0].step.kind == NormalStepKind::kNormalForm &&
         IsPlainly(text, steps_[0].step.form);
}

Result<std::string> Normaliser::Apply(std::string_view text) const {
  const size_t limit = kMaxGrowth * text.size() + kMaxExtraBytes;
  std::string out(text);
  for (const Step& step : steps_) {
    HR_ASSIGN_OR_RETURN(out, ApplyStep(step, out, limit));
    if (out.size() > limit) return TooLong(limit);
  }
  return out;
}

Result<std::string> Normaliser::ApplyStep(const Step& step, std::string_view text, size_t limit) {
  std::string out;
  switch (step.step.kind) {
    case NormalStepKind::kNormalForm:
      return ToNormalForm(text, step.step.form);
    case NormalStepKind::kPrepend:
      if (!text.empty()) out.append(step.step.text).append(text);
      return out;
    case NormalStepKind::kStrip:
      return std::string(Stripped(text, step.step));
    case NormalStepKind::kLowercase:
      return Lowercased(text);
    case NormalStepKind::kCharsmap:
      step.charsmap.Apply(text, step.step.graphemes, limit, out);
      return out;
    case NormalStepKind::kReplace:
      break;
  }
  PatternScratch scratch;
  HR_RETURN_IF_ERROR(scratch.Prepare(1, text.size()));
  while (!text.empty()) {  // what is no UTF-8 is matched by nothing
    const size_t whole = Utf8Run(text, true);
    HR_RETURN_IF_ERROR(Replace(step, text.substr(0, whole), scratch, limit, out));
    text.remove_prefix(whole);
    const size_t broken = Utf8Run(text, false);
    out.append(text.substr(0, broken));
    text.remove_prefix(broken);
  }
  return out;
}

Status Normaliser::Replace(const Step& step, std::string_view run, PatternScratch& scratch,
                           size_t limit, std::string& out) {
  size_t done = 0;
  bool any = false;
  for (size_t from = 0; from <= run.size();) {
    PatternMatch match;
    bool found = false;
    HR_RETURN_IF_ERROR(step.pattern[0].Find(run, from, done, 0, scratch, &match, &found));
    if (!found) break;
    // An empty match right behind another one is none.
    if (match.end > match.begin || !any || match.begin > done) {
      out.append(run.substr(done, match.begin - done)).append(step.step.text);
      done = match.end;
      any = true;
      if (out.size() > limit) return TooLong(limit);
    }
    from = SearchOn(run, from, match);
  }
  out.append(run.substr(done));
  return {};
}

}  // namespace headroom::text
