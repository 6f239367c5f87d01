// The options that several sub-commands share, spelled the same everywhere.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include <headroom/headroom.h>
#include <CLI/CLI.hpp>

#include "headroom/api.h"

namespace headroom::cli {

// MODEL and where packed weights are kept.
struct ModelArguments {
  std::string path;
  std::string cache_directory;
  bool no_cache = false;
  bool verbose = false;

  // The directory to use: --cache-dir, $HEADROOM_CACHE_DIR, $XDG_CACHE_HOME/headroom/packed or
  // ~/.cache/headroom/packed; empty with --no-cache.
  std::string ResolvedCacheDirectory() const;
  OpenRequest Request() const;
};
void AddModelArguments(CLI::App& command, ModelArguments& arguments);
// All of them but MODEL.
void AddCacheOptions(CLI::App& command, ModelArguments& arguments);

// The members of hr_session_options.
struct SessionArguments {
  hr_session_options options = {};
  std::string kv = "auto";  // what options.profile points to

  SessionArguments() { options.struct_size = sizeof(options); }
};
void AddContextOption(CLI::App& command, SessionArguments& arguments, const char* help);
void AddBudgetOptions(CLI::App& command, SessionArguments& arguments);
void AddKvOption(CLI::App& command, SessionArguments& arguments);
void AddChunkOption(CLI::App& command, SessionArguments& arguments);
void AddBackendOption(CLI::App& command);
// --threads, --chunk, --backend.
void AddThreadOptions(CLI::App& command, SessionArguments& arguments);

// The members of hr_sampler_options.
void AddSamplerOptions(CLI::App& command, hr_sampler_options& sampler);

// Names of all chat formats.
std::string ChatFormatNames();
// What is wrong with the name of a chat format; empty: nothing.
std::string ChatFormatProblem(const std::string& text);
// hr_session_options.profile for the text of --kv, which outlives it: NULL for "auto".
const char* ProfileOf(const std::string& kv);
inline constexpr const char* kKvHelp =
    "how cached rows are kept: f32, f16, int8, int8/32, int4/32, a profile of the model, words of "
    "a "
    "policy (see headroom plan --help), or auto: the best that fits the budget";

// --all-profiles, instead of --kv.
void AddAllProfilesOption(CLI::App& command, bool& all);

// A byte count option.
CLI::Option* AddBytesOption(CLI::App& command, const std::string& name, uint64_t& bytes,
                            const std::string& help);

// A comma-separated list option whose default is the current value.
template <typename T>
CLI::Option* AddListOption(CLI::App& command, const std::string& name, std::vector<T>& values,
                           const std::string& help) {
  std::ostringstream shown;
  for (const T& value : values) shown << (shown.tellp() == 0 ? "" : ",") << value;
  return command.add_option(name, values, help)->delimiter(',')->default_str(shown.str());
}

}  // namespace headroom::cli
