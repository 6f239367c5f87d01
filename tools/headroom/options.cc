#include "headroom/options.h"

#include <cstdlib>
#include <stdexcept>

#include "headroom/bytes.h"

namespace headroom::cli {

std::string ModelArguments::ResolvedCacheDirectory() const {
  if (no_cache) return "";
  if (!cache_directory.empty()) return cache_directory;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (std::string own = variable("HEADROOM_CACHE_DIR"); !own.empty()) return own;
  if (std::string xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/headroom/packed";
  if (std::string home = variable("HOME"); !home.empty()) return home + "/.cache/headroom/packed";
  return "";
}

OpenRequest ModelArguments::Request() const {
  OpenRequest request;
  request.path = path;
  request.cache_directory = ResolvedCacheDirectory();
  request.verbose = verbose;
  return request;
}

void AddModelArguments(CLI::App& command, ModelArguments& arguments) {
  command.add_option("MODEL", arguments.path, "the .hrm model file")->required();
  AddCacheOptions(command, arguments);
}

void AddCacheOptions(CLI::App& command, ModelArguments& arguments) {
  command.add_option(
      "--cache-dir", arguments.cache_directory,
      "where packed weights are kept between runs (default: $HEADROOM_CACHE_DIR, else "
      "~/.cache/headroom/packed)");
  command.add_flag("--no-cache", arguments.no_cache,
                   "keep packed weights in private memory instead of a mapped file");
  command.add_flag("--verbose", arguments.verbose, "show the library's messages on stderr");
}

void AddContextOption(CLI::App& command, SessionArguments& arguments, const char* help) {
  command.add_option("--context", arguments.options.context_tokens, help)->type_name("TOKENS");
}

void AddBudgetOptions(CLI::App& command, SessionArguments& arguments) {
  AddBytesOption(command, "--budget", arguments.options.budget_bytes,
                 "all the model may cost: mapped and private bytes together (default: no limit)");
  AddBytesOption(command, "--private-budget", arguments.options.private_budget_bytes,
                 "limit for private bytes alone, the ones phones punish (default: no limit)");
  AddBytesOption(command, "--checkpoints", arguments.options.checkpoint_bytes,
                 "for earlier recurrent states, from which a rewind starts again (default: one)");
  command
      .add_option("--checkpoint-every", arguments.options.checkpoint_tokens,
                  "how far apart decoding makes them (default: 512)")
      ->type_name("TOKENS");
}

void AddKvOption(CLI::App& command, SessionArguments& arguments) {
  command
      .add_option_function<std::string>(
          "--kv",
          [&arguments](const std::string& text) {
            arguments.kv = text;
            arguments.options.profile = ProfileOf(arguments.kv);
          },
          kKvHelp)
      ->type_name("POLICY");
}

void AddChunkOption(CLI::App& command, SessionArguments& arguments) {
  command
      .add_option("--chunk", arguments.options.chunk_tokens,
                  "tokens of a prefill step (default: the largest of 512, 256 ... 8 that fits)")
      ->type_name("TOKENS");
}

void AddBackendOption(CLI::App& command) {
  command
      .add_option_function<std::string>(
          "--backend", [](const std::string&) {}, "where to compute: cpu")
      ->check([](const std::string& text) {
        return text == "cpu" ? std::string() : "'" + text + "': this build has only cpu";
      })
      ->type_name("NAME");
}

void AddThreadOptions(CLI::App& command, SessionArguments& arguments) {
  command.add_option("--threads", arguments.options.threads, "default: the fast cores")
      ->type_name("N");
  AddChunkOption(command, arguments);
  AddBackendOption(command);
}

void AddSamplerOptions(CLI::App& command, hr_sampler_options& sampler) {
  command.add_option("--temp", sampler.temperature, "temperature; 0 takes the likeliest token")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-k", sampler.top_k, "draw among the K likeliest (0: all)");
  command.add_option("--top-p", sampler.top_p, "draw among the likeliest that make up P (0: off)")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--min-p", sampler.min_p, "drop tokens below P of the likeliest (0: off)")
      ->check(CLI::Range(0.0, 1.0));
  command
      .add_option("--repeat-penalty", sampler.repetition_penalty,
                  "above 1 discourages recent tokens (0: off)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--repeat-window", sampler.repetition_window, "how many are recent (0: 64)");
  command.add_option("--seed", sampler.seed, "same seed, same text");
}

std::string ChatFormatNames() {
  std::string names;
  for (size_t i = 0; const char* name = hr_chat_format_name(i); ++i)
    names += (i == 0 ? "" : ", ") + std::string(name);
  return names;
}

std::string ChatFormatProblem(const std::string& text) {
  for (size_t i = 0; const char* name = hr_chat_format_name(i); ++i) {
    if (text == name) return "";
  }
  return "'" + text + "' is none of " + ChatFormatNames();
}

void AddAllProfilesOption(CLI::App& command, bool& all) {
  command
      .add_flag("--all-profiles", all,
                "every profile of the model, best first; f16, int8 and int4/32 when it has none")
      ->excludes("--kv");
}

const char* ProfileOf(const std::string& kv) { return kv == "auto" ? nullptr : kv.c_str(); }

CLI::Option* AddBytesOption(CLI::App& command, const std::string& name, uint64_t& bytes,
                            const std::string& help) {
  return command
      .add_option_function<std::string>(
          name,
          [&bytes, name](const std::string& text) {
            try {
              bytes = ParseBytes(text);
            } catch (const std::invalid_argument& error) {
              throw CLI::ValidationError(name, error.what());
            }
          },
          help)
      ->type_name("BYTES");
}

}  // namespace headroom::cli
