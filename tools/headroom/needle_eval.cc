#include "headroom/needle_eval.h"

#include <algorithm>

#include "headroom/api.h"
#include "headroom/files.h"
#include "headroom/options.h"
#include "headroom/process.h"

namespace headroom::cli {
namespace {

// What is generated after the prompt, up to the end of the line.
std::string Answer(hr_session* session, const TokenizedQuestion& question) {
  hr_error error = {};
  Check(hr_session_prefill(session, question.prompt.data(), question.prompt.size(), &error), error,
        "cannot read a question");
  const char* const newline = "\n";
  std::string answer;
  hr_generate_options options = {};
  options.struct_size = sizeof(options);
  options.sampler.struct_size = sizeof(options.sampler);
  options.max_tokens = kAnswerTokens;
  options.stop_sequences = &newline;
  options.stop_sequence_count = 1;
  options.on_text = [](void* user_data, const char* text, size_t bytes, int32_t) {
    static_cast<std::string*>(user_data)->append(text, bytes);
    return true;
  };
  options.user_data = &answer;
  hr_generate_result result = {};
  result.struct_size = sizeof(result);
  Check(hr_session_generate(session, &options, &result, &error), error, "cannot answer");
  return answer;
}

void Ask(const NeedleTask& task, hr_session* session, const TokenizedContext& context,
         NeedleScore* score) {
  hr_error error = {};
  Check(hr_session_rewind(session, 0, &error), error, "cannot rewind");
  Check(hr_session_prefill(session, context.text.data(), context.text.size(), &error), error,
        "cannot read a context of distance " + std::to_string(score->distance));
  for (const TokenizedQuestion& question : context.questions) {
    const SessionHandle fork = Fork(session);  // a cache that lets rows go cannot rewind
    const std::string answer = Answer(fork.get(), question);
    const bool right = Trim(answer) == Trim(question.question->answer);
    score->right += right ? 1 : 0;
    ++score->questions;
    if (!right && task.on_wrong) task.on_wrong(*score, *question.question, answer);
    if (task.on_question) task.on_question();
  }
}

uint64_t StateBytes(const hr_plan_report& plan) { return plan.state_bytes + plan.recurrent_bytes; }

size_t LongestPrompt(const std::vector<TokenizedContext>& contexts) {
  size_t longest = 0;
  for (const TokenizedContext& context : contexts) {
    for (const TokenizedQuestion& question : context.questions) {
      longest = std::max(longest, context.text.size() + question.prompt.size());
    }
  }
  return longest;
}

}  // namespace

std::vector<NeedleContext> LoadNeedles(const std::string& path) {
  if (!path.empty()) return ParseNeedles(ReadWholeFile(path, "the needle data"), path);
  if (EmbeddedNeedles().empty()) {
    throw Failure(HR_UNSUPPORTED, "this build carries no needle data; give a file with --data");
  }
  return ParseNeedles(EmbeddedNeedles(), "the needle data of this program");
}

NeedlesByDistance GroupNeedles(const std::vector<NeedleContext>& contexts,
                               const std::vector<uint32_t>& distances, const std::string& path) {
  NeedlesByDistance all, wanted;
  std::string there;
  for (const NeedleContext& context : contexts) {
    if (!context.questions.empty()) all[context.distance].push_back(&context);
  }
  if (all.empty()) {
    throw Failure(HR_INVALID_ARGUMENT, "the needle data " + path + " holds no question",
                  "`headroom eval needle --help` shows what a line of it looks like.");
  }
  for (const auto& [distance, members] : all) {
    there += (there.empty() ? "" : ", ") + std::to_string(distance);
    const bool chosen = std::count(distances.begin(), distances.end(), distance) != 0;
    if (chosen || distances.empty()) wanted[distance] = members;
  }
  if (!wanted.empty()) return wanted;
  throw Failure(HR_INVALID_ARGUMENT,
                "no question of the data has such a --distance; there are " + there);
}

std::vector<TokenizedContext> TokenizeNeedles(const hr_model* model,
                                              const std::vector<const NeedleContext*>& contexts,
                                              uint32_t limit) {
  std::vector<TokenizedContext> all;
  uint32_t taken = 0;
  for (const NeedleContext* context : contexts) {
    TokenizedContext tokenized;
    tokenized.text = Tokenize(model, context->text, HR_TOKENIZE_NO_SPECIAL);
    for (const NeedleQuestion& question : context->questions) {
      if (limit != 0 && taken == limit) break;
      ++taken;
      tokenized.questions.push_back(
          {Tokenize(model, question.prompt, HR_TOKENIZE_NO_BEGIN | HR_TOKENIZE_NO_SPECIAL),
           &question});
    }
    if (!tokenized.questions.empty()) all.push_back(std::move(tokenized));
  }
  return all;
}

NeedleScore AskNeedles(const NeedleTask& task, uint32_t distance,
                       const std::vector<const NeedleContext*>& contexts, const std::string& kv) {
  const uint64_t start_ns = NowNs();
  const std::vector<TokenizedContext> all = TokenizeNeedles(task.model, contexts, task.limit);
  const size_t longest = LongestPrompt(all);
  hr_session_options options = task.options;
  options.profile = ProfileOf(kv);
  if (options.context_tokens == 0)
    options.context_tokens = static_cast<uint32_t>(longest) + kAnswerTokens;
  const SessionHandle session = CreateSession(task.model, options, longest);
  hr_plan_report plan = {};
  plan.struct_size = sizeof(plan);
  Check(hr_session_get_plan(session.get(), &plan), hr_error{}, "cannot read the plan");
  NeedleScore score;
  score.distance = distance;
  score.kv = plan.state_bytes == 0 ? "none" : plan.profile;
  score.context_tokens = plan.context_tokens;
  score.state_bytes = StateBytes(plan);
  score.total_bytes = plan.total_bytes;
  options.profile = "f16";
  options.context_tokens = plan.context_tokens;
  options.budget_bytes = options.private_budget_bytes = 0;
  score.f16_bytes = StateBytes(PlanOf(task.model, options));
  for (const TokenizedContext& context : all) Ask(task, session.get(), context, &score);
  score.seconds = static_cast<double>(NowNs() - start_ns) * 1e-9;
  return score;
}

}  // namespace headroom::cli
