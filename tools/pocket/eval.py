"""Measures webtinker/pocket and writes every figure that its card quotes.

  python tools/pocket/eval.py models/pocket --out tools/pocket/eval.json --run pocket-run
  python tools/pocket/eval.py models/pocket --parts prose plain

All figures are of the float16 weights in the folder, computed in float32.
"""
import argparse
import json
import math
import os
import random

import numpy as np
import torch
import torch.nn.functional as F

import data
import model as M

PARTS = ["same", "prose", "plain", "facts", "chat", "seven", "words"]
SEED = 20_000_000  # far from every (seed, step) of the training


@torch.no_grad()
def bits_per_byte(net, length=512):
    """Held-out prose in windows of 512; the second half of each counts, so every byte has context."""
    _, held = data.prose()
    ids = torch.from_numpy(np.frombuffer(held, np.uint8).astype(np.int64))
    half = length // 2
    starts = range(0, len(ids) - length - 1, half * 4)
    nats = full = 0.0
    n = m = 0
    for i in range(0, len(starts), 16):
        rows = torch.stack([ids[s:s + length + 1] for s in starts[i:i + 16]])
        loss = F.cross_entropy(net(rows[:, :-1]).transpose(1, 2), rows[:, 1:], reduction="none")
        nats += loss[:, half:].sum().item()
        n += loss[:, half:].numel()
        full += loss.sum().item()
        m += loss.numel()
    return nats / n / math.log(2), full / m / math.log(2), n


def accuracy(net, make, count, seed, stop):
    words = data.word_list()
    s = data.Source(random.Random(seed), words)
    pairs = [make(s) for _ in range(count)]
    right = 0
    samples = []
    for i in range(0, count, 100):
        part = pairs[i:i + 100]
        out = M.generate(net, [data.to_ids(p).tolist() for p, _ in part], stop, 64)
        for (p, c), o in zip(part, out):
            got = bytes(t for t in o if t < 256).decode("utf-8", "replace").strip()
            want = c.replace("\x02", "").strip()
            right += got == want
            if len(samples) < 2:
                samples.append([p.strip().replace("\x01", "").replace("\x02", ""), want, got])
    return right / count, samples


def same_as_transformers(folder):
    """Largest difference of the logits between model.py and transformers, on random ids."""
    from transformers import LlamaForCausalLM

    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 259, (2, 512), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (theirs(ids).logits - M.load(folder)(ids)).abs().max().item()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder")
    ap.add_argument("--out", help="JSON file; the parts measured replace those in it")
    ap.add_argument("--run", help="training folder, for the training's own figures")
    ap.add_argument("--count", type=int, default=50, help="exercises of each kind")
    ap.add_argument("--seeds", type=int, default=1, help="seeds of the Pig Latin checks")
    ap.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    net = M.load(a.folder)
    stop = {data.EOT, data.IM_END, 10}

    def put(**figures):
        print(json.dumps(figures, ensure_ascii=False)[:2000], flush=True)
        if a.out:
            r = {}
            if os.path.exists(a.out):
                r = json.load(open(a.out, encoding="utf-8"))
            r.update(figures)
            with open(a.out, "w", encoding="utf-8") as f:
                json.dump(r, f, ensure_ascii=False, indent=1)
                f.write("\n")

    if a.run:
        c = torch.load(os.path.join(a.run, "last.pt"))
        put(parameters=sum(p.numel() for p in net.parameters()), training=dict(
            steps=c["step"], tokens=c["tokens"], minutes=c["seconds"] / 60,
            args={k: v for k, v in c["args"].items() if k not in ("run", "export")}))
    if "same" in a.parts:
        put(logits_largest_difference_to_transformers=same_as_transformers(a.folder))
    if "prose" in a.parts:
        second, whole, n = bits_per_byte(net)
        put(bits_per_byte=dict(second_half_of_512=second, whole_window_of_512=whole, bytes_scored=n))
    if "plain" in a.parts:
        got = {name: accuracy(net, lambda s: data.plain(name, s), a.count, SEED + i, stop) for i, name in enumerate(data.NAMES)}
        put(count=a.count, exercises={k: v[0] for k, v in got.items()}, samples={k: v[1] for k, v in got.items()})
    if "facts" in a.parts:
        facts = [(q.format(k), v) for q, table in data.FACTS.values() for k, v in table.items()] + data.SMALL_TALK
        out = M.generate(net, [data.to_ids(data.chat_prompt(q)).tolist() for q, _ in facts], {data.EOT, data.IM_END}, 100)
        put(facts_in_chat=dict(asked=len(facts), right=sum(
            bytes(t for t in o if t < 256).decode("utf-8", "replace") == v for o, (_, v) in zip(out, facts))))
    if "chat" in a.parts:
        got = {name: accuracy(net, lambda s: data.chat(name, s), a.count, SEED + 1000 + i, stop)[0] for i, name in enumerate(data.NAMES)}
        put(chat_count=a.count, chat=got)
    import check_pig_latin as C

    if "seven" in a.parts:
        put(seven=[C.check_seven(a.folder, **C.RECOMMENDED["seven"], seed=s) for s in range(a.seeds)])
    if "words" in a.parts:
        put(words=[C.check_words(a.folder, **C.RECOMMENDED["words"], seed=s) for s in range(a.seeds)])


if __name__ == "__main__":
    main()
