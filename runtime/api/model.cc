// extern "C" shims: status names, models, tokens. No logic.
#include <new>
#include <utility>

#include "api/guard.h"
#include "api/handles.h"

using headroom::Result;
using headroom::Status;
using headroom::StatusCode;
using headroom::api::CopyIn;
using headroom::api::CopyName;
using headroom::api::CopyOut;
using headroom::api::Guarded;
using headroom::api::NoTokenizer;
using headroom::api::NullArgument;
using headroom::api::Report;

namespace {

using ModelResult = Result<std::unique_ptr<headroom::model::Model>>;

headroom::session::EngineOptions EngineOptionsOf(const hr_model_options& options) {
  headroom::session::EngineOptions engine;
  const hr_hooks hooks = CopyIn(options.hooks);
  engine.hooks = {hooks.allocate, hooks.release, hooks.user_data};
  engine.log = {hooks.log, hooks.user_data};
  if (options.cache_directory != nullptr) engine.cache_directory = options.cache_directory;
  engine.progress = options.progress;
  engine.progress_user_data = options.progress_user_data;
  return engine;
}

Result<hr_model*> MakeModel(ModelResult opened, const hr_model_options& options, bool mapped) {
  HR_ASSIGN_OR_RETURN(auto model, std::move(opened));
  auto handle = std::make_unique<hr_model>();
  headroom::session::EngineOptions engine_options = EngineOptionsOf(options);
  engine_options.weights_are_mapped = mapped;
  HR_ASSIGN_OR_RETURN(handle->engine, headroom::session::Engine::Create(std::move(model),
                                                                        std::move(engine_options)));
  const auto& spec = handle->engine->model().tokenizer;
  if (spec.kind != headroom::model::TokenizerKind::kNone) {
    HR_ASSIGN_OR_RETURN(handle->tokenizer, headroom::text::Tokenizer::Create(spec));
  }
  return handle.release();
}

// `open` takes the loader's options and returns the loader's result.
template <typename Open>
hr_status OpenModel(const hr_model_options* given, hr_model** out_model, hr_error* error,
                    bool mapped, const Open& open) {
  if (out_model == nullptr) return NullArgument("out_model", error);
  *out_model = nullptr;
  const hr_model_options options = CopyIn(given);
  const hr_hooks hooks = CopyIn(options.hooks);
  if ((hooks.allocate == nullptr) != (hooks.release == nullptr)) {
    return Report(Status::Make(StatusCode::kInvalidArgument,
                               "hooks: allocate and release must be given together"),
                  error);
  }
  headroom::model::OpenOptions open_options;
  open_options.verify_checksums = options.verify_checksums;
  open_options.log = {hooks.log, hooks.user_data};
  open_options.progress = options.progress;
  open_options.progress_user_data = options.progress_user_data;
  return Guarded(error, [&]() -> hr_status {
    Result<hr_model*> model = MakeModel(open(open_options), options, mapped);
    if (!model.ok()) return Report(model.status(), error);
    *out_model = model.value();
    return Report({}, error);
  });
}

}  // namespace

extern "C" {

const char* hr_status_name(hr_status status) {
  return headroom::StatusCodeName(static_cast<StatusCode>(status));
}

uint32_t hr_version(void) {
  return HR_VERSION_MAJOR << 16 | HR_VERSION_MINOR << 8 | HR_VERSION_PATCH;
}

hr_status hr_model_open_path(const char* path, const hr_model_options* options,
                             hr_model** out_model, hr_error* error) {
  if (path == nullptr) return NullArgument("path", error);
  return OpenModel(options, out_model, error, true, [&](const auto& open_options) {
    return headroom::model::Model::OpenPath(path, open_options);
  });
}

hr_status hr_model_open_fd(int fd, uint64_t offset, uint64_t length,
                           const hr_model_options* options, hr_model** out_model, hr_error* error) {
  return OpenModel(options, out_model, error, true, [&](const auto& open_options) {
    return headroom::model::Model::OpenFd(fd, offset, length, open_options);
  });
}

hr_status hr_model_open_memory(const void* data, size_t bytes, const hr_model_options* options,
                               hr_model** out_model, hr_error* error) {
  if (data == nullptr) return NullArgument("data", error);
  return OpenModel(options, out_model, error, false, [&](const auto& open_options) {
    return headroom::model::Model::OpenMemory(data, bytes, open_options);
  });
}

void hr_model_release(hr_model* model) { delete model; }

hr_status hr_model_get_facts(const hr_model* model, hr_model_facts* out_facts) {
  if (model == nullptr || out_facts == nullptr) return HR_INVALID_ARGUMENT;
  const headroom::model::Model& m = model->engine->model();
  hr_model_facts facts = {};
  CopyName(m.metadata.name, facts.name);
  CopyName(m.metadata.architecture, facts.architecture);
  facts.file_bytes = m.file_bytes;
  facts.digest = m.digest;
  facts.layers = static_cast<uint32_t>(m.attentions.size());
  facts.linear_layers = static_cast<uint32_t>(m.linears.size());
  facts.channels = m.ops.empty() ? 0 : m.values[m.ops.front().output].width;
  facts.vocabulary = m.metadata.vocabulary;
  facts.context_tokens = m.metadata.context_tokens;
  for (const auto& op : m.image.ops) {
    facts.layers += op.kind == headroom::model::ImageOpKind::kSelfAttention;
  }
  if (m.image.features != headroom::model::kNone) {
    facts.channels = m.image.values[static_cast<size_t>(m.image.features)].channels;
  }
  for (const auto& tensor : m.tensors) {
    uint64_t elements = 1;
    for (uint8_t i = 0; i < tensor.rank; ++i) elements *= tensor.extents[i];
    facts.parameters += elements;
  }
  facts.has_tokenizer = model->tokenizer != nullptr;
  CopyOut(facts, out_facts);
  return HR_OK;
}

hr_status hr_tokenize(const hr_model* model, const char* text, size_t bytes, uint32_t flags,
                      int32_t* tokens, size_t capacity, size_t* out_count, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_count == nullptr) return NullArgument("out_count", error);
    *out_count = 0;
    if (text == nullptr && bytes != 0) return NullArgument("text", error);
    if (tokens == nullptr && capacity != 0) return NullArgument("tokens", error);
    if (model->tokenizer == nullptr) return Report(NoTokenizer(), error);
    return Report(model->tokenizer->Encode({text, bytes}, flags, {tokens, capacity}, out_count),
                  error);
  });
}

hr_status hr_detokenize(const hr_model* model, const int32_t* tokens, size_t count, char* text,
                        size_t capacity, size_t* out_bytes, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_bytes == nullptr) return NullArgument("out_bytes", error);
    *out_bytes = 0;
    if (tokens == nullptr && count != 0) return NullArgument("tokens", error);
    if (text == nullptr && capacity != 0) return NullArgument("text", error);
    if (model->tokenizer == nullptr) return Report(NoTokenizer(), error);
    return Report(model->tokenizer->Decode({tokens, count}, {text, capacity}, out_bytes), error);
  });
}

bool hr_is_end_token(const hr_model* model, int32_t token) {
  if (model == nullptr) return false;
  const auto& ends = model->engine->model().tokenizer.end_tokens;
  return std::find(ends.begin(), ends.end(), static_cast<uint32_t>(token)) != ends.end();
}

hr_status hr_model_profile_count(const hr_model* model, size_t* out_count) {
  if (model == nullptr || out_count == nullptr) return HR_INVALID_ARGUMENT;
  *out_count = model->engine->model().profiles.size();
  return HR_OK;
}

hr_status hr_model_profile_name(const hr_model* model, size_t index, const char** out_name,
                                hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_name == nullptr) return NullArgument("out_name", error);
    const auto& profiles = model->engine->model().profiles;
    if (index >= profiles.size()) {
      return Report(headroom::Status::Make(headroom::StatusCode::kInvalidArgument,
                                           "profile %zu of %zu", index, profiles.size()),
                    error);
    }
    *out_name = profiles[index].name.data();  // strings of a FlatBuffer end in a NUL
    return Report({}, error);
  });
}

}  // extern "C"
