// Vision models for the sub-commands: options, files of pictures, sessions.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <headroom/headroom.h>

#include "headroom/api.h"
#include "headroom/options.h"
#include "headroom/report.h"

namespace headroom::cli {

struct ReleaseImageSession {
  void operator()(hr_image_session* session) const { hr_image_session_release(session); }
};
struct ReleaseDecoded {
  void operator()(hr_decoded_image* image) const { hr_decoded_image_release(image); }
};
using ImageSessionHandle = std::unique_ptr<hr_image_session, ReleaseImageSession>;
using DecodedHandle = std::unique_ptr<hr_decoded_image, ReleaseDecoded>;

// "224" or "224x320" (height x width) into the options. Throws CLI::ValidationError.
void ParseSize(const std::string& text, hr_image_options& options);
// --size, --batch.
void AddImageSizeOptions(CLI::App& command, hr_image_options& options);
// Those and --threads, --budget, --private-budget.
void AddImageOptions(CLI::App& command, hr_image_options& options);

bool TakesPictures(const hr_model* model);
// Throws Failure for a model that takes none.
hr_image_model_facts ImageFactsOf(const hr_model* model);
hr_image_plan_report ImagePlanOf(const hr_model* model, const hr_image_options& options);
ImageSessionHandle CreateImageSession(hr_model* model, const hr_image_options& options);
hr_image_stats ImageStatsOf(const hr_image_session* session);

Json ImagePlanJson(const hr_image_plan_report& plan);
Json ImageFactsJson(const hr_image_model_facts& facts);
std::string ImagePlanTable(const hr_image_plan_report& plan, bool packed_are_mapped);

// Files as named; of folders those whose names end like a picture's, by name. Throws Failure for a
// folder without any.
std::vector<std::string> PictureFiles(const std::vector<std::string>& names);
DecodedHandle DecodeFile(const std::string& path);

// Decodes files and runs them batch by batch; then calls see(i, index) for every file i that
// became picture `index` of the session's last run, and fail(i, why) for every one that did not.
// Sides of pictures are those the session was made for.
struct PictureRun {
  std::function<void(size_t file, size_t index)> see;
  std::function<void(size_t file, const std::string& why)> fail;
};
void RunFiles(hr_image_session* session, const std::vector<std::string>& files,
              const PictureRun& run);

}  // namespace headroom::cli
