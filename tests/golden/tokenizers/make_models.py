#!/usr/bin/env python3
"""Small tokenizer.model files, trained by SentencePiece on our own sentences, and the ids and texts that SentencePiece
itself gives for the texts of make_tokenizers.py. Usage: make_models.py (sentencepiece 0.2.2; writes beside itself).
"""
import importlib.util
import io
import json
import os
import pathlib
import tempfile
import unicodedata

import sentencepiece

HERE = pathlib.Path(__file__).parent.absolute()
spec = importlib.util.spec_from_file_location("make_tokenizers", HERE / "make_tokenizers.py")
sentences = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sentences)

SIGN = "\u2581"


def texts():
    extra = [SIGN, SIGN * 2 + "a", "a" + SIGN, "a" + SIGN + "b c", "  two  ", " " * 31 + "x", "\t\ttabs", "a\nb\n\n\nc",
             "\n" * 40, "\u0378\ue000\U0010ffff", "e\u0301\u0301", "\ufffd broken \ufffd\ufffd", "\x00\x01\x7f",
             "ship" * 400, "\U0001f6a2" * 50, "\u5b88" * 200, "a\u5b88b" * 60, "aaaaaaaaaaaaa xaaaaaaab",
             "\uff21\uff22\uff0c\u3000\ufb01 \u00bd \u2460 \u33a5 \u1e9b\u0323", "\u1100\u1161\u11a8 \uac00\u11a8",
             "a\u0323\u0307 a\u0307\u0323 q\u0307\u0323", "\u0344 \u2126 \u212b \u00c5 A\u030a", "\u00a0\u2003x\u00a0",
             "\u200b\u200d\ufeff", "<table>", "x<table>y", "a <row> b", "\u3042\u309a\u304b\u3099", "e\u0301" * 300]
    return sentences.texts() + extra


# Some of NFKC's rules and some of our own, longer ones too: SentencePiece compiles them into its table.
def rules():
    lines = ["9\t20", "A\t20", "D\t20", "200B\t", "AD\t", "3042 309A\t30A2", "66 66 69\t66 69"]
    for code in [*range(0xA0, 0x180), *range(0x2000, 0x2070), *range(0x2100, 0x2190), *range(0x2460, 0x24A0),
                 *range(0x3000, 0x30FF), *range(0x3300, 0x33FF), *range(0xFB00, 0xFB07), *range(0xFF01, 0xFFEF)]:
        form = unicodedata.normalize("NFKC", chr(code))
        if form != chr(code):
            lines.append(f"{code:X}\t" + " ".join(f"{ord(c):X}" for c in form))
    for base in "aeiouAEIOU":
        for mark in "\u0300\u0301\u0302\u0308\u0323":
            form = unicodedata.normalize("NFC", base + mark)
            lines.append(f"{ord(base):X} {ord(mark):X}\t" + " ".join(f"{ord(c):X}" for c in form))
    os.chdir(tempfile.mkdtemp())  # the model keeps the name of the file
    pathlib.Path("rules.tsv").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    return "rules.tsv"


def cases():
    bytes_too = {"byte_fallback": True, "character_coverage": 0.98}
    plain = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    yield "model-bpe", {"model_type": "bpe", "vocab_size": 600, "split_digits": True,
                        "allow_whitespace_only_pieces": True} | bytes_too | plain
    yield "model-bpe-unprefixed", {"model_type": "bpe", "vocab_size": 640, "add_dummy_prefix": False,
                                   "user_defined_symbols": ["<table>", SIGN * 2, "\n\n"]} | bytes_too | plain
    yield "model-unigram", {"model_type": "unigram", "vocab_size": 260, "character_coverage": 0.98} | plain
    yield "model-unigram-bytes", {"model_type": "unigram", "vocab_size": 540} | bytes_too | plain
    yield "model-unigram-nfkc", {"model_type": "unigram", "vocab_size": 320, "character_coverage": 0.98,
                                 "normalization_rule_tsv": rules()}
    yield "model-bpe-unknown", {"model_type": "bpe", "vocab_size": 400, "character_coverage": 0.98,
                                "normalization_rule_tsv": rules()}


def train(options):
    model = io.BytesIO()
    corpus = [line for text in sentences.CORPUS for line in text.split("\n") if line] * 3
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=model, hard_vocab_limit=False,
                                             minloglevel=2, num_threads=1, **options)
    return model.getvalue()


def main():
    for name, options in cases():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        model = train(options)
        (folder / "tokenizer.model").write_bytes(model)
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        rows = []
        for text in texts():
            ids = reference.encode(text, out_type=int)
            rows.append({"text": text, "ids": [reference.bos_id()] + ids, "plain": ids})
            # Unknown ones it shows as a sign of their own; and of leading signs that were in the text it shows none
            # where it removes white space, we all but the first token's.
            odd = "normalization_rule_tsv" in options and text.startswith(SIGN)
            if reference.unk_id() not in ids and not odd:
                rows[-1]["decoded"] = reference.decode(ids)
        (folder / "cases.json").write_text(json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
                                           .replace('},{', '},\n{') + "\n")
        print(name, reference.get_piece_size(), "pieces,", len(rows), "texts,", len(model), "bytes")


main()
