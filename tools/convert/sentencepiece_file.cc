#include "convert/sentencepiece_file.h"

#include <map>
#include <protozero/pbf_reader.hpp>

namespace headroom::convert {
namespace {

using protozero::pbf_wire_type;
using protozero::tag_and_type;

constexpr size_t kMaxFileBytes = 256u << 20;

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t { kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5 };
enum PieceField : uint32_t { kText = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kBeginId = 41
};
enum NormalizerField : uint32_t {
  kCharsmap = 2,
  kDummyPrefix = 3,
  kExtraWhitespaces = 4,
  kEscapeWhitespaces = 5
};

constexpr auto kBytes = pbf_wire_type::length_delimited;
constexpr auto kVarint = pbf_wire_type::varint;

std::string Text(protozero::pbf_reader& message) {
  const auto view = message.get_view();
  return {view.data(), view.size()};
}

// Reads what is known of each message and skips the rest. A known field of an unknown wire type is
// skipped, too, as protocol buffers want it.
class FileReader {
 public:
  explicit FileReader(const std::string& what) : what_(what) { model_.begin_token = 1; }

  Result<SentencePieceModel> Read(protozero::pbf_reader file) {
    while (file.next()) {
      switch (file.tag_and_type()) {
        case tag_and_type(kPieces, kBytes):
          HR_RETURN_IF_ERROR(ReadPiece(file.get_message()));
          break;
        case tag_and_type(kTrainer, kBytes):
          HR_RETURN_IF_ERROR(ReadTrainer(file.get_message()));
          break;
        case tag_and_type(kNormalizer, kBytes):
          ReadNormalizer(file.get_message());
          break;
        case tag_and_type(kDenormalizer, kBytes):
          HR_RETURN_IF_ERROR(CheckDenormalizer(file.get_message()));
          break;
        default:
          file.skip();
      }
    }
    if (model_.pieces.empty()) return Make(StatusCode::kCorrupt, "holds no pieces");
    if (model_.begin_token < 0 || static_cast<size_t>(model_.begin_token) >= model_.pieces.size())
      model_.begin_token = -1;
    return std::move(model_);
  }

 private:
  Status Make(StatusCode code, const std::string& fact) const {
    return Status::Make(code, "%s: %s", what_.c_str(), fact.c_str());
  }

  Status ReadPiece(protozero::pbf_reader message) {
    Piece piece;
    while (message.next()) {
      switch (message.tag_and_type()) {
        case tag_and_type(kText, kBytes):
          piece.text = Text(message);
          break;
        case tag_and_type(kScore, pbf_wire_type::fixed32):
          piece.score = message.get_float();
          break;
        case tag_and_type(kType, kVarint): {
          const int32_t type = message.get_enum();
          if (type < 1 || type > 6) {
            return Make(StatusCode::kCorrupt, "piece " + std::to_string(model_.pieces.size()) +
                                                  " has type " + std::to_string(type));
          }
          piece.type = static_cast<PieceType>(type);
          break;
        }
        default:
          message.skip();
      }
    }
    if (model_.pieces.size() == kMaxPieces)
      return Make(StatusCode::kCorrupt, "more pieces than " + std::to_string(kMaxPieces));
    model_.pieces.push_back(std::move(piece));
    return {};
  }

  Status ReadTrainer(protozero::pbf_reader message) {
    while (message.next()) {
      switch (message.tag_and_type()) {
        case tag_and_type(kModelType, kVarint): {
          const int32_t type = message.get_enum();
          if (type != 1 && type != 2) {
            return Make(StatusCode::kUnsupported, "model type " + std::to_string(type) +
                                                      " is neither unigram (1) nor BPE (2)");
          }
          using Kind = SentencePieceModel::Kind;
          model_.kind = type == 1 ? Kind::kUnigram : Kind::kBpe;
          break;
        }
        case tag_and_type(kWhitespaceAsSuffix, kVarint):
          model_.whitespace_as_suffix = message.get_bool();
          break;
        case tag_and_type(kByteFallback, kVarint):
          model_.byte_fallback = message.get_bool();
          break;
        case tag_and_type(kBeginId, kVarint):
          model_.begin_token = message.get_int32();
          break;
        default:
          message.skip();
      }
    }
    return {};
  }

  void ReadNormalizer(protozero::pbf_reader message) {
    const std::map<uint32_t, bool*> flags = {{kDummyPrefix, &model_.add_dummy_prefix},
                                             {kExtraWhitespaces, &model_.remove_extra_whitespaces},
                                             {kEscapeWhitespaces, &model_.escape_whitespaces}};
    while (message.next()) {
      const auto flag = flags.find(message.tag());
      if (message.tag_and_type() == tag_and_type(kCharsmap, kBytes)) {
        model_.precompiled_charsmap = Text(message);
      } else if (flag != flags.end() && message.wire_type() == kVarint) {
        *flag->second = message.get_bool();
      } else {
        message.skip();
      }
    }
  }

  Status CheckDenormalizer(protozero::pbf_reader message) const {
    while (message.next()) {
      if (message.tag_and_type() == tag_and_type(kCharsmap, kBytes) && message.get_view().size())
        return Make(StatusCode::kUnsupported, "a denormaliser is not supported");
      if (message.tag_and_type() != tag_and_type(kCharsmap, kBytes)) message.skip();
    }
    return {};
  }

  const std::string& what_;
  SentencePieceModel model_;
};

const Json* Find(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) ? &json[key] : nullptr;
}

bool IsTrue(const Json& json, const char* key) {
  const Json* value = Find(json, key);
  return value && value->is_boolean() && value->get<bool>();
}

Status Unsupported(const std::string& fact) {
  return Status::Make(StatusCode::kUnsupported, "tokenizer_config.json: %s is not supported",
                      fact.c_str());
}

// One entry of added_tokens_decoder: a piece that is there already, or the next one.
Status ApplyAdded(uint32_t id, const Json& token, SentencePieceModel& model) {
  const Json* content = Find(token, "content");
  if (!content || !content->is_string()) return Unsupported("an added token without content");
  const std::string text = content->get<std::string>();
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    if (IsTrue(token, key)) return Unsupported(std::string(key) + " of " + Printable(text));
  }
  const PieceType type = IsTrue(token, "special") ? PieceType::kControl : PieceType::kUserDefined;
  if (id > model.pieces.size() || id >= kMaxPieces)
    return Unsupported("a gap before added token " + std::to_string(id));
  if (id == model.pieces.size()) {
    model.pieces.push_back({text, 0.0f, type});
    return {};
  }
  Piece& piece = model.pieces[id];
  if (piece.text != text)
    return Unsupported("another text of token " + std::to_string(id) + ", " + Printable(text));
  if (piece.type == PieceType::kNormal) piece.type = type;
  return {};
}

}  // namespace

Result<SentencePieceModel> ParseSentencePieceModel(std::string_view file, const std::string& what) {
  if (file.size() > kMaxFileBytes) {
    return Status::Make(StatusCode::kCorrupt, "%s: %zu bytes > %zu", what.c_str(), file.size(),
                        kMaxFileBytes);
  }
  try {
    return FileReader(what).Read(protozero::pbf_reader(file.data(), file.size()));
  } catch (const protozero::exception& error) {
    return Status::Make(StatusCode::kCorrupt, "%s: no protocol buffer of SentencePiece: %s",
                        what.c_str(), error.what());
  }
}

Status ApplyTokenizerConfig(const Json& config, SentencePieceModel& model) {
  if (IsTrue(config, "add_eos_token")) return Unsupported("add_eos_token");
  const Json* begin = Find(config, "add_bos_token");
  model.add_begin =
      model.begin_token >= 0 && (!begin || !begin->is_boolean() || begin->get<bool>());
  const Json* added = Find(config, "added_tokens_decoder");
  if (!added || !added->is_object()) return {};
  std::map<uint32_t, const Json*> tokens;  // in the order of their ids, not of their names
  for (const auto& [name, token] : added->items()) {
    const bool number = !name.empty() && name.size() < 9 &&
                        name.find_first_not_of("0123456789") == std::string::npos;
    if (!number) return Unsupported("an added token with id " + Printable(name));
    tokens[static_cast<uint32_t>(std::stoul(name))] = &token;
  }
  for (const auto& [id, token] : tokens) HR_RETURN_IF_ERROR(ApplyAdded(id, *token, model));
  return {};
}

}  // namespace headroom::convert
