#include "headroom/convert_codes.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "convert/image_codes.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/pictures.h"
#include "headroom/signals.h"
#include "model/model.h"

namespace headroom::cli {
namespace {

constexpr uint32_t kLargestSide = 16384;

std::unique_ptr<model::Model> OpenSource(const std::string& path) {
  auto opened = model::Model::OpenPath(path.c_str(), {});
  if (!opened.ok()) {
    throw Failure(static_cast<hr_status>(opened.status().code()),
                  std::string("cannot open ") + opened.status().message());
  }
  return opened.Take();
}

// The smallest and the largest number of each position are all that counts of it.
void SeeValue(void* user_data, uint32_t value, const float* x, size_t positions, size_t stride,
              size_t channels) {
  convert::ValueRange& range = (*static_cast<std::vector<convert::ValueRange>*>(user_data))[value];
  for (size_t p = 0; p < positions; ++p, x += stride) {
    const auto [low, high] = std::minmax_element(x, x + channels);
    range.See(*low, *high);
  }
}

struct Session {
  ModelHandle model;
  ImageSessionHandle session;
};

Session StartSession(const std::string& path, uint32_t threads) {
  OpenRequest request;
  request.path = path;
  hr_image_options options = {};
  options.struct_size = sizeof(options);
  options.threads = threads;
  options.max_picture_width = options.max_picture_height = kLargestSide;
  Session made;
  made.model = OpenModel(request);
  made.session = CreateImageSession(made.model.get(), options);
  return made;
}

// The best class of every picture.
std::vector<uint32_t> ClassesOf(hr_image_session* session, const std::vector<std::string>& files) {
  std::vector<uint32_t> classes(files.size());
  RunFiles(session, files,
           {[&](size_t file, size_t index) {
              if (HeldSignals::Caught()) throw Failure(HR_CANCELLED, "it was cancelled");
              hr_class best = {};
              size_t found = 0;
              hr_error error = {};
              Check(hr_image_session_top(session, index, &best, 1, &found, &error), error,
                    "cannot classify");
              classes[file] = best.index;
            },
            [](size_t, const std::string& why) { throw Failure(HR_CORRUPT, why); }});
  return classes;
}

std::string NameOf(const CodesRequest& request, const model::Model& source, const char* suffix) {
  return !request.name.empty() ? request.name : std::string(source.metadata.name) + suffix;
}

convert::CodesSummary Written(const Result<convert::CodesSummary>& written,
                              const CodesRequest& request) {
  if (written.ok()) return written.value();
  throw Failure(static_cast<hr_status>(written.status().code()),
                "cannot convert " + request.of + ": " + written.status().message());
}

Json Report(const CodesRequest& request, const std::string& name,
            const convert::CodesSummary& summary, const char* narrow) {
  return {{"out", request.out},
          {"name", name},
          {"file_bytes", summary.file_bytes},
          {"convolutions", summary.convolutions},
          {narrow, summary.coded}};
}

void PrintReport(const CodesRequest& request, const convert::CodesSummary& summary,
                 const char* type) {
  std::printf("%s: %s, %u of %u convolutions in %s\n", EscapeControls(request.out).c_str(),
              FormatBytes(summary.file_bytes).c_str(), summary.coded, summary.convolutions, type);
}

}  // namespace

int ConvertToHalves(const CodesRequest& request, bool json) {
  const auto source = OpenSource(request.source);
  const std::string name = NameOf(request, *source, "-f16");
  const auto summary = Written(convert::WriteWithHalves(*source, request.out, name), request);
  if (json) {
    PrintJson(Report(request, name, summary, "in_halves"));
  } else {
    PrintReport(request, summary, "f16");
  }
  return kOk;
}

int ConvertToCodes(const CodesRequest& request, bool json) {
  const std::vector<std::string> files = PictureFiles({request.pictures});
  const auto source = OpenSource(request.source);
  std::vector<convert::ValueRange> ranges(source->image.values.size());
  std::vector<uint32_t> floats;
  {
    const Session session = StartSession(request.source, request.threads);
    Check(hr_image_session_observe(session.session.get(), SeeValue, &ranges), hr_error{},
          "cannot calibrate");
    floats = ClassesOf(session.session.get(), files);
  }
  const std::string name = NameOf(request, *source, "-int8");
  const auto summary =
      Written(convert::WriteWithCodes(*source, ranges, request.out, name), request);
  const Session session = StartSession(request.out, request.threads);
  const std::vector<uint32_t> codes = ClassesOf(session.session.get(), files);
  size_t same = 0;
  for (size_t i = 0; i < files.size(); ++i) same += floats[i] == codes[i];
  if (json) {
    Json report = Report(request, name, summary, "coded");
    report["pictures"] = files.size();
    report["same_class"] = same;
    PrintJson(report);
  } else {
    PrintReport(request, summary, "int8");
    std::printf("%zu of %zu pictures keep their class\n", same, files.size());
  }
  return kOk;
}

}  // namespace headroom::cli
