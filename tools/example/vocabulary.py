"""Byte-level BPE vocabulary of the example model, and a fast cached encoder for training.

    vocabulary.py OUT_FILE      trains the vocabulary on the generator's text, writes tokenizer.json
"""
import re
import sys

VOCAB_SIZE = 2048
END = "<|endoftext|>"

# The GPT-2 pre-tokenizer's pattern restricted to ASCII, which is all the generator writes.
WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def train_vocabulary(path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    import corpus
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(corpus.plain_text(seed=1, n_docs=6000), trainer)
    tok.save(path)


def load_encoder(path):
    """-> encode(text): list of ids. Caches each pre-token, so that generating text stays cheap."""
    from tokenizers import Tokenizer
    tok, cache = Tokenizer.from_file(path), {}

    def encode(text):
        out = []
        for w in WORD.findall(text):
            ids = cache.get(w)
            if ids is None:
                ids = cache[w] = tok.encode(w).ids
            out += ids
        return out

    encode.tokenizer = tok
    return encode


if __name__ == "__main__":
    train_vocabulary(sys.argv[1])
