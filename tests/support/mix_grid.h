// The cases a softmax kernel must pass: every dimension around the tiles of any of our kernels (4,
// 6, 8, 16, 64), combined in pairs, and the named edges.
#pragma once

#include <vector>

#include "support/mix_tester.h"

namespace headroom::test {

inline constexpr RowCodec kAllCodecs[kRowCodecs] = {
    RowCodec::kF32, RowCodec::kF16, RowCodec::kI8Token, RowCodec::kBlock8, RowCodec::kBlock4};

// Walks the lists with strides that share no factor with their lengths, so that all pairs of
// neighbours meet.
inline std::vector<MixCase> PairedMixCases(RowCodec codec, uint32_t count) {
  constexpr uint32_t kRows[] = {1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 63, 64, 65, 66, 97, 128, 131};
  constexpr uint32_t kTokens[] = {1, 1, 1, 2, 3, 5, 8, 17, 33};
  constexpr uint32_t kGroups[] = {1, 2, 3, 4, 5, 7, 8};
  constexpr uint32_t kWidths[] = {1, 3, 8, 15, 16, 17, 24, 32, 40, 64, 72, 80, 128};
  const auto pick = [](const auto& list, uint32_t i) { return list[i % std::size(list)]; };
  std::vector<MixCase> cases;
  for (uint32_t i = 0; i < count; ++i) {
    MixCase c;
    c.codec = codec;
    c.rows = pick(kRows, i * 5 + 3);
    c.tokens = std::min(pick(kTokens, i), c.rows);
    c.group = pick(kGroups, i * 3 + i / 9);
    c.key_width = pick(kWidths, i * 2 + i / 7);
    c.value_width = i % 3 == 0 ? pick(kWidths, i * 7 + 1) : c.key_width;
    if (i % 4 == 1) c.left = i % 23;
    if (i % 8 == 5) c.sinks = 1 + i % 5;
    if (i % 5 == 2) c.softcap = 3.0f;
    c.layout = i % 6 == 3 ? Layout::kRing : i % 6 == 4 ? Layout::kHoles : Layout::kDense;
    c.splits = 1 + (i % 7 == 6 ? 2 : 0);
    c.poison_behind = i % 2 == 1;
    if (i % 3 == 1) c.value_codec = pick(kAllCodecs, i);
    c.bias = i % 5 == 1;
    if (i % 7 == 3) {
      c.tail_width = pick(kWidths, i * 3);
      c.tail_codec = pick(kAllCodecs, i / 7);
    }
    c.latent = i % 9 == 4 && c.value_width <= c.key_width;
    if (c.layout == Layout::kDense && i % 11 == 7) c.first_position = 40 + static_cast<int32_t>(i);
    c.seed = i + 1;
    cases.push_back(c);
  }
  return cases;
}

// Rows that exist for one reason each. Long because it is a list: one entry per edge, nothing
// nested.
inline std::vector<MixCase> EdgeMixCases(RowCodec codec) {
  MixCase base;
  base.codec = codec;
  base.rows = 100;
  base.group = 4;
  base.key_width = base.value_width = 64;
  std::vector<MixCase> cases;
  const auto add = [&](auto change) {
    for (const uint32_t tokens : {1u, 20u}) {  // the decode path and the tile path
      MixCase c = base;
      c.tokens = tokens;
      change(c);
      c.seed = static_cast<uint32_t>(1000 + cases.size());
      cases.push_back(c);
    }
  };
  add([](MixCase& c) { c.logits = Logits::kLarge; });
  add([](MixCase& c) {
    c.logits = Logits::kLarge;
    c.splits = 4;
  });
  add([](MixCase& c) { c.logits = Logits::kEqual; });
  add([](MixCase& c) {
    c.logits = Logits::kLarge;
    c.softcap = 20.0f;
  });
  add([](MixCase& c) { c.left = 0; });           // only itself
  add([](MixCase& c) { c.left = c.rows - 2; });  // the oldest row just out of sight of the last
  add([](MixCase& c) { c.left = c.rows - 1; });  // just in sight
  add([](MixCase& c) { c.left = c.rows; });
  add([](MixCase& c) {
    c.left = 63;
    c.rows = 128;
  });  // window edges on block edges
  add([](MixCase& c) {
    c.left = 64;
    c.rows = 129;
  });
  add([](MixCase& c) {
    c.left = 10;
    c.sinks = 4;
  });  // hidden rows between sinks and window
  add([](MixCase& c) {
    c.left = 10;
    c.sinks = 4;
    c.rows = 300;
    c.splits = 3;
  });  // whole blocks unseen
  add([](MixCase& c) {
    c.sinks = 70;
    c.left = 5;
    c.rows = 200;
  });  // sinks across a block edge
  add([](MixCase& c) {
    c.layout = Layout::kRing;
    c.left = 70;
    c.sinks = 3;
  });
  add([](MixCase& c) {
    c.layout = Layout::kHoles;
    c.left = 40;
  });
  add([](MixCase& c) {
    c.rows = 20;
    c.poison_behind = true;
  });  // T = S for the tile: first query sees one row
  add([](MixCase& c) {
    c.group = 1;
    c.rows = 257;
    c.splits = 5;
  });
  add([](MixCase& c) {
    c.group = 16;
    c.rows = 65;
  });
  add([](MixCase& c) {
    c.key_width = 192;
    c.value_width = 128;
  });
  add([](MixCase& c) {
    c.key_width = 576;
    c.value_width = 96;
    c.rows = 70;
  });  // more than 512: fewer bits of q
  add([](MixCase& c) {
    c.key_width = c.value_width = 256;
    c.rows = 70;
  });
  add([](MixCase& c) { c.bias = true; });
  add([](MixCase& c) {  // a cap between dot product and bias
    c.bias = true;
    c.softcap = 3.0f;
    c.logits = Logits::kLarge;
  });
  add([](MixCase& c) {
    c.bias = true;
    c.layout = Layout::kRing;
    c.left = 70;
    c.sinks = 3;
    c.splits = 3;
  });
  add([](MixCase& c) { c.first_position = 1000; });
  add([](MixCase& c) {
    c.first_position = 77;
    c.left = 30;
    c.sinks = 4;
  });
  for (const RowCodec other : kAllCodecs) {
    add([&](MixCase& c) { c.value_codec = other; });
    add([&](MixCase& c) {
      c.value_codec = other;
      c.layout = Layout::kHoles;
      c.left = 40;
      c.bias = true;
    });
    add([&](MixCase& c) {  // a latent with its rotary key
      c.key_width = 128;
      c.value_width = 112;
      c.tail_width = 32;
      c.tail_codec = other;
      c.latent = true;
      c.group = 5;
      c.layout = Layout::kRing;
      c.left = 70;
    });
    add([&](MixCase& c) {
      c.tail_width = 20;
      c.tail_codec = other;
      c.bias = true;
    });
    add([&](MixCase&
                c) {  // a latent as wide as its values, which few queries read as rows of codes
      c.key_width = c.value_width = 96;
      c.tail_width = 20;
      c.tail_codec = other;
      c.latent = true;
      c.layout = Layout::kHoles;
      c.left = 40;
    });
  }
  add([](MixCase& c) {  // as DeepSeek-V2 has it
    c.key_width = c.value_width = 512;
    c.tail_width = 64;
    c.latent = true;
    c.group = 16;
    c.rows = 70;
    c.tokens = std::min(c.tokens, 3u);
  });
  return cases;
}

inline std::vector<MixCase> AllMixCases(RowCodec codec, uint32_t paired) {
  std::vector<MixCase> cases = PairedMixCases(codec, paired);
  const std::vector<MixCase> edges = EdgeMixCases(codec);
  cases.insert(cases.end(), edges.begin(), edges.end());
  return cases;
}

}  // namespace headroom::test
