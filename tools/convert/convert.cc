#include "convert/convert.h"

#include <chrono>
#include <cstring>
#include <filesystem>

#include "convert/checkpoint_fit.h"
#include "convert/convert_images.h"
#include "convert/gguf.h"
#include "convert/gguf_model.h"
#include "convert/gguf_tokenizer.h"
#include "convert/graph.h"
#include "convert/hrm_writer.h"
#include "convert/json_file.h"
#include "convert/presets.h"
#include "convert/read_tokenizer.h"
#include "convert/rwkv.h"
#include "convert/shape.h"
#include "convert/write_tensors.h"
#include "model/container.h"

namespace headroom::convert {
namespace {

// A format that was asked for says how text is spelled, which takes a tokenizer.
Status CheckChatFormat(const Options& options, const TokenizerDescription& tokenizer) {
  if (options.chat_format.empty() || tokenizer.kind != model::TokenizerKind::kNone) return {};
  return Status::Make(StatusCode::kInvalidArgument,
                      "chat format %s needs a tokenizer, and the model will have none",
                      Printable(options.chat_format).c_str());
}

Status CheckOptions(const Options& options) {
  const auto invalid = [](const std::string& text) {
    return Status::Make(StatusCode::kInvalidArgument, "%s", text.c_str());
  };
  if (options.source.empty() == options.preset.empty()) {
    return invalid("give either a source or a random preset");
  }
  if (options.out.empty()) return invalid("no output file");
  if (options.threads > kMaxThreads) {
    return invalid(std::to_string(options.threads) + " threads > " + std::to_string(kMaxThreads));
  }
  const uint32_t block = options.block.value_or(0);
  if (block != 0 && block != 32 && block != 64 && block != 128) {
    return invalid("block " + std::to_string(block) + " is not 32, 64, 128 or 0");
  }
  if (!options.preset.empty() &&
      (options.weights == WeightFormat::kKeep || options.head == WeightFormat::kKeep)) {
    return invalid("random weights have no type to keep");
  }
  if (!options.preset.empty() && !FindPreset(options.preset)) {
    std::string text = "no preset \"" + Printable(options.preset) + "\"; there are";
    for (const Preset& preset : Presets()) text += " " + std::string(preset.name);
    return invalid(text);
  }
  return {};
}

// One for each layer that has keys and values of its own in heads, of their size, or none.
Status CheckBases(const Options& options, const ModelShape& shape) {
  if (options.bases.empty()) return {};
  if (shape.recipe->linear || shape.recipe->query_gate) {
    return Status::Make(StatusCode::kUnsupported, "bases beside linear attention or a gate");
  }
  const uint64_t numbers = uint64_t{shape.kv_heads} * shape.head_width * shape.head_width;
  if (options.bases.size() != shape.layers.size()) {
    return Status::Make(StatusCode::kInvalidArgument, "bases for %zu layers, there are %zu",
                        options.bases.size(), shape.layers.size());
  }
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const LayerBases& bases = options.bases[i];
    if (bases.keys.empty() && bases.values.empty()) continue;
    const LayerShape& layer = shape.layers[i];
    if (layer.latent.rank != 0 || layer.source != model::kNone ||
        shape.head_width > model::kMaxBasisWidth) {
      return Status::Make(StatusCode::kUnsupported,
                          "a basis for layer %zu: latent, of another layer's rows, or wider than "
                          "%u",
                          i, model::kMaxBasisWidth);
    }
    if (bases.keys.size() == numbers && bases.values.size() == numbers) continue;
    return Status::Make(StatusCode::kInvalidArgument,
                        "bases of %zu and %zu numbers for layer %zu, its heads have %llu",
                        bases.keys.size(), bases.values.size(), i,
                        static_cast<unsigned long long>(numbers));
  }
  return {};
}

// generation_config.json, where there is one: end tokens and recommended sampling. What it says
// about decoding strategies is not ours to follow, so unknown keys are fine here.
Status ReadGenerationConfig(const Options& options, ModelDescription& description) {
  const std::string path = options.source + "/generation_config.json";
  if (!Exists(path)) return {};
  HR_ASSIGN_OR_RETURN(Json json, ReadJsonFile(path, kMaxConfigBytes));
  Config config(std::move(json), "generation_config.json");
  HR_ASSIGN_OR_RETURN(const std::vector<uint32_t> ends, config.Tokens("eos_token_id"));
  if (!ends.empty()) description.tokenizer.end_tokens = ends;
  model::SamplingHints& hints = description.sampling;
  const auto number = [&](const char* key, double high, float* out) {
    const auto value = config.Number(key, 0.0, high);
    if (value.ok() && value.value()) *out = static_cast<float>(*value.value());
  };
  number("temperature", 1e6, &hints.temperature);
  number("top_p", 1.0, &hints.top_p);
  number("min_p", 1.0, &hints.min_p);
  number("repetition_penalty", 1e6, &hints.repetition_penalty);
  const auto top_k = config.Count("top_k", 0, 1u << 30);
  if (top_k.ok() && top_k.value()) hints.top_k = *top_k.value();
  return {};
}

void DropForeignEndTokens(const Options& options, ModelDescription& description) {
  std::vector<uint32_t>& ends = description.tokenizer.end_tokens;
  std::erase_if(ends, [&](uint32_t id) {
    const bool foreign = id >= description.metadata.vocabulary;
    if (foreign)
      options.Say("end token " + std::to_string(id) + " is outside the vocabulary; dropped");
    return foreign;
  });
}

// Takes the prefix off the plan's tensor names where the checkpoint has it nowhere.
void DropOptionalPrefix(std::string_view prefix, const Checkpoint& checkpoint, GraphPlan& plan) {
  if (prefix.empty()) return;
  for (const auto& [name, entry] : checkpoint.tensors()) {
    if (name.starts_with(prefix)) return;
  }
  for (TensorPlan& tensor : plan.tensors) {
    for (RowPart& part : tensor.parts) {
      if (part.source.starts_with(prefix)) part.source.erase(0, prefix.size());
    }
  }
}

std::string FolderName(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path, error);
  const std::string name = whole.filename().string();
  return name.empty() ? whole.parent_path().filename().string() : name;
}

// All but the file's length.
Summary Summarise(const GraphPlan& plan, const ModelShape& shape) {
  const ModelDescription& description = plan.description;
  Summary summary;
  summary.name = description.metadata.name;
  summary.architecture = description.metadata.architecture;
  summary.tokenizer = model::TokenizerKindName(description.tokenizer.kind);
  summary.chat_format = description.tokenizer.chat_format;
  for (size_t i = 0; i < description.tensors.size(); ++i) {
    const TensorDescription& tensor = description.tensors[i];
    const auto bytes = model::TensorBytesOf(tensor.dtype, tensor.block, tensor.extents);
    if (bytes.ok()) summary.weight_bytes += bytes.value().data + bytes.value().scales;
    uint64_t elements = 1;
    for (const uint32_t extent : tensor.extents) elements *= extent;
    summary.parameters += elements;
  }
  summary.tensors = static_cast<uint32_t>(description.tensors.size());
  summary.layers = static_cast<uint32_t>(shape.layers.size());
  summary.channels = shape.channels;
  summary.vocabulary = shape.vocabulary;
  summary.context_tokens = shape.context_tokens;
  return summary;
}

// What is converted, whichever form it has.
struct Source {
  Config config{Json(), ""};
  Checkpoint checkpoint;         // empty for a preset
  std::optional<Recipe> recipe;  // GGUF: stands in for the one that the configuration names
  std::optional<GgufFile> gguf;  // its metadata; the tensors are in the checkpoint
};

// That `path` begins like a GGUF file, or what it is instead.
Status CheckIsGguf(const std::string& path) {
  HR_ASSIGN_OR_RETURN(const auto file, platform::FileMapping::OpenPath(path.c_str()));
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.bytes());
  if (bytes.starts_with("GGUF")) return {};
  const std::string_view magic(model::kMagic, sizeof(model::kMagic));
  uint64_t header_bytes = 0;
  if (bytes.size() > 8) std::memcpy(&header_bytes, bytes.data(), 8);
  const bool is_safetensors =
      bytes.size() > 8 && header_bytes <= bytes.size() - 8 && bytes[8] == '{';
  return Status::Make(StatusCode::kInvalidArgument, "%s %s", path.c_str(),
                      bytes.starts_with(magic) ? "is a .hrm model already; SOURCE is what one is "
                                                 "made from: a Hugging Face folder or a GGUF file"
                      : is_safetensors ? "is a safetensors file; SOURCE is the folder that holds "
                                         "it together with config.json"
                                       : "does not begin with GGUF; SOURCE is a Hugging Face "
                                         "folder or a GGUF file");
}

Result<Source> OpenGgufSource(const std::string& path) {
  HR_RETURN_IF_ERROR(CheckIsGguf(path));
  HR_ASSIGN_OR_RETURN(OpenedGguf opened, OpenGguf(path));
  Source source;
  if (IsRwkv(opened.gguf)) {
    HR_ASSIGN_OR_RETURN(Json known, RenameRwkv(opened.gguf, path));
    source.checkpoint = Checkpoint(std::move(opened.files), std::move(opened.gguf.tensors));
    HR_ASSIGN_OR_RETURN(Json json, DescribeRwkv(source.checkpoint, std::move(known)));
    source.config = Config(std::move(json), path);
    source.gguf = std::move(opened.gguf);
    return source;
  }
  HR_ASSIGN_OR_RETURN(GgufModel model, DescribeGguf(opened.gguf, path));
  source.config = Config(std::move(model.config), path);
  source.recipe = model.recipe;
  source.checkpoint = Checkpoint(std::move(opened.files), std::move(opened.gguf.tensors));
  source.gguf = std::move(opened.gguf);
  return source;
}

// Puts what stands beside the configuration of a vision model into it.
Status AddPreprocessor(const std::string& folder, Json& config) {
  const std::string path = folder + "/preprocessor_config.json";
  if (!IsVision(Config(config, "config.json")) || !Exists(path)) return {};
  HR_ASSIGN_OR_RETURN(config["preprocessor"], ReadJsonFile(path, kMaxConfigBytes));
  return {};
}

Result<Source> OpenSource(const Options& options) {
  Source source;
  if (const Preset* preset = FindPreset(options.preset)) {
    HR_ASSIGN_OR_RETURN(Json json, ParseJson(preset->config, options.preset));
    source.config = Config(std::move(json), options.preset);
    return source;
  }
  std::error_code error;
  if (!Exists(options.source)) {
    return Status::Make(StatusCode::kNotFound, "there is no %s", options.source.c_str());
  }
  if (!std::filesystem::is_directory(options.source, error)) return OpenGgufSource(options.source);
  if (!Exists(options.source + "/config.json")) {
    Result<Checkpoint> opened = Checkpoint::Open(options.source);
    if (opened.ok() && IsRwkv(opened.value())) {
      source.checkpoint = opened.Take();
      HR_ASSIGN_OR_RETURN(Json described, DescribeRwkv(source.checkpoint));
      source.config = Config(std::move(described), "the checkpoint");
      return source;
    }
  }
  HR_ASSIGN_OR_RETURN(Json json,
                      ReadJsonFile(options.source + "/config.json", kMaxConfigBytes, true));
  // What X-EcoMLA writes beside it.
  for (const char* name : {"mla_layer_config", "MLA_config"}) {
    const std::string path = options.source + "/" + name + ".json";
    if (!Exists(path) || !json.is_object()) continue;
    HR_ASSIGN_OR_RETURN(json[name], ReadJsonFile(path, kMaxConfigBytes));
  }
  HR_RETURN_IF_ERROR(AddPreprocessor(options.source, json));
  source.config = Config(std::move(json), "config.json");
  HR_ASSIGN_OR_RETURN(source.checkpoint, Checkpoint::Open(options.source));
  return source;
}

// Tokenizer, end tokens and sampling from beside the weights.
Status ReadFolderText(const Options& options, ModelDescription& description) {
  HR_RETURN_IF_ERROR(ReadGenerationConfig(options, description));
  DropForeignEndTokens(options, description);
  return ReadTokenizer(options, description);
}

// The same from the file's own metadata.
Status ReadGgufText(const Options& options, const GgufFile& gguf, ModelDescription& description) {
  const uint32_t vocabulary = description.metadata.vocabulary;
  HR_ASSIGN_OR_RETURN(std::vector<uint32_t> ends,
                      ReadGgufEndTokens(gguf, vocabulary, options.source));
  if (options.without_tokenizer) {
    options.Say("the tokenizer is left out, as asked");
  } else {
    HR_ASSIGN_OR_RETURN(ParsedTokenizer parsed,
                        ReadGgufTokenizer(gguf, vocabulary, options.source));
    for (const std::string& note : parsed.notes) options.Say(note);
    description.tokenizer = std::move(parsed.tokenizer);
    description.tokenizer.chat_template = GgufText(gguf, "tokenizer.chat_template");
    SetChatFormat(options.chat_format, options.log, description.tokenizer);
    if (description.tokenizer.kind == model::TokenizerKind::kNone)
      options.Say("no tokenizer in the file: text calls will not be available");
  }
  description.tokenizer.end_tokens = std::move(ends);
  description.sampling = ReadGgufSampling(gguf);
  description.metadata.license = GgufText(gguf, "general.license");
  return {};
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string DefaultName(const Options& options, const Source& source) {
  if (!options.preset.empty()) return options.preset;
  const std::string stated = source.gguf ? GgufText(*source.gguf, "general.name") : "";
  return stated.empty() ? FolderName(options.source) : stated;
}

}  // namespace

Result<WeightFormat> ParseWeightFormat(const std::string& name) {
  if (name == "f32") return WeightFormat::kF32;
  if (name == "f16") return WeightFormat::kF16;
  if (name == "int8") return WeightFormat::kInt8;
  if (name == "int4") return WeightFormat::kInt4;
  if (name == "keep") return WeightFormat::kKeep;
  return Status::Make(StatusCode::kInvalidArgument,
                      "weights \"%s\" is not f32, f16, int8, int4 or keep",
                      Printable(name).c_str());
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : Presets()) names.emplace_back(preset.name);
  return names;
}

std::vector<std::string> ArchitectureNames() {
  std::vector<std::string> names;
  for (const Recipe* recipe : Recipes()) names.emplace_back(recipe->architecture);
  return names;
}

Result<Summary> Convert(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  HR_RETURN_IF_ERROR(CheckOptions(options));
  HR_ASSIGN_OR_RETURN(Source source, OpenSource(options));
  if (IsVision(source.config)) {
    HR_ASSIGN_OR_RETURN(Summary summary, ConvertImages(options, source.config, source.checkpoint));
    summary.seconds = SecondsSince(start);
    return summary;
  }
  const Recipe* recipe = source.recipe ? &*source.recipe : nullptr;
  HR_ASSIGN_OR_RETURN(ModelShape shape, IsRwkv(source.config)
                                            ? ReadRwkvShape(source.config, options.context)
                                            : ReadShape(source.config, options.context, recipe));
  const Checkpoint& checkpoint = source.checkpoint;
  const bool random = !options.preset.empty();
  if (!random && !shape.rwkv) HR_RETURN_IF_ERROR(FitToCheckpoint(checkpoint, shape));
  const WeightFormat format =
      options.weights.value_or(source.gguf ? WeightFormat::kKeep : WeightFormat::kInt4);
  HR_RETURN_IF_ERROR(CheckBases(options, shape));
  GraphPlan plan =
      BuildGraphPlan(shape, {format, options.block, options.head, &checkpoint, options.bases});
  for (const std::string& note : plan.notes) options.Say(note);

  MetadataDescription& metadata = plan.description.metadata;
  metadata.source = random ? "random weights" : FolderName(options.source);
  metadata.name = !options.name.empty() ? options.name : DefaultName(options, source);
  if (!random) {
    DropOptionalPrefix(shape.recipe->optional_prefix, checkpoint, plan);
    HR_RETURN_IF_ERROR(CheckSources(plan, shape, checkpoint));
    for (const std::string& note : IgnoredNotes(*shape.recipe, checkpoint)) options.Say(note);
    StateSources(checkpoint, plan);
    HR_RETURN_IF_ERROR(source.gguf ? ReadGgufText(options, *source.gguf, plan.description)
                                   : ReadFolderText(options, plan.description));
  }
  HR_RETURN_IF_ERROR(CheckChatFormat(options, plan.description.tokenizer));
  if (options.outline) {
    Summary summary = Summarise(plan, shape);
    HR_ASSIGN_OR_RETURN(summary.file_bytes, HrmWriter::WriteOutline(options.out, plan.description));
    return summary;
  }
  HR_ASSIGN_OR_RETURN(HrmWriter writer, HrmWriter::Create(options.out, plan.description));
  Losses losses;
  if (random) {
    HR_RETURN_IF_ERROR(WriteRandom(plan, options.seed, options.progress, writer));
  } else {
    HR_ASSIGN_OR_RETURN(losses, WriteFromCheckpoint(plan, checkpoint, options, writer));
  }
  Summary summary = Summarise(plan, shape);
  summary.file_bytes = writer.file_bytes();
  summary.largest_error = losses.largest_error;
  summary.largest_error_tensor = losses.tensor;
  HR_RETURN_IF_ERROR(writer.Finish());
  summary.seconds = SecondsSince(start);
  return summary;
}

}  // namespace headroom::convert
