// What the needle test found: lines, JSON, and answers against bytes as a picture.
#pragma once

#include <string>
#include <vector>

#include "headroom/needle_eval.h"
#include "headroom/report.h"

namespace headroom::cli {

void PrintNeedleHead(const hr_model_facts& facts);
void PrintNeedleScore(const NeedleScore& score);
Json NeedleJson(const std::vector<NeedleScore>& scores);
// A chart for each distance, in it a line for each model.
std::string NeedleSvg(const std::vector<NeedleScore>& scores);

}  // namespace headroom::cli
