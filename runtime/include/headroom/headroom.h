/* Headroom: run a language model on a device inside a stated number of bytes.
 *
 * The whole public interface; C99 and C++. Copyright the Headroom authors; Apache-2.0.
 *
 * OWNERSHIP. Functions named *_open*, *_create, *_fork give the caller an object to release with
 * the matching *_release. Everything else that returns a pointer lends it: valid until the object
 * it came from is changed or released, as said at the function. Sessions keep their model alive by
 * themselves.
 *
 * ERRORS. Every call returns an hr_status; HR_OK is 0. When the call takes an hr_error (may be
 * NULL) and fails, its text says fact, value and limit. A failed call leaves every object as it
 * was. Passing NULL where an object or out-parameter is required is HR_INVALID_ARGUMENT, never a
 * crash.
 *
 * THREADS. A model may be used from any number of threads at once. A session is used by one thread
 * at a time; hr_session_cancel alone may be called from any thread. Different sessions are
 * independent.
 *
 * OPTIONS. Option structs begin with struct_size; set it to sizeof(the struct), or leave 0 for "the
 * fields of the first version". All-zero is valid and means the documented defaults.
 *
 * The library never aborts, exits, prints, throws across this boundary or runs code before main.
 */
#ifndef HEADROOM_HEADROOM_H_
#define HEADROOM_HEADROOM_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define HR_API __attribute__((visibility("default")))
#else
#define HR_API
#endif

#define HR_VERSION_MAJOR 0
#define HR_VERSION_MINOR 1
#define HR_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ------------------------------------------------------------------------------------
 */

typedef int32_t hr_status;
enum {
  HR_OK = 0,
  /* 1xx: the call. Fix the arguments or the order of calls. */
  HR_INVALID_ARGUMENT = 100, /* a value is out of its range; the text names it */
  HR_WRONG_STATE = 101,      /* the call needs another one before it */
  HR_UNSUPPORTED = 102,      /* this build or model cannot do it; the text names what */
  HR_CANCELLED = 103,        /* a callback or hr_session_cancel stopped the work; not an error */
  HR_CONTEXT_FULL = 104, /* more tokens than the session's context; rewind or make a larger one */
  HR_BUFFER_TOO_SMALL = 105, /* the needed size was written to the count parameter; call again */
  /* 2xx: a file. Retrying does not help; get another file. */
  HR_NOT_FOUND = 200,
  HR_IO = 201,
  HR_CORRUPT = 202,      /* damaged or hostile; nothing of it was used */
  HR_NEWER_FORMAT = 203, /* needs a newer build; the text names the feature */
  HR_MISMATCH = 204,     /* a session file of another model, layout or codec */
  /* 3xx: memory. Lower the context, choose a smaller cache type, or raise the budget. */
  HR_OVER_BUDGET = 300, /* the plan needs more than the budget; the text says how many bytes more */
  HR_OUT_OF_MEMORY = 301, /* the system or the app's allocator refused */
  /* 4xx, 5xx */
  HR_DEVICE = 400,  /* a device failed; the session can continue on the CPU */
  HR_INTERNAL = 500 /* a defect of Headroom; please report the text */
};

/* Filled by a failing call, emptied by a succeeding one; owned by the caller, nothing to free. */
typedef struct hr_error {
  char text[256]; /* UTF-8, always terminated */
} hr_error;

/* Short English name of a status; static storage, never NULL. */
HR_API const char* hr_status_name(hr_status status);

/* (major << 16) | (minor << 8) | patch of the library that is running. */
HR_API uint32_t hr_version(void);

/* ---- Hooks -------------------------------------------------------------------------------------
 */

enum { HR_LOG_ERROR = 0, HR_LOG_WARNING = 1, HR_LOG_INFO = 2 };

/* The app's own memory and log. All members may be NULL. Copied at hr_model_open_*; user_data must
 * outlive the model and its sessions. `log` may be called from any thread. `allocate` is called
 * only while models are opened and sessions are made, for the large regions of the plan. */
typedef struct hr_hooks {
  size_t struct_size;
  void* (*allocate)(void* user_data, size_t bytes, size_t alignment);
  void (*release)(void* user_data, void* memory, size_t bytes);
  void (*log)(void* user_data, int32_t level, const char* message);
  void* user_data;
} hr_hooks;

/* ---- Model -------------------------------------------------------------------------------------
 */

typedef struct hr_model hr_model;

typedef struct hr_model_options {
  size_t struct_size;
  const hr_hooks* hooks;       /* NULL: system memory, no log */
  const char* cache_directory; /* where packed weights are kept between runs; NULL: nowhere, they
                                  are packed into private memory at every start. Plans trust that it
                                  can be written; a creation that finds it cannot takes private
                                  memory if its budgets have room, else it is OVER_BUDGET */
  bool verify_checksums; /* read and check every weight byte now; otherwise only the structure */
  /* Progress of opening and of packing weights, fraction 0..1; return false to cancel. Weights are
   * packed by the first hr_session_create; callbacks during it may plan, tokenize and ask for facts
   * of the model, but not create a session of it (WRONG_STATE). */
  bool (*progress)(void* user_data, float fraction);
  void* progress_user_data;
} hr_model_options;

/* Opens a .hrm model. The file is mapped, not read; it must not change while the model is open.
 *
 * path: UTF-8 path of a regular file.
 *
 * fd: borrowed for the call; [offset, offset + length) holds the model (an asset inside an APK);
 * offset is a multiple of 64; length 0 means to the end.
 *
 * data: 64-byte aligned; must stay valid and unchanged until the model and all its sessions are
 * released, since sessions read weights and token texts from it.
 *
 * `progress` and its user data are kept: hr_session_create calls them too while it packs weights,
 * so they must stay valid until the model is released.
 *
 * Errors: NOT_FOUND, IO, CORRUPT, NEWER_FORMAT, UNSUPPORTED, OUT_OF_MEMORY, CANCELLED,
 * INVALID_ARGUMENT (a window that leaves the file, data not aligned, one hook without the other).
 */
HR_API hr_status hr_model_open_path(const char* path, const hr_model_options* options,
                                    hr_model** out_model, hr_error* error);
HR_API hr_status hr_model_open_fd(int fd, uint64_t offset, uint64_t length,
                                  const hr_model_options* options, hr_model** out_model,
                                  hr_error* error);
HR_API hr_status hr_model_open_memory(const void* data, size_t bytes,
                                      const hr_model_options* options, hr_model** out_model,
                                      hr_error* error);

/* Drops the caller's hold; freed when the last session goes. NULL is allowed. */
HR_API void hr_model_release(hr_model* model);

typedef struct hr_model_facts {
  size_t struct_size;
  char name[64];
  char architecture[64];
  uint64_t file_bytes;
  uint64_t digest;         /* identity of graph and weights */
  uint32_t layers;         /* of softmax attention */
  uint32_t channels;       /* C */
  uint32_t vocabulary;     /* V */
  uint32_t context_tokens; /* trained maximum */
  uint64_t parameters; /* stored weights; a head stored apart from a tied embedding counts too */
  bool has_tokenizer;
  uint32_t linear_layers; /* of linear attention */
} hr_model_facts;
/* Facts of an open model. Any thread. Error: INVALID_ARGUMENT for NULL. */
HR_API hr_status hr_model_get_facts(const hr_model* model, hr_model_facts* out_facts);

/* ---- Tokens ------------------------------------------------------------------------------------
 */

enum {
  HR_TOKENIZE_NO_BEGIN = 1, /* do not prepend the model's begin token */
  HR_TOKENIZE_NO_SPECIAL =
      2 /* treat the text of special tokens as ordinary text (untrusted input) */
};

/* Text (UTF-8, `bytes` long, may contain NUL) to token ids. *out_count receives the number of
 * tokens, also when `capacity` is too small (BUFFER_TOO_SMALL; tokens may be NULL with capacity 0).
 * Errors: UNSUPPORTED when the model carries no tokenizer. */
HR_API hr_status hr_tokenize(const hr_model* model, const char* text, size_t bytes, uint32_t flags,
                             int32_t* tokens, size_t capacity, size_t* out_count, hr_error* error);

/* Token ids to bytes; not terminated; a token may end inside a UTF-8 character. *out_bytes as
 * above. Errors: INVALID_ARGUMENT for an id outside the vocabulary, UNSUPPORTED without a
 * tokenizer. */
HR_API hr_status hr_detokenize(const hr_model* model, const int32_t* tokens, size_t count,
                               char* text, size_t capacity, size_t* out_bytes, hr_error* error);

/* True when `token` ends a text for this model. */
HR_API bool hr_is_end_token(const hr_model* model, int32_t token);

/* ---- Conversations -----------------------------------------------------------------------------
 */

/* A conversation is a system message or none, then messages of user and assistant in turn. A chat
 * format says how it is spelled; the library has those of common model families by name. What a
 * message says never becomes a special token, whatever its text: only the format's own text does.
 *
 *   messages = system, user                        prefill(hr_chat_tokens(done 0)), generate
 *   messages = system, user, assistant, user       prefill(hr_chat_tokens(done 3)), generate
 *
 * so each turn reads only what is new. What was generated stays in the session as it was. */
enum { HR_ROLE_SYSTEM = 0, HR_ROLE_USER = 1, HR_ROLE_ASSISTANT = 2 };

typedef struct hr_chat_message {
  int32_t role;     /* HR_ROLE_* */
  const char* text; /* UTF-8; may contain NUL */
  size_t bytes;
} hr_chat_message;

typedef struct hr_chat_options {
  size_t struct_size;
  const char* format; /* a name of hr_chat_format_name; NULL: the one that the model file names */
  const char* date;   /* today, for formats that say it; NULL: "2024-07-26" */
  size_t done;        /* so many of the messages are in the session already, the first ones */
  bool answer_cut; /* the last of those is an answer that stopped before its end: at a limit, by a
                      callback, a cancel or a full context */
} hr_chat_options;

/* The tokens that go into the session next: the begin token where the format has one, the messages
 * that are not done, and, after one of the user, what asks for the answer. *out_count receives the
 * number of tokens, also when `capacity` is too small (BUFFER_TOO_SMALL; tokens may be NULL with
 * capacity 0). Any thread. Errors: UNSUPPORTED (no tokenizer; no format named; a name that is
 * unknown; special tokens of the format that the vocabulary lacks; a system message where the
 * format has no place for it), INVALID_ARGUMENT (roles out of order, more done than there are, a
 * date that is none). */
HR_API hr_status hr_chat_tokens(const hr_model* model, const hr_chat_message* messages,
                                size_t count, const hr_chat_options* options, int32_t* tokens,
                                size_t capacity, size_t* out_count, hr_error* error);

typedef struct hr_chat_facts {
  size_t struct_size;
  char format[32];
  char end[64]; /* text that ends an answer: a stop sequence for hr_session_generate, beside the
                   model's end tokens */
  bool takes_system; /* there is a place for a system message */
} hr_chat_facts;
/* What is to be known of a format; `format` NULL: the one that the model file names. Any thread.
 * Errors: UNSUPPORTED as above, INVALID_ARGUMENT for NULL. */
HR_API hr_status hr_chat_get_facts(const hr_model* model, const char* format,
                                   hr_chat_facts* out_facts, hr_error* error);

/* Names of all formats, by index from 0; NULL past the last. Static storage. */
HR_API const char* hr_chat_format_name(size_t index);

/* ---- Plan --------------------------------------------------------------------------------------
 */

/* How cached rows are kept. AUTO takes the best that fits the budget: of the profiles that the
 * model file carries, best measured quality first; without any, f16, then int8, then 4 bits.
 *
 * INT8        8 bits, scale and minimum by row
 * INT8_BLOCK  8 bits, a scale by 32 elements
 * INT4_BLOCK  4 bits, a scale by 32 elements; the first 4 rows stay in f16, rows are rotated
 * PROFILE     in reports: what `profile` says */
enum {
  HR_KV_AUTO = 0,
  HR_KV_F32 = 1,
  HR_KV_F16 = 2,
  HR_KV_INT8 = 3,
  HR_KV_INT8_BLOCK = 4,
  HR_KV_INT4_BLOCK = 5,
  HR_KV_PROFILE = 6
};
enum { HR_BACKEND_CPU = 0 };

typedef struct hr_session_options {
  size_t struct_size;
  uint64_t budget_bytes;         /* everything the model may cost the process; 0: no limit */
  uint64_t private_budget_bytes; /* limit for the part the system cannot take back; 0: no limit */
  /* 0: the largest that fits, at most the trained maximum. More than that only if `profile` gives
   * every head a window that fits into it, whose sinks have relative positions. */
  uint32_t context_tokens;
  uint32_t chunk_tokens; /* prefill chunk; 0: the largest of 512, 256 ... 8 that fits */
  uint32_t threads;      /* 0: the fast cores */
  int32_t kv;            /* HR_KV_*; not PROFILE */
  int32_t backend;       /* HR_BACKEND_* */
  /* NULL: as `kv` says. Else, with kv AUTO, the name of a profile of the model, or words that say
   * how the rows of every KV head are kept, separated by spaces:
   *   f32 f16 int8 int8/32 int4/32     a codec; or keys=CODEC values=CODEC
   *   exact=N                          the first N rows in f16, at most 64
   *   keyrank=N valuerank=N            of a model in a basis: the first N numbers of a row alone,
   *     N a multiple of 8
   *   rotate                           by a Walsh-Hadamard matrix before rows are rounded
   *   window | compensated | accumulated | observed, which rows stay:
   *     the last ones; those and one that stands for the others (arXiv 2407.15891); those with most
   *     attention from all queries (2306.14048); from the last `observe` queries (2404.14469)
   *   rows=N share=X                   how many stay: N, at least X of the context
   *   sinks=N observe=N pool=N maxpool=N
   *   relative                         of a window: positions are places among the rows that stay,
   *     so that a text may be longer than what the model was trained on (arXiv 2309.17453)
   * or several such roles separated by semicolons, all but the first for some heads only:
   *   int8; heads=0.1+3.0 int8 window rows=256
   * Layers are those with cached rows, counted from 0: layers of linear attention have none, and
   * a model of them alone nothing that a profile could change. A layer with a window of its own
   * keeps that. The text is not kept. */
  const char* profile;
  /* Models with recurrent state (linear attention): bytes for checkpoints of it, from which a
   * rewind starts again; 0: one checkpoint, and never less. Prefill makes one before each chunk and
   * one behind the last, decoding one every checkpoint_tokens tokens (0: 512); where there is no
   * room, older ones grow sparser. */
  uint64_t checkpoint_bytes;
  uint32_t checkpoint_tokens;
} hr_session_options;

/* What a quality counts: of accuracy and recall more is better, of the others less. */
enum {
  HR_METRIC_NONE = 0, /* nothing was measured */
  HR_METRIC_PERPLEXITY = 1,
  HR_METRIC_ACCURACY = 2,
  HR_METRIC_KL_DIVERGENCE = 3,
  HR_METRIC_RECALL = 4
};

/* What a session with these options costs, in bytes by class. total = mapped + private. */
typedef struct hr_plan_report {
  size_t struct_size;
  bool fits;
  uint64_t missing_bytes; /* when !fits: how many more the budget needs */
  uint64_t total_bytes;
  uint64_t mapped_bytes;  /* clean file pages: the system can take them back */
  uint64_t private_bytes; /* it cannot take these back */
  uint64_t weight_bytes;  /* weights read from the model file itself (embeddings, norms) */
  uint64_t packed_bytes;  /* dense weights in the CPU's own order; mapped with a cache directory */
  uint64_t state_bytes;   /* cached rows of all layers */
  uint64_t activation_bytes;
  uint64_t scratch_bytes;
  uint64_t runtime_bytes;         /* operators, tables, the session object */
  uint64_t state_bytes_per_token; /* what one more token of context costs */
  uint64_t decode_read_bytes;     /* weights + state read per decoded token at full context;
                                     recurrent state counts twice, it is written, too */
  uint32_t context_tokens;
  uint32_t max_context_tokens; /* largest that fits this budget with this kv type; 0: none */
  uint32_t chunk_tokens;
  uint32_t threads;
  int32_t kv;              /* what AUTO became */
  char profile[64];        /* the same in words; cut if longer */
  char better_profile[64]; /* the next better one there is to choose from; empty: none, or the
                              session was trimmed */
  uint64_t better_bytes;   /* what this context would cost with it */
  /* Quality of the profile, as the model file has it measured; task empty: it was not. */
  char quality_task[64];
  float quality;           /* of the profile */
  float quality_reference; /* the same with nothing compressed */
  /* The state that does not grow with the text (linear attention, convolutions), and that of its
   * checkpoints; 0: the model has none. */
  uint64_t recurrent_bytes;
  uint64_t checkpoint_bytes;
  uint32_t checkpoints;
  int32_t quality_metric; /* HR_METRIC_*: what `quality` counts */
} hr_plan_report;

/* Says what a session would cost; allocates nothing of it and changes nothing. A plan that does not
 * fit is HR_OK with fits == false and missing_bytes. Any thread. Errors: INVALID_ARGUMENT (a kv or
 * backend that does not exist, a context past the trained maximum without such windows, a chunk
 * past 65,536), UNSUPPORTED (a backend this build lacks, a weight it cannot multiply with, a policy
 * that the model cannot take), OUT_OF_MEMORY. */
HR_API hr_status hr_plan(const hr_model* model, const hr_session_options* options,
                         hr_plan_report* out_report, hr_error* error);

/* The profiles that a model file carries, best first: *out_count of them. Names are lent by the
 * model. Errors: INVALID_ARGUMENT for NULL or an index past the last. */
HR_API hr_status hr_model_profile_count(const hr_model* model, size_t* out_count);
HR_API hr_status hr_model_profile_name(const hr_model* model, size_t index, const char** out_name,
                                       hr_error* error);

/* Attention state of one layer under that plan. */
typedef struct hr_plan_layer {
  size_t struct_size;
  uint32_t kv_heads, key_width, value_width;
  uint32_t capacity_tokens; /* rows kept: the context, or the ring of a windowed layer */
  uint32_t window_tokens;   /* of the first KV head: rows visible including self; 0: all */
  uint64_t state_bytes;
} hr_plan_layer;
/* `layer` counts attention layers from 0. Errors: as hr_plan, and INVALID_ARGUMENT for a layer the
 * model has not. */
HR_API hr_status hr_plan_get_layer(const hr_model* model, const hr_session_options* options,
                                   uint32_t layer, hr_plan_layer* out_layer, hr_error* error);

/* ---- Session -----------------------------------------------------------------------------------
 */

typedef struct hr_session hr_session;

/* Plans, then allocates everything once. After it returns no call below allocates memory, except
 * fork (a new session) and the file buffers of save and restore. Errors: OVER_BUDGET (text: bytes
 * missing), OUT_OF_MEMORY, UNSUPPORTED, IO, CANCELLED, WRONG_STATE (called from a callback of the
 * creation that packs this model's weights). While one thread packs, others that create wait. */
HR_API hr_status hr_session_create(hr_model* model, const hr_session_options* options,
                                   hr_session** out_session, hr_error* error);
HR_API void hr_session_release(hr_session* session);

/* Appends `count` tokens. Logits of the last one are then available.
 * Errors: INVALID_ARGUMENT (an id outside the vocabulary; nothing is appended), CONTEXT_FULL
 * (nothing is appended), CANCELLED (a whole number of chunks was appended, see
 * hr_session_position, and logits are unavailable until the next call that appends; a cancelled
 * prefill of one token changes nothing, the logits included). */
HR_API hr_status hr_session_prefill(hr_session* session, const int32_t* tokens, size_t count,
                                    hr_error* error);

/* Prefill of one token. CANCELLED: the session is as it was, and its logits are still there, so
 * decoding and generating can go on at once; a cache that had to let rows go for it has done so. */
HR_API hr_status hr_session_decode(hr_session* session, int32_t token, hr_error* error);

/* Prefill that also writes the logits of every token: f32 [count, V], row-major, into the caller's
 * memory of `capacity_floats` floats. Errors: as hr_session_prefill, and BUFFER_TOO_SMALL (nothing
 * is appended). */
HR_API hr_status hr_session_prefill_logits(hr_session* session, const int32_t* tokens, size_t count,
                                           float* logits, size_t capacity_floats, hr_error* error);

/* Logits f32 [V] of the last token; lent until the next call that appends or rewinds.
 * Errors: WRONG_STATE before the first token. */
HR_API hr_status hr_session_logits(const hr_session* session, const float** out_logits,
                                   size_t* out_count, hr_error* error);

/* Tokens in the session: 0 .. context. */
HR_API uint32_t hr_session_position(const hr_session* session);

/* The tokens themselves, [position]; lent until the next call that appends or rewinds. */
HR_API hr_status hr_session_tokens(const hr_session* session, const int32_t** out_tokens,
                                   size_t* out_count, hr_error* error);

/* Forgets everything from `position` on. With recurrent state this always works, and the next call
 * that appends first runs the tokens between `position` and the checkpoint before it again
 * (cancelled there, it appends nothing). Otherwise windowed layers can go back only as far as their
 * ring still holds what the window needs, and a cache that has let rows go only as far as it was
 * when it last did: else UNSUPPORTED and nothing changes (rewind to 0 always works). Logits are
 * unavailable until the next prefill or decode. */
HR_API hr_status hr_session_rewind(hr_session* session, uint32_t position, hr_error* error);

/* Sees what each dense layer is about to multiply with its weights: `x` f32 [rows, columns],
 * row-major, and the name of the weight tensor as in the model file, `tensor_bytes` long and not
 * terminated. Both are lent for the call, which comes on the thread that appends and must not call
 * this library. Layers of a fused matrix are one call.
 * Besides, the queries, keys and values of each attention layer N as they meet and are cached, all
 * heads of a token a call, under the names attention.N.queries, .keys, .key_tails and .values. */
typedef void (*hr_input_callback)(void* user_data, const char* tensor, size_t tensor_bytes,
                                  const float* x, size_t rows, size_t columns);

/* For tools that calibrate or measure: from now on `callback` sees every dense layer of this
 * session (not of its forks); NULL stops it. Not while the session works. Error: INVALID_ARGUMENT.
 */
HR_API hr_status hr_session_observe_inputs(hr_session* session, hr_input_callback callback,
                                           void* user_data, hr_error* error);

/* A second session with the same tokens and state, planned by the same options. Its weights are
 * shared. The budget of the options applies to each session by itself. Errors: OVER_BUDGET,
 * OUT_OF_MEMORY; the first session is as it was. */
HR_API hr_status hr_session_fork(const hr_session* session, hr_session** out_session,
                                 hr_error* error);

/* Writes tokens and state to a file / replaces this session's by a file's. The file carries the
 * model's digest, the layout version, the cache type and a checksum; restore checks all of them
 * first and leaves the session unchanged when one does not agree. Errors: IO, NOT_FOUND, CORRUPT,
 * MISMATCH, NEWER_FORMAT, CONTEXT_FULL. */
HR_API hr_status hr_session_save(const hr_session* session, const char* path, hr_error* error);
HR_API hr_status hr_session_restore(hr_session* session, const char* path, hr_error* error);

/* Gives memory back while keeping every token: lowers the context to what is in use (plus a margin)
 * and, if that is not enough, moves the cached rows down the list of profiles (of the model, else
 * f16, int8, 4 bits). `target_bytes` is the wanted
 * total of the plan; *out_freed_bytes (may be NULL) receives by how much the plan fell: it goes
 * back to the system at once, in whole pages. Errors: OVER_BUDGET when even the smallest form is
 * larger than the target (that form is then in use); UNSUPPORTED with an allocator in hr_hooks,
 * which can take memory back only whole (nothing changes; save, release, and restore into a smaller
 * session).
 */
HR_API hr_status hr_session_trim(hr_session* session, uint64_t target_bytes,
                                 uint64_t* out_freed_bytes, hr_error* error);

/* Stops the work in progress at the next layer. Callable from any thread, also when nothing runs
 * (then it has no effect). */
HR_API void hr_session_cancel(hr_session* session);

typedef struct hr_session_stats {
  size_t struct_size;
  uint64_t prefill_tokens, prefill_ns; /* since creation */
  uint64_t decode_tokens, decode_ns;
  uint64_t load_ns;        /* hr_session_create */
  bool weights_packed_now; /* cold start: this creation made the packed weights; false when it
                              found them in the cache or an earlier session had them */
  uint64_t planned_bytes;  /* of the arenas */
  uint64_t peak_bytes;     /* most the arenas have taken from the system or the app's allocator */
  uint64_t touched_bytes;  /* of them, in physical memory now; 0 where the system does not tell */
} hr_session_stats;
/* What the session has done and holds / the plan it lives by (after trim: the smaller one). From
 * the thread that uses the session. Error: INVALID_ARGUMENT for NULL. */
HR_API hr_status hr_session_get_stats(const hr_session* session, hr_session_stats* out_stats);
HR_API hr_status hr_session_get_plan(const hr_session* session, hr_plan_report* out_report);

/* ---- Sampling and generation -------------------------------------------------------------------
 */

/* All-zero is greedy. Order: repetition penalty, temperature, top-k, top-p, min-p, draw. */
typedef struct hr_sampler_options {
  size_t struct_size;
  float temperature; /* 0: greedy */
  uint32_t top_k;    /* 0: all */
  float top_p;       /* 0 or 1: off */
  float min_p;       /* 0: off */
  float
      repetition_penalty; /* 0 or 1: off; > 1 discourages tokens among the last repetition_window */
  uint32_t repetition_window; /* 0: 64 */
  uint64_t seed;              /* same seed, same tokens, on every machine */
} hr_sampler_options;

/* Draws the next token from the session's logits (does not append it). Draw n of a session with one
 * seed is a function of seed and position only, so rewinding reproduces it. Errors: WRONG_STATE
 * without logits; INVALID_ARGUMENT (an option outside its range, by name); INTERNAL (logits that
 * are no numbers). */
HR_API hr_status hr_session_sample(hr_session* session, const hr_sampler_options* options,
                                   int32_t* out_token, hr_error* error);

/* Why generation ended. */
enum {
  HR_STOP_LIMIT = 0,
  HR_STOP_END_TOKEN = 1,
  HR_STOP_SEQUENCE = 2,
  HR_STOP_CALLBACK = 3,
  HR_STOP_CONTEXT = 4,
  HR_STOP_CANCELLED = 5
};

typedef struct hr_generate_options {
  size_t struct_size;
  hr_sampler_options sampler;
  uint32_t max_tokens;               /* 0: until the context is full */
  const char* const* stop_sequences; /* UTF-8 texts that end generation and are not delivered */
  size_t stop_sequence_count;        /* at most 16, each at most 256 bytes */
  bool ignore_end_token;
  /* Receives text as it becomes certain: whole UTF-8 characters, never part of a stop sequence.
   * `token` is the latest token. Return false to stop. May be NULL. */
  bool (*on_text)(void* user_data, const char* text, size_t bytes, int32_t token);
  void* user_data;
} hr_generate_options;

typedef struct hr_generate_result {
  size_t struct_size;
  uint32_t tokens;     /* generated (the end token included) */
  int32_t stop_reason; /* HR_STOP_* */
} hr_generate_result;

/* Samples and decodes until something stops it. Needs logits (prefill first). Generated tokens are
 * in the session afterwards, also when it was stopped; another call goes on from there. Errors:
 * WRONG_STATE without logits, INVALID_ARGUMENT (sampler, stop sequences), INTERNAL. A full context,
 * the callback's refusal and a cancel are no errors but stop reasons. */
HR_API hr_status hr_session_generate(hr_session* session, const hr_generate_options* options,
                                     hr_generate_result* out_result, hr_error* error);

#ifdef __cplusplus
}
#endif

#include "images.h" /* pictures: part of this interface */

#endif /* HEADROOM_HEADROOM_H_ */
