"""Trains the example model on generated text, on a CPU, in stages of growing length.

    train.py DIR [--tokens N] [--hours H]     starts, or resumes from DIR/last.pt
    train.py DIR --pattern llal               layers of linear attention: see hybrid.py

Copying comes first: half of the early documents are shuffled words said twice, and from that
habit retrieval grows. Then the length grows whenever the answers at the current one are right.
The learning rate warms up, stays, and falls linearly over the last `--cooldown` share of the
budget, which is counted in tokens (reproducible) or, with --hours, in wall-clock time (for a
shared machine). DIR/stop ends the run after the current step with a checkpoint.
"""
import argparse
import math
import os
import random
import time

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

import corpus
from hybrid import HybridConfig, HybridModel
from model import Config, Model, Projection
from vocabulary import load_encoder, train_vocabulary

LENGTHS = (96, 192, 384, 768, 1536, 2560, 4608)


def copy_sample(r, encode, length):
    """Shuffled words said twice or more often -> (ids, [(from, to)] that can be predicted)."""
    bag, _ = corpus.sample(r, encode, length)
    r.shuffle(bag)
    n = int(math.exp(r.uniform(math.log(4), math.log(length // 2))))
    once = bag[:n]
    if r.random() < 0.6:
        ids = once * (length // len(once))
        return ids, [(len(once) + 1, len(ids))]
    gap = bag[n:n + r.randrange(0, length - 2 * n + 1)]
    ids = once + gap + once
    return ids, [(n + len(gap) + 1, len(ids))]


def stretched(r, ids, stop):
    """Positions of ids with a few random jumps after full stops, so that a short text shows the
    model long distances. Attention over 1,500 tokens costs a tenth of that over 4,600."""
    T, room = ids.shape[0], LENGTHS[-1] - ids.shape[0]
    step = torch.ones(T, dtype=torch.long)
    step[0] = 0
    ends = (ids[:-1] == stop).nonzero()[:, 0].tolist()
    if ends and room > 0:
        jumps, room = r.randrange(1, 9), r.randrange(room)
        for e in r.choices(ends, k=jumps):
            step[e + 1] += room // jumps
    return step.cumsum(0)


def batch(r, encode, length, count, copy_share, stretch_share):
    """-> ids [B, length], positions [B, length], weights [B, length - 1] of predicting the next."""
    ids, at = torch.zeros(count, length, dtype=torch.long), torch.arange(length).repeat(count, 1)
    w = torch.zeros(count, length - 1)
    stop = encode(".")[0]
    for b in range(count):
        if r.random() < copy_share:
            s, spans = copy_sample(r, encode, length)
            light, full = 0.0, 0.5
        else:
            s, spans = corpus.sample(r, encode, length)
            light, full = 0.1, 1.0
        ids[b, :len(s)] = torch.tensor(s)
        if r.random() < stretch_share:
            at[b] = stretched(r, ids[b], stop)
        if light:
            w[b, :len(s) - 1] = light * (torch.rand(len(s) - 1) < 0.2)
        for span in spans:
            w[b, span[0] - 1:span[1] - 1] = full
    return ids, at, w


@torch.no_grad()
def score(model, encode, length, seed, docs, heldout=True):
    """Answers whose every token is the most likely one -> {relation: [right, asked]}."""
    r, by = random.Random(seed), {k: [0, 0] for k in corpus.RELATIONS}
    for _ in range(docs):
        ids, spans = corpus.sample(r, encode, length, heldout=heldout)
        x = torch.tensor([ids])
        h = model(x[:, :-1])[0]
        for a, b, _, rel in spans:
            by[rel][0] += bool((model.logits(h[a - 1:b - 1]).argmax(-1) == x[0, a:b]).all())
            by[rel][1] += 1
    return by


class Team:
    """Worker processes of one thread each that average numbers through shared memory. On a machine
    shared with other work this loses less than threads that wait for each other in each layer."""

    def __init__(self, size, numbers):
        self.size, self.barrier = size, mp.get_context("fork").Barrier(size)
        self.slots = torch.zeros(size, numbers).share_memory_()

    def mean(self, rank, flat):
        n = flat.numel()
        self.slots[rank, :n] = flat
        self.barrier.wait()
        out = self.slots[:, :n].mean(0)
        self.barrier.wait()
        return out


class Worker:
    """One of the processes; all hold the same weights and make the same steps on different text."""

    def __init__(self, rank, team, options):
        self.rank, self.team, self.options = rank, team, options
        torch.set_num_threads(1)
        torch.manual_seed(options.seed)
        self.encode = load_encoder(f"{options.dir}/tokenizer.json")
        words = self.encode.tokenizer.get_vocab_size()
        Projection.fast = True
        words = (words + 63) // 64 * 64
        self.model = (HybridModel(HybridConfig(words, options.pattern))
                      if options.pattern else Model(Config(words)))
        self.params = [q for q in self.model.parameters() if q.requires_grad]
        self.opt = self.optimizer()
        self.state = dict(step=0, tokens=0, stage=0, grown=False)
        self.last = f"{options.dir}/last.pt"
        if os.path.exists(self.last):
            old = torch.load(self.last, weights_only=False)
            self.model.load_state_dict(old["model"])
            self.opt.load_state_dict(old["opt"])
            self.state = old["state"]
        if options.stage is not None:
            self.state["stage"] = options.stage
        step = self.state["step"]
        self.same = random.Random(f"{options.seed} {step}")     # choices all workers make alike
        self.mine = random.Random(f"{options.seed} {step} {rank}")
        torch.manual_seed(self.mine.randrange(1 << 30))
        self.start = self.saved = time.time()
        self.losses = []
        self.say(f"{sum(q.numel() for q in self.model.parameters()) / 1e6:.2f} M parameters, "
                 f"{words} words, step {step}")

    def optimizer(self):
        # Queries and keys learn at half speed, so that attention does not commit itself too early.
        slow, dense, norms = [], [], []
        for name, q in self.model.named_parameters():
            if q.requires_grad:
                group = slow if ".q_proj" in name or ".k_proj" in name else dense
                (group if q.dim() > 1 else norms).append(q)
        return torch.optim.AdamW([dict(params=slow, weight_decay=0.1, share=0.5),
                                  dict(params=dense, weight_decay=0.05, share=1.0),
                                  dict(params=norms, weight_decay=0.0, share=1.0)],
                                 self.options.lr, betas=(0.9, 0.95), fused=True)

    def say(self, text):
        if self.rank == 0:
            print(text, flush=True)

    def save(self):
        if self.rank == 0:
            torch.save(dict(model=self.model.state_dict(), opt=self.opt.state_dict(),
                            state=self.state), self.last + ".new")
            os.replace(self.last + ".new", self.last)
        self.saved = time.time()

    def done(self):
        """Share of the budget that is used; workers agree on it. Saves now and then."""
        now, o = time.time(), self.options
        done = (now - self.start) / 3600 / o.hours if o.hours else self.state["tokens"] / o.tokens
        if os.path.exists(f"{o.dir}/stop"):
            done = 2.0
        done, stale = self.team.mean(self.rank, torch.tensor([done, now - self.saved])).tolist()
        if stale > 180:
            self.save()
        return done

    def step(self, done):
        o, s = self.options, self.state
        lr = o.lr * min(1, (s["step"] + 1) / 100) * min(1, max(0.02, (1 - done) / o.cooldown))
        for g in self.opt.param_groups:
            g["lr"] = lr * g["share"]
        # Mostly the current length, sometimes a shorter one so that it is not forgotten. At the
        # full length, where a step costs most, it is the other way round.
        stage = s["stage"]
        share = 0.7 if stage + 1 < len(LENGTHS) else 0.3
        here = stage
        if stage > 0 and self.same.random() >= share:
            here = self.same.randrange(max(0, stage - 3), stage)
        copy = 0.5 if not s["grown"] else 0.2 if stage < 3 else 0.05
        rows = max(1, o.batch_tokens // self.team.size // LENGTHS[here])
        ids, at, w = batch(self.mine, self.encode, LENGTHS[here], rows, copy,
                           0.5 if stage > 1 else 0.0)
        # The vocabulary is large beside the model: logits only where a token has weight.
        h = self.model(ids[:, :-1], at[:, :-1]).flatten(0, 1)
        w, on = w.view(-1), w.view(-1).nonzero()[:, 0]
        ce = F.cross_entropy(self.model.logits(h[on]), ids[:, 1:].reshape(-1)[on], reduction="none")
        self.opt.zero_grad(set_to_none=True)
        ((ce * w[on]).sum() / w[on].sum()).backward()
        self.apply()
        s["step"] += 1
        s["tokens"] += ids.numel() * self.team.size
        if here == stage:
            self.losses.append([ce.detach()[w[on] == x].mean().item() for x in (1.0, 0.5)])
        return lr

    def apply(self):
        """Averages the workers' gradients, clips them to norm 1 and takes the step."""
        flat = self.team.mean(self.rank, torch.cat([q.grad.view(-1) for q in self.params]))
        flat *= min(1.0, 1.0 / (flat.norm().item() + 1e-6))
        for q, g in zip(self.params, flat.split([q.numel() for q in self.params])):
            q.grad.copy_(g.view_as(q))
        self.opt.step()
        self.model.hold()

    def test(self):
        """Scores held-out answers at the current length; passing moves on to the next length."""
        s, length = self.state, LENGTHS[self.state["stage"]]
        by = score(self.model, self.encode, length, s["step"] * 16 + self.rank,
                   max(2, 2400 // length))
        mine = torch.tensor(list(by.values()), dtype=torch.float).view(-1)
        both = (self.team.mean(self.rank, mine) * self.team.size).view(-1, 2)
        right, asked = both.sum(0).tolist()
        s["grown"] |= right > 0.5 * asked
        if right >= self.options.pass_at * asked and s["stage"] + 1 < len(LENGTHS):
            s["stage"] += 1
        return f"right {right / asked:.3f} " + " ".join(
            f"{k}:{x:.0f}/{y:.0f}" for k, (x, y) in zip(by, both.tolist()))

    def run(self):
        s, seen, tokens = self.state, time.time(), self.state["tokens"]
        while (done := self.done()) < 1:
            lr = self.step(done)
            if s["step"] % 50 == 0:
                rate = (s["tokens"] - tokens) / (time.time() - seen) / 1e3
                answers, copies = torch.tensor(self.losses).nanmean(0).tolist()
                line = (f"step {s['step']} tokens {s['tokens'] / 1e6:.2f}M {rate:.1f}k/s "
                        f"length {LENGTHS[s['stage']]} lr {lr:.1e} "
                        f"loss answers {answers:.3f} copies {copies:.3f} ")
                self.say(line + (self.test() if s["step"] % self.options.check == 0 else ""))
                seen, tokens, self.losses = time.time(), s["tokens"], []
        self.save()
        self.say(f"done {s}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--pattern", help="a letter per layer: l linear, a softmax attention")
    p.add_argument("--tokens", type=float, default=8e6)
    p.add_argument("--hours", type=float)
    p.add_argument("--cooldown", type=float, default=0.5)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--batch-tokens", type=int, default=4096)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--pass-at", type=float, default=0.8)
    p.add_argument("--check", type=int, default=50, help="steps between tests of the answers")
    p.add_argument("--stage", type=int, help="start at this length instead of the saved one")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.dir, exist_ok=True)
    if not os.path.exists(f"{a.dir}/tokenizer.json"):
        train_vocabulary(f"{a.dir}/tokenizer.json")
    team = Team(a.workers, 4_000_000)
    for k in range(1, a.workers):
        mp.get_context("fork").Process(target=lambda: Worker(k, team, a).run(), daemon=True).start()
    Worker(0, team, a).run()


if __name__ == "__main__":
    main()
