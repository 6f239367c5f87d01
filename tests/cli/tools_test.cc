// inspect, verify, convert, logits, bench, eval.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "cli/cli.h"

namespace headroom::cli_test {
namespace {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("inspect lists what the file holds", "[cli][inspect]") {
  const auto json = Run({"inspect", Model("mistral"), "--json"}).Json();
  CHECK(json.at("tokenizer").is_null());
  CHECK(json.at("attention").at(0).at("left") == 7);  // a window of 8 counts the token itself
  CHECK(json.at("metadata").at("vocabulary") == 64);
  CHECK(json.at("tensors").size() > 4);
  CHECK(json.at("ops").size() > 4);
  const Outcome text = Run({"inspect", Model("mistral"), "--tensors", "--ops"});
  CHECK(text.exit_status == 0);
  CHECK_THAT(text.out, ContainsSubstring("window 8"));
  CHECK_THAT(text.out, ContainsSubstring("projection"));
  for (const auto& tensor : json.at("tensors")) {
    CHECK_THAT(text.out, ContainsSubstring(tensor.at("name").get<std::string>()));
  }
  CHECK(Run({"inspect", Model("example"), "--json"}).Json().at("tokenizer").is_object());
}

TEST_CASE("verify accepts a sound file and finds one flipped bit of a weight", "[cli][verify]") {
  const Outcome sound = Run({"verify", Model("llama-gqa")});
  CHECK(sound.exit_status == 0);
  CHECK_THAT(sound.out, ContainsSubstring("sound"));
  CHECK(Run({"verify", Model("llama-gqa"), "--json"}).Json().at("sound") == true);

  std::string bytes = ReadFile(Model("llama-gqa"));
  REQUIRE(bytes.size() > 8192);
  const std::string path = Scratch("flipped.hrm");
  bytes[bytes.size() - 4096] = static_cast<char>(bytes[bytes.size() - 4096] ^ 1);
  WriteFile(path, bytes);
  const Outcome flipped = Run({"verify", path});
  CHECK(flipped.exit_status == 1);
  CHECK_THAT(flipped.err, ContainsSubstring("checksum"));
}

TEST_CASE("convert refuses by name and leaves no half file", "[cli][convert]") {
  const std::string out = Scratch("refused.hrm");
  const Outcome preset = Run({"convert", "--random", "gpt-17", "--out", out});
  CHECK(preset.exit_status == 1);
  CHECK_THAT(preset.err, ContainsSubstring("gpt-17"));
  CHECK_THAT(preset.err, ContainsSubstring("llama-3.2-1b"));
  const Outcome folder = Run({"convert", "/no/such/folder", "--out", out});
  CHECK(folder.exit_status == 1);
  CHECK_THAT(folder.err, ContainsSubstring("/no/such/folder"));
  const Outcome format =
      Run({"convert", Source("tests/golden/llama-gqa"), "--out", out, "--weights", "int3"});
  CHECK(format.exit_status != 0);
  CHECK_THAT(format.err, ContainsSubstring("int3"));
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("convert replaces files, and nothing that is none", "[cli][convert]") {
  const std::string source = Source("tests/golden/llama-gqa"), target = Scratch("target.hrm");
  std::filesystem::create_symlink("/dev/null", Scratch("device"));
  std::filesystem::create_symlink(target, Scratch("link.hrm"));
  WriteFile(target, "HEADROOM, an old one");
  for (const std::string& place : {Scratch("device"), Scratch("")}) {
    const Outcome outcome = Run({"convert", source, "--out", place});
    INFO(outcome.err);
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("not a regular file"));
  }
  CHECK(std::filesystem::is_symlink(Scratch("device")));
  CHECK(Run({"convert", "/no/such/folder", "--out", target}).exit_status == 1);
  CHECK(ReadFile(target) == "HEADROOM, an old one");
  CHECK(Run({"convert", source, "--out", Scratch("link.hrm")}).exit_status == 0);
  CHECK(std::filesystem::is_symlink(Scratch("link.hrm")));
  CHECK(Run({"verify", target}).exit_status == 0);
}

TEST_CASE("convert makes every weight format from one source", "[cli][convert]") {
  for (const char* weights : {"f32", "f16", "int8", "int4"}) {
    INFO(weights);
    const std::string out = Scratch(std::string(weights) + ".hrm");
    const Outcome outcome = Run({"convert", Source("tests/golden/llama-gqa"), "--out", out,
                                 "--weights", weights, "--json"});
    INFO(outcome.err);
    REQUIRE(outcome.exit_status == 0);
    CHECK(outcome.Json().at("file_bytes") == std::filesystem::file_size(out));
    CHECK(outcome.Json().at("vocabulary") == 64);
    CHECK(Run({"verify", out}).exit_status == 0);
  }
}

// The values of a .npy file of float32, format 1.0.
std::vector<float> NpyValues(const std::string& bytes) {
  REQUIRE(bytes.size() > 10);
  REQUIRE(bytes.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  const size_t header = 10 + static_cast<uint8_t>(bytes[8]) + 256u * static_cast<uint8_t>(bytes[9]);
  REQUIRE(header % 64 == 0);
  REQUIRE_THAT(bytes.substr(10, header - 10), ContainsSubstring("'<f4'"));
  std::vector<float> values((bytes.size() - header) / 4);
  std::memcpy(values.data(), bytes.data() + header, values.size() * 4);
  return values;
}

TEST_CASE("logits agree with those of another implementation", "[cli][logits][golden]") {
  for (const char* name : {"llama-gqa", "mistral"}) {
    INFO(name);
    const std::string folder = Source(std::string("tests/golden/") + name);
    const auto ids = nlohmann::json::parse(ReadFile(folder + "/tokens.json"));
    std::string tokens;
    for (const auto& id : ids)
      tokens += (tokens.empty() ? "" : ",") + std::to_string(id.get<int>());
    const std::string out = Scratch("logits.npy");
    const Outcome outcome =
        Run({"logits", Model(name), "--tokens", tokens, "--kv", "f32", "--out", out, "--json"});
    INFO(outcome.err);
    REQUIRE(outcome.exit_status == 0);
    CHECK(outcome.Json().at("shape") == nlohmann::json({ids.size(), 64}));
    const std::vector<float> ours = NpyValues(ReadFile(out));
    const std::vector<float> theirs = NpyValues(ReadFile(folder + "/logits.npy"));
    REQUIRE(ours.size() == ids.size() * 64);
    REQUIRE(theirs.size() == ours.size());
    double largest = 0, difference = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      REQUIRE(std::isfinite(ours[i]));  // a NaN would pass as no difference
      largest = std::max<double>(largest, std::abs(theirs[i]));
      difference = std::max<double>(difference, std::abs(ours[i] - theirs[i]));
    }
    CHECK(difference < 1e-4 * largest);
  }
}

TEST_CASE("logits refuses tokens outside the vocabulary and leaves no file", "[cli][logits]") {
  const std::string out = Scratch("never.npy");
  const Outcome outcome = Run({"logits", Model("mistral"), "--tokens", "1,64", "--out", out});
  CHECK(outcome.exit_status == 1);
  CHECK_THAT(outcome.err, ContainsSubstring("64"));
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("logits that fail leave what was there", "[cli][logits]") {
  const std::string out = Scratch("kept.npy");
  WriteFile(out, "precious");
  CHECK(Run({"logits", Model("mistral"), "--tokens", "1,64", "--out", out}).exit_status == 1);
  CHECK(Run({"logits", Model("mistral"), "--tokens", "1", "--budget", "1K", "--out", out})
            .exit_status == 3);
  CHECK(ReadFile(out) == "precious");
  std::filesystem::create_symlink(out, Scratch("link.npy"));
  CHECK(Run({"logits", Model("mistral"), "--tokens", "1", "--out", Scratch("link.npy")})
            .exit_status == 0);
  CHECK(std::filesystem::is_symlink(Scratch("link.npy")));
  CHECK(NpyValues(ReadFile(out)).size() == 64);
  for (const auto& entry : std::filesystem::directory_iterator(Scratch(""))) {
    CHECK_THAT(entry.path().filename().string(), !ContainsSubstring("npy."));  // a temporary file
  }
  // A link to the device, so that a program that removes what it wrote to removes only the link.
  std::filesystem::create_symlink("/dev/full", Scratch("full"));
  const Outcome full = Run({"logits", Model("mistral"), "--tokens", "1", "--out", Scratch("full")});
  CHECK(full.exit_status == 1);
  CHECK_THAT(full.err, ContainsSubstring("No space left"));
  CHECK(std::filesystem::is_symlink(Scratch("full")));
  CHECK(Run({"logits", Model("mistral"), "--tokens", "1", "--out", Scratch("no/such/folder")})
            .exit_status == 1);
}

TEST_CASE("logits without tokens are refused", "[cli][logits]") {
  const std::string out = Scratch("never.npy");
  for (const char* tokens : {"", "1,,2", "1,x", "-1", ","}) {
    INFO(tokens);
    const Outcome outcome =
        Run({"logits", Model("example"), std::string("--tokens=") + tokens, "--out", out});
    CHECK(outcome.exit_status == 2);
    CHECK_THAT(outcome.err, ContainsSubstring("--tokens"));
  }
  CHECK(Run({"logits", Model("example"), "--tokens", "", "--out", out}).exit_status == 2);
  const Outcome text = Run({"logits", Model("example"), "--text", "", "--out", out});
  CHECK(text.exit_status == 1);
  CHECK_THAT(text.err, ContainsSubstring("no token"));
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("bench reports each test with samples, bytes and the limit", "[cli][bench]") {
  const Outcome outcome =
      Run({"bench", Model("llama-gqa"), "--prefill", "16", "--decode", "4", "--depth", "0,24",
           "--threads", "1", "--kv", "f16,int8", "-r", "3", "--json"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_status == 0);
  const auto json = outcome.Json();
  REQUIRE(json.at("results").size() == 8);
  REQUIRE(json.at("sessions").size() == 2);
  CHECK_FALSE(json.at("device").get<std::string>().empty());
  uint64_t shallow = 0, deep = 0;
  for (const auto& row : json.at("results")) {
    CHECK(row.at("samples_ts").size() == 3);
    CHECK(row.at("median_ts").get<double>() > 0);
    if (row.at("n_gen") == 0) continue;
    CHECK(row.at("limit_ts").get<double>() > 0);
    (row.at("n_depth") == 0 ? shallow : deep) = row.at("step_read_bytes").get<uint64_t>();
  }
  CHECK(deep > shallow);
  CHECK(json.at("results").at(3).at("test") == "tg4 @ d24");
  const Outcome table = Run({"bench", Model("mistral"), "--prefill", "16", "--decode", "4",
                             "--depth", "20", "--threads", "1", "-r", "1"});
  CHECK(table.exit_status == 0);
  CHECK_THAT(table.out, ContainsSubstring("pp16 @ d20"));
}

TEST_CASE("eval needle counts exact answers by distance", "[cli][eval]") {
  const std::string context = "The old lighthouse keeper went home.";
  const std::string prompt = " And then";
  const auto run = Run({"run", Model("example"), "--prompt", context + prompt, "--max-tokens", "16",
                        "--stop", "\\n", "--kv", "f32", "--json"});
  const std::string answer = run.Json().at("text");
  const auto question = [&](const std::string& expected) {
    return nlohmann::json({{"prompt", prompt}, {"answer", expected}});
  };
  const std::string data = Scratch("needles.jsonl");
  WriteFile(data,
            nlohmann::json(
                {{"distance", 10},
                 {"context", context},
                 {"questions",
                  {question(" " + answer + " "), question("something else"), question(answer)}}})
                    .dump() +
                "\n" +
                nlohmann::json(
                    {{"distance", 20}, {"context", context}, {"questions", {question(answer)}}})
                    .dump() +
                "\n");
  const Outcome outcome =
      Run({"eval", "needle", Model("example"), "--data", data, "--kv", "f32", "--json"});
  INFO(outcome.err);
  REQUIRE(outcome.exit_status == 0);
  const auto results = outcome.Json().at("results");
  REQUIRE(results.size() == 2);
  CHECK(results[0].at("distance") == 10);
  CHECK(results[0].at("questions") == 3);
  CHECK(std::fabs(results[0].at("accuracy").get<double>() - 2.0 / 3.0) < 1e-9);
  CHECK(results[0].at("kv") == "f32");
  CHECK(results[0].at("bytes").get<uint64_t>() > 0);
  CHECK(results[1].at("accuracy") == 1.0);
  const auto one =
      Run({"eval", "needle", Model("example"), "--data", data, "--distance", "20", "--json"});
  CHECK(one.Json().at("results").size() == 1);
  CHECK(Run({"eval", "needle", Model("example"), "--data", data, "--distance", "7"}).exit_status ==
        1);
  const std::string picture = Scratch("needles.svg");
  const Outcome both = Run({"eval", "needle", Model("example"), Model("example"), "--data", data,
                            "--kv", "f32", "--svg", picture, "--json"});
  REQUIRE(both.exit_status == 0);
  CHECK(both.Json().at("results").size() == 4);
  CHECK(both.Json().at("models").size() == 2);
  CHECK_THAT(ReadFile(picture), ContainsSubstring("needles found, 20 tokens back"));
}

// How many files of a folder have names that begin so.
int Names(const std::string& folder, const std::string& begin) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    count += entry.path().filename().string().starts_with(begin);
  return count;
}

TEST_CASE("convert --calibrate reads a text and changes the codes of int4 weights",
          "[cli][convert]") {
  const std::string text = TwoLetterText("calibration.txt");
  const std::string folder = TwoLetterCheckpoint("tokenized");
  const std::string plain = Scratch("plain.hrm"), calibrated = Scratch("calibrated.hrm");
  const auto convert = [&](const std::string& out, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"convert", folder, "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  };
  REQUIRE(convert(plain, {}).exit_status == 0);
  REQUIRE(convert(calibrated, {"--calibrate", text}).exit_status == 0);
  CHECK(ReadFile(plain).size() == ReadFile(calibrated).size());
  CHECK(ReadFile(plain) != ReadFile(calibrated));
  CHECK(Names(Scratch(""), "calibrated.hrm.") == 0);  // of the model that read the text
  WriteFile(text, "");
  const Outcome empty = convert(calibrated, {"--calibrate", text});
  CHECK(empty.exit_status == 1);
  CHECK_THAT(empty.err, ContainsSubstring("no token"));
  CHECK(Names(Scratch(""), "calibrated.hrm.") == 0);
  const Outcome eight = convert(calibrated, {"--calibrate", text, "--weights", "int8"});
  CHECK(eight.exit_status == 2);
  CHECK_THAT(eight.err, ContainsSubstring("int4"));
  const Outcome mute = Run({"convert", Source("tests/golden/llama-gqa"), "--out", calibrated,
                            "--calibrate", Source("README.md")});
  CHECK_THAT(mute.err, ContainsSubstring("no tokenizer"));
}

TEST_CASE("convert --kv-basis reads a text, and a cache may then keep part of a row",
          "[cli][convert]") {
  const std::string text = TwoLetterText("basis.txt");
  const std::string folder = TwoLetterCheckpoint("tokenized-basis"), out = Scratch("basis.hrm");
  const Outcome made =
      Run({"convert", folder, "--out", out, "--weights", "f16", "--kv-basis", text});
  REQUIRE(made.exit_status == 0);
  CHECK_THAT(made.err, ContainsSubstring("half of a key's numbers keep "));
  CHECK(Names(Scratch(""), "basis.hrm.") == 0);  // of the model that read the text
  const auto bytes = [&](const std::string& policy) {
    const auto json = Run({"plan", out, "--kv", policy, "--context", "64", "--json"}).Json();
    return json.at("plan").at("state_bytes").get<uint64_t>();
  };
  CHECK(2 * bytes("f16 keyrank=8 valuerank=8") == bytes("f16"));
  const Outcome random =
      Run({"convert", "--random", "mla-1b", "--out", Scratch("r.hrm"), "--kv-basis", text});
  CHECK(random.exit_status == 2);
  const Outcome latent =
      Run({"convert", Source("tests/golden/deepseek-v2"), "--out", out, "--kv-basis", text});
  CHECK(latent.exit_status == 1);
}

TEST_CASE("convert --dry-run says what would be made and what would fit", "[cli][convert]") {
  const auto json = Run({"convert", Source("tests/golden/llama-gqa"), "--dry-run", "--budget",
                         "1K,64M", "--json"})
                        .Json();
  const std::string made = Scratch("made.hrm");
  REQUIRE(Run({"convert", Source("tests/golden/llama-gqa"), "--out", made}).exit_status == 0);
  CHECK(json.at("file_bytes") == std::filesystem::file_size(made));
  auto expected = Run({"inspect", made, "--json"}).Json(), found = json.at("model");
  expected.at("metadata").erase("digest");  // that of the weights
  found.at("metadata").erase("digest");
  for (auto& tensor : expected.at("tensors")) tensor.erase("source_error");  // measured in writing
  CHECK(found == expected);
  const auto& contexts = json.at("contexts");
  REQUIRE(contexts.size() == 6);
  CHECK(contexts.at(0).at("fits") == false);
  CHECK(contexts.at(0).at("missing_bytes") > 0);
  const auto plan = Run({"plan", made, "--budget", "64M", "--kv", "f16", "--json"}).Json();
  CHECK(contexts.at(3).at("max_context_tokens") == plan.at("plan").at("max_context_tokens"));
  const Outcome preset = Run({"convert", "--random", "llama-3.2-1b", "--dry-run"});
  CHECK(preset.exit_status == 0);
  CHECK_THAT(preset.out, ContainsSubstring("largest context"));
  CHECK_THAT(preset.out, ContainsSubstring("131072 tokens"));
  CHECK(Run({"convert", "--random", "llama-3.2-1b"}).exit_status == 2);
  CHECK(Run({"convert", "/no/such", "--dry-run"}).exit_status == 1);
}

TEST_CASE("convert makes a vision model and says so", "[cli][convert]") {
  const std::string folder = Source("tests/golden/vision/shvit"), out = Scratch("shvit.hrm");
  const auto json = Run({"convert", folder, out, "--json"}).Json();
  CHECK(json["vision"] == true);
  CHECK(json["vocabulary"] == 12);
  CHECK_THAT(Run({"convert", folder, out, "--weights", "f16"}).out,
             ContainsSubstring("shvit, SHViT, 4 blocks") && ContainsSubstring("12 classes"));
  const auto dry = Run({"convert", folder, "--dry-run", "--json"}).Json();
  CHECK(dry["parameters"] == json["parameters"]);
  CHECK(dry["file_bytes"] == json["file_bytes"]);
  const Outcome contexts = Run({"convert", folder, "--dry-run", "--budget", "1G"});
  CHECK(contexts.exit_status == 1);
  CHECK_THAT(contexts.err, ContainsSubstring("--budget fits contexts"));
}

TEST_CASE("convert --dry-run names the features a file will require", "[cli][convert]") {
  const std::string folder = Scratch("normal-form");
  std::filesystem::copy(Source("tests/golden/llama-gqa"), folder);
  WriteFile(folder + "/tokenizer.json",
            R"({"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"ByteLevel"},)"
            R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})");
  const auto features = [](const std::vector<std::string>& arguments) {
    return Run(arguments).Json().at("required_features");
  };
  const nlohmann::json one = {"normal form of text"};
  CHECK(features({"convert", folder, "--dry-run", "--json"}) == one);
  CHECK_THAT(Run({"convert", folder, "--dry-run"}).out,
             ContainsSubstring("requires       normal form of text"));
  const std::string made = Scratch("normal-form.hrm");
  REQUIRE(Run({"convert", folder, "--out", made}).exit_status == 0);
  CHECK(features({"inspect", made, "--json"}) == one);
  const std::string without = "--without-tokenizer";
  CHECK(features({"convert", folder, "--dry-run", "--json", without}).empty());
  CHECK_THAT(Run({"convert", folder, "--dry-run", without}).out,
             ContainsSubstring("requires       no feature"));
}

TEST_CASE("eval kl measures what smaller weights and caches change", "[cli][eval]") {
  const std::string text = Scratch("kl.txt");
  WriteFile(text, ReadFile(Source("tools/example/demo.txt")).substr(0, 2000));
  const auto run = [&](std::vector<std::string> models) {
    std::vector<std::string> arguments = {"eval", "kl"};
    arguments.insert(arguments.end(), models.begin(), models.end());
    for (const char* word : {"--reference", "", "--text", "", "--window", "128", "--json"}) {
      arguments.push_back(word);
    }
    arguments[arguments.size() - 6] = Model("example");
    arguments[arguments.size() - 4] = text;
    return Run(arguments);
  };
  const auto same = run({Model("example"), "--kv", "f32,f16,int8"}).Json();
  const auto& results = same.at("results");
  REQUIRE(results.size() == 3);
  CHECK(results.at(0).at("mean_kl") == 0.0);
  CHECK(results.at(0).at("top1_agreement") == 1.0);
  CHECK(results.at(0).at("perplexity") == results.at(0).at("reference_perplexity"));
  CHECK(results.at(0).at("perplexity") > 1.0);
  CHECK(results.at(0).at("tokens").get<int>() > 300);
  CHECK(results.at(1).at("mean_kl") > 0.0);
  CHECK(results.at(1).at("mean_kl") < results.at(2).at("mean_kl"));
  CHECK(results.at(2).at("mean_kl") < 0.05);
  const Outcome table = Run({"eval", "kl", Model("example"), "--reference", Model("example"),
                             "--text", text, "--limit", "40"});
  CHECK_THAT(table.out, ContainsSubstring("40 tokens in windows of 512"));
  const Outcome other = run({Model("llama-gqa")});
  CHECK(other.exit_status == 1);
  CHECK_THAT(other.err + other.out, ContainsSubstring("vocabulary of"));
  WriteFile(text, "");
  CHECK_THAT(run({Model("example")}).out, ContainsSubstring("no token"));
}

TEST_CASE("eval needle says what is wrong with its data", "[cli][eval]") {
  const std::string data = Scratch("wrong.jsonl");
  const auto said = [&](const std::string& path) {
    const Outcome outcome = Run({"eval", "needle", Model("example"), "--data", path});
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, !ContainsSubstring(".hrm") && !ContainsSubstring("defect") &&
                                !ContainsSubstring("exception"));
    return outcome.err;
  };
  WriteFile(data, "{\"distance\": 1}\n");
  CHECK_THAT(said(data), ContainsSubstring(data + ", line 1: \"context\""));
  for (const char* text : {"", "\n", R"({"distance": 1, "context": "c", "questions": []})"}) {
    WriteFile(data, text);
    CHECK_THAT(said(data), ContainsSubstring("holds no question"));
  }
  CHECK_THAT(said("/tmp"), ContainsSubstring("Is a directory"));
  CHECK_THAT(said("/no/such/data"), ContainsSubstring("Check the path"));
  const Outcome distance = Run({"eval", "needle", Model("example"), "--distance", "7"});
  CHECK_THAT(distance.err, ContainsSubstring("there are 500, 1000"));
}

TEST_CASE("convert says what is wrong with its source", "[cli][convert]") {
  const std::string folder = Scratch("source");
  std::filesystem::create_directory(folder);
  const auto said = [&] {
    const Outcome outcome = Run({"convert", folder, "--out", Scratch("never.hrm")});
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, !ContainsSubstring(".hrm model"));
    return outcome.err;
  };
  CHECK_THAT(said(), ContainsSubstring("holds config.json"));
  WriteFile(folder + "/config.json", "{");
  CHECK_THAT(said(), ContainsSubstring("config.json: is not JSON") && ContainsSubstring("source"));
}

// The signal is there when the program begins to listen, so that it always comes before the first
// slice and after the temporary file.
TEST_CASE("an interrupted convert leaves nothing behind", "[cli][convert]") {
  for (const int signal : {SIGINT, SIGTERM}) {
    for (const bool calibrated : {false, true}) {
      const std::string folder =
          Scratch("interrupted-" + std::to_string(signal) + "-" + std::to_string(calibrated));
      std::filesystem::create_directory(folder);
      WriteFile(folder + "/model.hrm", "HEADROOM: what was there");
      std::vector<std::string> arguments = {"convert", Source("tests/golden/llama-gqa"), "--out",
                                            folder + "/model.hrm"};
      if (calibrated) arguments.insert(arguments.end(), {"--calibrate", Source("README.md")});
      Streams streams;
      streams.pending_signal = signal;
      const Outcome outcome = Run(arguments, {}, streams);
      CHECK(outcome.exit_status == 130);
      CHECK_THAT(outcome.err, ContainsSubstring("conversion was cancelled at"));
      CHECK(ReadFile(folder + "/model.hrm") == "HEADROOM: what was there");
      const std::filesystem::directory_iterator left(folder);
      CHECK(std::distance(begin(left), end(left)) == 1);
    }
  }
}

TEST_CASE("convert replaces no file that is no model, its source least of all", "[cli][convert]") {
  const std::string source = Scratch("own-source");
  std::filesystem::copy(Source("tests/golden/llama-gqa"), source);
  const std::string gguf = Scratch("own.gguf");
  std::filesystem::copy_file(Source("tests/golden/gguf/llama/model.gguf"), gguf);
  WriteFile(Scratch("short.txt"), "HEAD");
  const std::pair<std::string, std::string> pairs[] = {{source, source + "/model.safetensors"},
                                                       {source, source + "/config.json"},
                                                       {gguf, gguf},
                                                       {gguf, Scratch("short.txt")}};
  for (const auto& [from, to] : pairs) {
    const std::string before = ReadFile(to);
    const Outcome outcome = Run({"convert", from, to});
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("a file that is no .hrm model is there"));
    CHECK((ReadFile(to) == before));
  }
  WriteFile(Scratch("empty.hrm"), "");
  CHECK(Run({"convert", gguf, Scratch("empty.hrm")}).exit_status == 0);
  CHECK(Run({"convert", gguf, Scratch("empty.hrm")}).exit_status == 0);  // a model is replaced
}

TEST_CASE("convert --calibrate weighs a tied head, and is refused where nothing becomes int4",
          "[cli][convert]") {
  const std::string gguf = Source("tests/golden/gguf/llama-q8_0/model.gguf");
  const Outcome kept = Run({"convert", gguf, Scratch("q.hrm"), "--calibrate", Source("README.md")});
  CHECK(kept.exit_status == 2);
  CHECK_THAT(kept.err, ContainsSubstring("--weights int4"));
  const std::string tied = TwoLetterCheckpoint("tied", "llama-mqa"), text = Scratch("tied.txt");
  WriteFile(text, std::string(200, 'a') + std::string(100, 'b'));
  std::string files[2];
  for (size_t i = 0; i < 2; ++i) {
    std::vector<std::string> arguments = {
        "convert", tied, Scratch("tied.hrm"), "--weights", "int8", "--head", "int4"};
    if (i == 1) arguments.insert(arguments.end(), {"--calibrate", text});
    REQUIRE(Run(arguments).exit_status == 0);
    files[i] = ReadFile(Scratch("tied.hrm"));
  }
  CHECK((files[0] != files[1]));
}

TEST_CASE("convert refuses what the file could not be used with", "[cli][convert]") {
  const std::string gguf = Source("tests/golden/gguf/llama/model.gguf"),
                    out = Scratch("unused.hrm");
  for (const std::string& source : {Source("tests/golden/llama-gqa"), gguf, std::string()}) {
    std::vector<std::string> arguments = {"convert", "--out", out, "--chat-format", "chatml"};
    if (source.empty()) {
      arguments.insert(arguments.end(), {"--random", "llama-3.2-1b"});
    } else {
      arguments.insert(arguments.end(), {source, "--without-tokenizer"});
    }
    const Outcome outcome = Run(arguments);
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, ContainsSubstring("chat format chatml needs a tokenizer"));
  }
  const std::string folder = Scratch("spelled");
  std::filesystem::copy(Source("tests/golden/llama-gqa"), folder);
  WriteFile(folder + "/tokenizer.json",
            R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
                "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0},
                "merges": []}})");
  const Outcome lacks = Run({"convert", folder, "--out", out, "--chat-format", "chatml"});
  CHECK(lacks.exit_status == 1);
  CHECK_THAT(lacks.err,
             ContainsSubstring("chat format chatml needs the special token <|im_start|>"));
  const Outcome context = Run({"convert", gguf, "--out", out, "--context", "4294967296"});
  CHECK(context.exit_status == 2);
  CHECK_THAT(context.err, ContainsSubstring("no number of tokens up to 1073741824"));
  const Outcome place = Run({"convert", gguf, "--out", Scratch("no/such/folder.hrm")});
  CHECK(place.exit_status == 1);
  CHECK_THAT(place.err, ContainsSubstring("cannot write " + Scratch("no/such/folder.hrm") + ": ") &&
                            !ContainsSubstring(gguf));
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("convert knows a file by its first bytes and says when there is none", "[cli][convert]") {
  const auto said = [](const std::string& source) {
    const Outcome outcome = Run({"convert", source, "--out", Scratch("none.hrm")});
    CHECK(outcome.exit_status == 1);
    CHECK_THAT(outcome.err, !ContainsSubstring("/config.json"));
    return outcome.err;
  };
  for (const char* name : {"none.gguf", "none", "none/"}) {
    const std::string path = Scratch(name);
    CHECK_THAT(said(path), ContainsSubstring("there is no " + path));
  }
  CHECK_THAT(said(Source("tests/golden/llama-gqa/model.safetensors")),
             ContainsSubstring("is a safetensors file; SOURCE is the folder"));
  CHECK_THAT(said(Model("example")), ContainsSubstring("is a .hrm model already"));
  CHECK_THAT(said(Source("README.md")), ContainsSubstring("does not begin with GGUF") &&
                                            ContainsSubstring("SOURCE is a Hugging Face folder"));
  const std::string file = Scratch("llama.bin");
  std::filesystem::copy(Source("tests/golden/gguf/llama/model.gguf"), file);
  CHECK(Run({"convert", file, "--out", Scratch("llama.hrm")}).exit_status == 0);
}

}  // namespace
}  // namespace headroom::cli_test
