#include "headroom/pictures.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <span>
#include <system_error>

#include "headroom/bytes.h"
#include "headroom/files.h"
#include "headroom/progress.h"

namespace headroom::cli {
namespace {

uint32_t ParseSide(const std::string& text) {
  uint32_t side = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), side);
  if (error == std::errc() && end == text.data() + text.size() && side > 0) return side;
  throw CLI::ValidationError("--size", "'" + text + "' is no number of pixels");
}

std::string Line(int indent, const char* name, uint64_t bytes, const char* note) {
  return Format("%*s%-*s %12s  %s\n", indent, "", 22 - indent, name, FormatBytes(bytes).c_str(),
                note);
}

// Decodes the files of one batch; those that cannot be are told to `run`.
std::vector<std::pair<size_t, DecodedHandle>> DecodeBatch(const std::vector<std::string>& files,
                                                          size_t& next, size_t most,
                                                          const PictureRun& run) {
  std::vector<std::pair<size_t, DecodedHandle>> decoded;
  for (; next < files.size() && decoded.size() < most; ++next) {
    try {
      decoded.emplace_back(next, DecodeFile(files[next]));
    } catch (const Failure& failure) {
      run.fail(next, failure.what());
    }
  }
  return decoded;
}

// At once; one by one where a picture of them cannot be taken, so that it does not cost the others.
void RunDecoded(hr_image_session* session, const std::vector<std::string>& files,
                std::span<const std::pair<size_t, DecodedHandle>> decoded, const PictureRun& run) {
  std::vector<hr_image> images(decoded.size());
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].struct_size = sizeof(images[i]);
    Check(hr_decoded_image_get(decoded[i].second.get(), &images[i]), hr_error{}, "no picture");
  }
  hr_error error = {};
  if (hr_image_session_run(session, images.data(), images.size(), &error) == HR_OK) {
    for (size_t i = 0; i < images.size(); ++i) run.see(decoded[i].first, i);
  } else if (images.size() == 1) {
    run.fail(decoded[0].first, files[decoded[0].first] + ": " + error.text);
  } else {
    for (size_t i = 0; i < images.size(); ++i) {
      RunDecoded(session, files, decoded.subspan(i, 1), run);
    }
  }
}

// By its ending: a folder may hold other files.
bool NamesPicture(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  constexpr const char* kEndings[] = {".jpg", ".jpeg", ".png", ".bmp",
                                      ".gif", ".ppm",  ".pgm", ".pnm"};
  return std::any_of(std::begin(kEndings), std::end(kEndings),
                     [&](const char* known) { return ending == known; });
}

}  // namespace

void ParseSize(const std::string& text, hr_image_options& options) {
  const size_t cross = text.find('x');
  options.height = ParseSide(text.substr(0, cross));
  options.width = cross == std::string::npos ? options.height : ParseSide(text.substr(cross + 1));
}

void AddImageSizeOptions(CLI::App& command, hr_image_options& options) {
  command
      .add_option_function<std::string>(
          "--size", [&options](const std::string& text) { ParseSize(text, options); },
          "vision models: pixels of the input, SIDE or HEIGHTxWIDTH (default: as trained)")
      ->type_name("PIXELS");
  command.add_option("--batch", options.batch, "vision models: pictures at once (default: 1)")
      ->check(CLI::Range(1u, 4096u))
      ->type_name("N");
}

void AddImageOptions(CLI::App& command, hr_image_options& options) {
  options.struct_size = sizeof(options);
  command
      .add_option_function<uint32_t>(
          "--largest-picture",
          [&options](uint32_t side) {
            options.max_picture_width = options.max_picture_height = side;
          },
          "sides that pictures may have, for which scratch is planned (default: 4096)")
      ->check(CLI::Range(1u, 16384u))
      ->type_name("PIXELS");
  AddImageSizeOptions(command, options);
  command.add_option("--threads", options.threads, "default: the fast cores")->type_name("N");
  AddBytesOption(command, "--budget", options.budget_bytes,
                 "all the model may cost: mapped and private bytes together (default: no limit)");
  AddBytesOption(command, "--private-budget", options.private_budget_bytes,
                 "limit for private bytes alone, the ones phones punish (default: no limit)");
}

bool TakesPictures(const hr_model* model) {
  hr_image_model_facts facts = {};
  facts.struct_size = sizeof(facts);
  return hr_image_model_get_facts(model, &facts, nullptr) == HR_OK;
}

hr_image_model_facts ImageFactsOf(const hr_model* model) {
  hr_image_model_facts facts = {};
  facts.struct_size = sizeof(facts);
  hr_error error = {};
  Check(hr_image_model_get_facts(model, &facts, &error), error, "cannot describe the model");
  return facts;
}

hr_image_plan_report ImagePlanOf(const hr_model* model, const hr_image_options& options) {
  hr_image_plan_report report = {};
  report.struct_size = sizeof(report);
  hr_error error = {};
  Check(hr_image_plan(model, &options, &report, &error), error, "cannot plan");
  return report;
}

ImageSessionHandle CreateImageSession(hr_model* model, const hr_image_options& options) {
  hr_image_session* session = nullptr;
  hr_error error = {};
  const hr_status status = hr_image_session_create(model, &options, &session, &error);
  if (status == HR_OVER_BUDGET) {
    throw Failure(status, std::string("cannot start a session: ") + error.text,
                  "Raise the budget, or lower --size or --batch; `headroom plan` shows what fits.");
  }
  Check(status, error, "cannot start a session");
  return ImageSessionHandle(session);
}

hr_image_stats ImageStatsOf(const hr_image_session* session) {
  hr_image_stats stats = {};
  stats.struct_size = sizeof(stats);
  Check(hr_image_session_get_stats(session, &stats), hr_error{}, "cannot read statistics");
  return stats;
}

Json ImageFactsJson(const hr_image_model_facts& facts) {
  return {{"height", facts.height},
          {"width", facts.width},
          {"classes", facts.classes},
          {"features", facts.features},
          {"has_labels", facts.has_labels}};
}

Json ImagePlanJson(const hr_image_plan_report& plan) {
  return {{"fits", plan.fits},
          {"missing_bytes", plan.missing_bytes},
          {"total_bytes", plan.total_bytes},
          {"mapped_bytes", plan.mapped_bytes},
          {"private_bytes", plan.private_bytes},
          {"weight_bytes", plan.weight_bytes},
          {"packed_bytes", plan.packed_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"scratch_bytes", plan.scratch_bytes},
          {"runtime_bytes", plan.runtime_bytes},
          {"multiply_adds", plan.multiply_adds},
          {"batch", plan.batch},
          {"height", plan.height},
          {"width", plan.width},
          {"threads", plan.threads},
          {"largest_batch", plan.largest_batch},
          {"largest_side", plan.largest_side}};
}

std::string ImagePlanTable(const hr_image_plan_report& plan, bool packed_are_mapped) {
  std::string table =
      Format("pictures of %u x %u, %u at once, %u thread%s, %s multiply-adds each\n", plan.height,
             plan.width, plan.batch, plan.threads, plan.threads == 1 ? "" : "s",
             FormatCount(plan.multiply_adds).c_str());
  const auto packed = [&] {
    return Line(4, "packed weights", plan.packed_bytes, "convolutions as kernels want them");
  };
  table += Line(2, "private", plan.private_bytes, "the system cannot take these back");
  table += Line(4, "activations", plan.activation_bytes, "values between operations");
  table += Line(4, "scratch", plan.scratch_bytes, "preprocessing, attention");
  table += Line(4, "runtime", plan.runtime_bytes, "operators and objects");
  if (!packed_are_mapped) table += packed();
  table += Line(2, "mapped", plan.mapped_bytes, "clean file pages");
  if (packed_are_mapped) table += packed();
  table += Line(4, "weights", plan.weight_bytes, "read from the model file");
  return table + Line(2, "total", plan.total_bytes, "");
}

std::vector<std::string> PictureFiles(const std::vector<std::string>& names) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  for (const std::string& name : names) {
    std::error_code error;
    if (!fs::is_directory(name, error)) {
      files.push_back(name);
      continue;
    }
    std::vector<std::string> inside;
    for (fs::directory_iterator at(name, error), end; !error && at != end; at.increment(error)) {
      if (at->is_regular_file(error) && NamesPicture(at->path())) {
        inside.push_back(at->path().string());
      }
    }
    if (error) throw Failure(HR_IO, "cannot read the folder " + name + ": " + error.message());
    if (inside.empty()) throw Failure(HR_NOT_FOUND, "the folder " + name + " has no pictures");
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

DecodedHandle DecodeFile(const std::string& path) {
  const std::string bytes = ReadWholeFile(path, "the picture");
  hr_decoded_image* image = nullptr;
  hr_error error = {};
  Check(hr_image_decode(bytes.data(), bytes.size(), 0, &image, &error), error, path);
  return DecodedHandle(image);
}

void RunFiles(hr_image_session* session, const std::vector<std::string>& files,
              const PictureRun& run) {
  hr_image_plan_report plan = {};
  plan.struct_size = sizeof(plan);
  Check(hr_image_session_get_plan(session, &plan), hr_error{}, "cannot read the plan");
  ProgressBar bar("pictures");
  for (size_t next = 0; next < files.size();) {
    const auto decoded = DecodeBatch(files, next, plan.batch, run);
    if (!decoded.empty()) RunDecoded(session, files, decoded, run);
    bar.Update(static_cast<double>(next) / static_cast<double>(files.size()));
  }
}

}  // namespace headroom::cli
