#!/usr/bin/env python3
"""Small byte-level BPE tokenizers in the published tokenizer.json layout, and the ids that the reference
`tokenizers` library gives for texts in many scripts. Usage: make_tokenizers.py (writes beside itself).

Each case varies what the published files vary: how text is split, the prefix space, words taken whole,
special tokens, the begin token. The texts are our own sentences plus seeded random character mixtures;
some of those are chosen to sit where Unicode classes differ between regex engines.
"""
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent

# The three split patterns that nearly all published byte-level vocabularies use (facts of their files).
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

CORPUS = [
    "The lighthouse keeper counts the ships each evening and writes their number into a small book.",
    "I don't think we've met; she'll say they're late, but I'd wait. It's what I'm here for.",
    "In 1987 the bridge carried 12,345 carts; by 2024 it carried 1,000,000 cars a year.",
    "int main(void) {\n    for (int i = 0; i < 10; ++i) {\n        sum += values[i];\n    }\n    return sum;\n}\n",
    "Der Fluss fließt über die Grenze; naïve façade, crème brûlée, señor, smørrebrød, łódź.",
    "Река течёт через границу, и сторож считает корабли каждый вечер.",
    "Ο φύλακας του φάρου μετρά τα πλοία κάθε βράδυ.",
    "守灯塔的人每天晚上数船，并把数目写进一本小书。橋は千台の車を運んだ。",
    "灯台守は毎晩船を数えて、小さな本に書きます。등대지기는 매일 저녁 배를 센다.",
    "प्रकाशस्तंभ का रखवाला हर शाम जहाज़ गिनता है। حارس المنارة يعد السفن كل مساء.",
    "שומר המגדלור סופר את הספינות בכל ערב. ผู้ดูแลประภาคารนับเรือทุกเย็น",
    "Emoji: 🚢🚢 🌊 👩‍🚀 👍🏽 🇳🇴 ❤️‍🔥 and symbols ± × ÷ ≤ ≠ → ∞ ©",
    "   leading, trailing   \n\n\ttabs\tand  double  spaces \r\n windows\r\nlines   ",
]

POOL = ("aabcdeefghiIlmnoorsttuvw  \n\t'" + "ABCXYZ0123456789" + ".,;:!?-_/\\()[]{}<>@#$%^&*+=|~`\""
        "éßñłøſKİı" "абвгЖЯ" "αβγΩς" "守灯塔漢字かなカナ한글" "हिन्दी" "عربي" "עברית" "ไทย"
        "٣४五Ⅷ½²①" "🚢🌊👩👍" "\u200d\ufe0f\U0001f3fd\U0001f1f3" "\u0301\u0308\u20e3"
        "\u00a0\u1680\u180e\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
        "\r\x0b\x0c\x1c\x1d\x1f\x85\x00\x7f" "\u0378\ue000\ufffd\U000e0041\U0010ffff")
WORDS = ["the", " lighthouse", "ships", "'s", "'LL", "'re", " 12345", "don't", "\r\n", "    ", "keeper", "<|end|>",
         "<|end", "<|end|>x", "<|user|>", "Река", "守灯塔", "👩‍🚀", " \n \n", "_name", "x=1", "zzzz"]

# Texts that normal forms change: marks in odd order, composed and not, jamo, compatibility characters.
FORMS = ["e\u0301 \u00e9 E\u0301\u0323 q\u0307\u0323 q\u0323\u0307", "\u1100\u1161\u11a8 \uac00\u11a8 \uac01 \u1100\u1161\u1161",
         "\u0344 \u2126 \u212b A\u030a \u1e9b\u0323 \u017f\u0323\u0307", "\ufb01\ufb03 \u00bd \u2460 \uff21\uff10 \ufdfa \u33a5 x\u00b2",
         "a\u0300\u0315\u0300\u05ae\u0300b", "\u05b8\u05b9\u05b1\u0591\u05c3\u05b0\u05ac\u059f", "\u0061\u0315\u0300\u05ae\u0300\u0062",
         "\u0958 \u0915\u093c \u0b47\u0b3e \u1026 \u0cca\u0cd5", "\u3042\u309a\u304b\u3099\u304c \uff76\uff9e", "\u0301alone \u0301\u0327",
         "<|end|>\u0301e\u0301<|user|>", "e" + "\u0301\u0323" * 300, "\U0001d15e\U0001d16d \U0002f800 \uf900", "\u0f71\u0f72\u0f73 \u0f73\u0f72"]


ADDED = ["a  b   c    d     e" + " " * 19 + "f", " <l> <l>x<l>  ", " <r> <r>x<r>  \n y", "a\u3000<both>\u00a0\u2003b <both><both>",
         "e\u0301! \u00e9! o\u0301! \u00f3!", "the then\n\n\nthe <|user|>the  ", "  <r>  <l>  ", "<both>", " \t<both>\n", "  the  "]


WORDS_ALONE = ["ship ships ship's aship ship_ \u00e9ship ship\u0301 ship1 ship. (ship) \u6f22ship ship\u200d ship\u24b6",
               "shipship ship ship", " keeper keepers  keeper", "\u00e9t\u00e9 \u00c9T\u00c9 ETE E\u0301te\u0301 --- 12345 zz z",
               "\u0130I\u0131\u1e9e \u03a3\u03c3\u03c2 \u01c5", "  \u3000 \n", "\u00a0\u2003x\u00a0", "ship", "--"]


def texts():
    rng = random.Random(20240)
    out = ["", " ", "  ", "\n", "a", " a", "a ", "<|end|>", "<|user|>hello<|end|>", "<|end|><|end|>", "x <|end|> y"]
    out += CORPUS
    for n in range(110):
        out.append("".join(rng.choice(POOL) if rng.random() < 0.6 else rng.choice(WORDS)
                           for _ in range(rng.randint(1, 24))))
    out.append("".join(rng.choice("abehilnorst") for _ in range(1500)))  # one long word
    out.append(" " * 700 + "x" + "\n" * 300)
    return out


def trained(pre, vocabulary=560, normalizer=None, prefix_trained=True):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS * 3, trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def cases():
    special = [AddedToken("<|end|>", special=True), AddedToken("<|end|>x", special=True),
               AddedToken("<|user|>", special=True)]
    gpt2 = trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    gpt2.add_special_tokens(special[:1])
    yield "gpt2", gpt2, {}
    prefix = trained(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True))
    prefix.add_special_tokens(special)
    yield "prefix-space", prefix, {}
    llama3 = trained(split(LLAMA3))
    llama3.add_special_tokens(special)
    llama3.post_processor = processors.TemplateProcessing(
        single="<|user|> $A", pair="<|user|> $A <|user|> $B",
        special_tokens=[("<|user|>", llama3.token_to_id("<|user|>"))])
    yield "llama3", llama3, {"ignore_merges": True, "words": ["Ġlighthouse", "zzzz", "aa"]}
    qwen2 = trained(split(QWEN2), normalizer=normalizers.NFC())
    qwen2.add_special_tokens(special)
    yield "qwen2", qwen2, {}
    digits = trained(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]))
    digits.add_special_tokens(special)
    yield "digits", digits, {}
    # Added tokens of all kinds: found before or after the normal form, taking spaces along, runs of spaces.
    added = trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), normalizer=normalizers.NFC())
    added.add_special_tokens(special + [AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True),
                                        AddedToken("<both>", lstrip=True, rstrip=True, normalized=True)])
    added.add_tokens([AddedToken(" " * n, normalized=True) for n in (2, 3, 4, 8)] +
                     [AddedToken("\n\n", normalized=False), AddedToken("e\u0301!", normalized=True),
                      AddedToken("o\u0301!", normalized=False), AddedToken("the", normalized=False)])
    yield "added", added, {"texts": ADDED}
    # All that a normaliser may do before the bytes, and tokens that stand alone or are normalised, too.
    normaliser = trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    normaliser.normalizer = normalizers.Sequence([
        normalizers.Strip(), normalizers.Replace("--", "\u2014 "), normalizers.Replace(Regex(r"\d{3}|z+"), "0"),
        normalizers.Lowercase(), normalizers.NFD(), normalizers.StripAccents(), normalizers.Prepend("~ ")])
    normaliser.add_special_tokens(special)
    normaliser.add_tokens([AddedToken("ship", single_word=True, normalized=False), AddedToken("\u00c9T\u00c9"),
                           AddedToken("keeper", single_word=True, lstrip=True, normalized=False)])
    yield "normaliser", normaliser, {"texts": WORDS_ALONE}
    cuts = trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for name, parts in (("cuts", [("[aeiou]", "merged_with_next", False), ("[lnr]", "merged_with_previous", False),
                                  (r"\p{Ll}{2}", "contiguous", True), (r"[^\w\s]|^t", "contiguous", False)]),
                        ("cuts-removed", [(r"\s+$", "removed", False), (r"\p{L}+|\p{N}+|\s", "removed", True),
                                          ("e", "merged_with_next", True)])):
        cuts.pre_tokenizer = pre_tokenizers.Sequence(
            ([pre_tokenizers.Punctuation("merged_with_previous")] if name == "cuts" else [pre_tokenizers.Whitespace()]) +
            [pre_tokenizers.Split(Regex(pattern), behavior, invert) for pattern, behavior, invert in parts] +
            [pre_tokenizers.Split(" ", "merged_with_next"), byte_level])
        yield name, cuts, {}
    for name, form in (("nfd", normalizers.NFD()), ("nfkc", normalizers.NFKC())):
        formed = trained(split(LLAMA3), normalizer=form)
        formed.add_special_tokens(special)
        yield name, formed, {}


def main():
    for name, tokenizer, extra in cases():
        data = json.loads(tokenizer.to_str())
        data["model"]["ignore_merges"] = extra.get("ignore_merges", False)
        # Words in the vocabulary that no merge makes: only ignore_merges reaches them.
        shift = len(extra.get("words", []))
        if shift:
            base = len(data["model"]["vocab"])
            for i, word in enumerate(extra["words"]):
                data["model"]["vocab"][word] = base + i
            for token in data["added_tokens"]:
                token["id"] += shift
            for token in data["post_processor"]["special_tokens"].values():
                token["ids"] = [i + shift for i in token["ids"]]
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=True, separators=(",", ":")) + "\n")
        reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
        rows = []
        for text in texts() + (FORMS if reference.normalizer else []) + extra.get("texts", []):
            rows.append({"text": text, "ids": reference.encode(text).ids,
                         "plain": reference.encode(text, add_special_tokens=False).ids})
        (folder / "cases.json").write_text(json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
                                           .replace('},{', '},\n{') + "\n")
        print(name, reference.get_vocab_size(), "tokens,", len(rows), "texts")


if __name__ == "__main__":
    main()
