// Logits of a GGUF file by llama.cpp: every token of a prompt in one batch, then one by one.
//   llama_logits MODEL PROMPT_TOKENS OUT TOKEN...
// Writes float32 [tokens, vocabulary]. Caches in f32, no flash attention, one thread.
#include <stdio.h>
#include <stdlib.h>

#include <ggml-backend.h>
#include <llama.h>

static void quiet(enum ggml_log_level level, const char* text, void* user) {
  (void)user;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void decode(struct llama_context* context, const llama_token* tokens, int first, int count,
                   int vocabulary, FILE* out) {
  struct llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int i = 0; i < count; ++i) {
    batch.token[i] = tokens[first + i];
    batch.pos[i] = first + i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) exit(3);
  for (int i = 0; i < count; ++i) {
    const float* logits = llama_get_logits_ith(context, i);
    if (fwrite(logits, sizeof(float), vocabulary, out) != (size_t)vocabulary) exit(4);
  }
  llama_batch_free(batch);
}

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  llama_log_set(quiet, NULL);
  ggml_backend_load_all();
  struct llama_model_params model_params = llama_model_default_params();
  model_params.n_gpu_layers = 0;
  struct llama_model* model = llama_model_load_from_file(argv[1], model_params);
  if (!model) return 3;
  const int prompt = atoi(argv[2]), count = argc - 4;
  llama_token* tokens = malloc(sizeof(llama_token) * count);
  for (int i = 0; i < count; ++i) tokens[i] = atoi(argv[4 + i]);
  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = 64;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  struct llama_context* context = llama_init_from_model(model, params);
  if (!context) return 3;
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  FILE* out = fopen(argv[3], "wb");
  if (!out) return 4;
  decode(context, tokens, 0, prompt, vocabulary, out);
  for (int i = prompt; i < count; ++i) decode(context, tokens, i, 1, vocabulary, out);
  return fclose(out) == 0 ? 0 : 4;
}
