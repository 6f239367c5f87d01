// headroom convert: a checkpoint folder, a GGUF file, or a public shape with random weights, to a
// .hrm file.
#include "convert/convert.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "convert/gguf_model.h"
#include "convert/shape.h"
#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/calibrate.h"
#include "headroom/command.h"
#include "headroom/convert_codes.h"
#include "headroom/dry_run.h"
#include "headroom/files.h"
#include "headroom/options.h"
#include "headroom/progress.h"
#include "headroom/report.h"
#include "headroom/signals.h"
#include "model/container.h"

namespace headroom::cli {
namespace {

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string Footer() {
  return "SOURCE is a Hugging Face folder: config.json, *.safetensors and, for text, "
         "tokenizer.json or tokenizer.model; or a GGUF file, the first one of a split model.\n"
         "Architectures: " +
         Joined(convert::ArchitectureNames()) +
         ".\n"
         "Vision models: SHViT as timm publishes it or with its authors' tensor names, "
         "ViTForImageClassification, DeiTForImageClassification(WithTeacher); weights f32 "
         "(default), f16, or int8 with --calibrate FOLDER; values f32 (default), f16 with "
         "--activations f16, or int8 with their weights. The latter two also out of a .hrm file.\n"
         "Architectures of GGUF files: " +
         Joined(convert::GgufArchitectureNames()) +
         ".\n"
         "Random presets (public shapes, for speed work): " +
         Joined(convert::PresetNames()) +
         ".\n"
         "\n"
         "Examples:\n"
         "  headroom convert ~/models/Llama-3.2-1B --out llama.hrm --weights int4\n"
         "  headroom convert ~/models/Llama-3.2-1B --out llama.hrm --weights int4 --block 0\n"
         "  headroom convert ~/models/Llama-3.2-1B --dry-run --budget 1G,2G\n"
         "  headroom convert ~/models/Llama-3.2-1B-Q4_0.gguf llama.hrm\n"
         "  headroom convert ~/models/shvit_s1.in1k --out shvit.hrm --weights int8 --calibrate "
         "photos/\n"
         "  headroom convert --random llama-3.2-1b --out shape.hrm";
}

struct ConvertArguments {
  convert::Options options;
  std::string weights;  // empty: the library's default
  std::string head;
  std::string activations;
  std::string calibrate;  // path of a text
  std::string kv_basis;   // likewise
  bool dry_run = false;
  std::vector<std::string> budgets;
  bool verbose = false;
};

Json SummaryJson(const std::string& out, const convert::Summary& summary) {
  return {{"out", out},
          {"name", summary.name},
          {"architecture", summary.architecture},
          {"tokenizer", summary.tokenizer},
          {"chat_format", summary.chat_format},
          {"file_bytes", summary.file_bytes},
          {"weight_bytes", summary.weight_bytes},
          {"parameters", summary.parameters},
          {"tensors", summary.tensors},
          {"layers", summary.layers},
          {"channels", summary.channels},
          {"vocabulary", summary.vocabulary},
          {"vision", summary.vision},
          {"context_tokens", summary.context_tokens},
          {"largest_error", summary.largest_error},
          {"largest_error_tensor", summary.largest_error_tensor},
          {"seconds", summary.seconds}};
}

void PrintHeadline(const std::string& out, const convert::Summary& summary) {
  if (summary.vision) {
    std::printf("%s: %s, %s, %" PRIu32 " blocks, %s parameters, %" PRIu32 " classes\n", out.c_str(),
                EscapeControls(summary.name).c_str(), EscapeControls(summary.architecture).c_str(),
                summary.layers, FormatCount(summary.parameters).c_str(), summary.vocabulary);
    return;
  }
  std::printf("%s: %s, %s, %" PRIu32 " layers, %s parameters, vocabulary %" PRIu32
              ", context %" PRIu32 ", tokenizer %s%s\n",
              out.c_str(), EscapeControls(summary.name).c_str(),
              EscapeControls(summary.architecture).c_str(), summary.layers,
              FormatCount(summary.parameters).c_str(), summary.vocabulary, summary.context_tokens,
              EscapeControls(summary.tokenizer).c_str(),
              summary.chat_format.empty() ? "" : (", chat format " + summary.chat_format).c_str());
}

void PrintSummary(const std::string& out, const convert::Summary& summary) {
  PrintHeadline(out, summary);
  std::printf("%s in %" PRIu32 " tensors (%.2f bits per parameter), %.1f s\n",
              FormatBytes(summary.file_bytes).c_str(), summary.tensors,
              summary.parameters == 0 ? 0.0
                                      : 8.0 * static_cast<double>(summary.weight_bytes) /
                                            static_cast<double>(summary.parameters),
              summary.seconds);
  if (summary.largest_error > 0.0f) {
    std::printf("elements differ from the source's by %.2g %% (RMS) at most, in %s\n",
                100.0 * static_cast<double>(summary.largest_error),
                EscapeControls(summary.largest_error_tensor).c_str());
  }
}

// Where the result goes, behind symbolic links, since it is mapped while it is written. Anything
// there that is no model of ours, perhaps the source, is not replaced.
std::string ModelFilePlace(const std::string& out) {
  std::string place = RegularFilePlace(out);
  std::ifstream file(place, std::ios::binary);
  char magic[sizeof(model::kMagic)] = {};
  file.read(magic, sizeof(magic));
  if (file.gcount() > 0 && !std::ranges::equal(magic, model::kMagic)) {
    throw Failure(HR_INVALID_ARGUMENT,
                  "cannot write " + out + ": a file that is no .hrm model is there",
                  "Give another name, or remove it.");
  }
  return place;
}

[[noreturn]] void Throw(const Status& status, const std::string& doing) {
  const auto code = static_cast<hr_status>(status.code());
  const std::string text = doing + ": " + status.message();
  if (code == HR_CORRUPT) {
    throw Failure(code, text, "The source is not as it should be; get it again, or correct it.");
  }
  if (code == HR_NOT_FOUND) {
    throw Failure(
        code, text,
        "SOURCE is a folder that holds config.json and *.safetensors, or a GGUF file; check "
        "the path.");
  }
  throw Failure(code, text);
}

// What is wrong with a byte count; empty: nothing.
std::string BudgetProblem(const std::string& text) {
  try {
    ParseBytes(text);
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

// What is wrong with a number of tokens; empty: nothing.
std::string TokensProblem(const std::string& text) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  if (digits && text.size() <= 10 && std::stoull(text) <= convert::kMaxContext) return "";
  return "'" + text + "' is no number of tokens up to " + std::to_string(convert::kMaxContext);
}

// What is wrong with the name of a weight format; empty: nothing.
std::string FormatProblem(const std::string& text) {
  return convert::ParseWeightFormat(text).status().message();
}

void PrintLog(const std::string& line) {
  std::fprintf(stderr, "%s\n", EscapeControls(line).c_str());
}

std::string CannotConvert(const convert::Options& options) {
  return "cannot convert " + (options.source.empty() ? options.preset : options.source);
}

convert::Summary WriteOutline(convert::Options options, const std::string& path) {
  options.out = path;
  options.outline = true;
  const Result<convert::Summary> summary = convert::Convert(options);
  if (!summary.ok()) Throw(summary.status(), CannotConvert(options));
  return summary.value();
}

// That the vocabulary has the special tokens of a format that was asked for: the runtime knows, of
// an outline of the model.
void CheckChatFormat(const convert::Options& options) {
  if (options.chat_format.empty()) return;
  const TemporaryFile outline(TemporaryFile::InTemporaryFolder());
  WriteOutline(options, outline.path());
  OpenRequest request;
  request.path = outline.path();
  const ModelHandle model = OpenModel(request);
  hr_chat_facts facts = {};
  facts.struct_size = sizeof(facts);
  hr_error error = {};
  const hr_status status =
      hr_chat_get_facts(model.get(), options.chat_format.c_str(), &facts, &error);
  Check(status, error, CannotConvert(options));
}

int RunDry(const ConvertArguments& arguments, bool json) {
  convert::Options options = arguments.options;
  options.log = PrintLog;
  std::vector<uint64_t> budgets;
  for (const std::string& text : arguments.budgets) budgets.push_back(ParseBytes(text));
  Json result;
  const Status status = DryRun(options, budgets, json ? &result : nullptr);
  if (HeldSignals::Caught()) return kInterrupted;
  if (!status.ok()) Throw(status, CannotConvert(options));
  if (json) PrintJson(result);
  return kOk;
}

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

// A vision model into 8-bit codes: --weights int8 and a folder of pictures.
bool CalibratesByPictures(const ConvertArguments& arguments) {
  return arguments.weights == "int8" && IsFolder(arguments.calibrate);
}

// Before gigabytes of a text model are written for nothing.
void CheckVision(const convert::Options& options) {
  const TemporaryFile outline(TemporaryFile::InTemporaryFolder());
  if (WriteOutline(options, outline.path()).vision) return;
  throw Failure(HR_INVALID_ARGUMENT, CannotConvert(options) + ": the source is no vision model");
}

// With a bar; what is half written goes away at Ctrl-C.
convert::Summary ConvertShown(convert::Options& options) {
  ProgressBar bar("converting");
  options.progress = [&bar](const convert::Progress& progress) {
    bar.Update(static_cast<double>(progress.done_bytes) /
               static_cast<double>(progress.total_bytes));
    return !HeldSignals::Caught();
  };
  options.log = [&bar](const std::string& line) {
    bar.Finish();
    PrintLog(line);
  };
  const Result<convert::Summary> summary = convert::Convert(options);
  bar.Finish();
  if (!summary.ok()) Throw(summary.status(), CannotConvert(options));
  return summary.value();
}

// Values in codes or halves: by way of a model in floats, unless the source is one.
int ConvertNarrow(const ConvertArguments& arguments, bool json) {
  const auto convert = arguments.activations == "f16" ? ConvertToHalves : ConvertToCodes;
  convert::Options options = arguments.options;
  CodesRequest request;
  request.out = ModelFilePlace(options.out);
  request.pictures = arguments.calibrate;
  request.name = options.name;
  request.threads = options.threads;
  request.source = options.source;
  request.of = options.source.empty() ? options.preset : options.source;
  if (request.source.ends_with(".hrm")) return convert(request, json);
  CheckVision(options);
  const TemporaryFile floats(TemporaryFile::Beside(request.out));
  options.weights = convert::WeightFormat::kF32;
  options.out = request.source = floats.path();
  ConvertShown(options);
  return convert(request, json);
}

int Convert(ConvertArguments& arguments, bool json) {
  const bool narrow = CalibratesByPictures(arguments) || !arguments.activations.empty();
  if (narrow && !arguments.dry_run) {
    const HeldSignals signals;  // what is half written goes away
    return ConvertNarrow(arguments, json);
  }
  convert::Options& options = arguments.options;
  if (!arguments.weights.empty())
    options.weights = convert::ParseWeightFormat(arguments.weights).value();
  if (!arguments.head.empty()) options.head = convert::ParseWeightFormat(arguments.head).value();
  const std::string out = options.out;
  if (!arguments.dry_run) options.out = ModelFilePlace(out);
  std::string text, basis_text;
  if (!arguments.calibrate.empty() && !arguments.dry_run)
    text = ReadWholeFile(arguments.calibrate, "the calibration text");
  if (!arguments.kv_basis.empty() && !arguments.dry_run)
    basis_text = ReadWholeFile(arguments.kv_basis, "the text for bases");
  const HeldSignals signals;  // what is half written goes away
  CheckChatFormat(options);
  if (arguments.dry_run) return RunDry(arguments, json);
  if (!arguments.kv_basis.empty()) {
    options.log = PrintLog;
    options.bases = CalibrateBases(options, basis_text);
  }
  if (!arguments.calibrate.empty()) options.importance = Calibrate(options, text);
  const convert::Summary summary = ConvertShown(options);
  if (json)
    PrintJson(SummaryJson(out, summary));
  else
    PrintSummary(out, summary);
  return kOk;
}

// Of options that exclude or need each other.
void CheckArguments(const ConvertArguments& arguments, bool block_given) {
  const convert::Options& given = arguments.options;
  if (given.source.empty() && given.preset.empty()) {
    throw CLI::RequiredError("SOURCE or --random");
  }
  if (given.out.empty() && !arguments.dry_run) throw CLI::RequiredError("--out");
  if (!arguments.budgets.empty() && !arguments.dry_run) {
    throw CLI::ValidationError("--budget", "it belongs to --dry-run");
  }
  if (!arguments.kv_basis.empty() && given.source.empty()) {
    throw CLI::ValidationError("--kv-basis", "random weights make nothing of a text");
  }
  if (!arguments.activations.empty() && arguments.weights != "f16" && !arguments.weights.empty()) {
    throw CLI::ValidationError("--activations",
                               "f16 goes with weights of f16, not of " + arguments.weights);
  }
  const bool narrow = CalibratesByPictures(arguments) || !arguments.activations.empty();
  if (narrow && (!arguments.head.empty() || !arguments.kv_basis.empty())) {
    throw CLI::ValidationError(arguments.head.empty() ? "--kv-basis" : "--head",
                               "it is not for vision models");
  }
  if (!arguments.activations.empty() && !arguments.calibrate.empty()) {
    throw CLI::ValidationError("--calibrate", "values of f16 need no calibration");
  }
  const bool float_weights = arguments.weights == "f32" || arguments.weights == "f16";
  if (block_given && float_weights && arguments.head != "int4") {
    throw CLI::ValidationError("--block", "only integers have blocks, not " + arguments.weights);
  }
  const bool file = !std::filesystem::is_directory(given.source);  // whose default is to keep
  const bool int4 = arguments.weights.empty() ? !file : arguments.weights == "int4";
  if (!arguments.calibrate.empty() && !CalibratesByPictures(arguments) &&
      (given.source.empty() || (!int4 && arguments.head != "int4"))) {
    throw CLI::ValidationError(
        "--calibrate",
        "it serves weights that become int4 (--weights int4), or by a folder of "
        "pictures a vision model that becomes int8 (--weights int8)");
  }
}

}  // namespace

void AddConvert(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<ConvertArguments>();
  convert::Options& options = arguments->options;
  CLI::App& command = *app.add_subcommand("convert", "make a .hrm file from a checkpoint");
  command.footer(Footer());
  auto* source =
      command.add_option("SOURCE", options.source, "a Hugging Face folder or a GGUF file");
  command
      .add_option("--random", options.preset, "instead of SOURCE: a public shape, random weights")
      ->type_name("PRESET")
      ->excludes(source);
  command.add_option("OUT,--out", options.out, "the .hrm file to write");
  command.add_flag("--dry-run", arguments->dry_run,
                   "write nothing: show what would be made and the largest context that fits");
  AddListOption(command, "--budget", arguments->budgets,
                "--dry-run only: budgets to fit contexts into (default: 256M and its doubles)")
      ->check(BudgetProblem)
      ->type_name("BYTES");
  command
      .add_option("--weights", arguments->weights,
                  "f32, f16, int8, int4, or keep: each matrix as its source has it, or the nearest "
                  "form (default: keep for a GGUF file, else int4)")
      ->check(FormatProblem)
      ->type_name("TYPE");
  command
      .add_option("--activations", arguments->activations,
                  "f16: a vision model's values between convolutions, and its weights, become f16 "
                  "(default: f32)")
      ->check(CLI::IsMember({"f16"}))
      ->excludes(command.get_option("--dry-run"))
      ->type_name("TYPE");
  auto* block = command
                    .add_option("--block", options.block,
                                "32, 64 or 128 integers share a scale; 0: a row (default: 32 for "
                                "int4, 0 for int8; keep makes int8 of 32 whatever is said here)")
                    ->check(CLI::IsMember({0, 32, 64, 128}));
  command
      .add_option("--head", arguments->head,
                  "type of the output matrix (default: int8 with int4 weights, else as --weights)")
      ->check(FormatProblem)
      ->type_name("TYPE");
  command
      .add_option("--calibrate", arguments->calibrate,
                  "a text like what the model will read: errors of int4 weights are kept where it "
                  "makes them matter least; or a folder of pictures like what a vision model will "
                  "see: with --weights int8 its values and weights become int8")
      ->type_name("FILE");
  command
      .add_option("--kv-basis", arguments->kv_basis,
                  "a text like what the model will read: keys and values get bases in which their "
                  "first numbers matter most, so that --kv \"keyrank=N valuerank=N\" can keep "
                  "those alone")
      ->type_name("FILE");
  command
      .add_option("--context", options.context,
                  "tokens the file allows (default: the trained maximum); longrope models differ "
                  "by it")
      ->check(TokensProblem)
      ->type_name("TOKENS");
  command.add_flag("--without-tokenizer", options.without_tokenizer, "leave the tokenizer out");
  command
      .add_option("--chat-format", options.chat_format,
                  "how conversations are spelled (default: what the model's own template is, where "
                  "it is known)")
      ->check(ChatFormatProblem)
      ->type_name("NAME");
  command
      .add_option("--threads", options.threads,
                  "that share the work (default: one for each fast core); the file is the same")
      ->check(CLI::Range(1u, convert::kMaxThreads))
      ->type_name("COUNT");
  command.add_option("--seed", options.seed, "--random only: same seed, same bytes")
      ->capture_default_str();
  command.add_option("--name", options.name, "name to store (default: the folder's or preset's)");
  command.add_flag("--json", invocation.json, "a summary as one JSON object");
  command.callback([arguments, block, &invocation] {
    CheckArguments(*arguments, block->count() > 0);
    invocation.action = [arguments, &invocation] { return Convert(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
