#include "convert/write_tensors.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "base/platform.h"
#include "convert/mxfp4.h"
#include "convert/presets.h"
#include "convert/row_writer.h"

namespace headroom::convert {
namespace {

constexpr size_t kSliceBytes = 4u << 20;

// Counts written bytes and tells whoever wants to know.
class Reporter {
 public:
  Reporter(const ProgressFunction& progress, uint64_t total) : progress_(progress) {
    state_.total_bytes = std::max<uint64_t>(total, 1);
  }
  Status Add(const std::string& tensor, uint64_t bytes) {
    state_.done_bytes += bytes;
    state_.tensor = tensor;
    if (!progress_ || progress_(state_)) return {};
    return Status::Make(StatusCode::kCancelled, "conversion was cancelled at %s", tensor.c_str());
  }

 private:
  const ProgressFunction& progress_;
  Progress state_;
};

Status CheckFinite(const std::string& source, uint64_t row, size_t columns,
                   std::span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" holds %g in row %llu", source.c_str(),
                        static_cast<double>(values[i]),
                        static_cast<unsigned long long>(row + i / columns));
  }
  return {};
}

// What a part's rows are read from.
struct Source {
  const SourceTensor* entry = nullptr;
  const SourceTensor* scales = nullptr;  // of mxfp4
  const Checkpoint* checkpoint = nullptr;
};

std::string EntryName(const RowPart& part) { return part.source + (part.mxfp4 ? "_blocks" : ""); }
std::string ScalesName(const RowPart& part) { return part.source + "_scales"; }

Source FindSource(const RowPart& part, const Checkpoint& checkpoint) {
  return {checkpoint.Find(EntryName(part)),
          part.mxfp4 ? checkpoint.Find(ScalesName(part)) : nullptr, &checkpoint};
}

// Elements [begin, begin + out.size()) of the source as it lies there.
Status ReadElements(const RowPart& part, const Source& source, uint64_t begin,
                    std::span<float> out) {
  if (part.mxfp4) return ReadMxfp4(part.source, *source.entry, *source.scales, begin, out);
  return ReadFloats(part.source, *source.entry, begin, out);
}

// How many rows a transposed source has in the checkpoint.
uint64_t SourceColumns(const RowPart& part, uint64_t columns) {
  return part.source_columns != 0 ? part.source_columns : columns;
}

// Where row `first` of a part begins in its source, whose rows lie one behind another.
uint64_t FirstElement(const RowPart& part, uint64_t first, size_t columns) {
  const uint64_t row = part.begin + first / part.repeat * part.step;
  return (part.matrix * part.source_rows + row) * columns;
}

// Rows [first, first + out.size() / columns) of the part.
Status ReadRows(const RowPart& part, const Source& source, uint64_t first, size_t columns,
                std::span<float> out) {
  const uint64_t matrix =
      (part.matrix * SourceColumns(part, columns) + part.column_begin) * part.source_rows;
  const uint64_t begin = part.begin + first * part.step;
  const size_t rows = out.size() / columns;
  if (!part.transposed && part.step == 1 && part.repeat == 1) {
    return ReadElements(part, source, FirstElement(part, first, columns), out);
  }
  if (!part.transposed) {
    for (size_t r = 0; r < rows; ++r) {
      HR_RETURN_IF_ERROR(ReadElements(part, source, FirstElement(part, first + r, columns),
                                      out.subspan(r * columns, columns)));
    }
    return {};
  }
  std::vector<float> column((rows - 1) * part.step + 1);
  for (size_t c = 0; c < columns; ++c) {
    HR_RETURN_IF_ERROR(ReadElements(part, source, matrix + c * part.source_rows + begin, column));
    for (size_t r = 0; r < rows; ++r) out[r * columns + c] = column[r * part.step];
  }
  return {};
}

// The pages of rows [first, first + rows) are not needed again: the mapping never grows beyond a
// slice.
void ReleaseRows(const RowPart& part, const Source& source, uint64_t first, uint64_t rows,
                 size_t columns) {
  const uint64_t matrix = part.source_rows * SourceColumns(part, columns);
  const uint64_t begin =
      part.transposed ? part.matrix * matrix : FirstElement(part, first, columns);
  const uint64_t end =
      part.transposed ? begin + matrix : FirstElement(part, first + rows - 1, columns) + columns;
  const double elements = static_cast<double>(matrix * std::max<uint64_t>(part.matrices, 1));
  for (const SourceTensor* tensor : {source.entry, source.scales}) {
    if (!tensor) continue;
    const double density = static_cast<double>(tensor->bytes) / elements;
    const auto from = static_cast<uint64_t>(density * static_cast<double>(begin));
    const auto to = static_cast<uint64_t>(density * static_cast<double>(end));
    platform::Advise(tensor->data + from, to - from, platform::Advice::kRelease);
  }
}

// The heads of one row, one beside the other, turned.
void TurnColumns(const Turn& turn, std::span<float> values) {
  const uint32_t width = turn.width;
  std::vector<double> turned(width);
  for (size_t at = 0, head = 0; at < values.size(); at += width, ++head) {
    std::fill(turned.begin(), turned.end(), 0.0);
    const float* basis = turn.bases + head / turn.group * width * width;
    for (uint32_t i = 0; i < width; ++i) {
      for (uint32_t j = 0; j < width; ++j)
        turned[j] += double{values[at + i]} * basis[i * width + j];
    }
    for (uint32_t j = 0; j < width; ++j) values[at + j] = static_cast<float>(turned[j]);
  }
}

// Rows [first, ...) where the rows of every head are turned: each is a sum of all of its head's.
Status ReadTurnedRows(const RowPart& part, const Source& source, uint64_t first, size_t columns,
                      std::span<float> out) {
  const uint32_t width = part.turn.width;
  std::vector<float> rows(size_t{width} * columns);
  std::vector<double> turned(columns);
  uint64_t read = UINT64_MAX;  // the head in `rows`
  for (size_t r = 0; r * columns < out.size(); ++r) {
    const uint64_t head = (first + r) / width, j = (first + r) % width;
    if (head != read) HR_RETURN_IF_ERROR(ReadRows(part, source, head * width, columns, rows));
    read = head;
    std::fill(turned.begin(), turned.end(), 0.0);
    const float* basis = part.turn.bases + head / part.turn.group * width * width;
    for (uint32_t i = 0; i < width; ++i) {
      const double factor = basis[i * width + j];
      for (size_t c = 0; c < columns; ++c) turned[c] += factor * rows[i * columns + c];
    }
    for (size_t c = 0; c < columns; ++c) out[r * columns + c] = static_cast<float>(turned[c]);
  }
  return {};
}

Status ReadPart(const RowPart& part, const Source& source, uint64_t first, size_t columns,
                std::span<float> out) {
  if (part.turn.bases != nullptr && !part.turn.columns) {
    return ReadTurnedRows(part, source, first, columns, out);
  }
  HR_RETURN_IF_ERROR(ReadRows(part, source, first, columns, out));
  for (size_t at = 0; part.turn.bases != nullptr && at < out.size(); at += columns) {
    TurnColumns(part.turn, out.subspan(at, columns));
  }
  return {};
}

// Rows of the part, checked and scaled.
Status ReadScaled(const RowPart& part, const Source& source, uint64_t first, size_t columns,
                  std::span<float> values) {
  HR_RETURN_IF_ERROR(ReadPart(part, source, first, columns, values));
  const uint64_t row = part.begin + first / part.repeat * part.step;
  HR_RETURN_IF_ERROR(CheckFinite(part.source, row, columns, values));
  if (part.scale == 1.0f) return {};
  for (float& value : values) value *= part.scale;
  return CheckFinite(part.source, row, columns, values);
}

// Rows of the part as the file wants them.
Status ReadChecked(const RowPart& part, const TensorPlan& plan, const Source& source,
                   uint64_t first, size_t columns, std::span<float> values) {
  HR_RETURN_IF_ERROR(ReadScaled(part, source, first, columns, values));
  if (plan.map != nullptr) {
    for (float& v : values) v = plan.map(v);
    HR_RETURN_IF_ERROR(CheckFinite(part.source, part.begin, columns, values));
  }
  if (plan.add != 0.0f) {
    for (float& v : values) v += plan.add;
  }
  std::vector<float> others(plan.times.empty() && plan.plus.empty() ? 0 : values.size());
  for (const RowPart& plus : plan.plus) {
    const Source other = FindSource(plus, *source.checkpoint);
    HR_RETURN_IF_ERROR(ReadScaled(plus, other, first, columns, others));
    for (size_t i = 0; i < values.size(); ++i) values[i] += others[i];
  }
  for (const RowPart& times : plan.times) {
    const Source other = FindSource(times, *source.checkpoint);
    HR_RETURN_IF_ERROR(ReadScaled(times, other, first, columns, others));
    for (size_t i = 0; i < values.size(); ++i) values[i] *= others[i];
  }
  return {};
}

// The rows as blocks of their source's type, one behind another.
Status CopyRows(const RowPart& part, const Source& source, BlockCopy copy, uint64_t first,
                uint64_t rows, size_t columns, const RowWriter& writer, std::byte* codes,
                uint16_t* scales) {
  std::vector<std::byte> reordered(part.mxfp4 ? columns / kMxfp4Block * (kMxfp4Block / 2 + 1) : 0);
  for (uint64_t row = 0; row < rows; ++row) {
    const uint64_t begin = FirstElement(part, first + row, columns);
    std::span<const std::byte> blocks = reordered;
    if (part.mxfp4) {
      ReorderMxfp4(*source.entry, *source.scales, begin, columns, reordered.data());
    } else {
      HR_ASSIGN_OR_RETURN(blocks, ReadBlocks(part.source, *source.entry, begin, columns));
    }
    copy(blocks.data(), columns / writer.block(), codes + row * writer.row_bytes(),
         scales + row * (columns / writer.block()));
  }
  return {};
}

Status WritePart(const RowPart& part, const TensorPlan& plan, const Source& source, RowWriter& rows,
                 Reporter& report) {
  const size_t columns = rows.columns();
  RowSource from;
  from.read = [&](uint64_t first, std::span<float> values) {
    return ReadChecked(part, plan, source, first, columns, values);
  };
  const bool as_it_is = plan.add == 0.0f && plan.map == nullptr && !part.transposed &&
                        part.turn.bases == nullptr && part.scale == 1.0f;
  const ElementType& type = part.mxfp4 ? *FindGgmlType(kGgmlMxfp4) : *source.entry->type;
  if (const BlockCopy copy = as_it_is ? rows.FindCopy(type) : nullptr) {
    from.copy = [&, copy](uint64_t first, uint64_t count, std::byte* codes, uint16_t* scales) {
      return CopyRows(part, source, copy, first, count, columns, rows, codes, scales);
    };
  }
  from.written = [&](uint64_t first, uint64_t count) {
    ReleaseRows(part, source, first, count, columns);
    return report.Add(part.source, count * columns * sizeof(float));
  };
  return rows.Write(part.rows, from);
}

Status WriteFixed(const TensorPlan& plan, RowWriter& rows) {
  RowSource from;
  from.read = [&](uint64_t first, std::span<float> values) -> Status {
    std::copy_n(plan.fixed.data() + first * rows.columns(), values.size(), values.data());
    return {};
  };
  from.written = [](uint64_t, uint64_t) { return Status(); };
  return rows.Write(plan.fixed.size() / rows.columns(), from);
}

// Of the tensor's columns; empty when nothing is known of them.
Result<std::span<const float>> ImportanceOf(const TensorDescription& tensor,
                                            const Options& options) {
  const auto found = options.importance.find(tensor.name);
  if (found == options.importance.end() || tensor.extents.size() != 2) {
    return std::span<const float>();
  }
  if (found->second.size() == tensor.extents[1]) return std::span<const float>(found->second);
  return Status::Make(StatusCode::kInvalidArgument,
                      "the importance of \"%s\" has %zu columns, the matrix %u",
                      tensor.name.c_str(), found->second.size(), tensor.extents[1]);
}

bool IsNeutral(const std::string& name) {
  for (const std::string_view ending : NeutralTensors()) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

// Of the layers behind the last that only predict tokens further on.
bool IsOfFurtherLayer(const std::string& name, const ModelShape& shape) {
  for (uint32_t i = 0; i < shape.further_layers; ++i) {
    std::string prefix(shape.recipe->names.layer);
    prefix.replace(prefix.find("{}"), 2, std::to_string(shape.layers.size() + i));
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

uint64_t TotalFloats(const GraphPlan& plan) {
  uint64_t total = 0;
  for (const TensorDescription& tensor : plan.description.tensors) {
    uint64_t elements = 1;
    for (const uint32_t extent : tensor.extents) elements *= extent;
    total += elements * sizeof(float);
  }
  return total;
}

// The shape that the part's source must have.
std::vector<uint64_t> SourceShape(const RowPart& part, const TensorDescription& tensor) {
  std::vector<uint64_t> shape = {part.source_rows};
  if (tensor.extents.size() > 1) shape.push_back(tensor.extents[1]);
  if (part.source_columns != 0) shape[1] = part.source_columns;
  if (part.transposed) std::swap(shape[0], shape[1]);
  if (part.unit_axis) shape.insert(shape.end() - 1, 1);
  if (part.matrices != 0) shape.insert(shape.begin(), part.matrices);
  return shape;
}

Status CheckSource(const Checkpoint& checkpoint, const std::string& name,
                   const std::vector<uint64_t>& expected, const char* dtype) {
  const SourceTensor* entry = checkpoint.Find(name);
  if (!entry) {
    return Status::Make(StatusCode::kCorrupt, "the checkpoint lacks tensor \"%s\"", name.c_str());
  }
  if (entry->shape != expected) {
    return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" is %s, the configuration implies %s",
                        name.c_str(), ShapeText(entry->shape).c_str(), ShapeText(expected).c_str());
  }
  if (dtype != nullptr && entry->type->name != dtype) {
    return Status::Make(StatusCode::kUnsupported, "tensor \"%s\" is %s, not %s", name.c_str(),
                        std::string(entry->type->name).c_str(), dtype);
  }
  return {};
}

// Its shape in blocks of 32 columns, 16 bytes each, and without the bytes that of the scales.
Status CheckMxfp4(const RowPart& part, const Checkpoint& checkpoint,
                  std::vector<uint64_t> expected) {
  if (expected.back() % kMxfp4Block != 0) {
    return Status::Make(StatusCode::kCorrupt, "tensor \"%s\": %llu columns in blocks of %u",
                        EntryName(part).c_str(), static_cast<unsigned long long>(expected.back()),
                        kMxfp4Block);
  }
  expected.back() /= kMxfp4Block;
  HR_RETURN_IF_ERROR(CheckSource(checkpoint, ScalesName(part), expected, "U8"));
  expected.push_back(kMxfp4Block / 2);
  return CheckSource(checkpoint, EntryName(part), expected, "U8");
}

// Under which the recipe leaves the tensor to others; empty: it does not.
std::string_view IgnoredPrefix(std::string_view name, const Recipe& recipe) {
  for (const std::string_view prefix : recipe.ignored_prefixes) {
    if (name.starts_with(prefix)) return prefix;
  }
  return {};
}

}  // namespace

Status CheckSources(const GraphPlan& plan, const ModelShape& shape, const Checkpoint& checkpoint) {
  std::set<std::string> used;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    std::vector<RowPart> parts = plan.tensors[i].parts;
    for (const auto* others : {&plan.tensors[i].times, &plan.tensors[i].plus}) {
      parts.insert(parts.end(), others->begin(), others->end());
    }
    for (const RowPart& part : parts) {
      const std::vector<uint64_t> expected = SourceShape(part, plan.description.tensors[i]);
      used.insert(EntryName(part));
      if (part.mxfp4) {
        used.insert(ScalesName(part));
        HR_RETURN_IF_ERROR(CheckMxfp4(part, checkpoint, expected));
      } else {
        HR_RETURN_IF_ERROR(CheckSource(checkpoint, part.source, expected, nullptr));
      }
    }
  }
  const std::string tied_head = std::string(shape.recipe->names.head) + ".weight";
  for (const auto& [name, entry] : checkpoint.tensors()) {
    if (used.count(name) || IsNeutral(name) || (shape.tied && name == tied_head)) continue;
    if (IsOfFurtherLayer(name, shape)) continue;
    if (!IgnoredPrefix(name, *shape.recipe).empty()) continue;
    return Status::Make(StatusCode::kUnsupported, "the recipe of %s does not use tensor \"%.80s\"",
                        std::string(shape.recipe->architecture).c_str(), name.c_str());
  }
  return {};
}

std::vector<std::string> IgnoredNotes(const Recipe& recipe, const Checkpoint& checkpoint) {
  std::map<std::string_view, size_t> counts;
  for (const auto& [name, entry] : checkpoint.tensors()) {
    if (const auto prefix = IgnoredPrefix(name, recipe); !prefix.empty()) ++counts[prefix];
  }
  std::vector<std::string> notes;
  for (const auto& [prefix, count] : counts) {
    notes.push_back("left out, as the text model does not read it: " + std::to_string(count) +
                    (count == 1 ? " tensor " : " tensors ") + std::string(prefix) + "*");
  }
  return notes;
}

void StateSources(const Checkpoint& checkpoint, GraphPlan& plan) {
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    std::set<std::string_view> types;
    for (const RowPart& part : plan.tensors[i].parts) {
      const SourceTensor* source = checkpoint.Find(part.source);
      if (part.mxfp4) types.insert("MXFP4");
      if (source) types.insert(source->type->name);
    }
    std::string& text = plan.description.tensors[i].source_type;
    for (const std::string_view type : types) text += (text.empty() ? "" : "+") + std::string(type);
  }
}

Result<Losses> WriteFromCheckpoint(const GraphPlan& plan, const Checkpoint& checkpoint,
                                   const Options& options, HrmWriter& writer) {
  HR_ASSIGN_OR_RETURN(const auto workers, Workers::Start(options.threads));
  Reporter report(options.progress, TotalFloats(plan));
  Losses losses;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorPlan& tensor = plan.tensors[i];
    HR_ASSIGN_OR_RETURN(const auto importance, ImportanceOf(plan.description.tensors[i], options));
    RowWriter rows(plan.description.tensors[i], i, importance, *workers, writer);
    if (tensor.role == TensorRole::kFixed) HR_RETURN_IF_ERROR(WriteFixed(tensor, rows));
    for (const RowPart& part : tensor.parts) {
      HR_RETURN_IF_ERROR(WritePart(part, tensor, FindSource(part, checkpoint), rows, report));
    }
    writer.SetSourceError(i, rows.error());
    if (rows.error() <= losses.largest_error) continue;
    losses.largest_error = rows.error();
    losses.tensor = plan.description.tensors[i].name;
  }
  return losses;
}

namespace {

// Of what is no matrix, where it is not given: norms are 1, biases 0, before they are mapped.
std::vector<float> RandomFixed(const TensorPlan& plan, const TensorDescription& tensor) {
  if (!plan.fixed.empty()) return plan.fixed;
  size_t count = 1;
  for (const uint32_t extent : tensor.extents) count *= extent;
  const float number = plan.role == TensorRole::kNorm ? 1.0f : 0.0f;
  return std::vector<float>(count, plan.map != nullptr ? plan.map(number) : number);
}

}  // namespace

Status WriteRandom(const GraphPlan& plan, uint64_t seed, const ProgressFunction& progress,
                   HrmWriter& writer) {
  uint64_t total = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    total += writer.data_bytes(i) + writer.scale_bytes(i);
  }
  Reporter report(progress, total);
  std::vector<std::byte> buffer;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorDescription& tensor = plan.description.tensors[i];
    if (plan.tensors[i].role != TensorRole::kMatrix) {
      const std::vector<float> values = RandomFixed(plan.tensors[i], tensor);
      HR_RETURN_IF_ERROR(writer.Append(i, std::as_bytes(std::span(values))));
      HR_RETURN_IF_ERROR(report.Add(tensor.name, values.size() * sizeof(float)));
      continue;
    }
    RandomWeights random(seed * 1'000'003u + i, tensor.dtype, tensor.extents[1]);
    const auto append = [&](uint64_t bytes, bool scales) -> Status {
      for (uint64_t done = 0; done < bytes;) {
        buffer.resize(std::min<uint64_t>(kSliceBytes, bytes - done));
        scales ? random.FillScales(buffer, tensor.block ? 2 : 4) : random.FillData(buffer);
        HR_RETURN_IF_ERROR(scales ? writer.AppendScales(i, buffer) : writer.Append(i, buffer));
        HR_RETURN_IF_ERROR(report.Add(tensor.name, buffer.size()));
        done += buffer.size();
      }
      return {};
    };
    HR_RETURN_IF_ERROR(append(writer.data_bytes(i), false));
    HR_RETURN_IF_ERROR(append(writer.scale_bytes(i), true));
  }
  return {};
}

}  // namespace headroom::convert
