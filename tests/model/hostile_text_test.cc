// Hostile files: tokenizer, metadata and sampling hints (group 19).
#include <catch2/catch_test_macros.hpp>
#include <limits>

#include "model/hostile.h"

namespace headroom {
namespace {

using test::ExpectRefused;

using test::kCorrupt;
using test::kUnsupported;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("group 19: token tables that do not add up are refused", "[model][hostile]") {
  ExpectRefused({
      {"no tokens", kCorrupt, "no tokens", [](auto& g) { g.tokenizer->token_ends.clear(); }},
      {"no bytes", kCorrupt, "token 0 lies at 0..1 of 0 bytes",
       [](auto& g) { g.tokenizer->token_bytes.clear(); }},
      {"end before begin", kCorrupt, "token 5 lies at 5..0",
       [](auto& g) { g.tokenizer->token_ends[5] = 0; }},
      {"end -1", kCorrupt, "token 5 lies at 5..4294967295",
       [](auto& g) { g.tokenizer->token_ends[5] = 0xffffffff; }},
      {"bytes behind", kCorrupt, "1 bytes behind the last token",
       [](auto& g) { g.tokenizer->token_bytes.push_back(0); }},
      {"a huge token", kCorrupt, "has 70012 bytes > 65536",
       [](auto& g) {
         g.tokenizer->token_bytes.resize(g.tokenizer->token_bytes.size() + 70007);
         g.tokenizer->token_ends.back() += 70007;
       }},
      {"more tokens than rows", kCorrupt, "41 tokens > vocabulary",
       [](auto& g) {
         auto& ends = g.tokenizer->token_ends;
         while (ends.size() < 41) ends.push_back(ends.back());
       }},
      {"scores for some", kCorrupt, "3 scores for 32 tokens",
       [](auto& g) {
         g.tokenizer->scores = {0, 0, 0};
       }},
      {"255 byte tokens", kCorrupt, "255 byte tokens",
       [](auto& g) { g.tokenizer->byte_tokens.assign(255, 0); }},
      {"byte token beyond", kCorrupt, "byte token 32",
       [](auto& g) { g.tokenizer->byte_tokens.assign(256, 32); }},
  });
}

TEST_CASE("group 19: merges that join nothing are refused", "[model][hostile]") {
  const auto merge = [](uint32_t left, uint32_t right, uint32_t result) {
    return [=](fb::ModelT& g) { g.tokenizer->merges[1] = fb::Merge(left, right, result); };
  };
  ExpectRefused({
      {"left beyond", kCorrupt, "merge 1 names token 32 of 32", merge(32, 4, 28)},
      {"right -1", kCorrupt, "merge 1 names token 4294967295", merge(27, 0xffffffff, 28)},
      {"result beyond", kCorrupt, "merge 1 names token 99", merge(27, 4, 99)},
      {"other result", kCorrupt, "token 29 is not token 27 and token 4 joined", merge(27, 4, 29)},
      {"same length, other bytes", kCorrupt, "joined", merge(27, 5, 28)},
  });
}

TEST_CASE("group 19: merges that would take hours to compare are refused", "[model][hostile]") {
  ExpectRefused({{"long tokens, many merges", kCorrupt, "merges up to 4097 of 5002 join more than",
                  [](auto& g) {
                    auto& t = *g.tokenizer;
                    const auto token = [&](size_t bytes) {
                      t.token_bytes.insert(t.token_bytes.end(), bytes, 'a');
                      t.token_ends.push_back(static_cast<uint32_t>(t.token_bytes.size()));
                      return static_cast<uint32_t>(t.token_ends.size() - 1);
                    };
                    const uint32_t half = token(1u << 15), whole = token(1u << 16);
                    t.merges.resize(2);
                    t.merges.insert(t.merges.end(), 5000, fb::Merge(half, half, whole));
                  }}});
}

TEST_CASE("group 19: ids outside the vocabulary are refused", "[model][hostile]") {
  ExpectRefused({
      {"special", kCorrupt, "special token 32 is not in 0..31",
       [](auto& g) { g.tokenizer->special_tokens = {32}; }},
      {"empty special", kCorrupt, "special token 31 is empty",
       [](auto& g) {
         g.tokenizer->token_bytes.resize(g.tokenizer->token_bytes.size() - 5);
         g.tokenizer->token_ends.back() -= 5;
       }},
      {"end", kCorrupt, "end token 4294967295",
       [](auto& g) { g.tokenizer->end_tokens = {0xffffffff}; }},
      {"begin beyond", kCorrupt, "begin token 40", [](auto& g) { g.tokenizer->begin_token = 40; }},
      {"begin -5", kCorrupt, "begin token -5", [](auto& g) { g.tokenizer->begin_token = -5; }},
      {"begin unnamed", kCorrupt, "none is named", [](auto& g) { g.tokenizer->begin_token = -1; }},
      {"unknown", kCorrupt, "unknown token 77", [](auto& g) { g.tokenizer->unknown_token = 77; }},
      {"end without tokenizer", kCorrupt, "end token 40 is not in 0..39",
       [](auto& g) {
         g.tokenizer = std::make_unique<fb::TokenizerT>();
         g.tokenizer->end_tokens = {40};
       }},
  });
}

TEST_CASE("group 19: tokenizer kinds and texts are checked", "[model][hostile]") {
  ExpectRefused({
      {"word pieces", kUnsupported, "kind WordPiece",
       [](auto& g) { g.tokenizer->kind = fb::TokenizerKind::WordPiece; }},
      {"kind 200", kUnsupported, "kind 200 is unknown",
       [](auto& g) { g.tokenizer->kind = static_cast<fb::TokenizerKind>(200); }},
      {"empty pattern", kCorrupt, "split pattern 0 is empty",
       [](auto& g) { g.tokenizer->patterns = {""}; }},
      {"pattern bytes", kCorrupt, "split pattern is not UTF-8",
       [](auto& g) { g.tokenizer->patterns = {"\xff"}; }},
      {"long pattern", kCorrupt, "split pattern of 20000 bytes",
       [](auto& g) { g.tokenizer->patterns = {std::string(20000, '.')}; }},
      {"65 patterns", kCorrupt, "65 split patterns > 64",
       [](auto& g) { g.tokenizer->patterns.assign(65, "a"); }},
      {"template", kCorrupt, "chat template has control character 0x1b",
       [](auto& g) { g.tokenizer->chat_template = "\x1b[31m"; }},
      {"chat format of many bytes", kCorrupt, "chat format",
       [](auto& g) { g.tokenizer->chat_format = std::string(32, 'x'); }},
  });
}

TEST_CASE("group 19: what vocabularies of SentencePiece have is checked", "[model][hostile]") {
  const auto unigram = [](auto edit) {
    return [edit](fb::ModelT& g) {
      g.tokenizer->kind = fb::TokenizerKind::Unigram;
      g.tokenizer->scores.assign(g.tokenizer->token_ends.size(), -1.0f);
      edit(*g.tokenizer);
    };
  };
  const auto added = [](auto edit) {
    return [edit](fb::TokenizerT& t) {
      t.added_tokens.push_back(std::make_unique<fb::AddedTokenT>());
      edit(*t.added_tokens[0]);
    };
  };
  ExpectRefused({
      {"no scores", kCorrupt, "no scores", unigram([](auto& t) { t.scores.clear(); })},
      {"few scores", kCorrupt, "31 scores for 32 tokens",
       unigram([](auto& t) { t.scores.resize(31); })},
      {"many wide scores", kCorrupt, "33 scores for 32 tokens",
       unigram([](auto& t) { t.double_scores.resize(33); })},
      {"score", kCorrupt, "the score of token 3 is not finite",
       unigram([](auto& t) { t.scores[3] = kNan; })},
      {"characters", kUnsupported, "characters without byte tokens",
       [](auto& g) { g.tokenizer->kind = fb::TokenizerKind::CharacterBpe; }},
      {"byte-level", kUnsupported, "byte tokens beside a byte-level vocabulary",
       [](auto& g) { g.tokenizer->byte_tokens.resize(256); }},
      {"few byte tokens", kCorrupt, "3 byte tokens, not 256",
       unigram([](auto& t) { t.byte_tokens.resize(3); })},
      {"byte token", kCorrupt, "byte token 32 is not in 0..31",
       unigram([](auto& t) { t.byte_tokens.assign(256, 32); })},
      {"byte", kCorrupt, "token 0 does not say byte 0x00",
       unigram([](auto& t) { t.byte_tokens.assign(256, 0); })},
      {"prefix", kUnsupported, "space prefix 9 is unknown",
       unigram([](auto& t) { t.space_prefix = static_cast<fb::SpacePrefix>(9); })},
      {"sign", kCorrupt, "sign for a space of 9 bytes",
       unigram([](auto& t) { t.space = "_________"; })},
      {"space", kCorrupt, "sign for a space is a space", unigram([](auto& t) { t.space = " "; })},
      {"added", kCorrupt, "added token 32", unigram(added([](auto& a) { a.token = 32; }))},
      {"added text", kCorrupt, "added token is not UTF-8",
       unigram(added([](auto& a) { a.text = "\xff"; }))},
      {"added to bytes", kCorrupt, "added token 32",
       [added](auto& g) { added([](auto& a) { a.token = 32; })(*g.tokenizer); }},
      {"prefix of bytes", kUnsupported, "of a byte-level vocabulary",
       [](auto& g) { g.tokenizer->space_prefix = fb::SpacePrefix::Always; }},
  });
}

TEST_CASE("steps and cuts of text that lie are refused", "[model][hostile]") {
  const auto step = [](auto edit) {
    return [edit](fb::ModelT& g) {
      g.tokenizer->normal_steps.push_back(std::make_unique<fb::NormalStepT>());
      edit(*g.tokenizer->normal_steps[0]);
    };
  };
  const auto cut = [](auto edit) {
    return [edit](fb::ModelT& g) {
      g.tokenizer->patterns.clear();
      g.tokenizer->splits.push_back(std::make_unique<fb::SplitT>());
      edit(*g.tokenizer->splits[0]);
    };
  };
  const auto replace = [](auto& s) { s.kind = fb::NormalStepKind::Replace; };
  ExpectRefused({
      {"kind", kUnsupported, "normal step 9",
       step([](auto& s) { s.kind = static_cast<fb::NormalStepKind>(9); })},
      {"form", kUnsupported, "normal form 7",
       step([](auto& s) { s.form = static_cast<fb::NormalForm>(7); })},
      {"no pattern", kCorrupt, "normal pattern 0 is empty", step(replace)},
      {"pattern", kCorrupt, "normal pattern of 16385 bytes", step([=](auto& s) {
         replace(s);
         s.pattern.assign(16385, 'a');
       })},
      {"text", kCorrupt, "text of a normal step of 65 bytes",
       step([](auto& s) { s.text.assign(65, 'a'); })},
      {"charsmap", kCorrupt, "a charsmap of 16777217 bytes",
       step([](auto& s) { s.charsmap.assign((16u << 20) + 1, 0); })},
      {"form beside steps", kCorrupt, "a normal form beside normal steps",
       [step](auto& g) {
         step([](auto&) {})(g);
         g.tokenizer->normal_form = fb::NormalForm::NFC;
       }},
      {"behaviour", kUnsupported, "split behaviour 6",
       cut([](auto& s) { s.behaviour = static_cast<fb::SplitBehaviour>(6); })},
      {"cut", kCorrupt, "split pattern of 16385 bytes",
       cut([](auto& s) { s.pattern.assign(16385, 'a'); })},
      {"patterns beside cuts", kCorrupt, "split patterns beside splits",
       [](auto& g) { g.tokenizer->splits.push_back(std::make_unique<fb::SplitT>()); }},
  });
}

TEST_CASE("metadata and sampling hints out of range are refused", "[model][hostile]") {
  ExpectRefused({
      {"no vocabulary", kCorrupt, "vocabulary 0", [](auto& g) { g.metadata->vocabulary = 0; }},
      {"vocabulary -1", kCorrupt, "vocabulary 4294967295",
       [](auto& g) { g.metadata->vocabulary = 0xffffffff; }},
      {"temperature", kCorrupt, "temperature nan", [](auto& g) { g.sampling->temperature = kNan; }},
      {"top_p", kCorrupt, "top_p 1.5", [](auto& g) { g.sampling->top_p = 1.5f; }},
      {"min_p", kCorrupt, "min_p -0.5", [](auto& g) { g.sampling->min_p = -0.5f; }},
      {"penalty", kCorrupt, "repetition penalty inf",
       [](auto& g) { g.sampling->repetition_penalty = std::numeric_limits<float>::infinity(); }},
      {"licence", kCorrupt, "license of 70000 bytes",
       [](auto& g) { g.metadata->license.assign(70000, 'x'); }},
  });
}

}  // namespace
}  // namespace headroom
