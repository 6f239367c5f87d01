// Second moments of the queries, keys and values that a model makes of a text, and the bases that
// follow from them.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/bases.h"
#include "convert/convert.h"
#include "model/model.h"

namespace headroom::convert {

class KvMoments {
 public:
  // Of a model whose weights are f16 or f32.
  Status Open(const std::string& path);
  // What hr_session_observe_inputs calls.
  static void Add(void* self, const char* name, size_t name_bytes, const float* x, size_t rows,
                  size_t columns) {
    static_cast<KvMoments*>(self)->AddToken({name, name_bytes}, x, rows * columns);
  }
  // Once the text has been read. Layers of latents, of another's rows or of heads that do not go
  // together have none. kUnsupported when all are like that. *summary: a line that says how much
  // half of the numbers keep.
  Result<std::vector<LayerBases>> Bases(std::string* summary) const;

 private:
  // By KV head.
  struct Layer {
    std::vector<Moments> queries, keys, values;
    std::vector<std::vector<double>> readers;  // of values: sum over heads of W^T W, W the output's
  };
  void AddToken(std::string_view name, const float* x, size_t numbers);
  void AddReaders(const model::AttentionSpec& spec, Layer* layer) const;
  // The layer whose rows an attention reads.
  size_t Owner(size_t attention) const;

  std::unique_ptr<model::Model> model_;
  std::vector<Layer> layers_;  // empty vectors: no bases
};

}  // namespace headroom::convert
