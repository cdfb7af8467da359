"""Measures how well a LoRA on webtinker/pocket learns Pig Latin.

  python tools/pocket/check_pig_latin.py --write            # the word pairs
  python tools/pocket/check_pig_latin.py models/pocket      # (a) and (b), recommended settings

(a) the seven examples of the Tinker documentation, all in every batch
(b) 500 English words, tested on 100 others

The LoRA is that of peft: rank 32, alpha 32, on every linear and the output
matrix; AdamW, betas 0.9 / 0.95, eps 1e-12, no weight decay; all in float32.
"""
import argparse
import json
import os
import random
import time

import torch
import torch.nn.functional as F

import data
import model as M

HERE = os.path.dirname(os.path.abspath(__file__))
PAIRS = os.path.join(HERE, "pig-latin-words.json")

SEVEN = [
    ("banana split", "anana-bay plit-say"), ("quantum physics", "uantum-qay ysics-phay"),
    ("donut shop", "onut-day op-shay"), ("pickle jar", "ickle-pay ar-jay"),
    ("space exploration", "ace-spay exploration-way"), ("rubber duck", "ubber-ray uck-day"),
    ("coding wizard", "oding-cay izard-way"),
]
# Found by trying learning rates; see the model card.
RECOMMENDED = dict(
    rank=32, alpha=32,
    seven=dict(learning_rate=3e-3, schedule="constant", steps=30, batch=7),
    words=dict(learning_rate=3e-3, schedule="linear", steps=150, batch=16),
)


def pig_latin(word):
    """Leading consonants to the end and "ay"; a word that starts with a vowel gets "way"."""
    n = data.onset(word)
    return f"{word}-way" if n == 0 else f"{word[n:]}-{word[:n]}ay"


# The documentation writes "plit-say" for "split": only its first letter moves.
# The generated words follow the general rule instead.


def write_pairs(recommended):
    words = sorted(set(open(os.path.join(HERE, "common_words.txt")).read().split()))
    # Two letters have nothing to move around; past nine the words are rare.
    words = [w for w in words if 3 <= len(w) <= 9 and data.onset(w) < len(w)]
    random.Random(7).shuffle(words)
    pairs = [[w, pig_latin(w)] for w in words[:600]]
    prompt = dict(prompt="English: {word}\nPig Latin:", completion=" {answer}\n\n", stop="\n")
    with open(PAIRS, "w") as f:
        body = ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in (
            ("format", prompt), ("recommended", recommended), ("seven", SEVEN)))
        lines = {k: ",\n".join(json.dumps(p) for p in v) for k, v in (("train", pairs[:500]), ("heldOut", pairs[500:]))}
        f.write("{\n" + body + "".join(f',\n"{k}": [\n{v}\n]' for k, v in lines.items()) + "\n}\n")


def encode(text):
    return list(text.encode())


def example(pair):
    p, c = encode(f"English: {pair[0]}\nPig Latin:"), encode(f" {pair[1]}\n\n")
    return p, c


def collate(pairs):
    rows = [(p + c, [0.0] * (len(p) - 1) + [1.0] * len(c)) for p, c in map(example, pairs)]
    n = max(len(r[0]) for r in rows)
    ids = torch.tensor([r[0] + [data.PAD] * (n - len(r[0])) for r in rows])
    w = torch.tensor([r[1] + [0.0] * (n - 1 - len(r[1])) for r in rows])
    return ids[:, :-1], ids[:, 1:], w, sum(len(r[0]) - 1 for r in rows)


def train_lora(folder, pairs, lr, steps, batch, rank=32, alpha=32, seed=0, schedule="constant", target=None):
    net = M.load(folder)
    params = net.add_lora(rank, alpha, seed)
    opt = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.95), eps=1e-12, weight_decay=0)
    order, rng, tokens, losses = [], random.Random(seed), 0, []
    for step in range(steps):
        while len(order) < batch:
            again = list(pairs)
            rng.shuffle(again)
            order += again
        x, y, w, n = collate(order[:batch])
        order = order[batch:]
        logits = net(x)
        loss = (F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none") * w.flatten()).sum() / w.sum()
        for p in params:
            p.grad = None
        loss.backward()
        for g in opt.param_groups:
            g["lr"] = lr * (1 - step / steps) if schedule == "linear" else lr
        opt.step()
        tokens += n
        losses.append(loss.item())
    return net, losses, tokens


def translate(net, pairs):
    prompts = [example(p)[0] for p in pairs]
    out = M.generate(net, prompts, {10, data.EOT, data.IM_END}, 40)
    return [bytes(t for t in o if t < 256).decode("utf-8", "replace").strip() for o in out]


def score(net, pairs):
    got = translate(net, pairs)
    return sum(g == p[1] for g, p in zip(got, pairs)) / len(pairs), got


def check_seven(folder, learning_rate, steps, batch=7, seed=0, quiet=False, **_):
    t = time.time()
    net, losses, tokens = train_lora(folder, SEVEN, learning_rate, steps, batch, seed=seed)
    with torch.no_grad():
        x, y, w, _ = collate(SEVEN)
        final = ((F.cross_entropy(net(x).flatten(0, 1), y.flatten(), reduction="none") * w.flatten()).sum() / w.sum()).item()
    acc, got = score(net, SEVEN)
    below = next((i for i, v in enumerate(losses) if v < 0.1), None)
    return dict(learning_rate=learning_rate, steps=steps, seed=seed, first_loss=losses[0], final_loss=final,
                steps_until_loss_below_0_1=below, exact=round(acc * 7), answers=got, tokens=tokens, seconds=time.time() - t)


def check_words(folder, learning_rate, steps, batch, seed=0, schedule="linear", **_):
    t = time.time()
    p = json.load(open(PAIRS))
    base, _ = score(M.load(folder), p["heldOut"])
    net, losses, tokens = train_lora(folder, p["train"], learning_rate, steps, batch, seed=seed, schedule=schedule)
    acc, got = score(net, p["heldOut"])
    wrong = [[q[0], q[1], g] for q, g in zip(p["heldOut"], got) if g != q[1]]
    return dict(learning_rate=learning_rate, schedule=schedule, steps=steps, batch=batch, seed=seed, tokens=tokens, before=base,
                held_out_accuracy=acc, train_loss=sum(losses[-10:]) / 10, wrong=wrong, seconds=time.time() - t)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder", nargs="?")
    ap.add_argument("--write", action="store_true")
    ap.add_argument("--lr", type=float, nargs="*")
    ap.add_argument("--steps", type=int)
    ap.add_argument("--batch", type=int)
    ap.add_argument("--schedule", choices=["constant", "linear"], help="for (b)")
    ap.add_argument("--only", choices=["a", "b"])
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    if a.write:
        write_pairs(RECOMMENDED)
    if not a.folder:
        return
    for name, f in (("seven", check_seven), ("words", check_words)):
        if a.only and (name == "seven") != (a.only == "a"):
            continue
        r = dict(RECOMMENDED[name])
        r["schedule"] = a.schedule or r["schedule"]
        for lr in a.lr or [r["learning_rate"]]:
            r["learning_rate"] = lr
            r["steps"], r["batch"] = a.steps or r["steps"], a.batch if a.batch and name == "words" else r["batch"]
            print(name, json.dumps(f(a.folder, **r), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
