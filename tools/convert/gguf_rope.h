// The rotation that a GGUF file's keys and factors describe, in the words of config.json.
#pragma once

#include "convert/gguf.h"
#include "convert/gguf_keys.h"
#include "convert/gguf_names.h"

namespace headroom::convert {

// Adds to `config` what ReadShape reads, and takes the tensors that hold factors out of the table.
// `head_width`: D. Errors: kUnsupported (names the key), kCorrupt.
Status DescribeGgufRotation(const GgufArchitecture& architecture, const Recipe& recipe,
                            double head_width, GgufFile& gguf, GgufKeys& keys, Json& config);

}  // namespace headroom::convert
