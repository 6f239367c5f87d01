// What a token costs far into a context: decode behind two depths, in turn.
//
// Two sessions of one model read random tokens up to their depth, then write a few tokens each,
// now the one first, now the other. What is timed is one side of a pair, the ratio that of a pair:
// a neighbour who slows the machine down slows both.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "headroom/api.h"
#include "headroom/options.h"
#include "headroom/progress.h"
#include "headroom/samples.h"

namespace headroom::cli {
namespace {

struct Arguments {
  std::string model, kv = "auto";
  std::vector<uint32_t> depths = {100, 100000};
  uint32_t rounds = 75, tokens = 12, threads = 0;
};

class DepthBench {
 public:
  explicit DepthBench(const Arguments& arguments)
      : arguments_(arguments), model_(OpenModel({arguments.model, "", false, false})) {
    const auto vocabulary = static_cast<int32_t>(FactsOf(model_.get()).vocabulary);
    std::uniform_int_distribution<int32_t> any(0, vocabulary - 1);
    std::mt19937 random(1);
    tokens_.resize(std::max(arguments.depths[0], arguments.depths[1]) + arguments.tokens);
    for (int32_t& token : tokens_) token = any(random);
  }

  void Run() {
    const SessionHandle sessions[] = {Fill(0), Fill(1)};
    std::vector<double> seconds[2], ratios;
    for (uint32_t round = 0; round <= arguments_.rounds; ++round) {
      bar_.SetLabel("decoding");
      bar_.Update(static_cast<double>(round) / (arguments_.rounds + 1));
      double pair[2];
      for (const uint32_t turn : {0u, 1u}) {
        const uint32_t side = (round + turn) % 2;
        pair[side] = Decode(sessions[side].get());
      }
      if (round == 0) continue;  // the first is slow
      for (const int side : {0, 1}) seconds[side].push_back(pair[side]);
      ratios.push_back(pair[1] / pair[0]);
    }
    bar_.Finish();
    for (const int side : {0, 1}) {
      std::printf("behind %6u tokens: median %.1f us a token\n", arguments_.depths[side],
                  Median(seconds[side]) * 1e6);
    }
    std::sort(ratios.begin(), ratios.end());
    std::printf("ratio of pairs: median %.3f, quartiles %.3f and %.3f, %zu pairs of %u tokens\n",
                Median(ratios), ratios[ratios.size() / 4], ratios[ratios.size() * 3 / 4],
                ratios.size(), arguments_.tokens);
  }

 private:
  SessionHandle Fill(int side) {
    const uint32_t depth = arguments_.depths[side];
    hr_session_options options = {};
    options.struct_size = sizeof(options);
    options.threads = arguments_.threads;
    options.profile = ProfileOf(arguments_.kv);
    options.context_tokens = depth + (arguments_.rounds + 1) * arguments_.tokens;
    SessionHandle session = CreateSession(model_.get(), options, options.context_tokens);
    bar_.SetLabel("reading " + std::to_string(depth) + " tokens");
    for (uint32_t at = 0; at < depth;) {
      const uint32_t count = std::min(512u, depth - at);
      hr_error error = {};
      Check(hr_session_prefill(session.get(), tokens_.data() + at, count, &error), error,
            "cannot read");
      bar_.Update(static_cast<double>(at += count) / depth);
    }
    return session;
  }

  double Decode(hr_session* session) const {
    const auto begin = std::chrono::steady_clock::now();
    for (uint32_t i = 0; i < arguments_.tokens; ++i) {
      hr_error error = {};
      Check(hr_session_decode(session, tokens_[i], &error), error, "cannot decode");
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return took.count() / arguments_.tokens;
  }

  const Arguments& arguments_;
  ModelHandle model_;
  std::vector<int32_t> tokens_;
  ProgressBar bar_{"reading"};
};

int Main(int argc, char** argv) {
  Arguments a;
  CLI::App app("decode behind two depths of a context, in turn");
  const CLI::Range some(1u, 1u << 20);
  app.add_option("MODEL", a.model)->required();
  app.add_option("--depths", a.depths)->delimiter(',')->expected(2)->check(some);
  app.add_option("--rounds", a.rounds)->check(some)->capture_default_str();
  app.add_option("--tokens", a.tokens, "of a side of a pair")->check(some)->capture_default_str();
  app.add_option("--threads", a.threads, "0: the fast cores")->capture_default_str();
  app.add_option("--kv", a.kv, "as headroom bench")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    DepthBench(a).Run();
  } catch (const Failure& failure) {
    std::fprintf(stderr, "depth_bench: %s\n", failure.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace headroom::cli

int main(int argc, char** argv) { return headroom::cli::Main(argc, argv); }
