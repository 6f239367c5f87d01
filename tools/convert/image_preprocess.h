// How a model's folder says that pictures become its input.
#pragma once

#include "base/status.h"
#include "convert/config.h"
#include "model/image.h"

namespace headroom::convert {

// timm's "pretrained_cfg": input_size, crop_pct, crop_mode, interpolation, mean, std, as
// transforms_imagenet_eval of timm/data/transforms_factory.py reads them; what is absent is as for
// ImageNet on `side` x `side`. kUnsupported: a crop mode other than center and squash.
Result<model::PreprocessSpec> ReadTimmPreprocess(Config* from, uint32_t side);

// transformers' preprocessor_config.json of ViT and DeiT models, for an input of height x width.
Result<model::PreprocessSpec> ReadHuggingFacePreprocess(Config& from, uint32_t height,
                                                        uint32_t width);

}  // namespace headroom::convert
