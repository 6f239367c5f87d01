#!/usr/bin/env python3
"""Reference ids for published tokenizers, which are too large to be kept here.

Usage: make_published.py FOLDER [TEXTS.inp]
FOLDER holds one folder per tokenizer; each gets a cases.json beside its tokenizer.json (by the `tokenizers`
library), its tokenizer.model (by SentencePiece), or its vocab.gguf with vocab.gguf.inp and .out (texts and ids
in the way that llama.cpp keeps them). A file "pre" beside a tokenizer.json names its pre-tokenizer in GGUF files:
then a second folder with the same vocabulary as GGUF is made. Then
    HEADROOM_TOKENIZERS=FOLDER build/release/tests/convert_test "[.published]"
compares. TEXTS.inp: more texts, parted by lines "__ggml_vocab_test__".
"""
import json
import pathlib
import random
import sys

from make_tokenizers import FORMS, POOL, texts

SEPARATOR = "\n__ggml_vocab_test__\n"
SCRIPTS = [(0x0900, 0x0DFF), (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1200, 0x137F), (0x1780, 0x17FF),
           (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF),
           (0x10300, 0x1034A), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE000, 0xE0FF), (0x0370, 0x05FF),
           (0x0600, 0x08FF), (0x0080, 0x036F), (0x0000, 0x007F)]


def mixtures(added):
    """Added tokens beside everything that a rule about their surroundings may ask for."""
    rng = random.Random(77)
    sides = ["", " ", "  ", "\n", "\t ", "a", "é", "1", "_", ".", "漢", "\u00a0", "\u0301", "▁", "\u3000x"]
    out = []
    for token in added[:40] + rng.sample(added, min(40, len(added))):
        out += ["".join([rng.choice(sides), token, rng.choice(sides), rng.choice(added), rng.choice(sides)]), token * 2,
                token[:-1] + " " + token[1:], token.upper() + token.lower()]
    for _ in range(150):
        low, high = rng.choice(SCRIPTS)
        run = [chr(c) for c in (rng.randint(low, high) for _ in range(rng.randint(1, 12))) if not 0xD800 <= c < 0xE000]
        out.append("".join(c for c in run) + rng.choice(["", " ", "\n\n", "  12 "]) + rng.choice(POOL))
    out += ["x" * 3000, "ab " * 500, "\n" * 40 + " " * 90 + "\t" * 17, "1234567890" * 9, "▁▁a ▁ b▁", "<0x0A><0xFF>", "…" * 30]
    return out


def corpus(added, more):
    return list(dict.fromkeys(texts() + FORMS + mixtures(added or ["<x>"]) + more))


def without_tokens_behind(data):
    single = (data.get("post_processor") or {}).get("single", [])
    while single and "SpecialToken" in single[-1]:
        single.pop()


def of_library(path, more):
    from tokenizers import Tokenizer
    data = json.loads(path.read_text())
    # As transformers does for the classes that read it; and who generates wants no end token.
    config = path.with_name("tokenizer_config.json")
    if config.exists() and json.loads(config.read_text()).get("add_eos_token") is False:
        without_tokens_behind(data)
    # What is not in the vocabulary is special to us, but for white space and single characters.
    for token in data["added_tokens"]:
        marker = token["content"].strip() != "" and len(token["content"]) > 1
        token["special"] |= marker and token["content"] not in dict(data["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(data))
    added = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    for text in corpus(added, more):
        tokenizer.encode_special_tokens = False
        row = {"text": text, "ids": tokenizer.encode(text).ids}
        row["plain"] = tokenizer.encode(text, add_special_tokens=False).ids
        row["decoded"] = tokenizer.decode(row["plain"], skip_special_tokens=False)
        tokenizer.encode_special_tokens = True
        row["ordinary"] = tokenizer.encode(text, add_special_tokens=False).ids
        yield row


def of_sentencepiece(path, more):
    from sentencepiece import SentencePieceProcessor
    processor = SentencePieceProcessor(model_file=str(path))
    for text in corpus([], more):
        ids = processor.encode(text)
        shown = {} if processor.unk_id() in ids or text.startswith("\u2581") else {"decoded": processor.decode(ids)}
        yield {"text": text, "plain": ids} | shown


def of_llama_cpp(path, _):
    given = pathlib.Path(str(path) + ".inp").read_bytes().decode().split(SEPARATOR)
    lines = pathlib.Path(str(path) + ".out").read_text().split("\n")
    for text, line in zip(given, lines):
        yield {"text": text, "plain": [int(number) for number in line.split()]}


def as_gguf(folder, pre):
    """The same byte-level vocabulary and rows as a GGUF file says them, beside the folder."""
    import gguf
    data = json.loads((folder / "tokenizer.json").read_text())
    tokens = {index: (text, gguf.TokenType.NORMAL) for text, index in data["model"]["vocab"].items()}
    for token in data["added_tokens"]:
        kind = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        tokens[token["id"]] = (token["content"], kind)
    count = max(tokens) + 1
    rows = [tokens.get(index, (f"[PAD{index}]", gguf.TokenType.UNUSED)) for index in range(count)]
    out = folder.with_name(folder.name + "-gguf")
    out.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(str(out / "vocab.gguf"), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([text for text, _ in rows])
    writer.add_token_types([kind for _, kind in rows])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    cases = json.loads((folder / "cases.json").read_text())
    users = [token["content"] for token in data["added_tokens"] if not token["special"] and token["content"].strip()]
    cases = [{"text": row["text"], "plain": row["ordinary"]} for row in cases
             if not any(user in row["text"] for user in users)]  # special to us in GGUF files
    (out / "cases.json").write_text(json.dumps(cases, ensure_ascii=True) + "\n")


def main():
    root = pathlib.Path(sys.argv[1])
    more = pathlib.Path(sys.argv[2]).read_bytes().decode().split(SEPARATOR) if len(sys.argv) > 2 else []
    kinds = [("tokenizer.json", of_library), ("tokenizer.model", of_sentencepiece), ("vocab.gguf", of_llama_cpp)]
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        name, rows_of = next((kind for kind in kinds if (folder / kind[0]).exists()), (None, None))
        if name is None or (folder / "cases.json").exists():
            continue
        try:
            rows = list(rows_of(folder / name, more))
        except Exception as error:  # the library throws nothing more exact
            print(folder.name, "is not read by the reference:", error)
            continue
        (folder / "cases.json").write_text(json.dumps(rows, ensure_ascii=True) + "\n")
        if (folder / "pre").exists():
            as_gguf(folder, (folder / "pre").read_text().strip())
        print(folder.name, len(rows), "texts", flush=True)


if __name__ == "__main__":
    main()
