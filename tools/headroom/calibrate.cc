#include "headroom/calibrate.h"

#include <algorithm>
#include <functional>
#include <string_view>

#include "convert/kv_moments.h"
#include "headroom/api.h"
#include "headroom/files.h"
#include "headroom/progress.h"
#include "headroom/signals.h"

namespace headroom::cli {
namespace {

constexpr uint32_t kWindow = 512;  // tokens read from an empty cache at a time

// Sums of squares by matrix and column.
class InputSquares {
 public:
  static void Add(void* self, const char* tensor, size_t tensor_bytes, const float* x, size_t rows,
                  size_t columns) {
    static_cast<InputSquares*>(self)->AddRows({tensor, tensor_bytes}, x, rows, columns);
  }

  std::map<std::string, std::vector<float>> Means() const {
    std::map<std::string, std::vector<float>> means;
    for (const auto& [name, sums] : sums_) {
      std::vector<float>& mean = means[name];
      for (const double square : sums.squares) {
        mean.push_back(static_cast<float>(square / static_cast<double>(sums.rows)));
      }
    }
    // The f16 model has no head of its own where it is tied; an int4 one is stored beside.
    if (const auto tied = means.find("embedding"); tied != means.end() && !means.contains("head"))
      means["head"] = tied->second;
    return means;
  }

 private:
  struct Sums {
    std::vector<double> squares;  // by column
    size_t rows = 0;
  };

  void AddRows(std::string_view tensor, const float* x, size_t rows, size_t columns) {
    if (tensor.starts_with("attention.")) return;  // of no matrix
    auto found = sums_.find(tensor);
    if (found == sums_.end()) found = sums_.emplace(std::string(tensor), Sums{}).first;
    Sums& sums = found->second;
    sums.squares.resize(columns);
    sums.rows += rows;
    for (size_t row = 0; row < rows; ++row) {
      for (size_t k = 0; k < columns; ++k) {
        const double value = x[row * columns + k];
        sums.squares[k] += value * value;
      }
    }
  }

  std::map<std::string, Sums, std::less<>> sums_;
};

void ConvertToF16(const convert::Options& options, const std::string& out) {
  convert::Options wide = options;
  wide.out = out;
  wide.weights = convert::WeightFormat::kF16;
  wide.head.reset();
  wide.block.reset();
  wide.log = nullptr;  // the real conversion says it
  ProgressBar bar("preparing");
  wide.progress = [&bar](const convert::Progress& progress) {
    bar.Update(static_cast<double>(progress.done_bytes) /
               static_cast<double>(progress.total_bytes));
    return !HeldSignals::Caught();
  };
  const Result<convert::Summary> summary = convert::Convert(wide);
  bar.Finish();
  if (summary.ok()) return;
  throw Failure(
      static_cast<hr_status>(summary.status().code()),
      "cannot prepare the calibration of " + options.source + ": " + summary.status().message());
}

void ReadText(hr_session* session, const std::vector<int32_t>& tokens, uint32_t window,
              uint32_t vocabulary) {
  ProgressBar bar("calibrating");
  std::vector<float> logits;  // of every token, so that the output matrix sees them all
  for (size_t done = 0; done < tokens.size();) {
    if (HeldSignals::Caught()) throw Failure(HR_CANCELLED, "calibration was cancelled");
    hr_error error = {};
    const size_t in_window = done % window;
    if (in_window == 0) Check(hr_session_rewind(session, 0, &error), error, "cannot rewind");
    const size_t count = std::min<size_t>({32, tokens.size() - done, window - in_window});
    logits.resize(count * vocabulary);
    Check(hr_session_prefill_logits(session, tokens.data() + done, count, logits.data(),
                                    logits.size(), &error),
          error, "cannot read the calibration text");
    done += count;
    bar.Update(static_cast<double>(done) / static_cast<double>(tokens.size()));
  }
  bar.Finish();
}

// Converts the source to f16 beside its output and lets it read the first tokens of the text, seen
// by `callback`. `done` sees the file before it goes.
void ReadWith(const convert::Options& options, const std::string& text, hr_input_callback callback,
              void* user_data, const std::function<void(const std::string& path)>& done) {
  const TemporaryFile temporary(TemporaryFile::Beside(options.out));
  ConvertToF16(options, temporary.path());
  done(temporary.path());
  OpenRequest request;
  request.path = temporary.path();
  const ModelHandle model = OpenModel(request);
  const hr_model_facts facts = FactsOf(model.get());
  if (!facts.has_tokenizer) {
    throw Failure(HR_UNSUPPORTED, "calibration reads a text, and the model has no tokenizer",
                  "Convert without a text to calibrate by.");
  }
  std::vector<int32_t> tokens = Tokenize(model.get(), text, HR_TOKENIZE_NO_SPECIAL);
  tokens.resize(std::min(tokens.size(), kCalibrationTokens));
  if (tokens.empty()) {
    throw Failure(HR_INVALID_ARGUMENT, "the calibration text gives no token; give it some");
  }
  hr_session_options session_options = {};
  session_options.struct_size = sizeof(session_options);
  session_options.context_tokens = std::min(kWindow, facts.context_tokens);
  session_options.kv = HR_KV_F16;
  const SessionHandle session = CreateSession(model.get(), session_options, 0);
  hr_error error = {};
  Check(hr_session_observe_inputs(session.get(), callback, user_data, &error), error,
        "cannot observe the session");
  ReadText(session.get(), tokens, session_options.context_tokens, facts.vocabulary);
}

}  // namespace

std::map<std::string, std::vector<float>> Calibrate(const convert::Options& options,
                                                    const std::string& text) {
  InputSquares squares;
  ReadWith(options, text, InputSquares::Add, &squares, [](const std::string&) {});
  return squares.Means();
}

std::vector<convert::LayerBases> CalibrateBases(const convert::Options& options,
                                                const std::string& text) {
  convert::KvMoments moments;
  const auto check = [&](const Status& status) {
    if (status.ok()) return;
    throw Failure(static_cast<hr_status>(status.code()),
                  "cannot make bases for " + options.source + ": " + status.message());
  };
  ReadWith(options, text, convert::KvMoments::Add, &moments,
           [&](const std::string& path) { check(moments.Open(path)); });
  std::string summary;
  auto bases = moments.Bases(&summary);
  check(bases.status());
  options.Say(summary);
  return bases.Take();
}

}  // namespace headroom::cli
