// The vision checkpoints of tests/golden/vision, converted and run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/json_file.h"
#include "session/image_session.h"

namespace headroom::test {

// What make_vision_goldens.py calls by the same name: element i of a named list, in [-0.5, 0.5).
uint32_t NumberSeed(std::string_view name);
double NumberAt(uint32_t seed, uint64_t i);

std::string VisionFolder(const std::string& leaf);
convert::Json ReadExpected(const std::string& path);

// Converts `source` ("random NAME": a preset) to `weights` and opens it.
std::shared_ptr<session::Engine> OpenVision(const std::string& source,
                                            const std::string& weights = "f32");
std::unique_ptr<session::ImageSession> StartImages(std::shared_ptr<session::Engine> engine,
                                                   plan::ImageSize size);

// Puts the goldens' picture of the session's size into its input and runs it.
void RunPicture(session::ImageSession& session, uint32_t index = 0);

// Writes the checkpoint that a published SHViT's expectations were made of, as timm names it.
void WritePublishedShvit(const std::string& folder, const std::string& architecture);

}  // namespace headroom::test
