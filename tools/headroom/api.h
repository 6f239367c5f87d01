// The C API with owners and exceptions, for the sub-commands.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <headroom/headroom.h>

namespace headroom::cli {

// A failed call. what() says what was tried and why it failed; advice() what the user can do: what
// was given, else what fits the status.
class Failure : public std::runtime_error {
 public:
  Failure(hr_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  Failure(hr_status status, const std::string& text, std::string advice)
      : std::runtime_error(text), status_(status), advice_(std::move(advice)) {}
  hr_status status() const { return status_; }
  std::string advice() const;

 private:
  hr_status status_;
  std::string advice_;
};

// Throws Failure("<doing>: <text of the error>") unless `status` is HR_OK.
void Check(hr_status status, const hr_error& error, const std::string& doing);

struct ReleaseModel {
  void operator()(hr_model* model) const { hr_model_release(model); }
};
struct ReleaseSession {
  void operator()(hr_session* session) const { hr_session_release(session); }
};
using ModelHandle = std::unique_ptr<hr_model, ReleaseModel>;
using SessionHandle = std::unique_ptr<hr_session, ReleaseSession>;

struct OpenRequest {
  std::string path;
  std::string cache_directory;  // empty: none
  bool verify_checksums = false;
  bool verbose = false;  // show the library's informative messages, not only warnings
};
// Shows a progress bar on a terminal while checksums are verified or weights are packed.
ModelHandle OpenModel(const OpenRequest& request);

hr_model_facts FactsOf(const hr_model* model);
hr_plan_report PlanOf(const hr_model* model, const hr_session_options& options);
// `needed_tokens`: what the work takes; no smaller context is advised when it does not fit.
SessionHandle CreateSession(hr_model* model, const hr_session_options& options,
                            size_t needed_tokens);
// A second session with the same state.
SessionHandle Fork(const hr_session* session);
hr_session_stats StatsOf(const hr_session* session);
// Of the model file, best first.
std::vector<std::string> StoredProfileNames(const hr_model* model);
// The same; f16, int8 and int4/32 when it has none.
std::vector<std::string> ProfileNames(const hr_model* model);

// `flags` are HR_TOKENIZE_*.
std::vector<int32_t> Tokenize(const hr_model* model, std::string_view text, uint32_t flags);

const char* StopReasonName(int32_t reason);

}  // namespace headroom::cli
