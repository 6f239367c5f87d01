// A small model of everything that linear attention is made of.
#pragma once

#include "convert/hrm_writer.h"

namespace headroom::test {

// C 32, V 40, f32. Layers: convolution of two taps, products, additive with a constant decay a
// channel, a bonus and a grouped norm; convolution of four with silu, Gated delta with a decay and
// a strength a token; softmax attention in a window of 16, where `attends`; removal with a decay a
// channel and a head product; element decay; a decay a head and the sum of keys.
convert::ModelDescription LinearDescription(bool attends = true);

}  // namespace headroom::test
