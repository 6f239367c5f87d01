#include "headroom/needle_report.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <map>

#include "headroom/bytes.h"
#include "headroom/chart.h"

namespace headroom::cli {
namespace {

ChartSeries& SeriesOf(Chart& chart, const std::string& name) {
  for (ChartSeries& series : chart.series) {
    if (series.name == name) return series;
  }
  return chart.series.emplace_back(ChartSeries{name, {}});
}

// Labels of one distance, and axes that all of them share.
Chart EmptyChart(const std::vector<NeedleScore>& scores, uint32_t distance) {
  Chart chart;
  chart.title = Format("needles found, %" PRIu32 " tokens back", distance);
  chart.x_title = "bytes of state: cached rows and recurrent state";
  chart.low_x = 1e30, chart.high_x = 1;
  double least = 0.75;
  for (const NeedleScore& score : scores) {
    const auto bytes = static_cast<double>(std::max<uint64_t>(score.state_bytes, 1));
    chart.low_x = std::min(chart.low_x, bytes / 1.5);
    chart.high_x = std::max(chart.high_x, bytes * 1.5);
    least = std::min(least, score.Accuracy());
  }
  chart.low_y = std::floor(4 * least) / 4;
  for (double bytes = 1024; bytes <= chart.high_x; bytes *= 2) {
    chart.x_ticks.push_back({bytes, FormatBytes(static_cast<uint64_t>(bytes))});
  }
  for (int i = 0; i <= 4; ++i) chart.y_ticks.push_back({i / 4.0, Format("%d %%", 25 * i)});
  return chart;
}

Json ScoreJson(const NeedleScore& score) {
  return {{"model", score.model},
          {"distance", score.distance},
          {"accuracy", score.Accuracy()},
          {"kv", score.kv},
          {"bytes", score.state_bytes},
          {"f16_bytes", score.f16_bytes},
          {"questions", score.questions},
          {"right", score.right},
          {"context_tokens", score.context_tokens},
          {"total_bytes", score.total_bytes},
          {"seconds", score.seconds}};
}

}  // namespace

void PrintNeedleHead(const hr_model_facts& facts) {
  std::printf("%s\n%8s  %-7s %9s  %9s  %10s  %6s\n", ModelLine(facts).c_str(), "distance", "cache",
              "right", "questions", "state", "of f16");
}

void PrintNeedleScore(const NeedleScore& score) {
  std::printf("%8" PRIu32 "  %-7s %7.1f %%  %9" PRIu32 "  %10s  %4.0f %%  %6.1f s\n",
              score.distance, score.kv.c_str(), 100 * score.Accuracy(), score.questions,
              FormatBytes(score.state_bytes).c_str(), 100 * score.Share(), score.seconds);
  std::fflush(stdout);
}

Json NeedleJson(const std::vector<NeedleScore>& scores) {
  Json all = Json::array();
  for (const NeedleScore& score : scores) all.push_back(ScoreJson(score));
  return all;
}

std::string NeedleSvg(const std::vector<NeedleScore>& scores) {
  std::map<uint32_t, Chart> charts;
  for (const NeedleScore& score : scores) {
    Chart& chart =
        charts.try_emplace(score.distance, EmptyChart(scores, score.distance)).first->second;
    SeriesOf(chart, score.model)
        .points.push_back({static_cast<double>(std::max<uint64_t>(score.state_bytes, 1)),
                           score.Accuracy(), score.kv,
                           score.model + ", " + score.kv +
                               Format(": %.1f %% in ", 100 * score.Accuracy()) +
                               FormatBytes(score.state_bytes)});
  }
  std::vector<Chart> all;
  for (auto& [distance, chart] : charts) all.push_back(std::move(chart));
  return ChartSvg(all);
}

}  // namespace headroom::cli
