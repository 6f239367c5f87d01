// The runtime spells a space as a space, tokens and text alike (see sentencepiece_json.cc), and
// takes BPE merges from a table; here both are made from pieces.
#include "convert/sentencepiece_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "convert/json_file.h"

namespace headroom::convert {
namespace {

constexpr std::string_view kSign = "\u2581";

struct Cut {
  float score;  // of the piece that the halves make
  uint32_t left, right, result;
  uint32_t left_bytes;
};

class PieceReader {
 public:
  PieceReader(const SentencePieceModel& model, uint32_t vocabulary, const std::string& what)
      : model_(model), vocabulary_(vocabulary), what_(what) {}

  Result<ParsedTokenizer> Make() {
    HR_RETURN_IF_ERROR(CheckOptions());
    HR_RETURN_IF_ERROR(Pieces());
    HR_RETURN_IF_ERROR(Bytes());
    HR_RETURN_IF_ERROR(Begin());
    HR_RETURN_IF_ERROR(model_.kind == SentencePieceModel::Kind::kBpe ? Bpe() : Unigram());
    const std::string fault = SpellingFault(out());
    if (!fault.empty()) return Unsupported(fault);
    HR_RETURN_IF_ERROR(Normalise());
    Spaces();
    return std::move(parsed_);
  }

 private:
  TokenizerDescription& out() { return parsed_.tokenizer; }

  Status Corrupt(const std::string& fact) const {
    return Status::Make(StatusCode::kCorrupt, "%s: %s", what_.c_str(), fact.c_str());
  }
  Status Unsupported(const std::string& fact) const { return RefuseTokenizer(what_, fact); }
  std::string Named(uint32_t id) const {
    return "piece " + std::to_string(id) + " \"" + Printable(model_.pieces[id].text) + "\"";
  }
  std::string Spelled(const std::string& text) const {
    return model_.escape_whitespaces ? SpellSpaces(text, kSign) : text;
  }

  Status CheckOptions() const {
    if (model_.pieces.empty()) return Corrupt("no pieces");
    if (model_.pieces.size() > vocabulary_) {
      return Corrupt(std::to_string(model_.pieces.size()) + " pieces > vocabulary " +
                     std::to_string(vocabulary_));
    }
    if (model_.whitespace_as_suffix) return Unsupported("treat_whitespace_as_suffix");
    return {};
  }

  // ---- pieces, by type

  Status Pieces() {
    out().tokens.resize(vocabulary_);
    for (uint32_t id = 0; id < model_.pieces.size(); ++id) {
      const Piece& piece = model_.pieces[id];
      if (piece.text.empty()) return Corrupt("piece " + std::to_string(id) + " is empty");
      if (!std::isfinite(piece.score))
        return Corrupt("the score of " + Named(id) + " is no number");
      if (!ids_.emplace(piece.text, id).second) return Corrupt("two pieces read as " + Named(id));
      HR_RETURN_IF_ERROR(OnePiece(id, piece));
    }
    return {};
  }

  Status OnePiece(uint32_t id, const Piece& piece) {
    const bool spaced = model_.escape_whitespaces && piece.text.find(' ') != std::string::npos;
    out().tokens[id] = Spelled(piece.text);
    switch (piece.type) {
      case PieceType::kNormal:
        // Every space of a text is a sign by the time that pieces are looked up.
        return spaced ? Unsupported("a space beside a sign for it in " + Named(id)) : Status();
      case PieceType::kUnknown:
        if (out().unknown_token >= 0) return Corrupt("a second unknown piece, " + Named(id));
        out().unknown_token = static_cast<int32_t>(id);
        out().special_tokens.push_back(id);
        return {};
      case PieceType::kControl:
        out().tokens[id] = piece.text;
        out().special_tokens.push_back(id);
        return {};
      case PieceType::kUserDefined:
        return UserDefined(id, spaced);
      case PieceType::kUnused:
        out().tokens[id].clear();
        return {};
      case PieceType::kByte:
        return Byte(id, piece.text);
    }
    return Corrupt(Named(id) + " has type " + std::to_string(static_cast<int>(piece.type)));
  }

  // Matched where spaces are signs already; one that holds a true space, in the text as it comes.
  Status UserDefined(uint32_t id, bool spaced) {
    AddedTokenDescription added;
    added.token = {id, {}, spaced, !spaced, false, false};
    if (spaced) out().tokens[id] = model_.pieces[id].text;
    out().added_tokens.push_back(std::move(added));
    return {};
  }

  Status Byte(uint32_t id, const std::string& text) {
    const int byte = ByteOfPiece(text);
    if (!model_.byte_fallback) return Corrupt(Named(id) + " is a byte, without byte_fallback");
    if (byte < 0) return Corrupt(Named(id) + " has the type of a byte");
    if (out().byte_tokens.empty()) out().byte_tokens.assign(256, kNoPiece);
    out().byte_tokens[byte] = id;
    out().tokens[id] = std::string(1, static_cast<char>(byte));
    return {};
  }

  Status Bytes() const {
    if (!model_.byte_fallback) return {};
    const auto& bytes = parsed_.tokenizer.byte_tokens;
    const auto known = [](uint32_t id) { return id != kNoPiece; };
    const auto count = std::count_if(bytes.begin(), bytes.end(), known);
    return count == 256
               ? Status()
               : Corrupt("byte_fallback with " + std::to_string(count) + " byte pieces, not 256");
  }

  Status Begin() {
    if (!model_.add_begin && model_.begin_token < 0) return {};
    if (model_.begin_token < 0 || static_cast<size_t>(model_.begin_token) >= model_.pieces.size()) {
      return Corrupt("begin token " + std::to_string(model_.begin_token) + " is none of " +
                     std::to_string(model_.pieces.size()) + " pieces");
    }
    out().begin_token = model_.begin_token;
    out().add_begin = model_.add_begin;
    return {};
  }

  // SentencePiece looks for pieces of the user while it normalises, which no order of steps says.
  Status Normalise() {
    if (model_.precompiled_charsmap.empty() && !model_.remove_extra_whitespaces) return {};
    for (const Piece& piece : model_.pieces) {
      if (piece.type == PieceType::kUserDefined)
        return Unsupported("a normaliser beside pieces of the user (\"" + Printable(piece.text) +
                           "\")");
    }
    const auto step = [&](model::NormalStepKind kind) -> NormalStepDescription& {
      out().normal_steps.emplace_back();
      out().normal_steps.back().step.kind = kind;
      return out().normal_steps.back();
    };
    if (!model_.precompiled_charsmap.empty())
      step(model::NormalStepKind::kCharsmap).charsmap = model_.precompiled_charsmap;
    if (!model_.remove_extra_whitespaces) return {};
    // At the end a sign that was in the text goes, too.
    const std::string ends = model_.escape_whitespaces ? "[ " + std::string(kSign) + "]+" : "[ ]+";
    step(model::NormalStepKind::kReplace).pattern = R"(\A[ ]+|)" + ends + R"(\z)";
    NormalStepDescription& runs = step(model::NormalStepKind::kReplace);
    runs.pattern = "[ ]{2,}";
    runs.text = " ";
    return {};
  }

  void Spaces() {
    if (model_.escape_whitespaces) out().space = kSign;
    if (model_.add_dummy_prefix) {
      out().space_prefix = model::SpacePrefix::kAlways;
      out().strip_spaces =
          model_.remove_extra_whitespaces ? std::numeric_limits<uint32_t>::max() : 1;
    }
  }

  // ---- unigram

  Status Unigram() {
    out().kind = model::TokenizerKind::kUnigram;
    float lowest = std::numeric_limits<float>::max();
    for (const Piece& piece : model_.pieces) {
      if (piece.type == PieceType::kNormal) lowest = std::min(lowest, piece.score);
    }
    if (lowest == std::numeric_limits<float>::max()) return Corrupt("no piece of type normal");
    // What an unknown character costs follows from the lowest score of the normal pieces.
    out().scores.assign(vocabulary_, lowest);
    for (uint32_t id = 0; id < model_.pieces.size(); ++id) {
      const Piece& piece = model_.pieces[id];
      if (piece.type == PieceType::kNormal) out().scores[id] = piece.score;
    }
    return {};
  }

  // ---- BPE

  bool Merges(uint32_t id) const {
    const PieceType type = model_.pieces[id].type;
    return type == PieceType::kNormal || type == PieceType::kUserDefined ||
           type == PieceType::kUnused;
  }

  Status Bpe() {
    out().kind = model::TokenizerKind::kCharacterBpe;
    out().fuse_unknown = true;
    if (!model_.byte_fallback && out().unknown_token < 0)
      return Unsupported("BPE without byte_fallback or an unknown piece");
    uint64_t work = 0;
    std::vector<Cut> cuts;
    for (uint32_t id = 0; id < model_.pieces.size(); ++id) {
      if (!Merges(id)) continue;
      const uint64_t bytes = model_.pieces[id].text.size();
      work += bytes * bytes;
      if (bytes > UINT32_MAX || work > kMaxCutWork)
        return Corrupt("the pieces up to " + Named(id) + " are too long to be cut");
      const size_t before = cuts.size();
      AddCuts(id, cuts);
      if (model_.pieces[id].type == PieceType::kUnused && cuts.size() > before)
        return Unsupported("unused " + Named(id) + ", which merges would pass through");
    }
    Sort(cuts);
    for (const Cut& cut : cuts) out().merges.push_back({cut.left, cut.right, cut.result});
    return {};
  }

  // Halves are normal pieces: what is user-defined was matched before and never merges.
  void AddCuts(uint32_t id, std::vector<Cut>& cuts) const {
    const std::string_view piece = model_.pieces[id].text;
    const auto half = [&](std::string_view text) {
      const auto found = ids_.find(text);
      const bool normal =
          found != ids_.end() && model_.pieces[found->second].type == PieceType::kNormal;
      return normal ? found->second : kNoPiece;
    };
    for (size_t at = 1; at < piece.size(); ++at) {
      if ((static_cast<uint8_t>(piece[at]) & 0xc0) == 0x80) continue;  // inside a character
      const uint32_t left = half(piece.substr(0, at)), right = half(piece.substr(at));
      if (left == kNoPiece || right == kNoPiece) continue;
      cuts.push_back({model_.pieces[id].score, left, right, id, static_cast<uint32_t>(at)});
    }
  }

  void Sort(std::vector<Cut>& cuts) {
    std::stable_sort(cuts.begin(), cuts.end(), [](const Cut& a, const Cut& b) {
      return a.score != b.score ? a.score > b.score : a.left_bytes > b.left_bytes;
    });
    size_t shared = 0;
    for (size_t i = 1; i < cuts.size(); ++i) {
      if (cuts[i].score == cuts[i - 1].score && cuts[i].result != cuts[i - 1].result) ++shared;
    }
    if (shared > 0) {
      parsed_.notes.push_back(std::to_string(shared) +
                              " pieces share their score with another; where their merges compete, "
                              "the longer left half wins, not the leftmost place");
    }
  }

  static constexpr uint32_t kNoPiece = 0xffffffffu;

  const SentencePieceModel& model_;
  const uint32_t vocabulary_;
  const std::string& what_;
  ParsedTokenizer parsed_;
  std::unordered_map<std::string_view, uint32_t> ids_;
};

}  // namespace

Result<ParsedTokenizer> MakeTokenizer(const SentencePieceModel& model, uint32_t vocabulary,
                                      const std::string& what) {
  return PieceReader(model, vocabulary, what).Make();
}

int ByteOfPiece(std::string_view piece) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const size_t high = kDigits.find(piece[3]), low = kDigits.find(piece[4]);
  if (high == kDigits.npos || low == kDigits.npos) return -1;
  return static_cast<int>(high * 16 + low);
}

std::string SpellSpaces(std::string text, std::string_view sign) {
  if (sign.empty()) return text;
  for (size_t at = 0; (at = text.find(sign, at)) != text.npos; ++at)
    text.replace(at, sign.size(), " ");
  return text;
}

std::string SpellingFault(const TokenizerDescription& tokenizer) {
  const std::unordered_set<uint32_t> bytes(tokenizer.byte_tokens.begin(),
                                           tokenizer.byte_tokens.end());
  std::unordered_set<std::string_view> spellings;
  for (uint32_t id = 0; id < tokenizer.tokens.size(); ++id) {
    const std::string& token = tokenizer.tokens[id];
    if (token.empty() || bytes.count(id)) continue;
    if (!spellings.insert(token).second)
      return "vocabulary with two tokens that read \"" + Printable(token) + "\"";
  }
  for (const auto& [left, right, result] : tokenizer.merges) {
    if (tokenizer.tokens[left] + tokenizer.tokens[right] != tokenizer.tokens[result])
      return "merge with a byte's token, to \"" + Printable(tokenizer.tokens[result]) + "\"";
  }
  return {};
}

}  // namespace headroom::convert
