// What a tokenizer does to text before it is encoded: the steps of its normaliser and its cuts.
#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kMaxSplits = 64;
constexpr uint32_t kMaxNormalSteps = 16;
constexpr uint32_t kMaxPatternBytes = 1u << 14;
constexpr uint32_t kMaxStepTextBytes = 64;  // bounds how much longer a step makes a text
constexpr uint32_t kMaxCharsmapBytes = 16u << 20;

Status LoadPattern(const Where& where, const char* what, uint32_t index,
                   const flatbuffers::String* from, std::string_view* out) {
  HR_RETURN_IF_ERROR(CheckText(where, what, from, kMaxPatternBytes, true, out));
  return out->empty() ? Corrupt(where, "%s %u is empty", what, index) : Status();
}

// The form that stands alone in files that need nothing more.
Status LoadForm(const Where& where, fb::NormalForm form, std::vector<NormalStep>& steps) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "normal form", form));
  if (form != fb::NormalForm::AsIs) {
    steps.push_back({});
    steps.back().form = static_cast<NormalForm>(form);
  }
  return {};
}

Status LoadStep(const Where& where, uint32_t index, const fb::NormalStep& from, NormalStep& to) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "normal step", from.kind()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "normal form", from.form()));
  to.kind = static_cast<NormalStepKind>(from.kind());
  to.form = static_cast<NormalForm>(from.form());
  to.left = from.left();
  to.right = from.right();
  to.graphemes = from.graphemes();
  HR_RETURN_IF_ERROR(
      CheckText(where, "text of a normal step", from.text(), kMaxStepTextBytes, true, &to.text));
  if (to.kind == NormalStepKind::kReplace)
    HR_RETURN_IF_ERROR(LoadPattern(where, "normal pattern", index, from.pattern(), &to.pattern));
  const uint32_t bytes = Count(from.charsmap());
  if (bytes > kMaxCharsmapBytes)
    return Corrupt(where, "a charsmap of %u bytes > %u", bytes, kMaxCharsmapBytes);
  if (bytes > 0) to.charsmap = {reinterpret_cast<const char*>(from.charsmap()->data()), bytes};
  return {};
}

Status LoadNormalSteps(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  std::vector<NormalStep>& steps = context.model.tokenizer.normal_steps;
  const uint32_t count = Count(from.normal_steps());
  HR_RETURN_IF_ERROR(CheckCount("normal steps", count, kMaxNormalSteps));
  HR_RETURN_IF_ERROR(context.Charge(count + 1, sizeof(NormalStep), "normal steps"));
  HR_RETURN_IF_ERROR(LoadForm(where, from.normal_form(), steps));
  if (count > 0 && !steps.empty()) return Corrupt(where, "a normal form beside normal steps");
  steps.resize(steps.size() + count);
  for (uint32_t i = 0; i < count; ++i)
    HR_RETURN_IF_ERROR(LoadStep(where, i, *from.normal_steps()->Get(i), steps[i]));
  return {};
}

Status LoadSplits(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  std::vector<Split>& splits = context.model.tokenizer.splits;
  const uint32_t patterns = Count(from.patterns()), count = Count(from.splits());
  if (patterns > 0 && count > 0) return Corrupt(where, "split patterns beside splits");
  HR_RETURN_IF_ERROR(CheckCount("split patterns", std::max(patterns, count), kMaxSplits));
  HR_RETURN_IF_ERROR(context.Charge(patterns + count, sizeof(Split), "split patterns"));
  splits.resize(patterns + count);
  for (uint32_t i = 0; i < patterns; ++i) {
    HR_RETURN_IF_ERROR(
        LoadPattern(where, "split pattern", i, from.patterns()->Get(i), &splits[i].pattern));
  }
  for (uint32_t i = 0; i < count; ++i) {
    const fb::Split& split = *from.splits()->Get(i);
    HR_RETURN_IF_ERROR(CheckKnown(where, "split behaviour", split.behaviour()));
    HR_RETURN_IF_ERROR(CheckText(where, "split pattern", split.pattern(), kMaxPatternBytes, true,
                                 &splits[i].pattern));
    splits[i].behaviour = static_cast<SplitBehaviour>(split.behaviour());
    splits[i].invert = split.invert();
  }
  return {};
}

}  // namespace

Status LoadTextSteps(LoadContext& context, const fb::Tokenizer& from) {
  const Where where("tokenizer");
  HR_RETURN_IF_ERROR(LoadNormalSteps(context, where, from));
  return LoadSplits(context, where, from);
}

}  // namespace headroom::model
