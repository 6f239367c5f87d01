"""Scores a Hugging Face directory on the held-out needles with transformers, greedily, in float32.

    evaluate.py HF_DIR NEEDLES.jsonl [--demo DEMO_DIR] [--show]
"""
import copy
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

MAX_NEW_TOKENS = 16


class Reader:
    def __init__(self, folder):
        self.tok = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, text):
        return torch.tensor([self.tok(text, add_special_tokens=False).input_ids])

    @torch.no_grad()
    def answers(self, context, prompts):
        """Each prompt is asked directly after the context, independently of the others."""
        ids = self.ids(context)
        cache = DynamicCache(config=self.model.config)
        for part in ids.split(512, 1):
            self.model(part, past_key_values=cache)
        for p in prompts:
            x, text, own = self.ids(p), "", copy.deepcopy(cache)   # a state cannot be cropped
            for _ in range(MAX_NEW_TOKENS):
                x = self.model(x, past_key_values=own).logits[:, -1:].argmax(-1)
                text += self.tok.decode(x[0])
                if "\n" in text:
                    break
            yield text.split("\n")[0].strip(), ids.shape[1]


def main():
    torch.set_num_threads(1)
    reader, tally, wrong = Reader(sys.argv[1]), {}, []
    for line in open(sys.argv[2]):
        row = json.loads(line)
        t = tally.setdefault(row["distance"], [0, 0])
        prompts = [q["prompt"] for q in row["questions"]]
        for q, (got, _) in zip(row["questions"], reader.answers(row["context"], prompts)):
            ok = got == q["answer"].strip()
            t[0] += ok
            t[1] += 1
            if not ok:
                wrong.append((row["distance"], q["prompt"], q["answer"], got))
    for d, (right, asked) in sorted(tally.items()):
        print(f"distance {d:5d}: {right}/{asked} = {100 * right / asked:.1f} %", flush=True)
    if "--show" in sys.argv:
        for w in wrong:
            print("wrong:", w)
    if "--demo" in sys.argv:
        folder = sys.argv[sys.argv.index("--demo") + 1]
        demo = json.load(open(f"{folder}/demo.json"))["questions"]
        text = open(f"{folder}/demo.txt").read()
        for q, (got, n) in zip(demo, reader.answers(text, [q["prompt"] for q in demo])):
            print(f"demo ({n} tokens, distance {q['distance']}): {q['prompt']} {got!r}, "
                  f"expected {q['answer'].strip()!r}")


if __name__ == "__main__":
    main()
