#!/usr/bin/env python3
"""Small tokenizers of SentencePiece's kinds in the published tokenizer.json layout, and the ids and texts that the
reference `tokenizers` library gives. Usage: make_sentencepiece.py (writes beside itself).

Vocabularies are trained here on our own sentences; what surrounds them (normaliser, pre-tokenizer, decoder, options of
added tokens) is laid out as in the families named in `cases`. Scores are rounded to float, as SentencePiece stores
them, except where the case says so.
"""
import base64
import importlib.util
import json
import pathlib
import struct

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
spec = importlib.util.spec_from_file_location("make_tokenizers", HERE / "make_tokenizers.py")
byte_level = importlib.util.module_from_spec(spec)
spec.loader.exec_module(byte_level)

SIGN = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SIGN}
PREPEND = {"type": "Prepend", "prepend": SIGN}
BACK = [{"type": "Replace", "pattern": {"String": SIGN}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": SIGN, "prepend_scheme": scheme, "split": split}


def sequence(key, parts):
    return {"type": "Sequence", key: parts}


def texts():
    extra = [SIGN, SIGN * 2 + "a", "a" + SIGN, "a" + SIGN + "b c", "  two  ", " " * 31 + "x", "\t\ttabs", "a\nb\n\n\nc",
             "\n" * 40, "<s>", "<s>hello", "hello<s>", " <s> hello <s> ", "<s> <s>", "</s>x", "<mask>", "a <mask> b",
             "a\u00a0\u3000<mask>\t\n b", "x<mask><mask> y", "<unk>", "x <unk>", "<|user|>", "q <|user|> \n z",
             "\u0378\ue000\U0010ffff", "e\u0301\u0301", "\ufffd broken \ufffd\ufffd", "\x00\x01\x7f", "ship" * 400,
             "\U0001f6a2" * 50, "\u5b88" * 200, "a\u5b88b" * 60]
    return byte_level.texts() + extra


def added(vocabulary, content, special=True, **options):
    token = {"id": vocabulary[content], "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": special}
    return token | options


def byte_fallback_bpe():
    """Vocabulary and merges of characters; each sentence is one word, as SentencePiece's trainer may cross none."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=520, limit_alphabet=190, show_progress=False)
    tokenizer.train_from_iterator([text.replace("\n", " ") for text in byte_level.CORPUS] * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
    merges += [[SIGN, SIGN], [SIGN * 2, SIGN * 2]]
    words += [SIGN * 2, SIGN * 4]
    return words, merges


def bpe_file(first, extra=()):
    words, merges = byte_fallback_bpe()
    pieces = list(first) + BYTES + words + list(extra)
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    assert len(vocabulary) == len(pieces)
    return vocabulary, {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocabulary, "merges": merges}}


def template(vocabulary, token):
    return {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": token, "type_id": 0}},
                                                      {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]}}}


def llama2(normalized, metaspaced=False):
    vocabulary, data = bpe_file(["<unk>", "<s>", "</s>"], ["<|user|>", "<mask>"])
    data["added_tokens"] = [added(vocabulary, piece, normalized=normalized) for piece in ("<unk>", "<s>", "</s>")]
    data["added_tokens"] += [added(vocabulary, "<|user|>", rstrip=True), added(vocabulary, "<mask>", lstrip=True)]
    if metaspaced:
        data["pre_tokenizer"] = metaspace("first", False)
    else:
        data["normalizer"] = sequence("normalizers", [PREPEND, REPLACE])
    data["post_processor"] = template(vocabulary, "<s>")
    data["decoder"] = sequence("decoders", BACK + [STRIP])
    return data


def gemma():
    vocabulary, data = bpe_file(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], ["\n", "\n\n", "<table>", "zq q"])
    data["added_tokens"] = [added(vocabulary, piece) for piece in ("<pad>", "<eos>", "<bos>", "<unk>")]
    data["added_tokens"] += [added(vocabulary, piece, special=False)
                             for piece in ("\n", "\n\n", SIGN * 2, SIGN * 4, "<table>", "zq q")]
    data["normalizer"] = REPLACE
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                             "invert": False}
    data["post_processor"] = template(vocabulary, "<bos>")
    data["decoder"] = sequence("decoders", BACK)
    return data


def unigram(bytes_too, scheme, split, rounded):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    first = ["<unk>", "<s>", "</s>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=420, special_tokens=first, unk_token="<unk>", show_progress=False,
                                      initial_alphabet=[], shrinking_factor=0.75, max_piece_length=12)
    tokenizer.train_from_iterator(byte_level.CORPUS * 3, trainer)
    data = json.loads(tokenizer.to_str())
    model = data["model"]
    # A few characters lose their token, so that text has unknown ones.
    model["vocab"] = [piece for piece in model["vocab"] if piece[0] not in ("q", "Z", "\u0448", "\u5b88", "!")]
    if bytes_too:
        model["vocab"] += [[piece, 0.0] for piece in BYTES]
    if rounded:
        model["vocab"] = [[piece, struct.unpack("f", struct.pack("f", score))[0]] for piece, score in model["vocab"]]
    model["byte_fallback"] = bytes_too
    data["decoder"] = (sequence("decoders", BACK + ([STRIP] if scheme != "never" else [])) if bytes_too
                       else metaspace(scheme, split))
    data["added_tokens"] = [token | {"lstrip": token["content"] == "<mask>"} for token in data["added_tokens"]]
    return data


def charsmap():
    """The table that SentencePiece compiled for make_models.py: the last field of its kind in the file."""
    from sentencepiece import sentencepiece_model_pb2 as proto
    model = proto.ModelProto()
    model.ParseFromString((HERE / "model-unigram-nfkc" / "tokenizer.model").read_bytes())
    return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def unigram_charsmap():
    """As T5 and XLM-RoBERTa have it, with what else goes before."""
    data = unigram(bytes_too=False, scheme="always", split=True, rounded=True)
    data["normalizer"] = sequence("normalizers", [
        {"type": "Replace", "pattern": {"String": "``"}, "content": '"'},
        {"type": "Precompiled", "precompiled_charsmap": charsmap()},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}])
    data["pre_tokenizer"] = sequence("pretokenizers", [{"type": "WhitespaceSplit"}, metaspace("always", True)])
    return data


def bpe_unknown():
    """Characters without a token are unknown, each one by itself."""
    _, data = bpe_file(["<unk>", "<s>", "</s>"])
    model = data["model"]
    words = [word for word in model["vocab"] if word not in BYTES and word not in ("q", "Z", "\u0448", "!")]
    model |= {"vocab": {word: id for id, word in enumerate(words)}, "byte_fallback": False, "fuse_unk": False}
    model["merges"] = [merge for merge in model["merges"] if merge[0] in words and merge[1] in words
                       and merge[0] + merge[1] in words]
    data["added_tokens"] = [added(model["vocab"], piece) for piece in ("<unk>", "<s>", "</s>")]
    data["pre_tokenizer"] = data["decoder"] = metaspace("always", True)
    return data


def cases():
    yield "unigram-charsmap", unigram_charsmap()
    yield "bpe-unknown", bpe_unknown()
    yield "llama2", llama2(normalized=False)
    yield "llama2-normalised", llama2(normalized=True)
    yield "llama2-metaspace", llama2(normalized=False, metaspaced=True)
    yield "gemma", gemma()
    yield "unigram", unigram(bytes_too=False, scheme="always", split=True, rounded=True)
    yield "unigram-bytes", unigram(bytes_too=True, scheme="first", split=False, rounded=False)


def main():
    for name, data in cases():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=True, separators=(",", ":")) + "\n")
        reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
        rows = []
        for text in texts():
            plain = reference.encode(text, add_special_tokens=False).ids
            rows.append({"text": text, "ids": reference.encode(text).ids, "plain": plain,
                         "decoded": reference.decode(plain, skip_special_tokens=False)})
        (folder / "cases.json").write_text(json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
                                           .replace('},{', '},\n{') + "\n")
        print(name, reference.get_vocab_size(), "tokens,", len(rows), "texts")


main()
