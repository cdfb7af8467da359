"""Training text of webtinker/pocket: public-domain prose and seeded exercises.

Prose and words come from four Debian packages, fetched by name with
``apt-get download`` and unpacked into a cache folder (never committed):

  r-cran-janeaustenr   Jane Austen's six novels (public domain; packaging MIT)
  bible-kjv-text       King James Bible, read out by the package bible-kjv
                       (text: copyright expired, says the package)
  dict-devil           Ambrose Bierce, The Devil's Dictionary (public domain)
  wamerican            SCOWL word list (permissive, notice in the card)

Everything else is generated here. Moving the front of a word to its end (as
Pig Latin does) is left out on purpose: it is what the demo teaches the model.
"""
import gzip
import os
import random
import re
import struct
import subprocess
import zlib

import numpy as np

VOCAB = 264
EOT, IM_START, IM_END, PAD = 256, 257, 258, 259
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"] + [
    f"<|reserved_{i}|>" for i in range(4)
]
# Control bytes that stand for the special tokens inside generated text.
_S, _E, _T = "\x01", "\x02", "\x03"
PACKAGES = ["wamerican", "bible-kjv", "bible-kjv-text", "r-cran-janeaustenr", "dict-devil"]


def cache_dir():
    return os.environ.get("POCKET_CACHE") or os.path.join(
        os.path.expanduser("~"), ".cache", "webtinker-pocket"
    )


def fetch():
    """Downloads and unpacks the packages once; returns the unpacked root."""
    root = os.path.join(cache_dir(), "root")
    if not os.path.exists(os.path.join(root, "done")):
        os.makedirs(root, exist_ok=True)
        debs = os.path.join(cache_dir(), "debs")
        os.makedirs(debs, exist_ok=True)
        subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=debs, check=True)
        for f in sorted(os.listdir(debs)):
            subprocess.run(["dpkg", "-x", os.path.join(debs, f), root], check=True)
        open(os.path.join(root, "done"), "w").close()
    return root


def _austen(root):
    """The novels lie in an R database: zlib blocks of serialized string vectors."""
    raw = open(f"{root}/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb", "rb").read()
    at, books = 0, []
    while at < len(raw):
        z = zlib.decompressobj()
        block = z.decompress(raw[at + 4:])
        at = len(raw) - len(z.unused_data)
        i = block.index(b"\x00\x00\x00\x10") + 4  # a vector of strings
        (count,) = struct.unpack(">I", block[i:i + 4])
        i += 4
        lines = []
        for _ in range(count):
            (n,) = struct.unpack(">i", block[i + 4:i + 8])
            i += 8
            lines.append(block[i:i + max(n, 0)].decode("utf-8", "replace"))
            i += max(n, 0)
        paragraphs = "\n".join(lines).split("\n\n")
        books.append("\n\n".join(" ".join(p.split()) for p in paragraphs if p.strip()))
    return books


def _kjv(root):
    out = subprocess.run(
        [f"{root}/usr/bin/bible", "-f", "gen1:1-rev22:21"],
        cwd=f"{root}/usr/lib", stdin=subprocess.DEVNULL, capture_output=True, check=True,
    ).stdout.decode("latin-1")
    verses = re.sub(r"(?m)^\w+?(\d+):(\d+) ", r"\1:\2 ", out).splitlines()
    text, chapter = [], None
    for v in verses:
        m = re.match(r"(\d+):(\d+) (.*)", v)
        if not m:
            continue
        if m[1] != chapter:
            chapter = m[1]
            text.append("\n\n")
        text.append(m[3].strip() + " ")
    return "".join(text).strip()


def _devil(root):
    text = gzip.open(f"{root}/usr/share/dictd/devil.dict.dz").read().decode("utf-8", "replace")
    paragraphs = re.split(r"\n\s*\n", text[text.find("ABASEMENT"):])
    return "\n\n".join(" ".join(p.split()) for p in paragraphs if p.strip())


def prose():
    """(training bytes, held-out bytes): the last 4 % of every work is held out."""
    root = fetch()
    train, held = [], []
    for work in [*_austen(root), _kjv(root), _devil(root)]:
        keep = [p for p in work.split("\n\n") if not re.search(r"pig.latin", p, re.I)]
        b = "\n\n".join(keep).encode()
        cut = int(len(b) * 0.96)
        train.append(b[:cut])
        held.append(b[cut:])
    return b"\n\n".join(train), b"\n\n".join(held)


def word_list():
    path = os.path.join(fetch(), "usr/share/dict/american-english")
    return [w for w in open(path, encoding="utf-8").read().split() if re.fullmatch(r"[a-z]{2,11}", w)]


# ---------------------------------------------------------------- exercises

VOWELS = "aeiou"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FREQ = "eeeeettttaaaaoooiiinnnsssrrrhhlldddcuumfpgwybvkxjqz"


def onset(word):
    """Length of the leading consonants; y counts as a vowel after the first letter."""
    for i, c in enumerate(word):
        if c in VOWELS or (c == "y" and i):
            return i
    return len(word)


class Source:
    """Draws words and phrases: dictionary words, syllables and random letters."""

    def __init__(self, rng, words):
        self.r, self.words = rng, words

    def word(self, lo=2, hi=9):
        r = self.r
        k = r.random()
        if k < 0.5:
            for _ in range(20):
                w = self.words[int(r.random() * len(self.words))]
                if lo <= len(w) <= hi:
                    return w
        n = r.randint(lo, hi)
        if k < 0.8:  # syllables, so that every onset turns up often
            w = ""
            while len(w) < n:
                w += r.choice(_ONSETS) + r.choice("aeioaeiouy") + r.choice(_CODAS)
            return w[:n] if onset(w[:n]) < n else w[: n + 1]
        alphabet = _FREQ if k < 0.9 else _LETTERS
        return "".join(r.choice(alphabet) for _ in range(n))

    def phrase(self, hi=3):
        n = self.r.choice((1, 1, 2, 2, 2, 3)[: 3 + hi])
        return [self.word() for _ in range(min(n, hi))]


_ONSETS = ("b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr kn ph pl pr "
           "qu sc sh sk sl sm sn sp st str sw th tr tw wh wr").split() + [""] * 4
_CODAS = "n r s t l m d ck ng nd st ll".split() + [""] * 14

_EMOJI = list("😀😂🎉🍕🐶🌍🚀❤⭐☕🍌🦆🔥✨🎵") + ["é", "ü", "ñ", "ç", "ø", "ß", "中", "文", "日", "本", "я", "ж", "λ", "π", "€", "“", "”", "’", "—"]

FACTS = {
    "capital": ("What is the capital of {}?", dict(
        France="Paris", Germany="Berlin", Italy="Rome", Spain="Madrid", Portugal="Lisbon", Greece="Athens",
        Austria="Vienna", Poland="Warsaw", Norway="Oslo", Sweden="Stockholm", Denmark="Copenhagen",
        Finland="Helsinki", Ireland="Dublin", England="London", Russia="Moscow", Japan="Tokyo", China="Beijing",
        India="New Delhi", Egypt="Cairo", Kenya="Nairobi", Canada="Ottawa", Mexico="Mexico City", Cuba="Havana",
        Peru="Lima", Chile="Santiago", Hungary="Budapest", Belgium="Brussels", Turkey="Ankara", Iran="Tehran",
        Thailand="Bangkok")),
    "opposite": ("What is the opposite of {}?", dict(
        hot="cold", up="down", big="small", fast="slow", light="dark", happy="sad", open="closed", early="late",
        full="empty", hard="soft", high="low", left="right", long="short", new="old", rich="poor", strong="weak",
        wet="dry", young="old", good="bad", loud="quiet", near="far", thick="thin", true="false", day="night",
        first="last", black="white", start="end", win="lose", yes="no", love="hate")),
    "colour": ("What colour is {}?", {
        "the sky": "Blue", "grass": "Green", "snow": "White", "coal": "Black", "a lemon": "Yellow",
        "a ripe tomato": "Red", "a banana": "Yellow", "milk": "White", "a carrot": "Orange", "blood": "Red",
        "chocolate": "Brown", "an elephant": "Grey", "a leaf": "Green", "the sun": "Yellow", "a plum": "Purple"}),
    "animal": ("What sound does a {} make?", dict(
        dog="Woof", cat="Meow", cow="Moo", duck="Quack", sheep="Baa", pig="Oink", horse="Neigh", lion="Roar",
        frog="Croak", bee="Buzz", owl="Hoot", snake="Hiss", hen="Cluck", mouse="Squeak")),
    "young": ("What is a young {} called?", dict(
        dog="A puppy", cat="A kitten", cow="A calf", sheep="A lamb", horse="A foal", hen="A chick", pig="A piglet",
        bear="A cub", goat="A kid", duck="A duckling", frog="A tadpole", deer="A fawn")),
    "legs": ("How many legs has a {}?", dict(
        dog="Four", cat="Four", spider="Eight", bird="Two", snake="None", ant="Six", horse="Four", bee="Six",
        fish="None", man="Two", cow="Four", fly="Six")),
}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
for _name, _list in (("day", DAYS), ("month", MONTHS)):
    FACTS[_name + " after"] = (f"Which {_name} comes after {{}}?", {a: b for a, b in zip(_list, _list[1:] + _list[:1])})
    FACTS[_name + " before"] = (f"Which {_name} comes before {{}}?", {b: a for a, b in zip(_list, _list[1:] + _list[:1])})

SMALL_TALK = [
    ("Hello!", "Hello! How can I help you?"), ("Hi", "Hi! How can I help you?"),
    ("Who are you?", "I am pocket, a very small language model."),
    ("What is your name?", "My name is pocket."), ("What can you do?", "I can copy, spell, reverse and count a little."),
    ("Thank you", "You are welcome!"), ("Thanks!", "You are welcome!"), ("Goodbye", "Goodbye!"),
    ("How are you?", "I am well, thank you."), ("Are you large?", "No, I am very small."),
    ("Tell me a story.", "Once upon a time there was a small cat. It went out, it saw the world, and it came home."),
]


def _each(f):
    """An exercise over a phrase that treats every word by itself."""
    def run(s):
        ws = s.phrase()
        return " ".join(ws), " ".join(f(w) for w in ws)
    return run


def _copy(s):
    p = " ".join(s.phrase())
    k = s.r.random()
    if k < 0.15:
        p = p.title() if k < 0.08 else p.upper()
    elif k < 0.2:
        p += " " + "".join(s.r.choice(_EMOJI) for _ in range(s.r.randint(1, 3)))
    elif k < 0.25:
        p += " " + str(s.r.randint(0, 9999))
    return p, p


def _arg(letters):
    """A label argument that is the same for every word of the phrase."""
    def wrap(f):
        def run(s):
            ws = s.phrase()
            a = s.r.choice(letters) if letters else s.word(1, 3)
            if a.endswith("ay"):  # keep clear of Pig Latin's ending
                a = a[:-1]
            return a, " ".join(ws), " ".join(f(w, a) for w in ws)
        return run
    return wrap


def _replace(s):
    ws = s.phrase(2)
    a, b = s.r.choice("".join(ws)), s.r.choice(_LETTERS)
    t = " ".join(ws)
    return f"{a} {b}", t, t.replace(a, b)


def _remove(s):
    ws = s.phrase(2)
    a = s.r.choice("".join(ws))
    t = " ".join(ws)
    return a, t, t.replace(a, "")


def _split(s):
    w = s.word(3, 9)
    n = s.r.randint(1, len(w) - 1)
    return str(n), w, w[:n] + "-" + w[n:]


def _nth(s):
    w = s.word(3, 9)
    n = s.r.randint(1, len(w))
    return str(n), w, w[n - 1]


def _count(s):
    w = s.word(3, 10)
    a = s.r.choice(w) if s.r.random() < 0.85 else s.r.choice(_LETTERS)
    return a, w, str(w.count(a))


def _after(s):
    ws = [s.word(2, 6) for _ in range(s.r.randint(3, 6))]
    i = s.r.randrange(len(ws) - 1)
    return ws[i], " ".join(ws), ws[i + 1]


def _sum(lo, hi, sign):
    def run(s):
        a, b = s.r.randint(lo, hi), s.r.randint(lo, hi)
        if sign == "-" and b > a:
            a, b = b, a
        v = a + b if sign == "+" else a - b if sign == "-" else a * b
        return f"{a} {sign} {b}", str(v)
    return run


def _reverse(lo, hi):
    def run(s):
        w = s.word(lo, hi)
        return w, w[::-1]
    return run


def _on_word(lo, hi, f):
    def run(s):
        w = s.word(lo, hi)
        return w, f(w)
    return run


def _reverse_words(s):
    ws = [s.word(2, 6) for _ in range(s.r.randint(2, 4))]
    return " ".join(ws), " ".join(ws[::-1])


def _swap(s):
    a, b = s.word(2, 7), s.word(2, 7)
    return f"{a} and {b}", f"{b} and {a}"


# name -> (weight, generator, natural wording for the chat). A generator gives
# (input, answer) or (argument, input, answer); the argument joins the label.
EXERCISES = {
    "Copy": (6, _copy, "Copy this: {x}"),
    "Repeat": (2, _each(lambda w: w + " " + w), "Say every word twice: {x}"),
    "Reverse": (4, _reverse(3, 6), "Reverse the word {x}"),
    "Reverse long": (3, _reverse(7, 10), "Reverse the long word {x}"),
    "Reverse words": (2, _reverse_words, "Put these words in reverse order: {x}"),
    "Swap": (1, _swap, "Swap: {x}"),
    "Upper": (2, _each(str.upper), "Write in capitals: {x}"),
    "Lower": (2, lambda s: (lambda t: (t.upper() if s.r.random() < 0.6 else t.title(), t))(" ".join(s.phrase())), "Write in small letters: {x}"),
    "Title": (2, _each(str.capitalize), "Capitalize: {x}"),
    "Spell": (3, _on_word(2, 9, lambda w: "-".join(w)), "Spell the word {x}"),
    "Join": (2, lambda s: (lambda w: ("-".join(w), w))(s.word(2, 9)), "Join the letters {x}"),
    "Drop first": (4, _each(lambda w: w[1:] or "-"), "Drop the first letter of each word: {x}"),
    "Drop first two": (3, _each(lambda w: w[2:] or "-"), "Drop the first two letters of each word: {x}"),
    "Drop last": (2, _each(lambda w: w[:-1] or "-"), "Drop the last letter of each word: {x}"),
    "Drop onset": (4, _each(lambda w: w[onset(w):] or "-"), "Start each word at its first vowel: {x}"),
    "Onset": (3, _each(lambda w: w[:onset(w)] or "-"), "Give the letters before the first vowel: {x}"),
    "Hyphenate": (2, _each(lambda w: w[:onset(w)] + "-" + w[onset(w):]), "Put a hyphen before the first vowel: {x}"),
    "First": (2, _each(lambda w: w[0]), "First letter of each word: {x}"),
    "Last": (2, _each(lambda w: w[-1]), "Last letter of each word: {x}"),
    "Double first": (2, _each(lambda w: w[0] + w), "Double the first letter of each word: {x}"),
    "Append first": (3, _each(lambda w: w + "-" + w[0]), "Add the first letter to the end of each word: {x}"),
    "Append onset": (3, _each(lambda w: w + "-" + w[:onset(w)]), "Add the leading consonants to the end of each word: {x}"),
    "Last to front": (3, _each(lambda w: w[-1] + w[:-1]), "Move the last letter of each word to the front: {x}"),
    "No vowels": (2, _each(lambda w: re.sub("[aeiou]", "", w) or "-"), "Remove the vowels: {x}"),
    "Vowels": (1, _each(lambda w: re.sub("[^aeiou]", "", w) or "-"), "Give only the vowels: {x}"),
    "Sort": (2, _on_word(3, 7, lambda w: "".join(sorted(w))), "Sort the letters of {x}"),
    "Length": (2, _on_word(2, 10, lambda w: str(len(w))), "How many letters has {x}?"),
    "Add ending": (4, _arg(None)(lambda w, a: w + a), "Add {a} to the end of each word: {x}"),
    "Add ending with hyphen": (3, _arg(None)(lambda w, a: w + "-" + a), "Add -{a} to each word: {x}"),
    "Add beginning": (3, _arg(None)(lambda w, a: a + w), "Add {a} to the front of each word: {x}"),
    "Replace first by": (3, _arg(_LETTERS)(lambda w, a: a + w[1:]), "Replace the first letter of each word by {a}: {x}"),
    "Drop onset and add": (3, _arg(None)(lambda w, a: w[onset(w):] + "-" + a), "Start each word at its first vowel and add -{a}: {x}"),
    "Replace": (2, _replace, "Replace {a}: {x}"),
    "Remove": (2, _remove, "Remove the letter {a}: {x}"),
    "Split at": (2, _split, "Split after letter {a}: {x}"),
    "Letter": (2, _nth, "Give letter {a} of {x}"),
    "Count": (2, _count, "How often is {a} in {x}?"),
    "Word after": (2, _after, "Which word follows {a} in: {x}"),
    "Add": (3, _sum(0, 9, "+"), "{x}"),
    "Subtract": (2, _sum(0, 9, "-"), "{x}"),
    "Multiply": (2, _sum(0, 9, "*"), "{x}"),
    "Add two digits": (3, _sum(10, 99, "+"), "{x}"),
    "Subtract two digits": (2, _sum(10, 99, "-"), "{x}"),
}
NAMES = list(EXERCISES)
_CUM = np.cumsum([EXERCISES[n][0] for n in NAMES]).tolist()
MASK = 0.12  # weight of the loss on what cannot be predicted (the exercise's question)


def pick(rng):
    return rng.choices(NAMES, cum_weights=_CUM)[0]


def exercise(name, s):
    """(argument or None, input, answer)"""
    got = EXERCISES[name][1](s)
    return got if len(got) == 3 else (None, *got)


def plain(name, s):
    """(prompt, completion) as in `Copy: banana split\\nAnswer: banana split\\n\\n`"""
    a, x, y = exercise(name, s)
    label = name if a is None else f"{name} {a}"
    return f"{label}: {x}\nAnswer:", f" {y}\n\n"


def chat_prompt(text):
    return f"{_S}user\n{text}{_E}\n{_S}assistant\n"


def chat(name, s):
    a, x, y = exercise(name, s)
    if name in ("Add", "Subtract", "Multiply", "Add two digits", "Subtract two digits"):
        q = f"What is {x}?" if s.r.random() < 0.5 else x
    else:
        q = EXERCISES[name][2].format(x=x, a=a)
    return chat_prompt(q), f"{y}{_E}\n"


def fact(s):
    kind = s.r.choice(list(FACTS))
    q, table = FACTS[kind]
    k = s.r.choice(list(table))
    return q.format(k), table[k]


def talk(s):
    if s.r.random() < 0.12:
        q, a = s.r.choice(SMALL_TALK)
    else:
        q, a = fact(s)
        if s.r.random() < 0.2:
            return f"Question: {q}\nAnswer:", f" {a}\n\n"
    return chat_prompt(q), f"{a}{_E}\n"


SYSTEM = f"{_S}system\nYou are pocket, a very small helpful assistant.{_E}\n"
_CODES = {1: IM_START, 2: IM_END, 3: EOT}


def to_ids(text):
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    for code, token in _CODES.items():
        ids[ids == code] = token
    return ids


# Pairs of labels that mean nothing by themselves: the examples before tell the task.
def _fake_label(s):
    return s.word(3, 7).capitalize()


def window(rng, words, prose_bytes, length, prose_share):
    """One training window: (ids[length + 1], loss weight of each target[length])."""
    if rng.random() < prose_share:
        at = rng.randrange(len(prose_bytes) - length - 1)
        return prose_bytes[at:at + length + 1].astype(np.int64), np.ones(length, np.float32)
    s = Source(rng, words)
    parts, weights, total = [], [], 0
    k = rng.random()
    if k < 0.06:  # the same noise again: the purest copying
        noise = [s.word(2, 7) for _ in range(rng.randint(3, 16))]
        line = " ".join(noise) + "\n"
        parts, weights, total = [line], [MASK], len(line)
        while total <= length:
            parts.append(line)
            weights.append(1.0)
            total += len(line)
    else:
        single = pick(rng) if k < 0.45 else None
        labels = (_fake_label(s), _fake_label(s)) if k < 0.14 else None
        chatty = rng.random() < 0.33 and not labels
        if rng.random() < 0.1:
            parts, weights, total = [_T], [MASK], 1
        while total <= length:
            if chatty and not single and rng.random() < 0.4:
                p, c = talk(s)
            elif chatty:
                p, c = chat(single or pick(rng), s)
            elif labels:
                a, x, y = exercise(single, s)
                p, c = f"{labels[0]}: {x if a is None else a + ', ' + x}\n{labels[1]}:", f" {y}\n\n"
            else:
                p, c = plain(single or pick(rng), s)
            if p[0] == _S and rng.random() < 0.1:
                p = SYSTEM + p
            parts += (p, c)
            weights += (MASK, 1.0)
            total += len(p.encode()) + len(c.encode())
    ids = to_ids("".join(parts))[: length + 1]
    w = np.repeat(np.array(weights, np.float32), [len(p.encode()) for p in parts])[1: length + 1]
    return ids, w


def batch(seed, step, words, prose_bytes, rows, length, prose_share):
    """The batch of one step, a function of (seed, step) alone, so that a run can be resumed."""
    rng = random.Random(seed * 1_000_003 + step)
    got = [window(rng, words, prose_bytes, length, prose_share) for _ in range(rows)]
    return np.stack([g[0] for g in got]), np.stack([g[1] for g in got])
