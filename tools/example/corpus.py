"""Deterministic generator of the example model's world: facts, filler and questions.

A context is plain English. Most sentences are filler; some state a fact, "key -> value", in one of
a few relations. A question names the key and its answer is the value, word for word. Within one
context no key is stated twice for the same relation, so each question has exactly one answer.

Training and held-out text differ in their pairs: a fact belongs to the held-out half when a hash of
relation, key and value falls in one bucket of eight. Training never shows such a fact, held-out
contexts state no other kind.

    corpus.py demo OUT_DIR TOKENIZER          writes demo.txt and demo.json
    corpus.py needles OUT_FILE TOKENIZER      writes the held-out evaluation set
"""
import json
import random
import sys
import zlib

# One word each, short and common, so that a small byte-level vocabulary holds them whole.
FIRST = """Maria Daniel Sofia Lucas Emma Oscar Clara Hugo Nina Felix Laura Simon Julia Martin Alice
Victor Helen Bruno Irene Paul Diana Marcus Eva Tomas Olga Robert Rosa Adam Vera Leo Anna Peter Ruth
Henry Ingrid Samuel Lena Carl Mona David Edith Jonas Greta Ivan Petra Arthur Stella Walter Amir
Yuki Chen Priya Omar Leila Kofi Zara Nadia Ravi Tara Hassan Mei Rafael Elena Boris Silvia Theo
Molly Frank Joan Dora Gilbert Naomi""".split()
LAST = """Lopez Novak Berger Hall Costa Lind Moreau Stone Keller Rossi Wood Silva Marsh Weber Lang
Brook Fisher Kovac Dale Reed Santos Frost Miller Sharp""".split()
TOWN = """Oslo Lisbon Turin Ghent Porto Bergen Leeds Malaga Krakow Basel Lyon Dover Split Riga Genoa
Bath Graz Cadiz Lille Trier Tampa Quebec Nantes Salem Boston Delft Parma Cork Lima Cairo Kyoto
Delhi Accra Tunis Quito Hanoi Perth Denver""".split()
STREET = """Harbour Market Castle Garden Mill Chapel Bridge Orchard River Station Church School
Forest Meadow Tower Baker Canal Cherry Queen Summer""".split()
WAY = "Street Lane Road Square".split()
COLOUR = "red blue green yellow silver golden purple brown black white orange grey".split()
OBJECT = """compass lamp violin book clock mirror basket kettle map ring drum vase coat bell camera
hammer letter carpet flute ladder puzzle helmet blanket whistle necklace telescope""".split()
JOB = """baker doctor teacher farmer sailor painter lawyer tailor nurse pilot miner singer potter
carpenter gardener librarian chemist driver plumber barber""".split()
DOOR = "gate safe cellar vault office garage attic locker shed workshop pantry kitchen".split()
SIDE = "north south east west upper lower old new".split()
SHOP = """museum library bakery theatre market school post bank pharmacy cinema gallery
station zoo chapel garden""".split()
HOUR = "one two three four five six seven eight nine ten eleven twelve".split()
PET = "dog cat horse parrot rabbit pony goat turtle".split()
PETNAME = """Biscuit Pepper Shadow Pickle Rocket Ginger Button Cookie Storm Bandit Lucky Marble
Muffin Noodle Thunder Sunny Patch Ziggy""".split()
FOOD = """soup bread cheese rice pasta honey plums apples cake olives beans fish pears nuts
pancakes curry salad mushrooms""".split()

# Filler has its own words, so that it never looks like a half-stated fact.
WHO = """neighbours children travellers visitors workers students villagers guests musicians
fishermen sisters brothers hunters merchants soldiers cooks""".split()
THING = """wind road hill lake field path wall tree fog river snow moon sea fire boat cart fence
stone roof cloud valley bird stream window table chair floor shore""".split()
QUALITY = """quiet narrow heavy gentle bright cold warm distant empty broken ancient dusty slow deep
pale steep little great long strange soft wide""".split()
DID_TO = """crossed followed watched reached passed touched covered left admired forgot found
remembered repaired drew""".split()
DID = "rested waited slept danced laughed sang talked worked wandered".split()
BECAME = "stood waited rested moved changed grew turned".split()
BY = "near behind beside along across around beyond".split()
ABOVE = "above below under over against near behind beside beyond".split()
WHEN = "morning evening afternoon night winter spring autumn week month year".split()
HOW = "slowly quietly often again together gladly rarely soon carefully".split()
TALK = "weather harvest journey music winter festival news garden price past future war".split()
EVENT = "harvest journey music festival news war rain dance wedding storm".split()


def held_out(relation, key, value):
    return zlib.crc32(f"{relation}|{key}|{value}".encode()) % 8 == 0


# A relation: kind of key, how to draw a value, sentences, questions. {k} key, {v} value,
# {p} person, {o} object. The value always follows the key, a few words later, so that one
# left-to-right pass can tie them together.
RELATIONS = {
    "lives": ("person", lambda r: r.choice(TOWN),
              ["{k} lives in {v}.", "{k} moved to {v}.", "These days {k} lives in {v}."],
              ["Where does {k} live?", "In which town does {k} live?"]),
    "keeps": ("person+object", lambda r: f"{r.choice(STREET)} {r.choice(WAY)}",
              ["{p} keeps the {o} in {v}.", "{p} left the {o} in {v}.", "{p} hid the {o} in {v}."],
              ["Where does {p} keep the {o}?", "In which street is the {o}?"]),
    "code": ("door", lambda r: " ".join(r.choice("0123456789") for _ in range(4)),
             ["The code of the {k} is {v}.", "The code for the {k} is {v}."],
             ["What is the code of the {k}?", "What is the code for the {k}?"]),
    "job": ("person", lambda r: r.choice(JOB),
            ["{k} works as a {v}.", "For many years {k} worked as a {v}."],
            ["What does {k} do?", "What is the job of {k}?"]),
    "opens": ("shop", lambda r: f"{r.choice(HOUR)} o'clock",
              ["The {k} opens at {v}.", "In summer the {k} opens at {v}."],
              ["When does the {k} open?", "At what time does the {k} open?"]),
    "owner": ("object", lambda r: f"{r.choice(FIRST)} {r.choice(LAST)}",
              ["The {k} belongs to {v}.", "These days the {k} belongs to {v}."],
              ["Who owns the {k}?", "To whom does the {k} belong?"]),
    "platform": ("town", lambda r: r.choice(HOUR),
                 ["The train to {k} leaves from platform {v}.",
                  "In winter the train to {k} leaves from platform {v}."],
                 ["From which platform does the train to {k} leave?"]),
    "pet": ("person+pet", lambda r: r.choice(PETNAME),
            ["{p} has a {o} called {v}.", "{p} has a {o} named {v}."],
            ["What is the {o} of {p} called?", "What is the name of the {o} of {p}?"]),
    "likes": ("person", lambda r: r.choice(FOOD),
              ["{k} likes to eat {v}.", "In winter {k} likes to eat {v}."],
              ["What does {k} like?", "Which food does {k} like?"]),
}


class World:
    """Draws facts that never contradict each other. One instance per context."""

    def __init__(self, rng, heldout=False, relations=None):
        self.rng, self.heldout = rng, heldout
        self.names = list(relations or RELATIONS)
        self.first = FIRST[:]
        rng.shuffle(self.first)
        self.people, self.used = [], set()

    def person(self):
        """-> (first name, last name). Mostly someone new, now and then someone met before."""
        if self.people and (not self.first or self.rng.random() < 0.15):
            return self.rng.choice(self.people)
        self.people.append((self.first.pop(), self.rng.choice(LAST)))
        return self.people[-1]

    def key(self, kind):
        """-> (key, person, object, noun that may mark one fact per relation only)."""
        r = self.rng
        if kind == "person":
            p = self.person()[0]
            return p, p, "", p
        if kind == "person+object":
            p, o = " ".join(self.person()), r.choice(OBJECT)
            return f"{p} {o}", p, f"{r.choice(COLOUR)} {o}", o
        if kind == "person+pet":
            p, o = self.person()[0], r.choice(PET)
            return f"{p} {o}", p, o, p
        if kind == "object":
            o = r.choice(OBJECT)
            return f"{r.choice(COLOUR)} {o}", "", "", o
        if kind == "door":
            o = r.choice(DOOR)
            return f"{r.choice(SIDE)} {o}", "", "", o
        k = r.choice(SHOP if kind == "shop" else TOWN)
        return k, "", "", k

    def fact(self):
        """-> (sentence, question, answer, relation), or None when a few draws all collide."""
        r = self.rng
        for _ in range(8):
            rel = r.choice(self.names)
            kind, draw, says, asks = RELATIONS[rel]
            k, p, o, noun = self.key(kind)
            mark = ("object" if noun in OBJECT else rel, noun)
            if mark in self.used:
                continue
            for _ in range(200):
                v = draw(r)
                if held_out(rel, k, v) == self.heldout:
                    break
            else:
                continue
            self.used.add(mark)
            f = dict(k=k, v=v, p=p, o=o)
            return r.choice(says).format(**f), r.choice(asks).format(**f), v, rel
        return None


def with_article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def filler(r):
    """One sentence that states no fact anybody asks about."""
    q, q2, t, t2 = r.choice(QUALITY), r.choice(QUALITY), r.choice(THING), r.choice(THING)
    who, when, how, did, to = (r.choice(p) for p in (WHO, WHEN, HOW, DID, DID_TO))
    return r.choice((
        lambda: f"The {who} {to} the {q} {t}.",
        lambda: f"The {q} {t} {r.choice(BECAME)} {r.choice(ABOVE)} the {t2}.",
        lambda: f"Every {when} the {who} {did} {r.choice(BY)} the {t}.",
        lambda: f"Nobody {to} the {q} {t} that {when}.",
        lambda: f"It was {with_article(q)} {when}, and the {who} {did} {how}.",
        lambda: f"Some {who} talked about the {r.choice(TALK)}.",
        lambda: (f"{with_article(q).capitalize()} {t} {r.choice(BECAME)} {r.choice(ABOVE)} "
                 f"the {q2} {t2}."),
        lambda: f"Two {who} {how} {to} the {t}.",
        lambda: f"The {who} {did}, but the {t} was {q}.",
        lambda: f"They {how} talked about the {q} {r.choice(TALK)}.",
        lambda: f"There was {with_article(t)} {r.choice(ABOVE)} the {q} {t2}.",
        lambda: f"After the {r.choice(EVENT)} the {who} {did} {how}.",
    ))()


def passage(r, world, encode, n_tokens, density, facts_at=None):
    """Text of about n_tokens in paragraphs -> (text, [(token offset, question, answer, relation)]).

    density: chance that a sentence states a fact. facts_at: (from, to) token range that may hold
    facts; elsewhere only filler. A paragraph always opens with filler.
    """
    parts, n, facts, left = [], 0, [], 0
    while n < n_tokens:
        f = None
        inside = facts_at is None or facts_at[0] <= n <= facts_at[1]
        if left > 0 and inside and r.random() < density:
            f = world.fact()
        s = f[0] if f else filler(r)
        if left > 0:
            s = " " + s
        else:
            if parts:
                s = "\n" + s
            left = r.randrange(5, 12)
        left -= 1
        if f:
            facts.append((n,) + f[1:])
        parts.append(s)
        n += len(encode(s))
    return "".join(parts) + "\n", facts


def prompt(question):
    return f"Question: {question}\nAnswer:"


def sample(r, encode, n_tokens, heldout=False, density=None, relations=None):
    """One training or test document: a passage, then questions about it in random order.

    -> (token ids, [(first answer position, one past its newline, distance, relation)])
    """
    world = World(r, heldout, relations)
    density = density or r.choice((0.2, 0.35, 0.6, 0.9))
    room = min(n_tokens // 2, r.randrange(n_tokens // 4, n_tokens // 2 + 1), 900)
    text, facts = passage(r, world, encode, n_tokens - room - 12, density)
    ids, spans = list(encode(text)), []
    r.shuffle(facts)
    for at, q, a, rel in facts:
        head, tail = encode(prompt(q)), encode(f" {a}\n")
        if len(ids) + len(head) + len(tail) > n_tokens:
            break
        ids += head
        spans.append((len(ids), len(ids) + len(tail), len(ids) - at, rel))
        ids += tail
    return ids, spans


def make_needles(encode, per_distance=100, per_context=12, seed=20260722):
    """Held-out contexts whose facts lie within 10 % of `distance` tokens before the question."""
    out = []
    for distance in (500, 1000, 2000, 4000):
        r, left = random.Random(seed + distance), per_distance
        while left > 0:
            world = World(r, heldout=True)
            tail = int(distance * 0.92) - 30
            text, facts = passage(r, world, encode, int(distance * 1.07), 0.6,
                                  facts_at=(0, int(distance * 1.07) - tail))
            n = len(encode(text))
            asks = []
            r.shuffle(facts)
            for at, q, a, _ in facts:
                d = n - at + len(encode(prompt(q)))
                if abs(d - distance) <= 0.1 * distance and len(asks) < min(left, per_context):
                    asks.append({"prompt": prompt(q), "answer": f" {a}"})
            if asks:
                left -= len(asks)
                out.append({"distance": distance, "context": text, "questions": asks})
    return out


def make_demo(encode, n_tokens=3900):
    """A long text of held-out facts and four questions, from the farthest fact to the nearest."""
    wanted = (("keeps", 0.02), ("code", 0.3), ("owner", 0.65), ("job", 0.95))

    def attempt(seed):
        r = random.Random(seed)
        text, facts = passage(r, World(r, heldout=True), encode, n_tokens - 20, 0.12)
        n, picks, miss = len(encode(text)), [], 0.0
        for rel, place in wanted:
            here = [f for f in facts if f[3] == rel]
            if not here:
                return 9.0, text, []
            picks.append(min(here, key=lambda f: abs(f[0] / n - place)))
            miss += abs(picks[-1][0] / n - place)
        return miss, text, [
            {"prompt": prompt(q), "answer": f" {a}", "distance": n - at + len(encode(prompt(q)))}
            for at, q, a, _ in picks]

    _, text, questions = min((attempt(seed) for seed in range(40)), key=lambda t: t[0])
    return text, {"questions": questions}


def plain_text(seed, n_docs):
    """Text for training the vocabulary: documents with their questions."""
    r = random.Random(seed)
    for _ in range(n_docs):
        text, facts = passage(r, World(r), str.split, 250, 0.5)
        yield text + "".join(f"{prompt(q)} {a}\n" for _, q, a, _ in facts)


if __name__ == "__main__":
    from vocabulary import load_encoder
    if sys.argv[1] == "needles":
        with open(sys.argv[2], "w") as f:
            for row in make_needles(load_encoder(sys.argv[3])):
                f.write(json.dumps(row) + "\n")
    else:
        text, rest = make_demo(load_encoder(sys.argv[3]))
        with open(f"{sys.argv[2]}/demo.txt", "w") as f:
            f.write(text)
        with open(f"{sys.argv[2]}/demo.json", "w") as f:
            json.dump(rest, f, indent=1)
            f.write("\n")
