// Runs the command line program as a user would and keeps everything it said.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace headroom::cli_test {

struct Outcome {
  int exit_status = -1;  // 128 + signal when it was killed
  std::string out;       // stdout
  std::string err;       // stderr

  // stdout as JSON; fails the test when it is none.
  nlohmann::json Json() const;
};

struct Limits {
  uint64_t data_bytes = 0;  // RLIMIT_DATA; 0: none
};

struct Streams {
  std::string stdout_path;  // stdout goes here, not into Outcome::out
  bool progress = false;    // progress bars, though stderr is a file
  std::string stdin_text;   // what the program reads
  int pending_signal = 0;   // waits, blocked, when the program starts
};

// `arguments` without the program's name. Packed weights are cached in the test models' folder,
// HOME and XDG_CACHE_HOME point into it, so a test run leaves nothing elsewhere.
Outcome Run(const std::vector<std::string>& arguments, const Limits& limits = {},
            const Streams& streams = {});

// A model of tests/models ("example", "mistral", "llama-gqa").
std::string Model(const std::string& name);
// A file of the source tree.
std::string Source(const std::string& path);
// A fresh path in the scratch folder of this test program.
std::string Scratch(const std::string& name);

// A folder with a golden checkpoint of that name and a tokenizer that knows "a", "b" and "ab"; a
// file with 600 such letters.
std::string TwoLetterCheckpoint(const std::string& name, const std::string& golden = "llama-gqa");
std::string TwoLetterText(const std::string& name);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& text);

}  // namespace headroom::cli_test
